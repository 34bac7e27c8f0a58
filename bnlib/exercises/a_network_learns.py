"""Exercises of :doc:`/book/a_network_learns`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "a_network_learns"
SOFTMAX, BACKWARD = "From scores to a loss", "Backpropagation"


def softmax(z, axis=1):
    """Return probabilities of the shape of the scores z."""
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def targets(z, y, a):
    """Return the smoothed targets (m, c)."""
    return (1 - a) * np.eye(z.shape[1])[y] + a / z.shape[1]


def smoothed_gradient(z, y, a):
    """Solve it: the gradient (m, c) with respect to the scores z (m, c)."""
    return (softmax(z) - targets(z, y, a)) / len(z)


def spread_over_the_others(z, y, a):
    """Give the part a to the wrong classes only."""
    t = np.full(z.shape, a / (z.shape[1] - 1))
    t[np.arange(len(z)), y] = 1 - a
    return (softmax(z) - t) / len(z)


def scores(rng):
    """Give square arrays of scores, so that a sum along the wrong axis has the right shape."""
    return [(rng.normal(0, 2, (c, c)), rng.integers(0, c, c), a) for c, a in ((3, 0.3), (4, 0.1))]


def backward_deep(weights, h, delta):
    """Solve it: lists of dW (d, d) and of db (d,), the first layer first."""
    return walk(weights, h, delta)


def walk(
    weights,
    h,
    delta,
    dw=lambda h, delta: h.T @ delta,
    db=lambda delta: delta.sum(axis=0),
    back=lambda W, h, delta: (delta @ W.T) * (h > 0),
    first=lambda W, h, delta: delta,
):
    """Walk from the last layer to the first; `first` changes delta before it is used."""
    dws, dbs = [], []
    for W, h_before in zip(reversed(weights), reversed(h), strict=True):
        delta = first(W, h_before, delta)
        dws.insert(0, dw(h_before, delta))
        dbs.insert(0, db(delta))
        delta = back(W, h_before, delta)
    return dws, dbs


def walk_with(**wrong):
    """Return a backward pass with one wrong step."""
    return lambda weights, h, delta: walk(weights, h, delta, **wrong)


def networks(rng):
    """Give networks of equal width, so that a forgotten transpose has the right shape."""
    given = []
    for depth, m, d in ((3, 4, 3), (2, 3, 2), (4, 5, 3)):
        weights = [rng.normal(size=(d, d)) for _ in range(depth)]
        h = [rng.normal(size=(m, d))]
        for W in weights[:-1]:
            h.append(np.maximum(0, h[-1] @ W + 0.5))
        given.append((weights, h, rng.normal(size=(m, d))))
    return given


EXERCISES = (
    Exercise(
        name="first-loss",
        page=PAGE,
        asks="one number, the cross entropy of a network that guesses among 1,000 classes",
        solution=np.log(1000),
        rtol=0.005,
        mistakes=(
            Mistake(
                np.log(10),
                "You gave the loss of ten classes; here there are 1,000.",
                "Each class gets the probability 1/1000: put it into the cross entropy.",
                SOFTMAX,
            ),
            Mistake(
                -np.log(1000),
                "You forgot the minus sign in front of the logarithm.",
                "A probability is at most 1, so no cross entropy is negative.",
                SOFTMAX,
            ),
            Mistake(
                3.0,
                "You took the logarithm to the base 10; the cross entropy has the natural one.",
                "For ten classes your logarithm gives 1, but the chapter has 2.30.",
                SOFTMAX,
            ),
            Mistake(
                np.log2(1000),
                "You took the logarithm to the base 2; the cross entropy has the natural one.",
                "For ten classes your logarithm gives 3.32, but the chapter has 2.30.",
                SOFTMAX,
            ),
            Mistake(
                0.001,
                "You gave the probability of the true class; the loss is minus its logarithm.",
                "A network that is certain and right has the loss 0, and this one only guesses.",
                SOFTMAX,
            ),
            Mistake(
                0.999,
                "You gave the share of wrong answers; the loss is a logarithm of a probability.",
                "The cross entropy grows without limit, but a share never exceeds 1.",
                SOFTMAX,
            ),
        ),
        hint="Which probability does the true class get? The loss is minus its natural logarithm.",
    ),
    Exercise(
        name="smoothed-gradient",
        page=PAGE,
        asks="smoothed_gradient(z, y, a) returns the gradient (m, c) with respect to z (m, c)",
        solution=smoothed_gradient,
        cases=scores,
        mistakes=(
            Mistake(
                lambda z, y, a: softmax(z) - targets(z, y, a),
                "You forgot that the loss is a mean over the examples.",
                "The mini-batch twice over must halve the gradient of each example.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: (softmax(z) - targets(z, y, a)) / z.size,
                "You divide by the number of all scores; the mean is over the examples only.",
                "The loss of one example is a sum over the classes, without a divisor.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: (targets(z, y, a) - softmax(z)) / len(z),
                "Your sign is the wrong one: that is the step against the gradient.",
                "For a = 0 the entry of the true class must be negative, because p is below 1.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: smoothed_gradient(z, y, 0.0),
                "You did not use a, so your targets are one-hot.",
                "For a = 1 the classes y must not matter at all.",
                SOFTMAX,
            ),
            Mistake(
                spread_over_the_others,
                "You spread a over the wrong classes only; here each of the c classes gets a/c.",
                "For a = 1 all targets of an example must be equal.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: (softmax(z) - (1 - a) * np.eye(z.shape[1])[y]) / len(z),
                "You took the part a from the true class and gave it to none; each class gets a/c.",
                "The targets of an example must sum to 1.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: (softmax(z, axis=None) - targets(z, y, a)) / len(z),
                "Your softmax sums over all scores; it sums over the classes of one example.",
                "The probabilities of each example must sum to 1.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: softmax(z) / len(z),
                "You did not subtract the targets.",
                "The entries of each row of the gradient must sum to 0.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: (z - targets(z, y, a)) / len(z),
                "You subtract the targets from the scores and left the softmax out.",
                "Add 5 to all scores: the gradient must stay as it is.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: (softmax(z, axis=0) - targets(z, y, a)) / len(z),
                "Your softmax sums over the examples; it sums over the classes of one example.",
                "Change one example: the gradients of the others must stay as they are.",
                SOFTMAX,
            ),
            Mistake(
                lambda z, y, a: -targets(z, y, a) / softmax(z) / len(z),
                "That is the derivative with respect to the probabilities, not to the scores.",
                "A score also changes the probabilities of the other classes.",
                SOFTMAX,
            ),
        ),
        hint="The loss is a sum of t_j (ln sum_r exp(z_r) - z_j), and the t_j sum to 1.",
    ),
    Exercise(
        name="backward-deep",
        page=PAGE,
        asks="backward_deep(weights, h, delta) returns the list of all dW and the list of all db",
        solution=backward_deep,
        cases=networks,
        returns=("dW", "db"),
        mistakes=(
            Mistake(
                walk_with(back=lambda W, h, delta: delta @ W.T),
                "You forgot the derivative of ReLU.",
                "A hidden unit that is 0 for an example must get no gradient from it.",
                BACKWARD,
            ),
            Mistake(
                walk_with(first=lambda W, h, delta: delta * (h > 0)),
                "You set delta to 0 before you use it, and with the input of its own layer.",
                "The last layer has no ReLU: its db must be the sum of the given delta.",
                BACKWARD,
            ),
            Mistake(
                walk_with(first=lambda W, h, delta: (delta @ W.T) * (h > 0)),
                "You pass delta on before you use it.",
                "The db of the last layer must be the sum of the given delta.",
                BACKWARD,
            ),
            Mistake(
                walk_with(back=lambda W, h, delta: (delta @ W) * (h > 0)),
                "You multiply by W; on the way back it is the transpose of W.",
                "With layers of different width the shapes do not fit.",
                BACKWARD,
            ),
            Mistake(
                walk_with(dw=lambda h, delta: delta.T @ h),
                "Your dW are transposed.",
                "W has the inputs of a layer in its rows: with different widths the shapes tell.",
                BACKWARD,
            ),
            Mistake(
                walk_with(db=lambda delta: delta.mean(axis=0)),
                "Your db are means; the bias is added in every row, so they are sums.",
                "The loss has divided by m already: the mini-batch twice over doubles db.",
                BACKWARD,
            ),
            Mistake(
                walk_with(
                    dw=lambda h, delta: h.T @ delta / len(h),
                    db=lambda delta: delta.sum(axis=0) / len(delta),
                ),
                "You divide by m once more; delta contains this factor already.",
                "The db of the last layer must be the sum of the given delta.",
                SOFTMAX,
            ),
            Mistake(
                lambda weights, h, delta: tuple(
                    each[::-1] for each in backward_deep(weights, h, delta)
                ),
                "You return the last layer first.",
                "With layers of different width the shapes of W and dW do not fit.",
                BACKWARD,
            ),
        ),
        hint="In each round: dW and db from h_before and delta, and only then the next delta.",
    ),
)
