"""Exercises of :doc:`/book/internal_covariate_shift`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "internal_covariate_shift"


def gradients(x, target, w_1, w_2):
    """Return the gradients of both weights; the loss is |x w_1 w_2 - target|^2 / (2 m)."""
    h = x @ w_1
    error = (h @ w_2 - target) / len(x)
    return x.T @ error @ w_2.T, h.T @ error


def compared(g, g_new):
    """Return the relative change and the cosine."""
    norm, norm_new = np.linalg.norm(g), np.linalg.norm(g_new)
    return np.linalg.norm(g_new - g) / norm, (g * g_new).sum() / (norm * norm_new)


def gradient_change(x, target, w_1, w_2, eta):
    """Solve it: S_g and the cosine of the second layer."""
    g_1, g_2 = gradients(x, target, w_1, w_2)
    return compared(g_2, gradients(x, target, w_1 - eta * g_1, w_2)[1])


def both_move(x, target, w_1, w_2, eta):
    """Let the second layer make its step, too."""
    g_1, g_2 = gradients(x, target, w_1, w_2)
    return compared(g_2, gradients(x, target, w_1 - eta * g_1, w_2 - eta * g_2)[1])


def stale_error(x, target, w_1, w_2, eta):
    """Take the new activations with the old error."""
    g_1, g_2 = gradients(x, target, w_1, w_2)
    error = (x @ w_1 @ w_2 - target) / len(x)
    return compared(g_2, (x @ (w_1 - eta * g_1)).T @ error)


def first_layer(x, target, w_1, w_2, eta):
    """Compare the gradients of the layer that has moved."""
    g_1, _ = gradients(x, target, w_1, w_2)
    return compared(g_1, gradients(x, target, w_1 - eta * g_1, w_2)[0])


def of_pair(wrong):
    """Return `wrong(S_g, cos, |G'| / |G|)` in place of the answer."""

    def answer(x, target, w_1, w_2, eta):
        g_1, g_2 = gradients(x, target, w_1, w_2)
        g_new = gradients(x, target, w_1 - eta * g_1, w_2)[1]
        return wrong(*compared(g_2, g_new), np.linalg.norm(g_new), np.linalg.norm(g_2))

    return answer


def networks(rng):
    """Give mini-batches and weights of two linear layers."""
    return [
        (
            rng.normal(size=(m, 3)), rng.normal(size=(m, 2)),
            rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), eta,
        )
        for m, eta in ((2, 0.1), (8, 0.05), (5, 0.2))
    ]  # fmt: skip


EXERCISES = (
    Exercise(
        name="two-weights",
        page=PAGE,
        asks="three numbers, the new w_1, the new gradient G' and S_g, for a = 2 and eta = 1/2",
        solution=(1.5, 2.25, 0.4375),
        returns=("w_1", "G'", "S_g"),
        rtol=0.006,
        mistakes=(
            Mistake(
                (1.5, -6.75, 2.6875),
                "You let both weights make their step.",
                "In the definition only the layers before the second one have moved, so w_2 is "
                "still 1/2.",
                "Three definitions",
            ),
            Mistake(
                (0.0, 0.0, 1.0),
                "You moved w_1 by the gradient of w_2.",
                "The loss is (w_1 w_2)^2, so the gradient of w_1 is 2 w_1 w_2^2, here 1.",
                "The smallest example",
            ),
            Mistake(
                (1.5, 3.0, 0.25),
                "You took G in proportion to w_1, but it contains the square of w_1.",
                "Insert the new w_1 = 1.5 into 2 w_1^2 w_2.",
                "The smallest example",
            ),
            Mistake(
                (1.0, 1.0, 0.75),
                "You have eta/a where eta/a^2 belongs.",
                "The step 2 eta/a has to be compared with the weight, which is a and not 1.",
                "The smallest example",
            ),
            Mistake(
                (1.5, 2.25, 1.75),
                "You gave the difference of the gradients, which has the unit of a gradient.",
                "S_g is this difference divided by the old gradient, which is 4.",
                "Three definitions",
            ),
            Mistake(
                (1.5, 2.25, 1.75 / 2.25),
                "You divided by the new gradient.",
                "S_g is relative to the gradient before the step, which is 4.",
                "Three definitions",
            ),
            Mistake(
                (1.5, 2.25, 0.5625),
                "You gave the ratio of the two gradients in place of their relative difference.",
                "Without any step G' = G, and S_g must be 0 then.",
                "Three definitions",
            ),
            Mistake(
                (1.5, 2.25, -0.4375),
                "You kept the sign, but S_g is a norm divided by a norm.",
                "A norm is never negative.",
                "Three definitions",
            ),
        ),
        hint="First the gradient of w_1, which is 2 w_1 w_2^2. Then insert the new w_1 into G.",
    ),
    Exercise(
        name="gradient-change",
        page=PAGE,
        asks="gradient_change(x, target, w_1, w_2, eta) returns S_g and the cosine of layer 2",
        solution=gradient_change,
        cases=networks,
        returns=("S_g", "cos"),
        pure=True,
        mistakes=(
            Mistake(
                both_move,
                "You let both layers make their step.",
                "Only the layers before layer 2 move: use the same w_2 for G and for G'.",
                "Three definitions",
            ),
            Mistake(
                stale_error,
                "You renewed the activations but kept the old error of the output.",
                "The new w_1 changes the output too: run the whole forward pass again for G'.",
                "The smallest example",
            ),
            Mistake(
                lambda x, target, w_1, w_2, eta: gradient_change(x, target, w_1, w_2, eta * len(x)),
                "Your gradients are sums over the mini-batch, so the step is m times too long.",
                "The mini-batch twice over must give the same answer.",
                "Three definitions",
            ),
            Mistake(
                lambda x, target, w_1, w_2, eta: gradient_change(x, target, w_1, w_2, 2 * eta),
                "Your step is twice too long, because you forgot the 1/2 of the loss.",
                "The derivative of e^2/2 is e and not 2 e.",
                "The smallest example",
            ),
            Mistake(
                lambda x, target, w_1, w_2, eta: gradient_change(x, target, w_1, w_2, -eta),
                "You moved the first layer up the gradient.",
                "Compute the loss after the step of w_1: for a small eta it must be lower.",
                "The smallest example",
            ),
            Mistake(
                first_layer,
                "You compared the gradients of the layer that has moved.",
                "G belongs to layer 2 and has the shape of w_2.",
                "Three definitions",
            ),
            Mistake(
                of_pair(lambda shift, cos, new, old: (shift * old, cos)),
                "You did not divide by the norm of G.",
                "Let the target and w_2 be ten times as large and eta a hundredth: S_g must stay.",
                "Three definitions",
            ),
            Mistake(
                of_pair(lambda shift, cos, new, old: (shift * old / new, cos)),
                "You divided by the norm of G' in place of that of G.",
                "S_g is relative to the gradient before the step.",
                "Three definitions",
            ),
            Mistake(
                of_pair(lambda shift, cos, new, old: (shift, cos * new * old)),
                "You gave the inner product, and not the cosine.",
                "With eta = 0 the cosine must be 1.",
                "Three definitions",
            ),
            Mistake(
                of_pair(lambda shift, cos, new, old: (shift, 1 - cos)),
                "You gave 1 minus the cosine.",
                "With eta = 0 the second number must be 1.",
                "Three definitions",
            ),
        ),
        hint="Write a function that returns both gradients. Call it twice, with the old w_1 and "
        "with the new one.",
    ),
)
