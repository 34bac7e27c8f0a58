"""Other norms in the place of batch norms, with their parameters."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from random_inputs import SEED
from surgery.architectures import SHAPES, Audio, ResNet, build, example, randomize
from surgery.batch_norm_act import (
    BatchNormAct2d,
    BatchNormReLU,
    Before,
    Contiguous,
    Noisy,
    Unused,
)
from torch import nn

from bnlib import nn as bnn
from bnlib.surgery import (
    freeze,
    group_norm,
    instance_norm,
    layer_norm,
    replace,
    to,
    unfreeze,
)

IMAGES = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(SEED))


def batch_norm(kind=nn.BatchNorm2d, channels=6, **options):
    norm = kind(channels, eps=0.01, **options)
    randomize(norm)
    return norm


@pytest.mark.parametrize("factory", [group_norm(2), layer_norm(), group_norm(99)])
@pytest.mark.parametrize("architecture", SHAPES)
def test_architecture_runs_without_batch_norm(architecture, factory):
    model, x = build(architecture), example(architecture)
    before = copy.deepcopy(model.state_dict())
    layers = ["1", "3"] if architecture is Audio else None  # its last one has two channels
    if layers:
        with pytest.raises(ValueError, match=r"7: .*if the data have further axes"):
            replace(model, factory)
        model[7] = nn.Identity()
        before = copy.deepcopy(model.state_dict())
    result = replace(model.train(), factory, layers)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in result.modules())
    result.eval()
    torch.testing.assert_close(result(x)[:1], result(x[:1]))  # no example sees another
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_parameters_are_kept():
    norm = batch_norm()
    norm.weight.requires_grad_(False)
    weight, bias = norm.weight, norm.bias
    model = nn.Sequential(norm)
    expected = F.group_norm(IMAGES, 3, weight, bias, 0.01)
    torch.testing.assert_close(replace(model, group_norm(3))(IMAGES), expected)
    expected = F.group_norm(IMAGES, 1, weight, bias, 0.01)
    torch.testing.assert_close(replace(model, layer_norm())(IMAGES), expected)
    expected = F.instance_norm(IMAGES, None, None, weight, bias, eps=0.01)
    new = replace(model, instance_norm())
    torch.testing.assert_close(new(IMAGES), expected)
    assert not new[0].weight.requires_grad
    assert new[0].weight is not weight


@pytest.mark.parametrize("options", [{"affine": False}, {"bias": False}])
def test_absent_parameters_stay_absent(options):
    norm = batch_norm(**options)
    for factory in (group_norm(3), layer_norm(), instance_norm()):
        new = replace(norm, factory)
        assert new.bias is None
        assert (new.weight is None) == (norm.weight is None)
        assert new(IMAGES).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "channels", "most", "groups"),
    [
        (nn.BatchNorm2d, 64, 32, 32),
        (nn.BatchNorm3d, 48, 32, 24),
        (nn.BatchNorm2d, 4, 4, 2),
        (nn.BatchNorm2d, 7, 32, 1),
        (nn.BatchNorm2d, 12, 5, 4),
        (nn.BatchNorm2d, 1, 32, 1),
        (nn.BatchNorm1d, 64, 32, 8),
        (nn.BatchNorm1d, 64, 4, 4),
        (nn.BatchNorm1d, 36, 32, 4),
        (nn.BatchNorm1d, 31, 32, 1),
        (nn.BatchNorm1d, 12, 32, 1),
        (nn.BatchNorm1d, 1024, 32, 32),
        (nn.SyncBatchNorm, 64, 32, 8),
    ],
)
def test_number_of_groups(kind, channels, most, groups):
    assert group_norm(most)(kind(channels)).num_groups == groups


@pytest.mark.parametrize("factory", [group_norm(), layer_norm()])
@pytest.mark.parametrize("width", [3, 8, 16, 30, 62, 64, 66])
def test_features_are_not_erased(width, factory):
    x = torch.randn(2000, width, generator=torch.Generator().manual_seed(0))
    y = replace(nn.BatchNorm1d(width), factory)(x)
    # a normal number is within 0.01 of +1 or -1 in 1 % of all cases, one of two values in a group
    # in 97 %; three values lie on a circle, which is near 1 a little more often
    assert ((y.abs() - 1).abs() < 0.01).float().mean() < 0.05


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.SyncBatchNorm])
def test_what_would_erase_features_is_refused(kind):
    for width in (1, 2):
        for factory in (group_norm(1), layer_norm()):
            with pytest.raises(ValueError, match=r"0: .* would erase it"):
                replace(nn.Sequential(kind(width)), factory)
    for factory in (instance_norm(), to(bnn.InstanceNorm1d)):
        with pytest.raises(ValueError, match="an instance norm leaves nothing"):
            replace(kind(4), factory)


def test_own_factory_modes_and_names():
    model = build(ResNet)
    model.alias = model.stem[1]
    model.blocks[0].bn1.train()
    result = replace(model, lambda norm: nn.LocalResponseNorm(norm.num_features), ["stem.1"])
    assert result.alias is result.stem[1]
    assert isinstance(result.alias, nn.LocalResponseNorm)
    assert not result.alias.training
    result = replace(model, layer_norm())
    assert result.blocks[0].bn1.training
    assert not result.blocks[0].bn2.training


def test_refused():
    with pytest.raises(TypeError, match=r"stem\.1: the factory returned no module but int"):
        replace(build(ResNet), lambda norm: 3)
    with pytest.raises(ValueError, match="no batch norm, but 1 LayerNorm, 1 FrozenBatchNorm2d"):
        replace(nn.Sequential(nn.LayerNorm(2), bnn.FrozenBatchNorm2d(3)), layer_norm())
    with pytest.raises(ValueError, match=r"\['0'\] are no batch norms.*; 0 is a LayerNorm"):
        replace(nn.Sequential(nn.LayerNorm(2), nn.BatchNorm1d(3)), layer_norm(), ["0"])
    with pytest.raises(ValueError, match="lazy parameters: run it once"):
        replace(nn.LazyBatchNorm2d(), layer_norm())


@pytest.mark.parametrize(
    ("register", "kind"),
    [
        ("register_forward_hook", "forward hooks"),
        ("register_forward_pre_hook", "forward pre hooks"),
        ("register_full_backward_hook", "backward hooks"),
        ("register_full_backward_pre_hook", "backward pre hooks"),
        ("register_state_dict_post_hook", "state dict hooks"),
        ("register_state_dict_pre_hook", "state dict pre hooks"),
        ("register_load_state_dict_pre_hook", "load state dict pre hooks"),
        ("register_load_state_dict_post_hook", "load state dict post hooks"),
    ],
)
def test_hooks_are_not_lost(register, kind):
    model = nn.Sequential(nn.BatchNorm2d(4))
    getattr(model[0], register)(lambda *args: None)
    with pytest.raises(ValueError, match=f"0: it has {kind}, which would be lost"):
        replace(model, layer_norm())
    assert type(replace(model, lambda batch_norm: batch_norm)[0]) is nn.BatchNorm2d


def test_a_batch_norm_that_was_lazy_has_no_hooks():
    model = nn.Sequential(nn.LazyBatchNorm2d())
    model(IMAGES)
    assert type(replace(model, layer_norm())[0]) is nn.GroupNorm


class Shared(nn.Module):
    """Two batch norms with one weight, which another module has, too."""

    def __init__(self, kind=nn.BatchNorm2d):
        super().__init__()
        self.norms = nn.Sequential(kind(6), kind(6))
        self.norms[1].weight = self.norms[0].weight
        self.gain = self.norms[0].weight


@pytest.mark.parametrize(
    "factory", [group_norm(2), layer_norm(), instance_norm(), to(bnn.GhostBatchNorm2d)]
)
def test_shared_parameters_stay_shared(factory):
    model = Shared()
    new = replace(model, factory)
    assert new.norms[0].weight is new.norms[1].weight is new.gain
    assert new.norms[0].bias is not new.norms[1].bias
    assert new.gain is not model.gain
    one = replace(model, factory, ["norms.1"])
    assert one.norms[0].weight is one.norms[1].weight


def test_shared_parameters_behind_which_an_activation_stands_stay_shared():
    new = replace(Shared(BatchNormAct2d), group_norm(2))
    assert new.norms[0][0].weight is new.norms[1][0].weight is new.gain


@pytest.mark.parametrize(
    "factory",
    [lambda norm: nn.GroupNorm(2, 6), to(bnn.SplitBatchNorm2d)],
    ids=["one's own", "streams"],
)
def test_shared_parameters_that_would_part_are_refused(factory):
    shared = r"its weight is shared, gain = norms\.0\.weight = norms\.1\.weight, and the new"
    with pytest.raises(ValueError, match=f"norms.0: {shared}"):
        replace(Shared(), factory)


def test_a_batch_norm_under_two_names_is_replaced_by_one_module():
    norm = nn.BatchNorm2d(6)
    new = replace(nn.Sequential(norm, nn.ReLU(), norm), lambda norm: nn.GroupNorm(2, 6))
    assert type(new[0]) is nn.GroupNorm
    assert new[0] is new[2]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: group_norm, TypeError, r"write group_norm\(\), with parentheses"),
        (lambda: nn.GroupNorm, TypeError, r"write to\(GroupNorm\)"),
        (lambda: nn.Identity(), TypeError, r"write lambda batch_norm: Identity\(\)"),
        (lambda: None, TypeError, "factory: expected a function"),
        (lambda: group_norm("32"), TypeError, "num_groups: expected an integer, got '32'"),
        (lambda: group_norm(2.5), TypeError, r"num_groups: expected an integer, got 2\.5"),
        (lambda: group_norm(0), ValueError, "num_groups: expected at least 1, got 0"),
        (lambda: to(nn.ReLU), TypeError, "cls: expected a norm of .*, got ReLU; .*lambda"),
        (lambda: to(nn.GroupNorm(2, 4)), TypeError, "cls: expected a class, such as GroupNorm"),
        (lambda: to("GroupNorm"), TypeError, "cls: expected a class, got 'GroupNorm'"),
        (lambda: to(nn.GroupNorm), TypeError, r"num_groups: .*group_norm\(\) chooses"),
        (lambda: to(nn.GroupNorm, num_groups=3), ValueError, "0: .*divisible"),
        (lambda: to(nn.LayerNorm), ValueError, r"0: .* on axis 1; layer_norm\(\)"),
        (lambda: to(bnn.MaskedBatchNorm1d), ValueError, "0: there is no MaskedBatchNorm2d"),
        (
            lambda: to(bnn.GhostBatchNorm1d, ghost=2),
            TypeError,
            r"0: to\(GhostBatchNorm1d, .*among .*'ghost_size', .*'eps'.*, got \['ghost'\]",
        ),
        (lambda: to(bnn.SplitBatchNorm2d, stream=2), TypeError, "'streams'.*, got .'stream'."),
        (lambda: to(bnn.GhostBatchNorm2d, ghost_size=0), ValueError, "0: ghost_size"),
    ],
)
def test_mistakes(make, error, match):
    model = nn.Sequential(nn.BatchNorm2d(4))
    with pytest.raises(error, match=match):
        replace(model, make())


# ------------------------------------------------------------------ what stands behind a norm


@pytest.mark.parametrize("training", [False, True])
def test_activation_and_dropout_stay(training):
    act, drop = (lambda inplace: nn.PReLU(6)), (lambda: nn.Dropout2d(0.4))
    model = nn.Sequential(BatchNormAct2d(6, act, drop)).train(training)
    randomize(model[0])
    model[0].act.eval()
    new = replace(model, group_norm(3))
    assert [type(m) for m in new[0]] == [nn.GroupNorm, nn.Dropout2d, nn.PReLU]
    assert [m.training for m in (new[0], *new[0])] == [training, training, training, False]
    torch.manual_seed(0)
    expected = F.group_norm(IMAGES, 3, model[0].weight, model[0].bias, model[0].eps)
    expected = model[0].act(model[0].drop(expected))
    torch.manual_seed(0)
    torch.testing.assert_close(new(IMAGES), expected)


class Residual(nn.Sequential):
    """Is more than its children one after the other."""

    def forward(self, x):
        return x + super().forward(x)


def test_activation_that_is_a_sequence_stays_one_module():
    model = nn.Sequential(BatchNormAct2d(6, lambda inplace: Residual(nn.ReLU()), nn.Dropout2d))
    randomize(model[0])
    new = replace(model, to(bnn.BatchNorm2d))
    assert [type(m) for m in new[0]] == [bnn.BatchNorm2d, nn.Dropout2d, Residual]
    torch.testing.assert_close(new.eval()(IMAGES), model.eval()(IMAGES))
    alone = nn.Sequential(BatchNormAct2d(6, lambda inplace: Residual(nn.ReLU())))
    torch.testing.assert_close(replace(alone, to(bnn.BatchNorm2d))(IMAGES), alone(IMAGES))


@pytest.mark.parametrize("kind", [BatchNormReLU, Before, Unused, Noisy])
def test_what_would_be_lost_is_refused_by_name(kind):
    model = nn.Sequential(nn.BatchNorm2d(4), kind(4))
    nn.init.zeros_(model[1].weight)
    with pytest.raises(ValueError, match=f"1: a {kind.__name__} does more than normalize"):
        replace(model, group_norm())
    assert type(replace(model, group_norm(), ["0"])[1]) is kind


def test_subclass_that_adds_nothing_is_replaced():
    assert type(replace(Contiguous(4), group_norm())) is nn.GroupNorm


@pytest.mark.parametrize("options", [{}, {"act_layer": None}, {"drop_layer": nn.Dropout}])
def test_a_factory_may_leave_a_batch_norm(options):
    model = nn.Sequential(BatchNormAct2d(4, **options))
    assert type(replace(model, lambda norm: norm)[0]) is BatchNormAct2d


@pytest.mark.parametrize(
    ("old", "argument"),
    [(bnn.MaskedBatchNorm1d(4), "mask"), (bnn.ConditionalBatchNorm1d(4, num_conditions=2), "cond")],
)
def test_second_argument_is_not_lost(old, argument):
    with pytest.raises(ValueError, match=f"is called with .*{argument}.*, a GroupNorm takes"):
        replace(old, group_norm())
    with pytest.raises(ValueError, match="takes its input alone"):
        replace(old, to(bnn.FrozenBatchNorm1d))


def test_second_argument_keeps_its_meaning():
    masked, conditional = bnn.MaskedBatchNorm1d(4), bnn.ConditionalBatchNorm1d(4, num_conditions=2)
    assert replace(masked, to(bnn.MaskedBatchNorm1d)) is not masked
    with pytest.raises(ValueError, match=r"'condition'\], a MaskedBatchNorm1d takes .*'mask'"):
        replace(conditional, to(bnn.MaskedBatchNorm1d))
    with pytest.raises(ValueError, match=r"'mask'\], a ConditionalBatchNorm1d takes .*'condition'"):
        replace(masked, to(bnn.ConditionalBatchNorm1d, num_conditions=2))


class Scaled(nn.Module):
    def forward(self, x, mask):
        return x * mask[..., None]


def test_first_argument_may_have_any_name():
    assert type(replace(nn.Sequential(bnn.MaskedBatchNorm1d(4)), lambda _: Scaled())[0]) is Scaled


# ------------------------------------------------------------------ to

SHAPE = {1: (5, 6), 2: (5, 6, 4, 3), 3: (5, 6, 2, 3, 2)}
OLD = {1: nn.BatchNorm1d, 2: bnn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("BatchNorm2d", {}),
        ("GhostBatchNorm1d", {"ghost_size": 3}),
        ("BatchRenorm3d", {"r_max": 2.0}),
        ("FrozenBatchNorm2d", {}),
        ("SplitBatchNorm2d", {"streams": 3}),
        ("DecorrelatedBatchNorm2d", {"group_size": 2}),
        ("SyncBatchNorm", {}),
    ],
)
def test_other_batch_norms_compute_the_same_in_eval_mode(name, options, dims):
    old = OLD[dims](6, eps=0.01, momentum=0.3).double().eval()
    randomize(old)
    old.num_batches_tracked.fill_(7)
    old.weight.requires_grad_(False)
    old.bias.requires_grad_(name != "FrozenBatchNorm2d")
    state = copy.deepcopy(old.state_dict())
    new = replace(old, to(getattr(bnn, name), **options))
    x = torch.randn(SHAPE[dims], dtype=torch.float64)
    torch.testing.assert_close(new(x), old(x))
    expected = name if name[-2:-1] not in "123" else f"{name[:-2]}{dims}d"
    assert type(new) is getattr(bnn, expected)
    assert not new.training
    for norm in getattr(new, "streams", [new]):
        assert norm.eps == 0.01
        assert norm.momentum in (0.3, 0.0)  # 0 for the frozen one
        assert int(norm.num_batches_tracked) == 7
        assert norm.weight.dtype == norm.running_mean.dtype == torch.float64
        assert (norm.weight.requires_grad, norm.bias.requires_grad) == (
            False,
            old.bias.requires_grad,
        )
        assert norm.weight is not old.weight
    for key, value in options.items():
        assert len(new.streams) == value if key == "streams" else getattr(new, key) == value
    new.train()(x)
    assert all(torch.equal(value, state[key]) for key, value in old.state_dict().items())


@pytest.mark.parametrize(
    "cls", [nn.LayerNorm, bnn.LayerNorm, nn.RMSNorm, bnn.RMSNorm, bnn.ScaleNorm, bnn.DyT]
)
def test_norms_of_features(cls):
    old = nn.BatchNorm1d(6, eps=0.01, dtype=torch.float64)
    randomize(old)
    new = replace(old, to(cls))
    assert type(new) is cls
    assert new.normalized_shape == (6,)
    assert all(p.dtype == torch.float64 for p in new.parameters())
    for key in ("weight", "bias"):
        value = getattr(new, key, None)
        if value is not None and value.dim():
            assert torch.equal(value, getattr(old, key))
    assert getattr(new, "eps", 0.01) == (1e-5 if cls is bnn.ScaleNorm else 0.01)
    assert new(torch.randn(5, 6, dtype=torch.float64)).shape == (5, 6)


def test_options_come_before_what_is_kept():
    old = nn.BatchNorm2d(6, eps=0.01, momentum=None)
    new = replace(old, to(nn.BatchNorm2d, eps=0.5, affine=False, track_running_stats=False))
    assert (new.eps, new.momentum, new.weight, new.running_mean) == (0.5, None, None, None)
    new = replace(old, to(nn.InstanceNorm2d, track_running_stats=True))
    assert torch.equal(new.running_var, torch.ones(6))
    new = replace(bnn.BatchNorm2d(6, refuse_nonfinite=True), to(bnn.GhostBatchNorm2d))
    assert new.refuse_nonfinite
    assert replace(nn.BatchNorm2d(6, bias=False), to(bnn.BatchRenorm2d)).bias is None


def test_parameters_and_buffers_keep_their_own_types():
    old = nn.BatchNorm2d(6).half()
    old.running_mean, old.running_var = old.running_mean.float(), old.running_var.float()
    new = replace(old, to(bnn.BatchNorm2d))
    for key, value in old.state_dict().items():
        assert new.state_dict()[key].dtype == value.dtype
    with torch.device("meta"):
        old = nn.BatchNorm2d(6)
    new = replace(old, to(bnn.GroupNorm, num_groups=2))
    assert new.weight.is_meta


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_frozen_stays_frozen(kind):
    model = nn.Sequential(kind(4))
    freeze(model)
    new = replace(model, to(bnn.GhostBatchNorm2d)).train()
    norm = new[0] if kind is nn.BatchNorm2d else new[0][0]
    assert not norm.training
    assert unfreeze(new)
    assert norm.weight.requires_grad
    assert type(replace(model, group_norm())[0]) in (nn.GroupNorm, nn.Sequential)


@pytest.mark.parametrize(
    "factory",
    [
        to(bnn.SplitBatchNorm2d),
        to(bnn.DecorrelatedBatchNorm2d, group_size=2),
        lambda norm: nn.Sequential(to(nn.BatchNorm2d)(norm), nn.ReLU()),
    ],
)
def test_whatever_keeps_statistics_in_the_place_of_a_frozen_one_is_frozen(factory):
    model = nn.Sequential(batch_norm(nn.BatchNorm2d))
    freeze(model)
    new = replace(model, factory).train()
    before = copy.deepcopy(new.state_dict())
    new(IMAGES)
    assert all(torch.equal(value, before[key]) for key, value in new.state_dict().items())
    assert unfreeze(new)
    assert all(p.requires_grad for p in new.parameters())


def test_streams_of_a_split_batch_norm():
    model = nn.Sequential(bnn.SplitBatchNorm2d(6))
    new = replace(model, group_norm(3))
    assert [type(m) for m in new[0].streams] == [nn.GroupNorm] * 2
    assert new(IMAGES).shape == IMAGES.shape


class GhostReLU(bnn.GhostBatchNorm2d):
    def forward(self, input):
        return super().forward(input).relu()


class MaskedTwice(bnn.MaskedBatchNorm1d):
    def forward(self, input, mask=None):
        return super().forward(super().forward(input, mask), mask)


def with_a_forward_of_its_own():
    norm = bnn.BatchRenorm2d(6)
    norm.forward = lambda x: bnn.BatchRenorm2d.forward(norm, x).relu()
    return norm


def parametrized():
    norm = bnn.GhostBatchNorm2d(6)
    nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus(), unsafe=True)
    return norm


@pytest.mark.parametrize(
    "norm", [GhostReLU(6), MaskedTwice(6), with_a_forward_of_its_own(), parametrized()]
)
def test_relatives_that_do_more_are_refused(norm):
    model = nn.Sequential(norm)
    with pytest.raises(ValueError, match=r"0: a .* does more than normalize"):
        replace(model, group_norm(2))
    assert model[0] is norm


def test_process_group_is_kept():
    group = object()
    norm = nn.SyncBatchNorm(6)
    norm.process_group = group
    assert to(bnn.SyncBatchNorm)(norm).process_group is group
    assert to(nn.SyncBatchNorm)(norm).process_group is group


def test_lazy_ones_are_refused():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.LazyBatchNorm2d())
    with pytest.raises(ValueError, match="1 has lazy parameters: run it once"):
        replace(model, group_norm(2))
    with pytest.raises(ValueError, match="1 has lazy parameters: run it once"):
        freeze(model)
    assert model[0].training
    with pytest.raises(TypeError, match="class that is not lazy, got LazyBatchNorm2d"):
        to(nn.LazyBatchNorm2d)


def test_to_hands_on_the_parameters_of_relatives():
    old = batch_norm(bnn.ConditionalBatchNorm2d, num_conditions=3).eval()
    new = replace(old, to(bnn.ConditionalBatchNorm2d, num_conditions=3))
    condition = torch.tensor([0, 2, 1])
    assert torch.equal(new(IMAGES, condition), old(IMAGES, condition))


@pytest.mark.parametrize(
    ("cls", "option"),
    [(bnn.GhostBatchNorm2d, "num_features"), (nn.LayerNorm, "normalized_shape")],
)
def test_to_leaves_the_number_of_channels_to_the_batch_norm(cls, option):
    with pytest.raises(TypeError, match=f"{option}: a batch norm gives it its own"):
        to(cls, **{option: 5})
