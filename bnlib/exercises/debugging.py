"""Exercises of :doc:`/book/debugging`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "debugging"


def momentum_of(before, after, batch_mean):
    """Solve it: the least-squares slope of the movement over the distance to the mini-batch."""
    distance = batch_mean - before
    return float((after - before) @ distance / (distance @ distance))


def moved(share):
    """Answer with ``share(movement, before, after, batch_mean)`` of three vectors."""

    def answer(before, after, batch_mean):
        return float(share(after - before, before, after, batch_mean))

    return answer


def updates(rng):
    """Give running means before and after one update, and the mean of its mini-batch."""
    found = []
    for d, momentum in ((2, 0.1), (4, 0.99), (6, 0.3)):
        before, mean = rng.normal(1.0, 2.0, size=(2, d))
        found.append((before, before + momentum * (mean - before), mean))
    return found


def ratio(batches):
    """Solve it: batches (k, m, d); the F statistic of each feature, (d,)."""
    k, m, _ = batches.shape
    means = batches.mean(axis=1)  # (k, d)
    between = m * means.var(axis=0, ddof=1)
    within = ((batches - means[:, None]) ** 2).sum(axis=(0, 1)) / (k * (m - 1))
    return between / within


def of_variances(batches):
    """Forget that a mean over m examples varies m times less than an example."""
    return ratio(batches) / batches.shape[1]


def upside_down(batches):
    """Divide by what is between mini-batches."""
    return 1 / ratio(batches)


def over_the_total(batches):
    """Take the variance of all examples for the one within mini-batches."""
    k, m, d = batches.shape
    total = batches.reshape(k * m, d).var(axis=0, ddof=1)
    return m * batches.mean(axis=1).var(axis=0, ddof=1) / total


def between_examples(batches):
    """Average over the mini-batches in the place of the examples."""
    return ratio(batches.transpose(1, 0, 2))


def biased(batches):
    """Divide by k and by m."""
    k, m, _ = batches.shape
    return ratio(batches) * (k - 1) / k * m / (m - 1)


def of_standard_deviations(batches):
    """Take the root."""
    return np.sqrt(ratio(batches))


def populations(rng):
    """Give mini-batches (k, m, d) with means of their own."""
    return [
        (rng.normal(size=(k, 1, d)) + rng.normal(size=(k, m, d)),)
        for k, m, d in ((2, 3, 1), (4, 5, 2), (3, 8, 4))
    ]


EXERCISES = (
    Exercise(
        name="dropout-in-eval-mode",
        page=PAGE,
        asks="the standard deviation of the output of BN in eval mode, one number",
        solution=3**-0.5,
        rtol=0.005,
        mistakes=(
            Mistake(
                1.0,
                "You took the variance for unchanged, but dropout keeps only the mean.",
                "With p near 1 most values are 0 and a few are very large.",
                "What differs between the two modes",
            ),
            Mistake(
                0.5**0.5,
                "You divided the variance by 1 - p, which is right for values of mean 0 only.",
                "Compute the mean square with dropout first; the mean of the values is 1.",
                "What differs between the two modes",
            ),
            Mistake(
                0.75**-0.5,
                "You forgot that dropout divides what it keeps by 1 - p.",
                "The mean with dropout must be the mean without it.",
                "What differs between the two modes",
            ),
            Mistake(
                1 / 3,
                "You gave the ratio of the variances; its root is the standard deviation.",
                "BN divides by a standard deviation.",
                "What differs between the two modes",
            ),
            Mistake(
                3**0.5,
                "You turned the ratio over: eval mode divides the smaller spread by the larger.",
                "Without dropout the values are less spread than what the BN has learned.",
                "What differs between the two modes",
            ),
        ),
        hint="With dropout a value x is x / (1 - p) or 0. What are its mean and its mean square?",
    ),
    Exercise(
        name="measured-momentum",
        page=PAGE,
        asks="momentum_of(before, after, batch_mean) returns one number",
        solution=momentum_of,
        cases=updates,
        mistakes=(
            Mistake(
                lambda before, after, batch_mean: 1 - momentum_of(before, after, batch_mean),
                "You gave the weight of the old value, which is what Keras calls momentum.",
                "An average that does not move has a PyTorch momentum of 0.",
                "A validation loss that jumps",
            ),
            Mistake(
                moved(lambda step, before, after, mean: step @ mean / (mean @ mean)),
                "You divided by the mean of the mini-batch and not by the distance to it.",
                "Shift all means by the same number: the momentum must not change.",
                "A validation loss that jumps",
            ),
            Mistake(
                moved(lambda step, before, after, mean: after @ mean / (mean @ mean)),
                "You took the new running mean for the step.",
                "If nothing moves, the momentum is 0.",
                "A validation loss that jumps",
            ),
            Mistake(
                moved(lambda step, before, after, mean: step @ before / (before @ before)),
                "You measured the step relative to the old running mean.",
                "A running mean of 0 can move, too.",
                "A validation loss that jumps",
            ),
            Mistake(
                moved(lambda step, before, after, mean: step @ (mean - after) / step.dot(step)),
                "You divided the distance that is left by the step.",
                "A momentum of 1 leaves no distance.",
                "A validation loss that jumps",
            ),
        ),
        hint="One update moves the running mean by a share of its distance to the batch mean.",
    ),
    Exercise(
        name="between-and-within",
        page=PAGE,
        asks="between_over_within(batches) returns one ratio for each feature",
        solution=ratio,
        cases=populations,
        mistakes=(
            Mistake(
                of_variances,
                "You forgot the factor m: a mean of m examples varies m times less than one.",
                "For shuffled examples the ratio must be about 1, whatever m is.",
                "One recording per mini-batch",
            ),
            Mistake(
                upside_down,
                "You divided by the variance between the means.",
                "Mini-batches that differ much must give a large ratio.",
                "One recording per mini-batch",
            ),
            Mistake(
                over_the_total,
                "You divided by the variance of all examples, which holds the one between, too.",
                "Move one mini-batch far away: your ratio stays bounded.",
                "One recording per mini-batch",
            ),
            Mistake(
                between_examples,
                "You averaged over the mini-batches and not over the examples in each.",
                "Reorder the examples within one mini-batch: nothing may change.",
                "One recording per mini-batch",
            ),
            Mistake(
                biased,
                "You divided by k and by m; unbiased estimates need k - 1 and m - 1.",
                "For shuffled examples the mean of the ratio must be about 1 also if k is 2.",
                "One recording per mini-batch",
            ),
            Mistake(
                of_standard_deviations,
                "You gave the ratio of the standard deviations.",
                "Variances add, and so it is variances that chance predicts.",
                "One recording per mini-batch",
            ),
        ),
        hint="By chance the mean of m examples has 1 / m of the variance within a mini-batch.",
    ),
)
