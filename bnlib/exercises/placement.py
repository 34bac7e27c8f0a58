"""Exercises of :doc:`/book/placement`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "placement"


def fold(weight, bias, gamma, beta, mean, var, eps):
    """Solve it: weight (o, d) and bias (o,) of the layer that takes the place of both."""
    scale = gamma / np.sqrt(var + eps)
    return weight * scale, bias + weight @ (beta - scale * mean)


def folded(wrong):
    """Fold with `wrong(weight, bias, scale, shift)` in the place of the last line."""

    def answer(weight, bias, gamma, beta, mean, var, eps):
        scale = gamma / np.sqrt(var + eps)
        return wrong(weight, bias, scale, beta - scale * mean)

    return answer


def into_the_layer_before(weight, bias, gamma, beta, mean, var, eps):
    """Scale the outputs, as for a norm behind the layer; the layer has d inputs and outputs."""
    scale = gamma / np.sqrt(var + eps)
    return weight * scale[:, None], scale * (bias - mean) + beta


def of_variances(weight, bias, gamma, beta, mean, var, eps):
    """Divide by the variance."""
    scale = gamma / (var + eps)
    return weight * scale, bias + weight @ (beta - scale * mean)


def eps_outside(weight, bias, gamma, beta, mean, var, eps):
    """Add eps to the standard deviation."""
    scale = gamma / (np.sqrt(var) + eps)
    return weight * scale, bias + weight @ (beta - scale * mean)


def layers(rng):
    """Give random layers with as many outputs as inputs, and their norms."""
    return [
        (
            rng.normal(size=(d, d)),
            rng.normal(size=d),
            *(rng.normal(1, 0.5, d) for _ in range(3)),
            rng.uniform(0.5, 2, d),
            eps,
        )
        for d, eps in ((2, 0.5), (3, 0.1), (5, 1.0))
    ]


EXERCISES = (
    Exercise(
        name="after-by-hand",
        page=PAGE,
        asks="BN(ReLU(z)), four numbers, for z = (-2, 0, 0, 2), gamma = 1, beta = 0, eps = 0",
        solution=(-0.57735, -0.57735, -0.57735, 1.73205),
        returns=("y_1", "y_2", "y_3", "y_4"),
        rtol=0.005,
        mistakes=(
            Mistake(
                (0.0, 0.0, 0.0, 1.41421),
                "You normalized first; here the ReLU comes first.",
                "The outputs of a BN sum to 0, and yours do not.",
                "Two orders",
            ),
            Mistake(
                (0.0, 0.0, 0.0, 1.73205),
                "You cut the negative values off once more, but behind the BN there is no ReLU.",
                "The outputs of a BN sum to 0, and yours do not.",
                "Two orders",
            ),
            Mistake(
                (-0.5, -0.5, -0.5, 1.5),
                "You divided by m - 1 in the variance; BN divides by m.",
                "The mean of the squares of your outputs must be 1.",
                "The equation",
                page="forward_pass",
            ),
            Mistake(
                (0.0, 0.0, 0.0, 2.0),
                "You stopped at the ReLU.",
                "The mean of the squares of your outputs must be 1.",
                "Two orders",
            ),
            Mistake(
                (0.0, 0.0, 0.0, 2.3094),
                "You divided by the standard deviation but did not subtract the mean.",
                "The outputs of a BN sum to 0, and yours do not.",
                "What the next layer sees",
            ),
            Mistake(
                (-0.66667, -0.66667, -0.66667, 2.0),
                "You divided by the variance in the place of its root.",
                "The mean of the squares of your outputs must be 1.",
                "What the next layer sees",
            ),
        ),
        hint="The ReLU leaves (0, 0, 0, 2). What are its mean and its variance?",
    ),
    Exercise(
        name="fold-into-the-next-layer",
        page=PAGE,
        asks="fold_forward(weight, bias, gamma, beta, mean, var, eps) returns weight, bias",
        solution=fold,
        cases=layers,
        returns=("weight", "bias"),
        mistakes=(
            Mistake(
                into_the_layer_before,
                "You scaled the outputs of the layer, as for a BN that stands behind it.",
                "This BN acts on the inputs of the layer: change the gamma of one feature alone.",
                "Into which layer it folds",
            ),
            Mistake(
                folded(
                    lambda weight, bias, scale, shift: (
                        weight * scale[:, None],
                        bias + weight @ shift,
                    )
                ),
                "You scaled the rows of the weight, but each input feature has a column.",
                "Set one gamma to 0: that feature must lose its influence.",
                "Into which layer it folds",
            ),
            Mistake(
                folded(lambda weight, bias, scale, shift: (weight * scale, bias)),
                "You forgot what the shift of the BN adds to each output.",
                "Feed the running mean: what arrives at the layer is beta, and not 0.",
                "Into which layer it folds",
            ),
            Mistake(
                folded(
                    lambda weight, bias, scale, shift: (
                        weight * scale,
                        bias + (weight * scale) @ shift,
                    )
                ),
                "You passed the shift through the new weight, so that it is scaled twice.",
                "The shift is added behind the scale: the old weight multiplies it.",
                "Into which layer it folds",
            ),
            Mistake(
                lambda weight, bias, gamma, beta, mean, var, eps: (
                    weight * gamma / np.sqrt(var + eps),
                    bias + weight @ beta,
                ),
                "You forgot the running mean.",
                "Feed the running mean: what arrives at the layer must be beta.",
                "Into which layer it folds",
            ),
            Mistake(
                folded(lambda weight, bias, scale, shift: (weight * scale, bias + shift)),
                "You added the shift of each input to an output, without the weights between them.",
                "A layer with the weight 0 ignores its inputs, and so must the new bias.",
                "Into which layer it folds",
            ),
            Mistake(
                eps_outside,
                "Your eps stands outside the root.",
                "Take an eps as large as the variance.",
                "What eps does",
                page="forward_pass",
            ),
            Mistake(
                of_variances,
                "You divided by the variance in the place of its root.",
                "With gamma = sqrt(var + eps), beta = mean and any weight nothing may change.",
                "Into which layer it folds",
            ),
        ),
        hint="In eval mode BN is x * scale + shift. Insert it for x in weight @ x + bias.",
    ),
)
