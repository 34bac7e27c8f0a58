"""Exercises of :doc:`/book/folding_and_deployment`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "folding_and_deployment"
HAND = "One feature on paper"
PAIR = "A scale and a shift"
AFTER = "BN after a layer"
BEFORE = "BN before a layer"


def scale_and_shift(gamma, beta, mean, var, eps):
    """Return s and t, (d,) each."""
    s = gamma / np.sqrt(var + eps)
    return s, beta - s * mean


def fold_after(weight, bias, gamma, beta, mean, var, eps):
    """Solve it: weight (out, d) and bias (out,) of a linear layer and the BN after it."""
    s, t = scale_and_shift(gamma, beta, mean, var, eps)
    return s[:, None] * weight, s * bias + t


def fold_before(gamma, beta, mean, var, eps, weight, bias):
    """Solve it: weight (out, d) and bias (out,) of a BN and the linear layer after it."""
    s, t = scale_and_shift(gamma, beta, mean, var, eps)
    return weight * s, bias + weight @ t


def with_pair(fold, pair):
    """Return a fold that is right but for its scale and shift."""

    def after(weight, bias, *bn):
        s, t = pair(*bn)
        return s[:, None] * weight, s * bias + t

    def before(*given):
        *bn, weight, bias = given
        s, t = pair(*bn)
        return weight * s, bias + weight @ t

    return after if fold is fold_after else before


def forgotten_eps(gamma, beta, mean, var, eps):
    """Leave eps out."""
    return scale_and_shift(gamma, beta, mean, var, 0.0)


def added_mean(gamma, beta, mean, var, eps):
    """Add the mean."""
    return scale_and_shift(gamma, beta, -mean, var, eps)


def no_root(gamma, beta, mean, var, eps):
    """Divide by the variance."""
    s = gamma / (var + eps)
    return s, beta - s * mean


def mean_as_it_is(gamma, beta, mean, var, eps):
    """Subtract the mean without the scale."""
    s, _ = scale_and_shift(gamma, beta, mean, var, eps)
    return s, beta - mean


def eps_outside(gamma, beta, mean, var, eps):
    """Add eps to the standard deviation."""
    s = gamma / (np.sqrt(var) + eps)
    return s, beta - s * mean


def batch_norms(rng):
    """Give BNs with an eps that matters, and linear layers with as many outputs as inputs."""
    cases = []
    for d, eps in ((2, 0.5), (3, 0.1), (4, 1.0)):
        gamma, beta, mean = rng.normal(1, 1, d), rng.normal(size=d), rng.normal(2, 1, d)
        layer = rng.normal(size=(d, d)), rng.normal(size=d)
        cases.append((gamma, beta, mean, rng.uniform(0.1, 2, d), eps, *layer))
    return cases


def layers_first(rng):
    """Give the same, with the layer before the BN."""
    return [(*case[5:], *case[:5]) for case in batch_norms(rng)]


def pair_mistakes(fold):
    """Return the mistakes in scale and shift, which both orders share."""
    return (
        Mistake(
            with_pair(fold, forgotten_eps),
            "You left eps out.",
            "Take var = 0 and eps = 1: the scale must be gamma.",
            PAIR,
        ),
        Mistake(
            with_pair(fold, added_mean),
            "You added the mean: the shift is beta minus s times the mean.",
            "With gamma = 1, beta = 0 and x equal to the mean, BN returns 0.",
            PAIR,
        ),
        Mistake(
            with_pair(fold, no_root),
            "You divided by the variance; the root is missing.",
            "With var = 4, eps = 0 and gamma = 1 the scale must be 1/2.",
            PAIR,
        ),
        Mistake(
            with_pair(fold, mean_as_it_is),
            "You subtracted the mean as it is; it is divided by the standard deviation, too.",
            "Double gamma: the part of the shift that comes from the mean must double.",
            PAIR,
        ),
        Mistake(
            with_pair(fold, eps_outside),
            "Your eps stands outside the root.",
            "With var = 0 the root is sqrt(eps), and yours is eps.",
            PAIR,
        ),
    )


def after_with(weights, constant):
    """Return a fold after a layer: weights(W, s), constant(b, s, t)."""

    def fold(weight, bias, *bn):
        s, t = scale_and_shift(*bn)
        return weights(weight, s), constant(bias, s, t)

    return fold


def before_with(weights, constant):
    """Return a fold before a layer: weights(W, s), constant(W, b, s, t)."""

    def fold(*given):
        *bn, weight, bias = given
        s, t = scale_and_shift(*bn)
        return weights(weight, s), constant(weight, bias, s, t)

    return fold


def rows(weight, s):
    """Scale the rows, one for each output."""
    return s[:, None] * weight


def columns(weight, s):
    """Scale the columns, one for each input."""
    return weight * s


EXERCISES = (
    Exercise(
        name="fold-by-hand",
        page=PAGE,
        asks="weight and bias of the one layer, two numbers",
        solution=(10.0, -3.0),
        returns=("weight", "bias"),
        rtol=0.005,
        mistakes=(
            Mistake(
                (30 / 8**0.5, 1 - 12 / 8**0.5),
                "You left eps out.",
                "Variance and eps are 8 and 1, so the root is 3.",
                PAIR,
            ),
            Mistake(
                (10.0, -5.0),
                "You did not scale the bias of the linear layer.",
                "At x = 0 the layer returns 2, and BN makes 2 * (2 - 4) + 1 of it.",
                HAND,
            ),
            Mistake(
                (10.0, 13.0),
                "You added the mean instead of subtracting it.",
                "At x = 0 the layer returns 2, and BN makes 2 * (2 - 4) + 1 of it.",
                HAND,
            ),
            Mistake(
                (10.0, -7.0),
                "You dropped the bias of the linear layer.",
                "A bias before BN is dead in train mode only: here the mean is a fixed number.",
                AFTER,
            ),
            Mistake(
                (10.0, 1.0),
                "You did not multiply the mean by the scale.",
                "At x = 0 the layer returns 2, and BN makes 2 * (2 - 4) + 1 of it.",
                PAIR,
            ),
            Mistake(
                (10.0, -4.0),
                "You left beta out.",
                "At x = 0 the layer returns 2, and BN makes 2 * (2 - 4) + 1 of it.",
                PAIR,
            ),
            Mistake(
                (10 / 3, -1 / 3),
                "You divided by the variance and took no root.",
                "Variance and eps are 8 and 1, so you divide by 3 and not by 9.",
                PAIR,
            ),
        ),
        hint="The scale first: gamma over the root of variance plus eps.",
    ),
    Exercise(
        name="fold-after",
        page=PAGE,
        asks="fold_after(weight, bias, gamma, beta, mean, var, eps) returns weight and bias",
        solution=fold_after,
        cases=layers_first,
        returns=("weight", "bias"),
        mistakes=(
            *pair_mistakes(fold_after),
            Mistake(
                after_with(columns, lambda b, s, t: s * b + t),
                "You scaled the columns of the weight, which belong to the inputs.",
                "BN acts on the outputs: output o has row o, so s[:, None] scales it.",
                AFTER,
            ),
            Mistake(
                after_with(rows, lambda b, s, t: b + t),
                "You did not scale the bias of the layer.",
                "For x = 0 the layer returns its bias, and BN multiplies it by s.",
                AFTER,
            ),
            Mistake(
                after_with(rows, lambda b, s, t: t),
                "You dropped the bias of the layer.",
                "A bias before BN is dead in train mode only: here the mean is a fixed number.",
                AFTER,
            ),
            Mistake(
                after_with(rows, lambda b, s, t: s * (b + t)),
                "You scaled the shift t, which already stands behind the scale.",
                "For x = 0 and b = 0 the result must be t.",
                PAIR,
            ),
        ),
        hint="First s = gamma / sqrt(var + eps) and t = beta - s * mean. Which axis of the weight "
        "is that of the outputs?",
    ),
    Exercise(
        name="fold-into-linear",
        page=PAGE,
        asks="fold_into_linear(gamma, beta, mean, var, eps, weight, bias) returns weight and bias",
        solution=fold_before,
        cases=batch_norms,
        returns=("weight", "bias"),
        pure=True,
        mistakes=(
            *pair_mistakes(fold_before),
            Mistake(
                before_with(rows, lambda w, b, s, t: b + w @ t),
                "You scaled the rows of the weight, which belong to the outputs.",
                "BN acts on the inputs: input j has column j.",
                BEFORE,
            ),
            Mistake(
                before_with(columns, lambda w, b, s, t: b + t),
                "You added the shift to the bias; it passes through the weights first.",
                "For x = 0 the linear layer sees t and returns W t + b.",
                BEFORE,
            ),
            Mistake(
                before_with(columns, lambda w, b, s, t: b + (w * s) @ t),
                "You multiplied the shift by the scaled weights; t is not scaled once more.",
                "For x = 0 the linear layer sees t and returns W t + b with the old W.",
                BEFORE,
            ),
            Mistake(
                before_with(columns, lambda w, b, s, t: w @ t),
                "You dropped the bias of the linear layer.",
                "With s = 1 and t = 0 the layer must stay as it is.",
                BEFORE,
            ),
            Mistake(
                before_with(rows, lambda w, b, s, t: s * b + t),
                "You folded as if the BN came after the layer.",
                "For x = 0 the linear layer sees t and returns W t + b.",
                BEFORE,
            ),
        ),
        hint="Insert s x + t for the input of the layer, and sort by x.",
    ),
)
