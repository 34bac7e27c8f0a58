"""Exercises of :doc:`/book/backward_pass`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "backward_pass"


def parts(dy, x, gamma, eps):
    """Return x_hat (m, d), the factor of dx (d,), and the means of dy and of dy x_hat (d,)."""
    s = 1 / np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) * s
    return x_hat, gamma * s, dy.mean(axis=0), (dy * x_hat).mean(axis=0)


def backward(dy, x, gamma, eps):
    """Solve it: dx (m, d), dgamma (d,), dbeta (d,)."""
    x_hat, factor, mean, along = parts(dy, x, gamma, eps)
    return factor * (dy - mean - x_hat * along), len(x) * along, len(x) * mean


def with_dx(dx):
    """Return a backward pass of which dx alone is wrong: dx(dy, x, gamma, eps)."""
    return lambda *given: (dx(*given), *backward(*given)[1:])


def scaled(wrong):
    """Let dx be a factor times `wrong(dy, x_hat, mean, along)`."""

    def dx(dy, x, gamma, eps):
        x_hat, factor, mean, along = parts(dy, x, gamma, eps)
        return factor * wrong(dy, x_hat, mean, along)

    return with_dx(dx)


def averaged(dy, x, gamma, eps):
    """Average the gradients of the parameters over the mini-batch."""
    dx, dgamma, dbeta = backward(dy, x, gamma, eps)
    return dx, dgamma / len(x), dbeta / len(x)


def layers(rng):
    """Give random layers: gamma is not 1, and eps matters."""
    return [
        (rng.normal(size=(m, 3)), rng.normal(2, 3, (m, 3)), rng.normal(1, 0.5, 3), eps)
        for m, eps in ((3, 0.5), (2, 1.0), (8, 0.1))
    ]


def rms_backward(dy, x, eps):
    """Solve it: dx (m, d)."""
    s = 1 / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)
    x_hat = s * x
    return s * (dy - x_hat * (dy * x_hat).mean(axis=1, keepdims=True))


def rms_with(wrong):
    """Let dx of RMS norm be `wrong(dy, x_hat, s, along)`."""

    def dx(dy, x, eps):
        s = 1 / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)
        x_hat = s * x
        return wrong(dy, x_hat, s, (dy * x_hat).mean(axis=1, keepdims=True))

    return dx


EXERCISES = (
    Exercise(
        name="backward-by-hand",
        page=PAGE,
        asks="dx, four numbers, for x_hat = (-1, -1, 1, 1), dy = (1, 2, 3, 6), gamma = s = 1",
        solution=(-0.5, 0.5, -1.5, 1.5),
        returns=("dx_1", "dx_2", "dx_3", "dx_4"),
        rtol=0.005,
        mistakes=(
            Mistake(
                (-2.0, -1.0, 0.0, 3.0),
                "You subtracted the mean of dy and forgot the path through the variance.",
                "The products of dx and x_hat must sum to 0, and yours sum to 6.",
                "As a projector",
            ),
            Mistake(
                (2.5, 3.5, 1.5, 4.5),
                "You removed the part along x_hat and forgot the path through the mean.",
                "dx must sum to 0, because a common shift of x changes nothing.",
                "As a projector",
            ),
            Mistake(
                (1.0, 2.0, 3.0, 6.0),
                "You took mean and variance for constants.",
                "They move with each x: dx must sum to 0.",
                "Statistics that are not constants",
            ),
            Mistake(
                (-5.0, -4.0, -15.0, -12.0),
                "You subtracted sums; both terms are means over the mini-batch.",
                "dx must sum to 0, and yours sums to -36.",
                "In compact form",
            ),
            Mistake(
                (-3.5, -2.5, 1.5, 4.5),
                "You added the part along x_hat; it is subtracted.",
                "The products of dx and x_hat must sum to 0.",
                "In compact form",
            ),
        ),
        hint="Two means: that of dy, and that of the products of dy and x_hat.",
    ),
    Exercise(
        name="backward",
        page=PAGE,
        asks="backward(dy, x, gamma, eps) returns dx (m, d), dgamma (d,) and dbeta (d,)",
        solution=backward,
        cases=layers,
        returns=("dx", "dgamma", "dbeta"),
        mistakes=(
            Mistake(
                scaled(lambda dy, x_hat, mean, along: dy - mean),
                "You dropped the path through the variance.",
                "With eps = 0, dx must be orthogonal to x_hat: compute (dx * x_hat).sum(0).",
                "As a projector",
            ),
            Mistake(
                scaled(lambda dy, x_hat, mean, along: dy - x_hat * along),
                "You dropped the path through the mean.",
                "dx must sum to 0 over the mini-batch: compute dx.sum(0).",
                "As a projector",
            ),
            Mistake(
                scaled(lambda dy, x_hat, mean, along: dy),
                "You took the statistics for constants, as if they were detached.",
                "Each x moves mean and variance: compute dx.sum(0), which must be 0.",
                "Statistics that are not constants",
            ),
            Mistake(
                with_dx(lambda dy, x, gamma, eps: np.zeros_like(x)),
                "Your dx is 0 everywhere, which a check with dy = 1 does not notice.",
                "Use a random dy.",
                "What makes a bad check",
            ),
            Mistake(
                with_dx(lambda dy, x, gamma, eps: backward(dy, x, gamma, eps)[0] / gamma),
                "You forgot gamma in dx.",
                "Double gamma: dx must double.",
                "In compact form",
            ),
            Mistake(
                with_dx(lambda dy, x, gamma, eps: backward(dy, x, gamma, 0.0)[0]),
                "You forgot eps.",
                "Take an eps as large as the variance, and compare with a numeric gradient.",
                "What makes a bad check",
            ),
            Mistake(
                with_dx(
                    lambda dy, x, gamma, eps: (
                        backward(dy, x, gamma, eps)[0] * np.sqrt(x.var(0) + eps)
                    )
                ),
                "You forgot the factor s, one over the standard deviation.",
                "Multiply x by 10: with a tiny eps dx must become ten times smaller.",
                "In compact form",
            ),
            Mistake(
                with_dx(
                    lambda dy, x, gamma, eps: (
                        parts(dy, x, gamma, eps)[1]
                        * (
                            dy
                            - dy.mean(0)
                            - parts(dy, x, gamma, eps)[0]
                            * parts(dy, x, gamma, eps)[3]
                            * len(x)
                            / (len(x) - 1)
                        )
                    )
                ),
                "You divide by m - 1 in the path through the variance; the forward pass has m.",
                "For m = 2 the factor is 2: compare with a numeric gradient there.",
                "What makes a bad check",
            ),
            Mistake(
                averaged,
                "Your dx is right, but dgamma and dbeta are sums over the mini-batch, not means.",
                "The mini-batch twice over, with the same dy, must double both.",
                "Step by step along the graph",
            ),
        ),
        hint="dbeta and dgamma first: dx needs both, divided by m.",
    ),
    Exercise(
        name="rms-backward",
        page=PAGE,
        asks="rms_backward(dy, x, eps) returns dx (m, d); the statistics are over the features",
        solution=rms_backward,
        cases=lambda rng: [(dy, x, eps) for dy, x, gamma, eps in layers(rng)],
        mistakes=(
            Mistake(
                rms_with(
                    lambda dy, x_hat, s, along: (
                        s * (dy - dy.mean(axis=1, keepdims=True) - x_hat * along)
                    )
                ),
                "You subtract the mean of dy, but RMS norm does not subtract the mean of x.",
                "The path through the mean does not exist: dx need not sum to 0.",
                "In compact form",
            ),
            Mistake(
                rms_with(lambda dy, x_hat, s, along: s * dy),
                "You took s for a constant.",
                "With eps = 0 the products of dx and x must sum to 0 in each example.",
                "Statistics that are not constants",
            ),
            Mistake(
                rms_with(lambda dy, x_hat, s, along: s * (dy - x_hat * along * dy.shape[1])),
                "You sum over the features where a mean belongs.",
                "With eps = 0, dy = x_hat must give dx = 0.",
                "In compact form",
            ),
            Mistake(
                rms_with(lambda dy, x_hat, s, along: dy - x_hat * along),
                "You forgot the factor s in front.",
                "Multiply x by 10: with a tiny eps dx must become ten times smaller.",
                "In compact form",
            ),
            Mistake(
                rms_with(lambda dy, x_hat, s, along: s * (dy - x_hat / s * along)),
                "You have x where x_hat belongs: the derivative of s has s to the third power.",
                "Check with data whose mean square is not 1.",
                "What makes a bad check",
            ),
            Mistake(
                lambda dy, x, eps: rms_backward(dy.T, x.T, eps).T,
                "You average over the mini-batch; RMS norm averages over the features.",
                "Change one example: dx of the others must stay as it is.",
                "The smallest example",
                page="alternatives",
            ),
        ),
        hint="There is one path less than in batch norm. Which?",
    ),
)
