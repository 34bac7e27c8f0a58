"""A small convolutional network, trained in a second: something to operate on."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bnlib import datasets

CHANNELS = 16
BATCH_SIZE = 64
LEARNING_RATE = 0.1


def digits_images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the handwritten digits of :func:`bnlib.datasets.digits` as images.

    Returns
    -------
    x_train, y_train, x_test, y_test : Tensor
        Images (n, 1, 8, 8) in float32, and labels (n,).

    Examples
    --------
    >>> from bnlib.surgery.example import digits_images
    >>> x_train, y_train, x_test, y_test = digits_images()
    >>> x_train.shape[1:]
    torch.Size([1, 8, 8])
    """
    data = datasets.digits(flat=False, standardize=True, dtype=np.float32)
    arrays = (data.x_train, data.y_train, data.x_test, data.y_test)
    return tuple(torch.from_numpy(array) for array in arrays)


def train_cnn(*, epochs: int = 3, seed: int = 0) -> nn.Sequential:
    """Train a network with three batch norms on the digits.

    A full convolution, a depthwise and a pointwise one, each followed by a batch norm and a ReLU,
    then a linear layer.

    Parameters
    ----------
    epochs : int
        Passes over the 1,400 training images, in mini-batches of 64.
    seed : int
        Of the initial weights and of the order of the images. The global random state is kept.

    Returns
    -------
    torch.nn.Sequential
        In train mode.

    Examples
    --------
    >>> from bnlib.surgery.example import digits_images, train_cnn
    >>> net = train_cnn(epochs=1)
    >>> x_test, y_test = digits_images()[2:]
    >>> bool((net.eval()(x_test).argmax(1) == y_test).double().mean() > 0.5)
    True
    """
    x, y, _, _ = digits_images()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = _build()
        optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE, momentum=0.9)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(BATCH_SIZE):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
                optimizer.step()
    return net


def _build() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, 2 * CHANNELS, 1, bias=False),
        nn.BatchNorm2d(2 * CHANNELS),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * CHANNELS * 4 * 4, 10),
    )
