"""The settings over which each claim of the ledger is judged: the declaration of the multiverse.

The first level of each axis is what the claim's chapter has, or less where that takes long, and
the others are what a critic would change. Where a data set or an optimizer needs other learning
rates or another target, its level says so; these were chosen after a pilot with seeds that no cell
has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnlib.experiments.records.keys import unknown
from bnlib.experiments.records.multiverse import Judged, Level, Multiverse

Axis = dict[str, Level]

ADAM = {"optimizer": "adam"}
MOMENTUM = {"momentum": 0.9}
MNIST = {"dataset": "mnist_subset"}
MNIST1D = {"dataset": "mnist1d"}
LOW = {"trained": 0.38, "targets": (0.27, 0.38, 0.44)}
"""What counts on MNIST-1D: as far on the way from chance to the best accuracy of the pilot (0.47)
as the targets of the digits are on that to theirs (0.97)."""


def _numbers(field: str, own: float, *values: float) -> Axis:
    """Make an axis of a field that is a number; the chapter has the first."""
    return {f"{own:g}": {}} | {f"{value:g}": {field: value} for value in values}


def _steps(field: str, own: int, more: Mapping[str, Any] | None = None) -> Axis:
    """Make an axis of 1, 2, 4 and 8 times the steps; `budgets` is a field of tuples."""
    times = [own * factor for factor in (2, 4, 8)]
    values = [(n,) if field == "budgets" else n for n in times]
    levels = {f"{n}": {field: each} for n, each in zip(times, values, strict=True)}
    return {f"{own}": {}} | {name: {**level, **(more or {})} for name, level in levels.items()}


SEEDS = {"from 0": {}} | {f"from {n}": {"first_seed": n} for n in (1000, 2000, 3000)}
ACTIVATION: Axis = {
    "ReLU": {},
    "tanh": {"activation": "tanh"},
    "sigmoid": {"activation": "sigmoid"},
}


def _data(mnist: Level | None = None, mnist1d: Level | None = None) -> Axis:
    return {
        "digits": {},
        "MNIST": {**MNIST, **(mnist or {})},
        "MNIST-1D": {**MNIST1D, **(mnist1d or {})},
    }


def _optimizer(momentum: tuple[float, ...], adam: tuple[float, ...]) -> Axis:
    """Make an axis of SGD, SGD with momentum and Adam, with the learning rates of the last two."""
    return {
        "SGD": {},
        "momentum": {**MOMENTUM, "rates": momentum},
        "Adam": {**ADAM, "rates": adam},
    }


RATES = Multiverse(
    "learning_rates",
    {
        "higher-learning-rates": Judged("judge_rates"),
        "faster-convergence": Judged("judge_speed", {"the target": -1}),
    },
    {"budgets": (200,)},
    {
        "the data set": _data(mnist1d=LOW),
        "the optimizer": _optimizer(
            (0.0056, 0.01, 0.018, 0.032, 0.056, 0.1, 0.18, 0.32),
            (0.001, 0.0032, 0.01, 0.018, 0.032, 0.056, 0.1, 0.18, 0.32, 0.56),
        ),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64, 128),
        "the depth": _numbers("depth", 6, 3, 9),
        "the width": _numbers("width", 32, 16, 64),
        "the activation": ACTIVATION,
        "the number of steps": _steps("budgets", 200),
        "the seeds": SEEDS,
    },
    combinations=7,
)

STARTS = Multiverse(
    "learning_rates",
    {"initialization-matters-less": Judged("judge_initialization", {"the measure": 0})},
    {"budgets": (200,), "scales": (0.1, 1.0, 10.0), "rates": (0.01, 0.1, 0.32, 1.0, 3.2)},
    {
        "the data set": _data(mnist1d=LOW),
        "the optimizer": _optimizer((0.001, 0.01, 0.032, 0.1, 0.32), (0.001, 0.0032, 0.01, 0.1)),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64, 128),
        "the depth": _numbers("depth", 6, 3, 9),
        "the width": _numbers("width", 32, 16, 64),
        "the activation": ACTIVATION,
        "the number of steps": _steps("budgets", 200),
        "the scales": {"0.1 to 10": {}, "0.32 to 3.2": {"scales": (0.32, 1.0, 3.2)}},
        "the seeds": SEEDS,
    },
    combinations=6,
)

DEPTHS = Multiverse(
    "trainable_depth",
    {"deeper-networks": Judged("judge")},
    {"budgets": (100,), "depths": (4, 8, 16, 32), "rates": (0.03, 0.1)},
    {
        "the network": {
            "plain": {},
            "residual": {"case": "residual", "depths": (2, 8, 32)},
            "residual, scaled": {"case": "residual scaled", "depths": (2, 8, 32)},
        },
        "the data set": _data({"validation": 500}, {"validation": 500, "target": LOW["trained"]}),
        "the optimizer": _optimizer((0.003, 0.01), (0.001, 0.003)),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64, 128),
        "the width": _numbers("width", 32, 16, 64),
        "the number of steps": _steps("budgets", 100),
        "the seeds": SEEDS,
    },
    combinations=6,
)

LANDSCAPE = Multiverse(
    "smoothness",
    {"smoother-landscape": Judged("judge", {"the measure": 0, "the time in training": 2})},
    {"rates": (0.1,), "best": (), "steps": 400},
    {
        "the data set": _data(),
        "the optimizer": _optimizer((0.01,), (0.003,)),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64, 128),
        "the depth": _numbers("depth", 6, 3, 9),
        "the width": _numbers("width", 32, 16, 64),
        "the activation": ACTIVATION,
        "the number of steps": _steps("steps", 400),
        "the seeds": SEEDS,
    },
    combinations=6,
)

INJECTED = Multiverse(
    "shifted_batch_norm",
    {"covariate-shift-is-why": Judged("judge_budgets")},
    {"strengths": (0.0, 3.0), "rates": (0.03, 0.1, 0.3), "every": 50},
    {
        "the data set": _data(),
        "the optimizer": _optimizer((0.003, 0.01, 0.03), (0.001, 0.003, 0.01)),
        "the mini-batch": _numbers("batch_size", 64, 8, 16, 32, 128),
        "the depth": _numbers("depth", 8, 4, 6),
        "the width": _numbers("width", 32, 16, 64),
        "the activation": ACTIVATION,
        "the number of steps": _steps("budgets", 100),
        "the shift": {"3": {}, "2": {"strengths": (0.0, 2.0)}, "4": {"strengths": (0.0, 4.0)}},
        "the seeds": SEEDS,
    },
    combinations=5,
)

SMALL = Multiverse(
    "small_batches",
    {"small-mini-batches": Judged("judge", {"the size of the mini-batch": 0})},
    {"sizes": (2, 4, 8), "n_train": 512, "rates": (0.003, 0.01, 0.03)},
    {
        "the data set": _data(),
        "the optimizer": {
            "momentum": {},
            "SGD": {"momentum": 0.0, "rates": (0.01, 0.03, 0.1)},
            "Adam": {**ADAM, "momentum": 0.0, "rates": (0.0003, 0.001, 0.003)},
        },
        "the depth": _numbers("depth", 2, 1, 4),
        "the width": _numbers("width", 32, 16, 64),
        "the activation": ACTIVATION,
        "the number of epochs": _steps("epochs", 4),
        "the groups": _numbers("groups", 4, 2, 8),
        "the examples": _numbers("n_train", 512, 256, 1024),
        "the seeds": SEEDS,
    },
    combinations=5,
)

SHIFT = Multiverse(
    "covariate_shift",
    {"reduces-covariate-shift": Judged("judge_definitions", {"the definition": 0})},
    {"architectures": ("relu",), "depths": (8,), "rates": (0.01,)},
    {
        "the network": {
            "ReLU": {},
            "linear": {"architectures": ("linear",)},
            "tanh": {"activation": "tanh"},
            "sigmoid": {"activation": "sigmoid"},
        },
        "the learning rate": {"0.01": {}, "0.001": {"rates": (0.001,)}, "0.1": {"rates": (0.1,)}},
        "the data set": _data(),
        "the optimizer": {"SGD": {}, "momentum": MOMENTUM, "Adam": ADAM},
        "the mini-batch": _numbers("batch_size", 64, 8, 16, 32, 128),
        "the depth": {"8": {}} | {f"{n}": {"depths": (n,)} for n in (4, 16)},
        "the width": _numbers("width", 32, 16, 64),
        "the number of steps": _steps("steps", 60),
        "the seeds": SEEDS,
    },
    combinations=6,
)

LIGHT = Multiverse(
    "convolution",
    {"varying-inputs": Judged("judge_modes", {"the mode": 0})},
    {"arms": ("none", "batch")},
    {
        "the data set": {"MNIST": {}, "photos": {"dataset": "photos"}},
        "the optimizer": _optimizer((0.01, 0.03, 0.1), (0.003, 0.01, 0.03)),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64),
        "the channels": _numbers("channels", 8, 4, 16),
        "the activation": ACTIVATION,
        "the number of steps": _steps("steps", 120),
        "the light": {
            "strong": {},
            "weaker": {"brightness": 0.25, "contrast": 1.5},
            "weak": {"brightness": 0.1, "contrast": 1.2},
            "brightness alone": {"contrast": 1.0},
            "contrast alone": {"brightness": 0.0},
        },
        "the seeds": SEEDS,
    },
    combinations=5,
)

MODES = Multiverse(
    "inference",
    {"consistent-predictions": Judged("judge")},
    {"momenta": (0.1,), "checkpoints": (0,), "test_sizes": (16,)},
    {
        "the data set": _data(),
        "the optimizer": {
            "SGD": {},
            "momentum": {**MOMENTUM, "lr": 0.01},
            "Adam": {**ADAM, "lr": 0.003},
        },
        "the mini-batch": {"16": {}}
        | {f"{n}": {"batch_size": n, "test_sizes": (n,)} for n in (8, 32, 64, 128)},
        "the depth": _numbers("depth", 2, 1, 4, 8),
        "the width": _numbers("width", 64, 16, 32),
        "the activation": ACTIVATION,
        "the number of steps": _steps("steps", 300),
        "the seeds": SEEDS,
    },
    combinations=6,
)

GROWTH = Multiverse(
    "gradient_growth",
    {
        "gradients-neither-vanish-nor-explode": Judged("judge", {"the network": 0}),
        "gradients-explode": Judged("judge_explosion", {"the network": 0}),
    },
    {"cases": ("sigmoid", "tanh", "ReLU, half of He", "ReLU, He", "residual, He")},
    {
        "the mini-batch": _numbers("m", 32, 8, 16, 64, 128),
        "the depth": _numbers("depth", 100, 10, 25, 50, 200),
        "the width": _numbers("width", 100, 25, 50, 200),
        "the seeds": {"from 0": {}}
        | {f"from {n}000": {"first_seed": 1000 * n} for n in range(1, 6)},
    },
    combinations=9,
)

ORTHOGONAL = Multiverse(
    "orthogonal_weights",
    {"orthogonal-weights-bound-gradients": Judged("judge")},
    {},
    {
        "the activation": {
            "linear": {},
            "ReLU": {"activation": "relu"},
            "tanh": {"activation": "tanh"},
            "sigmoid": {"activation": "sigmoid"},
        },
        "the examples per unit": _numbers("ratio", 1, 0.25, 0.5, 1.5, 2),
        "the depth": _numbers("depth", 1000, 100, 300),
        "the width": _numbers("width", 32, 16, 64),
        "the seeds": SEEDS,
    },
    combinations=10,
)

SATURATION = Multiverse(
    "saturation",
    {
        "healthy-activations": Judged("judge", {"the activation function": 0, "the time": 2}),
        "saturating-units-become-trainable": Judged(
            "judge_training", {"the activation function": 0}
        ),
    },
    {"scales": (10.0,), "budgets": (100,)},
    {
        "the data set": _data(),
        "the optimizer": _optimizer((0.01, 0.1), (0.001, 0.01)),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64, 128),
        "the depth": _numbers("depth", 4, 2, 8),
        "the width": _numbers("width", 32, 16, 64),
        "the number of steps": _steps("budgets", 100),
        "the scale of the weights": {"10": {}}
        | {f"{s:g}": {"scales": (s,)} for s in (1.0, 3.0, 30.0)},
        "the seeds": SEEDS,
    },
    combinations=6,
)

SMALL_DIGITS = {"dataset": "digits", "n_train": 200, "steps": 180, "every": 15}
EARLY_AXES: Mapping[str, Axis] = {
    "the data set": {
        "MNIST-1D": {},
        "digits": SMALL_DIGITS,
        "MNIST": {"dataset": "mnist_subset", "n_train": 500, "steps": 240},
    },
    "the optimizer": {
        "momentum": {},
        "SGD": {"momentum": 0.0, "rates": (0.1, 0.3, 0.9)},
    },
    "the mini-batch": _numbers("batch_size", 64, 8, 16, 32, 128),
    "the depth": _numbers("depth", 2, 1, 4),
    "the width": _numbers("width", 64, 16, 128),
    "the seeds": SEEDS,
}

EARLY = Multiverse(
    "regularization",
    {
        "regularizes": Judged("judge_norm"),
        "regularizes-mildly": Judged("judge_mildness"),
        "noise-regularizes": Judged("judge_noise"),
    },
    {"others": ("dropout", "weight decay")},
    EARLY_AXES,
    combinations=10,
)

GHOSTS = Multiverse(
    "regularization",
    {"ghost-batches-regularize": Judged("judge_ghosts", {"the size of the parts": 0})},
    {
        "norms": ("batch", "ghost-16"),
        "noise": ("batch", "ghost-16"),
        "others": ("ghost-8", "ghost-4"),
    },
    {**EARLY_AXES, "the mini-batch": _numbers("batch_size", 64, 32, 128)},
    combinations=12,
)

DROPOUT = Multiverse(
    "dropout",
    {
        "reduces-need-for-dropout": Judged("judge_need"),
        "never-with-dropout": Judged("judge_never"),
    },
    {"probabilities": (0.1, 0.3)},
    EARLY_AXES,
    combinations=10,
)

REPAIRED = Multiverse(
    "variance_shift",
    {
        "dropout-shifts-variance": Judged(
            "judge", {"the place of the dropout": 0, "its probability": 1}
        )
    },
    {"places": ("every", "before"), "probabilities": (0.1, 0.5)},
    {
        "the data set": {
            "MNIST-1D": {},
            "digits": {"dataset": "digits"},
            "MNIST": MNIST,
        },
        "the optimizer": {
            "momentum": {},
            "SGD": {"momentum": 0.0, "rates": (0.3, 0.9)},
            "Adam": {**ADAM, "momentum": 0.0, "rates": (0.003, 0.01)},
        },
        "the mini-batch": _numbers("batch_size", 64, 8, 16, 32, 128),
        "the depth": _numbers("depth", 2, 1, 4),
        "the width": _numbers("width", 64, 16, 128),
        "the number of steps": _numbers("steps", 300, 600, 1200),
        "the seeds": SEEDS,
    },
    combinations=6,
)

PLACEMENT = Multiverse(
    "placement",
    {
        "belongs-before-the-activation": Judged("judge"),
        "faster-before-the-activation": Judged("judge_speed"),
    },
    {
        "others": (),
        "activations": ("relu",),
        "depths": (4,),
        "budgets": (200,),
        "rates": (0.018, 0.032, 0.056, 0.1, 0.18, 0.32, 0.56, 1.0, 1.8, 3.2),
    },
    {
        "the data set": _data(
            {"n_train": 3000, "target": 0.85}, {"n_train": 3000, "target": LOW["trained"]}
        ),
        "the optimizer": _optimizer(
            (0.0018, 0.0032, 0.0056, 0.01, 0.018, 0.032, 0.056, 0.1, 0.18, 0.32),
            (0.0006, 0.001, 0.0018, 0.0032, 0.0056, 0.01, 0.018, 0.032, 0.056, 0.1),
        ),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64, 128),
        "the depth": {"4": {}} | {f"{n}": {"depths": (n,)} for n in (2, 8)},
        "the width": _numbers("width", 32, 16, 64),
        "the activation": {
            "ReLU": {},
            "tanh": {"activations": ("tanh",)},
            "sigmoid": {"activations": ("sigmoid",)},
        },
        "the number of steps": _steps("budgets", 200),
        "the seeds": SEEDS,
    },
    combinations=7,
)

HALVES = Multiverse(
    "halves",
    {
        "centring-speeds-up": Judged("judge_centring"),
        "scaling-speeds-up": Judged("judge_scaling"),
    },
    {"others": (), "activations": ("relu",), "budgets": (200,)},
    {
        "the data set": _data({"n_train": 3000}, {"n_train": 3000, "target": LOW["trained"]}),
        "the optimizer": _optimizer(
            (0.0056, 0.01, 0.018, 0.032, 0.056, 0.1, 0.18),
            (0.001, 0.0018, 0.0032, 0.0056, 0.01, 0.018, 0.032, 0.056),
        ),
        "the mini-batch": _numbers("batch_size", 32, 8, 16, 64, 128),
        "the depth": _numbers("depth", 4, 2, 8),
        "the width": _numbers("width", 32, 16, 64),
        "the activation": {
            "ReLU": {},
            "tanh": {"activations": ("tanh",)},
            "sigmoid": {"activations": ("sigmoid",)},
        },
        "the number of steps": _steps("budgets", 200),
        "the seeds": SEEDS,
    },
    combinations=5,
)

RESHUFFLED = Multiverse(
    "reshuffling",
    {"reshuffle-every-epoch": Judged("judge_batch_norm", {"the mini-batches": 1})},
    {"norms": ("batch",), "epochs": (16,)},
    {
        "the data set": _data(),
        "the optimizer": _optimizer((0.001, 0.0032, 0.01, 0.032), (0.0003, 0.001, 0.0032, 0.01)),
        "the mini-batch": _numbers("batch_size", 16, 4, 8, 32, 64),
        "the depth": _numbers("depth", 2, 1, 4),
        "the width": _numbers("width", 64, 16, 32),
        "the activation": ACTIVATION,
        "the number of epochs": {"16": {}} | {f"{n}": {"epochs": (n,)} for n in (32, 64, 128)},
        "the examples": _numbers("n_train", 512, 256, 1024),
        "the seeds": SEEDS,
    },
    combinations=6,
)

FINE_TUNED = Multiverse(
    "fine_tuning",
    {"freeze-when-fine-tuning": Judged("judge", {"the light": 0})},
    {"others": (), "trained": ("all",), "budgets": (200,)},
    {
        "what is trained": {
            "all": {},
            "head": {"trained": ("head",)},
            "norms": {"trained": ("norms",)},
        },
        "the data set": _data(),
        "the optimizer": {
            "SGD": {},
            "momentum": {
                **MOMENTUM,
                "rates": (0.0032, 0.01, 0.032, 0.1, 0.32),
                "head_rates": (0.032, 0.1, 0.32),
            },
            "Adam": {
                **ADAM,
                "rates": (0.0032, 0.01, 0.032, 0.1, 0.32),
                "head_rates": (0.032, 0.1, 0.32),
            },
        },
        "the mini-batch": _numbers("batch_size", 16, 2, 4, 8, 32),
        "the depth": _numbers("depth", 2, 1, 4),
        "the width": _numbers("width", 32, 16, 64),
        "the activation": ACTIVATION,
        "the number of steps": {"200": {}} | {f"{n}": {"budgets": (n,)} for n in (50, 100, 400)},
        "the examples": _numbers("n_train", 100, 50, 200),
        "the pretraining": _numbers("pretraining", 300, 100, 1000),
        "the seeds": SEEDS,
    },
    combinations=6,
)

ABLATED: Axis = {"no norm": {}} | {
    name: {"norms": ("none", norm)}
    for name, norm in {
        "gamma and beta alone": "identity",
        "batch norm": "batch",
        "centring alone": "center",
        "scaling alone": "scale",
        "batch norm, detached": "detached",
        "layer norm": "layer",
        "RMS norm": "rms",
        "dynamic tanh": "tanh",
    }.items()
}
"""The norms of the matrix, each against none. The first is the negative control: none again."""


def _ablated(multiverse: Multiverse, *keys: str, **base: Any) -> Multiverse:
    """Judge claims of a multiverse for each norm of `ABLATED`, in its base setting."""
    claims = {key: multiverse.claims[key] for key in keys or multiverse.claims}
    base = {**multiverse.base, "norms": ("none", "none again"), **base}
    return Multiverse(multiverse.experiment, claims, base, {"the norm": ABLATED}, combinations=0)


MATRIX = (
    _ablated(RATES, targets=(0.75,)),
    _ablated(GROWTH, cases=("ReLU, He",)),
    _ablated(SHIFT),
    _ablated(LANDSCAPE),
    _ablated(SATURATION),
    _ablated(STARTS, rates=(0.03, 0.3)),
    _ablated(DEPTHS),
    _ablated(EARLY, "regularizes", others=()),
)
"""The ablation of norms, each claim in the base setting of its multiverse.

