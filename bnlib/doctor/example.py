"""A small network for the digits, to plant faults in: built, trained and judged in a second."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bnlib import datasets

UNITS = 64
BATCH_SIZE = 64
LEARNING_RATE = 0.1
RECORDING = 56
"""Images in a recording: 1,400 training images are 25 recordings."""


def digit_vectors(*, standardize: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the handwritten digits of :func:`bnlib.datasets.digits` as vectors.

    Parameters
    ----------
    standardize : bool
        Whether each pixel has mean 0 and variance 1 over the training images; else it is between
        0 and 1.

    Returns
    -------
    x_train, y_train, x_test, y_test : Tensor
        Images (n, 64) in float32, and labels (n,).
    """
    data = datasets.digits(standardize=standardize, dtype=np.float32)
    arrays = (data.x_train, data.y_train, data.x_test, data.y_test)
    return tuple(torch.from_numpy(array) for array in arrays)  # type: ignore[return-value]


def recorded(x: Tensor, *, seed: int = 0) -> Tensor:
    """Give each run of 56 images the brightness and the contrast of a recording of its own.

    Parameters
    ----------
    x : Tensor
        Images (n, 64).
    seed : int
        Of brightness and contrast.

    Returns
    -------
    Tensor
        Images (n, 64).
    """
    rng = np.random.default_rng(seed)
    count = -(-len(x) // RECORDING)
    contrast, brightness = np.exp(rng.normal(0, 0.6, count)), rng.normal(0, 2, count)
    both = (np.repeat(part, RECORDING)[: len(x), None] for part in (contrast, brightness))
    scale, shift = (torch.from_numpy(part.astype(np.float32)) for part in both)
    return scale * x + shift


def loader(
    x: Tensor, y: Tensor, batch_size: int = BATCH_SIZE, *, seed: int = 0, **options: Any
) -> DataLoader:
    """Return a data loader with a random order of its own.

    Parameters
    ----------
    x, y : Tensor
        Images and labels.
    batch_size : int
        Examples in a mini-batch.
    seed : int
        Of the order.
    **options
        Further arguments of ``DataLoader``; without them it shuffles and keeps the last batch.

    Returns
    -------
    torch.utils.data.DataLoader
    """
    generator = torch.Generator().manual_seed(seed)
    given: dict[str, Any] = {"shuffle": True, "generator": generator} | options
    return DataLoader(_Images(x, y), batch_size, collate_fn=_as_it_is, **given)


class _Images(TensorDataset):
    """Takes a mini-batch at once, which is much faster than image by image."""

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[rows] for tensor in self.tensors)


def _as_it_is(batch: Any) -> Any:
    return batch


def build(seed: int = 0, *, momentum: float = 0.1, dropout: float = 0.0) -> nn.Sequential:
    """Return a network of two hidden layers, each with a batch norm before its ReLU.

    Parameters
    ----------
    seed : int
        Of the weights. The global random state is kept.
    momentum : float
        Of the batch norms.
    dropout : float
        Probability of a dropout behind the first ReLU, so before the second batch norm.

    Returns
    -------
    torch.nn.Sequential
        In train mode.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(UNITS, UNITS, bias=False),
            nn.BatchNorm1d(UNITS, momentum=momentum),
            nn.ReLU(),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            nn.Linear(UNITS, UNITS, bias=False),
            nn.BatchNorm1d(UNITS, momentum=momentum),
            nn.ReLU(),
            nn.Linear(UNITS, 10),
        )


def train(
    net: nn.Module, batches: Iterable[Any], *, epochs: int = 5, optimizer: Any = None
) -> nn.Module:
    """Train a network by cross-entropy.

    Parameters
    ----------
    net : torch.nn.Module
        Trained in place, in the mode in which it is.
    batches : iterable
        Mini-batches of images and labels.
    epochs : int
        Passes over them.
    optimizer : torch.optim.Optimizer, optional
        By default gradient descent with a learning rate of 0.1 and a momentum of 0.9. A step is
        left out if the loss is not finite, as loss scalers do.

    Returns
    -------
    torch.nn.Module
        The network itself.

    Examples
    --------
    >>> from bnlib.doctor.example import accuracy, build, digit_vectors, loader, train
    >>> x, y, x_test, y_test = digit_vectors()
    >>> net = train(build(), loader(x, y))
    >>> accuracy(net, loader(x_test, y_test)) > 0.9
    True
    """
    if optimizer is None:
        learned = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learned, LEARNING_RATE, momentum=0.9)
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            if loss.isfinite():
                loss.backward()
                optimizer.step()
    return net


@torch.no_grad()
def accuracy(net: nn.Module, batches: Iterable[Any], *, training: bool = False) -> float:
    """Return the share of images that a network classifies right; the network stays as it was.

    Parameters
    ----------
    net : torch.nn.Module
        A copy of it is run.
    batches : iterable
        Mini-batches of images and labels.
    training : bool
        Whether to run it in train mode, but without dropout.

    Returns
    -------
    float
    """
    net = copy.deepcopy(net).train(training)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    right = [net(x).argmax(1) == y for x, y in batches]
    return float(torch.cat(right).double().mean())


@torch.no_grad()
def eval_loss(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the cross-entropy in eval mode; the network stays as it was.

    Parameters
    ----------
    net : torch.nn.Module
        A copy of it is run.
    x, y : Tensor
        Images and labels.

    Returns
    -------
    float
    """
    return float(nn.functional.cross_entropy(copy.deepcopy(net).eval()(x), y))
