"""A small convolutional network on images whose light changes from mini-batch to mini-batch.

For :doc:`/book/convolution`. Every arm has another normalization after its two convolutions. It is
trained under constant light, and again, from the same weights and on the same mini-batches, with a
new brightness and contrast for every mini-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnlib.experiments.engine import networks, rates
from bnlib.experiments.engine import varying_light as lit
from bnlib.experiments.records.verdict import Verdict, paired_verdict

CLAIM = "It copes with inputs whose distribution varies from batch to batch."
SOURCE = "often said"
MARGIN = 0.02
"""The least effect on accuracy that counts.

It is the standard error of the difference between two accuracies of 0.85 on 640 images each, so a
smaller effect is one that nobody would see who tests one network of either kind.
"""

ARMS = ("none", "batch", "instance", "control")
MODES = ("eval", "recalibrated", "train")
LIGHTS = ("constant", "batch", "example")  # one light for all, one a mini-batch, one an example
TRAINED = LIGHTS[:2]


@dataclass(frozen=True)
class Config:
    """Sizes, rates and light of one experiment.

    Attributes
    ----------
    dataset : {"mnist_subset", "photos"}
        The MNIST subset without its margin, 2 x 2 pixels averaged to one; or photo patches.
    arms : tuple of str
        Out of "none", "batch", "instance" and "control", which is "none" from other weights.
    rates : tuple of float
        Learning rates; every arm is trained with each of them. The best rate of every arm is to
        lie inside: for photos this takes smaller rates, such as 0.03 to 0.9.
    seeds, first_seed : int
        Repetitions for every arm and rate, with their own weights, order and light, and the first
        of their seeds.
    steps, batch_size, channels : int
        Steps of gradient descent, examples of a mini-batch, channels of each convolution.
    n_valid, n_test : int
        Images to choose the rate with and to test with: multiples of `batch_size`.
    brightness, contrast : float
        Range of the light, as in `bnlib.datasets.vary_lighting`, for pixels in [0, 1].
    activation, optimizer, momentum
        As in `bnlib.experiments.engine.networks.Config`.
    """

    dataset: Literal["mnist_subset", "photos"] = "mnist_subset"
    arms: tuple[Literal["none", "batch", "instance", "control"], ...] = ARMS[:3]
    rates: tuple[float, ...] = (0.1, 0.3, 0.9, 2.7, 8.1)
    seeds: int = 16
    steps: int = 120
    batch_size: int = 32
    channels: int = 8
    n_valid: int = 320
    n_test: int = 640
    brightness: float = 0.5
    contrast: float = 2.0
    activation: networks.Activation = "relu"
    optimizer: networks.Optimizer = "sgd"
    momentum: float = 0.0
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.dataset not in lit.DATASETS:
            raise ValueError(f"dataset: expected one of {lit.DATASETS}, got {self.dataset!r}")
        lit.training(self)  # raises where these do not fit together
        if not self.arms or not set(self.arms) <= set(ARMS):
            raise ValueError(f"arms: expected some of {ARMS}, got {self.arms}")
        for name in ("n_valid", "n_test"):
            if getattr(self, name) % self.batch_size:
                raise ValueError(
                    f"{name}: expected a multiple of batch_size={self.batch_size}, "
                    f"got {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Result:
    """Accuracies of every seed; the seeds of different arms are paired.

    Attributes
    ----------
    config : Config
        What was run.
    validation : mapping of (arm, trained, mode) to ndarray of shape (rates, seeds)
        Accuracy under the light of training, by which the rate is chosen.
    test : mapping of (arm, trained, mode, light) to ndarray of shape (seeds,)
        Accuracy at the rate that is best on the validation images in the mean over seeds.

    Notes
    -----
    An arm without batch norm is the same in every mode. It is stored under "eval"; the methods
    find it under any mode.
    """

    config: Config
    validation: Mapping[tuple[str, str, str], NDArray]
    test: Mapping[tuple[str, str, str, str], NDArray]

    def rate(self, arm: str, trained: str, mode: str) -> float:
        """Return the learning rate that was chosen."""
        return self.config.rates[_best(self.validation[arm, trained, _stored(arm, mode)])]

    def accuracy(self, arm: str, trained: str, mode: str, light: str) -> NDArray:
        """Return the test accuracy of each seed, (seeds,)."""
        return self.test[arm, trained, _stored(arm, mode), light]

    def by_light(self, arm: str, mode: str) -> NDArray:
        """Return the accuracy in three worlds, (seeds, 3), in the order of `LIGHTS`.

        Training and test are under constant light; both are under light that varies from
        mini-batch to mini-batch; and the same networks are tested with one light an example.
        """
        trained = ("constant", "batch", "batch")
        cases = zip(trained, LIGHTS, strict=True)
        return np.stack([self.accuracy(arm, t, mode, light) for t, light in cases], axis=1)

    def cost(self, arm: str, mode: str) -> NDArray:
        """Return the accuracy that varying light costs each seed, (seeds,).

        This is the accuracy if training and test are under constant light, minus the accuracy if
        the light of both varies from mini-batch to mini-batch.
        """
        constant, varying, _ = self.by_light(arm, mode).T
        return constant - varying


def run(config: Config = Config(), *, progress: bool = False) -> Result:
    """Train every arm under either light, choose its rate, and test it in every mode.

    Parameters
    ----------
    config : Config
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Result
        The same for the same config on one machine.
    """
    data, x_valid, y_valid = lit.split(lit.load(config.dataset), config)
    lit_valid = {light: lit.lit_batches(x_valid, light, config) for light in TRAINED}
    lit_test = {light: lit.lit_batches(data.x_test, light, config) for light in LIGHTS}
    validation, test = {}, {}
    for trained, arm in product(TRAINED, config.arms):
        network = lit.build(arm, config, data)
        with np.errstate(over="ignore", invalid="ignore"):  # too large a rate may diverge
            lit.train(network, data, trained, config, progress)
            for mode in MODES if arm == "batch" else MODES[:1]:
                tested = lit.in_mode(mode, network, data, trained, config)
                case = arm, trained, mode
                validation[case] = lit.accuracy(tested, lit_valid[trained], y_valid, config)
                chosen = lit.pick(_best(validation[case]), tested, arm, config, data)
                for light, batches in lit_test.items():
                    test[*case, light] = lit.accuracy(chosen, batches, data.y_test, config)[0]
    return Result(config, validation, test)


def check(config: Config, treatment: str = "batch", control: str = "none") -> None:
    """Raise ValueError unless both arms are trained."""
    if not {treatment, control} <= {*config.arms}:
        raise ValueError(f"arms: expected {control} and {treatment} among them, got {config.arms}")


def judge(
    result: Result, mode: str = "eval", *, treatment: str = "batch", control: str = "none"
) -> Verdict:
    """Judge the claim by how much less varying light costs the treatment than the control.

    Parameters
    ----------
    result : Result
        From `run`, with at least two seeds.
    mode : {"train", "eval", "recalibrated"}
        Mode in which batch norm is tested.
    treatment, control : str
        Arms that are compared, seed by seed. With twice the same arm, or with "control" for the
        treatment, this is a negative control.

    Returns
    -------
    Verdict
        The effect is the cost of the control minus the cost of the treatment.

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or an arm was not trained.
    """
    check(result.config, treatment, control)
    costs = result.cost(control, mode), result.cost(treatment, mode)
    return paired_verdict(CLAIM, SOURCE, *costs, MARGIN)


def judge_modes(result: Result) -> dict[str, Verdict]:
    """Judge as `judge` does, in train mode and in eval mode."""
    return {f"{mode} mode": judge(result, mode) for mode in ("train", "eval")}


def _best(validation: NDArray) -> int:
    """Return the index of the rate with the best mean over seeds."""
    return int(rates.best(-validation.mean(axis=1)))


def _stored(arm: str, mode: str) -> str:
    return mode if arm == "batch" else MODES[0]
