"""What is no plain batch norm is folded if it is a fixed map of the channels, or named as left."""

import copy

import pytest
import torch
from surgery.batch_norm_act import (
    BatchNormAct2d,
    BatchNormReLU,
    Before,
    Contiguous,
    Frozen,
    Unused,
)
from torch import nn

from bnlib import nn as bnn
from bnlib.surgery import fold

EXACT = {"rtol": 1e-9, "atol": 1e-9}


class FrozenAct(Frozen):
    def __init__(self, num_features):
        super().__init__(num_features)
        self.drop, self.act = nn.Dropout(), nn.LeakyReLU(inplace=True)

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


class Other(Frozen):
    """Has the attributes, and computes something else."""

    def forward(self, x):
        return super().forward(x).tanh()


def randomized(model, seed=0):
    """Return the model in float64 and eval mode, with random state, none of it neutral."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("running_var"):
            tensor.data.uniform_(0.2, 3, generator=generator)
        elif name.endswith("running_cov"):
            root = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(root @ root.mT + 0.1 * torch.eye(tensor.shape[-1]))
        elif tensor.is_floating_point():
            tensor.data.normal_(generator=generator)
    return model.double().eval()


def image(channels=2, axes=2, m=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(m, channels, *[5] * axes, generator=generator, dtype=torch.float64)


def assert_folds(model, x, expected):
    before = copy.deepcopy(model.state_dict())
    folded, report = fold(model, x)
    assert (report.folded, report.left) == (expected, {})
    torch.testing.assert_close(folded(x), model(x), **EXACT)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    return folded


FIXED = {
    "FrozenBatchNorm2d": lambda: bnn.FrozenBatchNorm2d(4, eps=0.1),
    "FrozenBatchNorm2d, not affine": lambda: bnn.FrozenBatchNorm2d(4, affine=False),
    "torchvision's": lambda: Frozen(4, eps=0.0),
    "with dropout and activation": lambda: FrozenAct(4),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "bnlib's InstanceNorm2d": lambda: bnn.InstanceNorm2d(4, track_running_stats=True),
    "GhostBatchNorm2d": lambda: bnn.GhostBatchNorm2d(4, ghost_size=2),
    "BatchRenorm2d": lambda: bnn.BatchRenorm2d(4),
    "DecorrelatedBatchNorm2d": lambda: bnn.DecorrelatedBatchNorm2d(4),
    "in groups": lambda: bnn.DecorrelatedBatchNorm2d(4, eps=0.1, group_size=2),
    "not affine": lambda: bnn.DecorrelatedBatchNorm2d(4, affine=False, group_size=2),
}


@pytest.mark.parametrize("case", FIXED)
@pytest.mark.parametrize("transposed", [False, True])
def test_fixed_map_is_folded_into_the_convolution_before(case, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = randomized(nn.Sequential(kind(2, 4, 3, bias=transposed), FIXED[case](), nn.ReLU()))
    assert_folds(model, image(), {"1": "0"})


@pytest.mark.parametrize("case", [case for case in FIXED if "activation" not in case])
@pytest.mark.parametrize("transposed", [False, True])
def test_fixed_map_is_folded_into_the_convolution_behind(case, transposed):
    kind, size = (nn.ConvTranspose2d, 1) if transposed else (nn.Conv2d, 3)
    model = randomized(nn.Sequential(FIXED[case](), kind(4, 3, size)))
    assert_folds(model, image(4), {"0": "1"})


@pytest.mark.parametrize(
    "norm",
    [
        bnn.FrozenBatchNorm1d(4),
        bnn.DecorrelatedBatchNorm1d(4, group_size=2),
        bnn.MaskedBatchNorm1d(4),
        Frozen(4),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_linear_layers(norm):
    before = randomized(nn.Sequential(nn.Linear(3, 4), copy.deepcopy(norm), nn.Tanh()))
    assert_folds(before, image(3, 0), {"1": "0"})
    behind = randomized(nn.Sequential(nn.Tanh(), copy.deepcopy(norm), nn.Linear(4, 3)))
    assert_folds(behind, image(4, 0), {"1": "2"})


def test_volumes():
    norms = bnn.FrozenBatchNorm3d(2), bnn.DecorrelatedBatchNorm3d(2)
    for norm in norms:
        model = randomized(nn.Sequential(nn.Conv3d(2, 2, 2), norm, nn.ReLU()))
        assert_folds(model, image(axes=3), {"1": "0"})


def test_frozen_norm_in_train_mode_is_the_same_map():
    for norm in (bnn.FrozenBatchNorm2d(4), Frozen(4)):
        model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), norm))
        norm.train()
        assert_folds(model, image(), {"1": "0"})


def test_matrix_does_not_fit_a_convolution_with_groups():
    norm = bnn.DecorrelatedBatchNorm2d(4, group_size=2)
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), norm))
    assert "2 groups" in fold(model, image()).report.left["1"]
    model = randomized(nn.Sequential(norm, nn.Conv2d(4, 4, 3, groups=2)))
    assert "2 groups" in fold(model, image(4)).report.left["0"]


# ------------------------------------------------------------------ with an activation


@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU, nn.Hardswish])
@pytest.mark.parametrize("drop", [None, nn.Dropout])
def test_activation_stays_in_the_place_of_the_norm(act, drop):
    norm = BatchNormAct2d(4, act_layer=lambda inplace: act(inplace=inplace), drop_layer=drop)
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.Conv2d(4, 2, 1)))
    folded = assert_folds(model, image(), {"1": "0"})
    kinds = [type(module) for module in folded[1].modules() if not list(module.children())]
    assert kinds == ([act] if drop is None else [drop, act])
    assert not any(module.training for module in folded.modules())


def test_norm_without_its_activation():
    norm = BatchNormAct2d(4, act_layer=None)
    model = randomized(nn.Sequential(norm, nn.Conv2d(4, 2, 3)))
    assert_folds(model, image(4), {"0": "1"})


def test_children_that_are_not_called_do_not_stay():
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), Unused(4)))
    folded = assert_folds(model, image(), {"1": "0"})
    assert isinstance(folded[1], nn.Identity)


def test_norm_that_calls_torch_in_another_way():
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), Contiguous(4)))
    assert_folds(model, image(), {"1": "0"})


def test_activation_keeps_the_norm_from_the_layer_behind():
    model = randomized(nn.Sequential(nn.MaxPool2d(1), BatchNormAct2d(2), nn.Conv2d(2, 2, 1)))
    assert "ReLU acts between it and 2" in fold(model, image()).report.left["1"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "reason"), [(BatchNormReLU, ""), (Before, "by ReLU"), (Other, "")]
)
def test_more_than_a_fixed_map_is_left(kind, reason, seed):
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), kind(4)), seed)
    with torch.no_grad():  # the activation is seen however small the scale and large the shift
        model[1].weight[:] = 1e-4
        model[1].bias[:] = 5
    report = fold(model, image()).report
    assert not report.folded
    assert "not a scale and a shift" in report.left["1"]
    assert reason in report.left["1"]


# ------------------------------------------------------------------ what is left


class Called(nn.Module):
    def __init__(self, norm, *others):
        super().__init__()
        self.conv, self.norm, self.others = nn.Conv1d(2, 4, 1), norm, others

    def forward(self, x):
        return self.norm(self.conv(x), *self.others)


def test_mask_changes_nothing_in_eval_mode():
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 2:] = False

    class Padded(Called):
        def forward(self, x, mask):
            return self.norm(self.conv(x), mask=mask)

    model, x = randomized(Padded(bnn.MaskedBatchNorm1d(4))), image(axes=1)
    folded, report = fold(model, (x, mask))
    assert (report.folded, report.found_by) == ({"norm": "conv"}, "torch.fx")
    torch.testing.assert_close(folded(x, mask), model(x, mask), **EXACT)


def test_condition_is_named():
    norm = bnn.ConditionalBatchNorm1d(4, num_conditions=2)
    model = randomized(Called(norm, torch.tensor([0, 1, 1])))
    report = fold(model, image(axes=1)).report
    assert report.left == {"norm": "its output depends on a further input: condition"}


def test_second_argument_of_an_unknown_norm():
    class Scaled(nn.BatchNorm1d):
        def forward(self, x, factor=1):
            return factor * super().forward(x)

    report = fold(randomized(Called(Scaled(4), 2)), image(axes=1)).report
    assert report.left == {"norm": "it is called with more than its input"}


@pytest.mark.parametrize("stream", [0, 1])
def test_split_batch_norm_is_one_norm_with_its_reason(stream):
    norm = bnn.SplitBatchNorm2d(4)
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), norm))
    norm.stream = stream
    report = fold(model, image()).report
    assert list(report.left) == ["1"]
    assert "stream" in report.left["1"]


def test_norms_without_statistics():
    for norm in (
        bnn.DecorrelatedBatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm2d(4, track_running_stats=False),
    ):
        report = fold(randomized(nn.Sequential(nn.Conv2d(2, 4, 3), norm)), image()).report
        assert "no running statistics" in report.left["1"]


def test_script_module_alone_and_within_a_model():
    with pytest.warns(DeprecationWarning, match="script"):
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).eval())
    report = fold(scripted).report
    assert list(report.left) == ["1"]
    assert "ScriptModule" in str(report)
    model = randomized(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), scripted))
    folded, report = fold(model, image())
    assert report.folded == {"1": "0"}
    assert "ScriptModule" in report.left["2.1"]
    torch.testing.assert_close(folded(image()), model(image()), **EXACT)


def test_statistics_of_something_else():
    class Observations(nn.Module):
        """As agents normalize what they observe."""

        def __init__(self):
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(2))

        def forward(self, x):
            return x - self.running_mean[:, None, None]

    model = nn.Sequential(Observations(), nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).double().eval()
    report = fold(model, image()).report
    assert report.folded == {"2": "1"}
    assert "running_var" in report.left["0"]


def test_model_that_holds_a_running_mean_is_no_norm():
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
            self.register_buffer("running_mean", torch.zeros(2))

        def forward(self, x):
            return super().forward(x - self.running_mean[:, None, None])

    assert_folds(randomized(Net()), image(), {"1": "0"})


def test_empty_report_says_what_was_seen():
    layers = [nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.GroupNorm(1, 4)]
    folded, report = fold(nn.Sequential(*layers).eval())
    assert str(report) == "found no batch norm; saw 2 GroupNorm, 1 InstanceNorm2d"
    assert report.others == {"GroupNorm": 2, "InstanceNorm2d": 1}
    assert folded[0] is not layers[0]
    assert str(fold(nn.Linear(2, 2)).report) == "found no batch norm; saw no other norm"


def test_exported_model_has_operations_instead_of_modules():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).eval()
    exported = torch.export.export(model, (torch.randn(2, 2, 5, 5),)).module()
    with pytest.raises(ValueError, match="before the export"):
        fold(exported)
