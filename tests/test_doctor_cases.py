"""The planted faults of `benchmarks.doctor`: each differs from its twin in the fault alone."""

import itertools

import pytest
import torch

from benchmarks.doctor.case import FAULTS as NOTED
from benchmarks.doctor.faults import FAULTS
from benchmarks.doctor.healthy import HEALTHY
from benchmarks.doctor.networks import norms

RULES = [
    "eval-forgotten",
    "train-forgotten",
    "statistics-move-without-gradient",
    "nonfinite-statistics",
    "negative-variance",
    "large-momentum",
    "mixed-eps",
    "few-values",
    "accumulated-gradients",
    "ranks-differ",
    "frozen-but-moving",
    "thawed-by-train",
    "tracking-flag",
    "decayed-norm",
    "idle-bias",
    "dropout-before-norm",
    "norm-at-output",
    "stale-average",
    "buffers-not-copied",
    "mixed-populations",
    "several-streams",
    "train-eval-gap",
    "half-statistics",
    "far-from-zero",
    "dead-channel",
    "tiny-scale",
    "never-updated",
    "too-few-updates",
    "updated-twice",
    "padding-in-statistics",
    "wrong-layout",
    "shifted-input",
    "leak-through-batch",
    "two-forwards",
]

DIFFERS = {  # in what a fault and its twin differ before a loop; the loops themselves beside it
    "large_momentum": {"options", "buffers"},
    "mixed_eps": {"options"},
    "tracking_flag": {"options"},
    "leak_through_batch": {"options", "names"},
    "idle_bias": {"names"},
    "dropout_before_norm in ResNet": {"options", "parameters", "buffers"},
    "dropout_before_norm in MLP": {"options", "names"},
    "norm_at_output": {"names", "options"},
    "decayed_norm": {"optimizer"},
    "half_statistics": {"types", "batches"},
    "far_from_zero": {"batches", "parameters", "buffers"},
    "skipped_step": {"parameters", "buffers"},  # the twin takes the step
    "logarithm_of_zero": {"buffers"},
    "negative_variance": {"buffers"},
    "constant_column": {"names", "batches"},
    "dead_relu": {"parameters", "buffers"},
    "weights_init": {"parameters"},
    "zero_scales": {"parameters", "buffers"},
    "slimmed": {"parameters"},
    "parameters_alone": {"buffers"},
    "trained_in_eval_mode": {"parameters", "buffers"},
    "too_few_updates": {"options", "buffers"},
    "pruned": {"buffers"},
    "mean_of_two": {"buffers"},
    "fast_weights": {"buffers"},
    "micro_batch": {"batches"},
    "last_batch": {"batches"},
    "sorted_classes": {"batches"},
    "forgotten_scaling": {"batches"},
    "other_device": {"batches"},
    "padded_signals": {"options", "parameters", "buffers"},
    "padded_words": {"options", "parameters", "buffers"},
    "time_for_features": {"parameters", "buffers"},
    "obeyed_error": {"names"},
    "weights_of_many_epochs": {"buffers"},
    "target_network": {"buffers"},
    "accumulated_gradients": {"batches"},
    "accumulated_in_a_wrapper": {"batches"},
}


def picture(case):
    """Return all by which two cases can differ."""
    model, state = case.model, case.model.state_dict()
    parameters = {name for name, _ in model.named_parameters()}
    kinds = (float, int, bool, type(None))
    own = ("eps", "momentum", "track_running_stats", "p")
    optimizer = case.arguments.get("optimizer") or case.optimizer
    return {
        "names": {k: v.shape for k, v in state.items()},
        "types": {k: v.dtype for k, v in state.items()},
        "parameters": {k: v.float() for k, v in state.items() if k in parameters},
        "buffers": {k: v.float() for k, v in state.items() if k not in parameters},
        "options": [
            (
                type(m).__name__,
                *(getattr(m, k, "") for k in own if isinstance(getattr(m, k, ""), kinds)),
            )
            for m in model.modules()
        ],
        "batches": [
            x for batch in case.batches for x in (batch if isinstance(batch, tuple) else [batch])
        ],
        "optimizer": optimizer
        and [(g["weight_decay"], [p.shape for p in g["params"]]) for g in optimizer.param_groups],
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def difference(fault):
    one, other = picture(fault.case(True)), picture(fault.case(False))
    found = {key for key in one if not same(one[key], other[key])}
    if "names" in found:  # then the values cannot be compared
        return found - {"parameters", "buffers", "types", "optimizer"}
    if "types" in found:  # rounding follows
        return found - {"parameters", "buffers"}
    return found


alone = pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.processes == 1], ids=lambda fault: fault.name
)


def test_each_rule_has_two_networks_at_least():
    assert NOTED is FAULTS
    kinds = {rule: {f.kind for f in FAULTS if f.rule == rule} for rule in RULES}
    assert {f.rule for f in FAULTS} == set(RULES)
    assert all(len(found) >= 2 for found in kinds.values()), kinds


def test_names_are_unique():
    assert len({f.name for f in FAULTS}) == len(FAULTS)
    assert not {f.name for f in FAULTS} & set(HEALTHY)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_says_how_people_come_to_it_and_the_remedy(fault):
    assert fault.story.endswith(".")
    assert fault.remedy.endswith(".")


@alone
def test_differs_from_its_twin_in_the_fault(fault):
    wanted = DIFFERS.get(fault.name, DIFFERS.get(fault.make.__name__, set()))
    assert difference(fault) == wanted


@pytest.mark.parametrize(
    "fault",
    [f for f in FAULTS if f.make.__module__.endswith("loops")],
    ids=lambda fault: fault.name,
)
def test_what_only_the_loop_does_shows_in_what_it_leaves(fault):
    ends = []
    for faulty in (True, False):
        case = fault.case(faulty)
        case.loop()
        ends.append(case.model.state_dict())
    assert not same(dict(ends[0]), dict(ends[1]))


def of(name):
    return next(f for f in FAULTS if f.make.__name__ == name)


@pytest.mark.parametrize("name", ["skipped_step", "logarithm_of_zero"])
def test_statistics_are_not_finite(name):
    for faulty in (True, False):
        finite = [norm.running_mean.isfinite().all() for norm in norms(of(name).case(faulty).model)]
        assert all(finite) != faulty


def test_a_variance_is_negative():
    for fault, faulty in itertools.product(
        [f for f in FAULTS if f.rule == "negative-variance"], (True, False)
    ):
        least = min(norm.running_var.min() for norm in norms(fault.case(faulty).model))
        assert (least < 0) == faulty


def test_a_channel_is_constant():
    for fault, faulty in itertools.product(
        [f for f in FAULTS if f.rule == "dead-channel"], (True, False)
    ):
        least = min(norm.running_var.min() for norm in norms(fault.case(faulty).model))
        assert (least < 1e-5) == faulty


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_model_says_why_it_looks_ill(name):
    assert (HEALTHY[name].__doc__ or "").endswith(".")


@pytest.mark.parametrize("name", ["resnet", "mlp", "sequence_net", "squeeze_and_excitation"])
def test_healthy_model_has_learned(name):
    case = HEALTHY[name]()
    x, y = (torch.cat(each) for each in zip(*case.batches, strict=True))
    assert (case.model(x).argmax(1) == y).float().mean() > 0.5
