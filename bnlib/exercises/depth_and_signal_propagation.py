"""Exercises of :doc:`/book/depth_and_signal_propagation`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "depth_and_signal_propagation"
DECADES = 20 * np.log10(1.5)


def chi(s):
    """Return the growth of the mean square in a layer of leaky ReLU with slope s."""
    return 1 / (1 - (1 - s) ** 2 / (np.pi * (1 + s**2)))


def chi_of_relu_slope(s):
    """Take the derivative of ReLU, which is 0 on the left."""
    return chi(s) / (1 + s**2)


def slope_at(target, growth=chi):
    """Find the slope by bisection: the growth falls from s = 0 to s = 1."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle) > target else (low, middle)
    return low


def leak(factor, layers):
    """Solve it: the slope at which the RMS grows by `factor` over `layers`."""
    return slope_at(factor ** (2 / layers))


EXERCISES = (
    Exercise(
        name="growth-by-hand",
        page=PAGE,
        asks="three numbers, the factor in one layer, the decades over 40 layers, and the share",
        solution=(1.5, DECADES, 0.2),
        returns=("factor", "decades", "share"),
        rtol=0.01,
        mistakes=(
            Mistake(
                (1.5, 2 * DECADES, 0.2),
                "You gave the decades of the mean square; those of the RMS are half as many.",
                "A mean square that grows by 100 is an RMS that grows by 10, which is one decade.",
                "Linear layers",
            ),
            Mistake(
                (1.5, DECADES * np.log(10), 0.2),
                "You took the natural logarithm; a decade is a factor of 10.",
                "A factor of 10 must give one decade: log10(10) = 1.",
                "Linear layers",
            ),
            Mistake(
                (1.5**0.5, DECADES, 0.2),
                "You gave the factor of the RMS; asked is that of the mean square.",
                "Square your first number.",
                "Linear layers",
            ),
            Mistake(
                (4 / 3, 20 * np.log10(4 / 3), 0.2),
                "You have (m-1)/(m-2), but the factor is (m-2)/(m-3).",
                "At m = 4 the mean square must double in each layer.",
                "Linear layers",
            ),
            Mistake(
                (1.875, 20 * np.log10(1.875), 0.2),
                "You took kappa = v d, but BN sends out m/(m-1) G, so kappa is m/(m-1) v d.",
                "At m = 4 the mean square must double in each layer.",
                "Linear layers",
            ),
            Mistake(
                (1.5, DECADES, 0.25),
                "You forgot the input of the network, which counts as much as one branch.",
                "After block 4 the sum has five parts: the input and four branches.",
                "Residual connections",
            ),
            Mistake(
                (1.5, DECADES, 0.5),
                "You gave the share without batch norm, where a branch is as large as its input.",
                "With BN each branch has the mean square 1, whatever the size of its input.",
                "Residual connections",
            ),
        ),
        hint="The factor is (m-2)/(m-3) per layer. It multiplies the mean square, so the RMS grows "
        "by its root.",
    ),
    Exercise(
        name="leak",
        page=PAGE,
        asks="leak(factor, layers) returns the slope s between 0 and 1, one number",
        solution=leak,
        cases=lambda rng: [(10.0, 100), (3.0, 20), (2.0, 100)],
        rtol=0.003,
        mistakes=(
            Mistake(
                lambda factor, layers: slope_at(factor ** (1 / layers)),
                "You let the mean square grow by the factor; the RMS then grows by its root only.",
                "For a factor of 10 in the RMS the mean square has to grow by 100.",
                "Any activation function",
            ),
            Mistake(
                lambda factor, layers: slope_at(factor ** (1 / (2 * layers))),
                "You took a root where a square belongs: chi is the factor of the mean square.",
                "chi to the power of the number of layers must be factor squared.",
                "Any activation function",
            ),
            Mistake(
                lambda factor, layers: slope_at((1 + (factor - 1) / layers) ** 2),
                "You added up the growth of the layers, but their factors are multiplied.",
                "chi to the power of the number of layers must be factor squared.",
                "One hundred layers",
            ),
            Mistake(
                lambda factor, layers: slope_at(factor ** (2 / layers), chi_of_relu_slope),
                "You used the derivative of ReLU; the leaky ReLU has the slope s on the left.",
                "At s = 1 it is a straight line, so chi must be 1 there.",
                "Any activation function",
            ),
            Mistake(
                lambda factor, layers: 1 / leak(factor, layers),
                "You took the solution above 1; a leak has a slope between 0 and 1.",
                "The equation for s has two solutions, s and 1/s: take the smaller one.",
                "Any activation function",
            ),
        ),
        hint="chi multiplies the mean square in each layer. Which chi makes the RMS grow by the "
        "factor over all layers? Then search for the s that has this chi.",
    ),
)
