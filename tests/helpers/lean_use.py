"""Use the library where only the extra `torch` is installed, and ask it for what is missing."""

from functools import partial
from importlib import import_module

import numpy as np


def needs(extra, function, *arguments):
    """Check that a call fails for want of an extra, and that the error says how to install it."""
    try:
        function(*arguments)
    except ModuleNotFoundError as error:
        message = str(error)
    else:
        message = "no error"
    assert f'pip install -e ".[{extra}]"' in message, f"{function}: {message}"


def main():
    import torch

    from bnlib import conventions, datasets, functional, layers, measure, nn, surgery
    from bnlib.experiments import cache, conditioning
    from bnlib.surgery.example import digits_images

    x = np.random.default_rng(0).normal(3.0, 2.0, size=(8, 4))
    y, _ = functional.batch_norm_forward(x)
    np.testing.assert_allclose(layers.BatchNorm(4)(x), y)
    assert measure.stable_rank(y) > 1
    assert conventions.CONVENTIONS

    batches = torch.randn(96, 3, 6, 6).split(32)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), torch.nn.ReLU())
    net(batches[0]).sum().backward()
    surgery.recalibrate(net, batches)
    folded = surgery.fold(net.eval(), batches[0]).model
    torch.testing.assert_close(folded(batches[0]), net(batches[0]))

    needs("book", import_module, "bnlib.plots")
    needs("book", cache.sweep, conditioning.run, [conditioning.Config()])
    needs("book", digits_images)
    for load in (datasets.digits, datasets.mnist1d, datasets.mnist_subset):
        needs("book", load)
    for draw in (datasets.circles, datasets.photo_patches, datasets.two_moons):
        needs("book", partial(draw, rng=0))


if __name__ == "__main__":
    main()