:meta hide-value:
"""

SHOWN: Mapping[str, tuple[str, ...]] = {
    "higher-learning-rates": (),
    "faster-convergence": ("75 %",),
    "initialization-matters-less": ("share of scales and rates that train",),
    "deeper-networks": (),
    "gradients-neither-vanish-nor-explode": ("ReLU, He",),
    "gradients-explode": ("ReLU, He",),
    "healthy-activations": ("sigmoid", "after 100 steps"),
    "saturating-units-become-trainable": ("sigmoid",),
    "smoother-landscape": ("loss range", "at equal loss"),
    "reduces-covariate-shift": ("moments",),
    "regularizes": (),
}
"""The case of each claim that the table of the ablation shows, chosen before its full run; the
stores hold the others."""

ALL = (
    RATES,
    STARTS,
    DEPTHS,
    LANDSCAPE,
    INJECTED,
    SMALL,
    SHIFT,
    LIGHT,
    MODES,
    GROWTH,
    ORTHOGONAL,
    SATURATION,
    EARLY,
    GHOSTS,
    DROPOUT,
    REPAIRED,
    PLACEMENT,
    HALVES,
    RESHUFFLED,
    FINE_TUNED,
)
"""All multiverses, those of which the book says most first.

:meta hide-value:
"""


def find(key: str) -> Multiverse:
    """Find the multiverse of a claim.

    Parameters
    ----------
    key : str
        Of the claim, in the ledger.

    Returns
    -------
    Multiverse

    Raises
    ------
    ValueError
        If there is none.
    """
    known = {each: multiverse for multiverse in ALL for each in multiverse.claims}
    if key not in known:
        raise ValueError(unknown("claim", key, known))
    return known[key]
