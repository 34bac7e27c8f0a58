"""Exercises of :doc:`/book/centring_and_scaling`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "centring_and_scaling"


def scaled(x, eps):
    """Return the inverse of the root mean square of each feature, (d,), and x_hat, (m, d)."""
    inverse = 1 / np.sqrt((x**2).mean(axis=0) + eps)
    return inverse, x * inverse


def backward(dy, x, eps):
    """Solve it: the gradient of x, (m, d), for y = x / sqrt(mean(x^2) + eps)."""
    inverse, x_hat = scaled(x, eps)
    return inverse * (dy - x_hat * (dy * x_hat).mean(axis=0))


def projected(wrong):
    """Compute it with `wrong(inverse, x_hat, dy)` in the place of the last line."""

    def answer(dy, x, eps):
        inverse, x_hat = scaled(x, eps)
        return wrong(inverse, x_hat, dy)

    return answer


def of_batch_norm(dy, x, eps):
    """Pass it through both halves."""
    x = x - x.mean(axis=0)
    dx = backward(dy, x, eps)
    return dx - dx.mean(axis=0)


def eps_outside(dy, x, eps):
    """Add eps to the root mean square."""
    inverse = 1 / (np.sqrt((x**2).mean(axis=0)) + eps)
    x_hat = x * inverse
    return inverse * (dy - x_hat * (dy * x_hat).mean(axis=0))


def batches(rng):
    """Give random upstream gradients and mini-batches whose features have means."""
    return [
        (rng.normal(size=(m, d)), rng.normal(1.0, 1.0, (m, d)), eps)
        for m, d, eps in ((3, 2, 0.5), (8, 3, 0.1), (5, 5, 0.2))
    ]


EXERCISES = (
    Exercise(
        name="two-gradients",
        page=PAGE,
        asks="the gradient of x = (1, 7) through centring alone, then through scaling alone, for "
        "the upstream gradient (1, 0), gamma = 1, eps = 0",
        solution=(0.5, -0.5, 0.196, -0.028),
        returns=("centring, dx_1", "centring, dx_2", "scaling, dx_1", "scaling, dx_2"),
        rtol=0.02,
        mistakes=(
            Mistake(
                (0.5, -0.5, 0.98, -0.14),
                "You projected, but you did not divide by the root mean square.",
                "Twice as large values must have half the gradient.",
                "One backward pass for each half",
            ),
            Mistake(
                (1.0, 0.0, 0.2, 0.0),
                "You took the statistics for constants.",
                "A common shift does not change what centring returns, so its gradient sums to 0.",
                "One backward pass for each half",
            ),
            Mistake(
                (0.5, -0.5, 0.0, 0.0),
                "You scaled what had been centred: two values always become -1 and 1 then.",
                "Scaling alone leaves (0.2, 1.4), which is not orthogonal to (1, 1).",
                "One backward pass for each half",
            ),
            Mistake(
                (0.0, -1.0, 0.192, -0.056),
                "You took sums in the place of means.",
                "The gradient through centring sums to 0, and yours does not.",
                "One backward pass for each half",
            ),
            Mistake(
                (0.5, -0.5, 0.204, 0.028),
                "You added the component along x_hat in the place of removing it.",
                "The gradient through scaling is orthogonal to (0.2, 1.4), and yours is not.",
                "One backward pass for each half",
            ),
        ),
        hint="The root mean square of (1, 7) is 5. What is the mean of g times x_hat?",
    ),
    Exercise(
        name="backward-of-the-scaling",
        page=PAGE,
        asks="scale_backward(dy, x, eps) returns dx, shape (m, d)",
        solution=backward,
        cases=batches,
        returns=("dx",),
        mistakes=(
            Mistake(
                of_batch_norm,
                "You passed the gradient through the centring, too.",
                "Without centring, the gradient of a feature need not sum to 0.",
                "One backward pass for each half",
            ),
            Mistake(
                projected(lambda inverse, x_hat, dy: inverse * dy),
                "You took the root mean square for a constant.",
                "For eps near 0, the gradient must be orthogonal to x.",
                "One backward pass for each half",
            ),
            Mistake(
                projected(
                    lambda inverse, x_hat, dy: (
                        inverse * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
                    )
                ),
                "You removed the mean of the gradient, too; that belongs to the centring.",
                "Without centring, a shift of a feature changes the output.",
                "One backward pass for each half",
            ),
            Mistake(
                projected(
                    lambda inverse, x_hat, dy: inverse * (dy - x_hat * (dy * x_hat).sum(axis=0))
                ),
                "You took a sum in the place of a mean.",
                "For eps near 0, the gradient must be orthogonal to x.",
                "One backward pass for each half",
            ),
            Mistake(
                projected(lambda inverse, x_hat, dy: dy - x_hat * (dy * x_hat).mean(axis=0)),
                "You forgot to divide by the root mean square.",
                "For inputs that are twice as large, the gradient must be half as large.",
                "One backward pass for each half",
            ),
            Mistake(
                projected(
                    lambda inverse, x_hat, dy: (
                        inverse * (dy - x_hat * (dy * x_hat).mean(axis=1, keepdims=True))
                    )
                ),
                "You averaged over the features; that is the backward pass of an RMS norm.",
                "The features of a batch norm do not see each other.",
                "The two halves",
            ),
            Mistake(
                eps_outside,
                "Your eps stands outside the root.",
                "Take an eps as large as the mean square.",
                "What eps does",
                page="forward_pass",
            ),
        ),
        hint="Start with the mean over the mini-batch of dy * x_hat, one number for each feature.",
    ),
)
