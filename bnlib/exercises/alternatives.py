"""Exercises of :doc:`/book/alternatives`."""

import math

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "alternatives"


def standardized(x, axes, eps, divisor_less=0):
    """Standardize over some axes."""
    var = x.var(axes, keepdims=True, ddof=divisor_less)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(var + eps)


def in_parts(split, axes, **options):
    """Return a norm of images (n, h, w, c): split(x, groups) is the shape of the parts."""

    def norm(x, groups, eps):
        return standardized(x.reshape(split(x, groups)), axes, eps, **options).reshape(x.shape)

    return norm


def channels_last(x, groups):
    """Split the channels into groups of neighbours."""
    return (*x.shape[:3], groups, x.shape[3] // groups)


group_norm_last = in_parts(channels_last, (1, 2, 4))


def eps_outside(x, groups, eps):
    """Add eps to the standard deviation."""
    z = x.reshape(channels_last(x, groups))
    std = z.std((1, 2, 4), keepdims=True)
    return ((z - z.mean((1, 2, 4), keepdims=True)) / (std + eps)).reshape(x.shape)


def images(rng):
    """Give images with channels of several means and scales, the channels last."""
    shapes = (((2, 1, 2, 6), 3), ((3, 2, 3, 6), 2), ((2, 2, 2, 8), 2))
    return [
        (rng.normal(np.arange(shape[3]), 1 + np.arange(shape[3]) % 3, shape), groups, eps)
        for (shape, groups), eps in zip(shapes, (0.5, 0.01, 2.0), strict=True)
    ]


def groups_for(c, wanted, positions):
    """Solve it: the largest number of groups that divides c and leaves four values a mean."""
    return largest(lambda g: c % g == 0 and c // g * positions >= 4, c, wanted)


def largest(allowed, c, wanted):
    """Return the largest allowed number of groups."""
    return max(g for g in range(1, min(c, wanted) + 1) if allowed(g))


def layers(rng):
    """Give channels, wanted groups, and positions of each channel."""
    return [(4, 4, 1), (64, 32, 49), (64, 32, 1), (12, 8, 16), (30, 20, 1), (6, 4, 2)]


EXERCISES = (
    Exercise(
        name="values-that-share-a-mean",
        page=PAGE,
        asks="how many values share one mean in BN, LN, instance norm, GN with 3 groups: four "
        "numbers for x of shape (8, 6, 4, 4)",
        solution=(128, 96, 16, 32),
        returns=("BN", "LN", "instance norm", "GN"),
        mistakes=(
            Mistake(
                (128, 96, 16, 48),
                "You took the number of groups for the number of channels in a group.",
                "3 groups of 6 channels have 2 channels each.",
                "Each norm in three lines",
            ),
            Mistake(
                (8, 96, 16, 32),
                "In BN you counted the examples and forgot the pixels.",
                "BN has one mean for each channel: all pixels of the channel share it.",
                "One picture",
            ),
            Mistake(
                (128, 6, 16, 32),
                "In LN you counted the channels and forgot the pixels.",
                "In the picture of layer norm a whole example is filled.",
                "One picture",
            ),
            Mistake(
                (8, 6, 1, 2),
                "You forgot the pixels: they take part in each of the four norms.",
                "Multiply each of your numbers by the 16 pixels.",
                "One picture",
            ),
            Mistake(
                (96, 128, 16, 32),
                "You exchanged BN and LN.",
                "A mean of BN is over all examples of one channel.",
                "One picture",
            ),
            Mistake(
                (6, 8, 48, 24),
                "You counted the means and not the values in each.",
                "Divide the 768 values of x by the number of means.",
                "One picture",
            ),
            Mistake(
                (128, 96, 16, 256),
                "In GN you counted all examples; it treats each example by itself.",
                "Change one example: what GN returns for the others must stay as it is.",
                "One picture",
            ),
        ),
        hint="For each norm, ask of the four axes which are averaged over, and multiply them.",
    ),
    Exercise(
        name="group-norm-channels-last",
        page=PAGE,
        asks="group_norm_last(x, groups, eps) returns x_hat (n, h, w, c) for x (n, h, w, c)",
        solution=group_norm_last,
        cases=images,
        mistakes=(
            Mistake(
                in_parts(
                    lambda x, groups: (len(x), groups, x.shape[3] // groups, *x.shape[1:3]),
                    (2, 3, 4),
                ),
                "You reshape as if the channels came first, which puts pixels into groups.",
                "Add 5 to all channels of one group: x_hat must stay as it is.",
                "Each norm in three lines",
            ),
            Mistake(
                in_parts(lambda x, groups: (*x.shape[:3], x.shape[3] // groups, groups), (1, 2, 3)),
                "Your groups are every k-th channel; a group is a run of neighbours.",
                "Reshape np.arange(6) as you do, and look which numbers share a group.",
                "Each norm in three lines",
            ),
            Mistake(
                in_parts(lambda x, groups: (*x.shape[:3], x.shape[3] // groups, groups), (1, 2, 4)),
                "You took the number of groups for the number of channels in a group.",
                "With one group, all channels of an example must share their mean.",
                "Each norm in three lines",
            ),
            Mistake(
                in_parts(channels_last, 4),
                "You average over the channels of a group separately at each pixel.",
                "With one group and one channel, your output is 0 everywhere.",
                "One picture",
            ),
            Mistake(
                in_parts(channels_last, (0, 1, 2, 4)),
                "You average over the examples too.",
                "Change one example: x_hat of the others must stay as it is.",
                "One picture",
            ),
            Mistake(
                in_parts(channels_last, (1, 2)),
                "You average over the pixels of each channel alone: that is instance norm.",
                "Add 5 to one channel: x_hat of its group must change.",
                "One picture",
            ),
            Mistake(
                in_parts(lambda x, groups: x.shape, (1, 2, 3)),
                "You never use the groups: that is layer norm.",
                "Add 5 to one channel: x_hat of the other groups must stay as it is.",
                "One picture",
            ),
            Mistake(
                in_parts(channels_last, (1, 2, 4), divisor_less=1),
                "You divide by the number of values minus 1; every norm takes the biased variance.",
                "With eps = 0 the mean of x_hat**2 must be 1.",
                "One picture",
            ),
            Mistake(
                eps_outside,
                "Your eps stands outside the root.",
                "With variance 0 the root is sqrt(eps), and yours is eps.",
                "What eps does",
                page="forward_pass",
            ),
        ),
        hint="Split the last axis into (groups, c // groups) first. Which axes are averaged then?",
    ),
    Exercise(
        name="groups-for",
        page=PAGE,
        asks="groups_for(c, wanted, positions) returns a number of groups",
        solution=groups_for,
        cases=layers,
        mistakes=(
            Mistake(
                lambda c, wanted, positions: largest(lambda g: c % g == 0, c, wanted),
                "You do not count the values, so your tool erases the data of a small layer.",
                "With 4 channels at 1 position, 4 groups have one value each: x - mean = 0.",
                "The smallest example",
            ),
            Mistake(
                lambda c, wanted, positions: largest(
                    lambda g: c % g == 0 and c // g * positions >= 2, c, wanted
                ),
                "You allow means of two values: only a sign is left, and hardly any gradient.",
                "With 4 channels at 1 position, 2 groups have two values each.",
                "Batch renormalization and ghost batches",
            ),
            Mistake(
                lambda c, wanted, positions: largest(
                    lambda g: c % g == 0 and c // g >= 4, c, wanted
                ),
                "You count the channels of a group and forget its pixels.",
                "64 channels at 49 positions in 32 groups: 2 channels, but 98 values each.",
                "One picture",
            ),
            Mistake(
                lambda c, wanted, positions: largest(lambda g: c // g * positions >= 4, c, wanted),
                "Your number of groups need not divide the number of channels.",
                "PyTorch refuses 8 groups of 12 channels.",
                "Each norm in three lines",
            ),
            Mistake(
                lambda c, wanted, positions: math.gcd(c, wanted),
                "The greatest common divisor need not be the largest number, nor a safe one.",
                "12 channels, 8 wanted: 6 groups are possible, and the common divisor is 4.",
                "The smallest example",
            ),
            Mistake(
                lambda c, wanted, positions: min(c, wanted),
                "You return what is wanted, whether it is possible or not.",
                "PyTorch refuses 8 groups of 12 channels.",
                "Each norm in three lines",
            ),
            Mistake(
                lambda c, wanted, positions: 1,
                "One group is always safe, but it is layer norm; the largest safe number is asked.",
                "64 channels at 49 positions: 32 groups have 98 values each.",
                "One picture",
            ),
            Mistake(
                lambda c, wanted, positions: c // groups_for(c, wanted, positions),
                "You return the number of channels in a group, not the number of groups.",
                "With 64 channels at 49 positions and 32 groups wanted, the answer is 32.",
                "Each norm in three lines",
            ),
        ),
        hint="Two conditions for g groups: g divides c, and c / g * positions is at least 4.",
    ),
)
