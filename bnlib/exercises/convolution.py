"""Exercises of :doc:`/book/convolution`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "convolution"
CHANNEL = "One mean for each channel"


def bn(x, gamma, beta, eps):
    """Solve it: y (n, c, h, w) of x (n, c, h, w)."""
    return on_axes((0, 2, 3))(x, gamma, beta, eps)


def affine(x_hat, gamma, beta):
    """Scale and shift each channel."""
    return gamma[:, None, None] * x_hat + beta[:, None, None]


def standardize(x, eps, axes, correction=0):
    """Standardize over some axes."""
    var = x.var(axis=axes, keepdims=True, ddof=correction)
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(var + eps)


def on_axes(axes, correction=0):
    """Return a norm that averages over these axes."""
    return lambda x, gamma, beta, eps: affine(standardize(x, eps, axes, correction), gamma, beta)


def reshaped(x, gamma, beta, eps):
    """Join the axes without moving the channels to the end."""
    return (gamma * standardize(x.reshape(-1, len(gamma)), eps, 0) + beta).reshape(x.shape)


def maps(rng):
    """Give maps as wide as there are channels, so that gamma fits the wrong axis as well."""
    return [
        (
            rng.normal(np.arange(c)[:, None, None], 2, (n, c, h, c)),
            rng.normal(1, 0.5, c),
            rng.normal(size=c),
            eps,
        )
        for n, c, h, eps in ((2, 2, 2, 0.5), (4, 3, 2, 0.1), (3, 2, 5, 1.0))
    ]


EXERCISES = (
    Exercise(
        name="count",
        page=PAGE,
        asks="two numbers, the values in each mean and the parameters (gamma and beta) of BN",
        solution=(401_408, 128),
        returns=("number of values", "number of parameters"),
        rtol=1e-6,
        mistakes=(
            Mistake(
                (12_544, 128),
                "You counted the positions of one image; the mean is over all images.",
                "With a mini-batch of twice the size each mean is over twice as many values.",
                CHANNEL,
            ),
            Mistake(
                (401_408 * 64, 128),
                "You counted the values of all channels, but each channel has its own mean.",
                "There are 64 means, so each is over a 64th of all values.",
                CHANNEL,
            ),
            Mistake(
                (32, 128),
                "You counted the images; each image contributes all positions of its map.",
                "The smallest example of the chapter has two images, and a mean over 4 values.",
                "The smallest example",
            ),
            Mistake(
                (401_408, 64),
                "You counted one parameter for each channel, but there are a scale and a shift.",
                "The shape of gamma is (c,), and so is that of beta.",
                CHANNEL,
            ),
            Mistake(
                (401_408, 256),
                "You counted the running statistics as parameters; no gradient changes them.",
                "Only what gradient descent changes is a parameter: gamma and beta.",
                CHANNEL,
            ),
            Mistake(
                (401_408, 1_605_632),
                "You gave each position its own scale and shift.",
                "If an image moves by a pixel, the output must move along and not change.",
                "Why per channel",
            ),
            Mistake(
                (32, 1_605_632),
                "You counted per position, as if each pixel were a feature.",
                "If an image moves by a pixel, the output must move along and not change.",
                "Why per channel",
            ),
        ),
        hint="One channel of all images shares a mean. How many values does it hold?",
    ),
    Exercise(
        name="bn-of-images",
        page=PAGE,
        asks="bn(x, gamma, beta, eps) returns y of shape (n, c, h, w)",
        solution=bn,
        cases=maps,
        mistakes=(
            Mistake(
                reshaped,
                "You reshape without moving the channels to the end: each column mixes channels.",
                "In y each channel must have the mean beta: compute y.mean(axis=(0, 2, 3)).",
                "One mean for each channel",
            ),
            Mistake(
                lambda x, gamma, beta, eps: gamma * standardize(x, eps, (0, 2, 3)) + beta,
                "You apply gamma and beta along the width: NumPy aligns the last axes.",
                "Try a map whose width differs from the number of channels.",
                CHANNEL,
            ),
            Mistake(
                on_axes(0),
                "You average over the examples only, so each position has its own mean.",
                "The mean must have one number for each channel, (c,).",
                "Why per channel",
            ),
            Mistake(
                on_axes((2, 3)),
                "You average over each image separately: that is instance norm.",
                "Change one image: BN must change the output of the others as well.",
                CHANNEL,
            ),
            Mistake(
                on_axes((1, 2, 3)),
                "You average over all channels of each image: that is layer norm.",
                "In y each channel must have the mean beta: compute y.mean(axis=(0, 2, 3)).",
                CHANNEL,
            ),
            Mistake(
                on_axes((0, 1, 2, 3)),
                "You take one mean and one variance of the whole array.",
                "In y each channel must have the mean beta: compute y.mean(axis=(0, 2, 3)).",
                CHANNEL,
            ),
            Mistake(
                on_axes((0, 1, 2)),
                "You take the last axis for the channels, as Keras does; here it is axis 1.",
                "In y each channel must have the mean beta: compute y.mean(axis=(0, 2, 3)).",
                "In practice",
            ),
            Mistake(
                on_axes((0, 2, 3), correction=1),
                "You normalize with the unbiased variance; in train mode the divisor is m.",
                "With eps = 0 and gamma = 1 the variance of each channel of y must be 1.",
                "The equation",
                page="forward_pass",
            ),
            Mistake(
                lambda x, gamma, beta, eps: standardize(x, eps, (0, 2, 3)),
                "You forgot the scale and the shift.",
                "With gamma = 0 the output is beta, whatever x is.",
                CHANNEL,
            ),
            Mistake(
                lambda x, gamma, beta, eps: affine(
                    (x - x.mean((0, 2, 3), keepdims=True))
                    / (x.std((0, 2, 3), keepdims=True) + eps),
                    gamma,
                    beta,
                ),
                "Your eps stands outside the root.",
                "With variance 0 the root is sqrt(eps), and yours is eps.",
                "What eps does",
                page="forward_pass",
            ),
        ),
        hint="Average over the axes (0, 2, 3) with keepdims=True, and give gamma the shape "
        "(c, 1, 1).",
    ),
)
