"""Folding changes no output, and is refused wherever it would."""

import copy
import pickle

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from random_inputs import SEED
from surgery.architectures import (
    ALL_SHAPES,
    MLP,
    SHAPES,
    EarlyExit,
    UNet,
    build,
    example,
    randomize,
)
from torch import nn
from torch.nn.utils import fusion, parametrizations

from bnlib.surgery import fold

EXACT = {"rtol": 1e-10, "atol": 1e-10}
EXPECTED = {"ResNet": (7, 0), "MobileNet": (7, 0), "UNet": (12, 0), "MLP": (3, 0)}
EXPECTED |= {"VideoNet": (3, 0), "Audio": (3, 0)}


def batch_norms(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def sequential(*layers, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed + SEED)
        model = nn.Sequential(*layers).double()
        for batch_norm in batch_norms(model):
            if batch_norm.running_mean is not None:
                randomize(batch_norm)
    return model.eval()


def assert_same_state(model, state):
    assert model.state_dict().keys() == state.keys()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


# ------------------------------------------------------------------ architectures


@pytest.mark.parametrize("architecture", SHAPES)
@pytest.mark.parametrize("seed", range(2))
def test_architecture_folds_completely(architecture, seed):
    model, x = build(architecture, seed), example(architecture)
    folded, report = fold(model, x)
    torch.testing.assert_close(folded(x), model(x), **EXACT)
    count, left = EXPECTED[architecture.__name__]
    assert (len(report.folded), len(report.left)) == (count, left)
    assert len(batch_norms(folded)) == left
    assert report.found_by == "torch.fx"


@pytest.mark.parametrize("architecture", SHAPES)
def test_folded_float32_is_as_close_to_float64_as_the_original(architecture):
    model = build(architecture, dtype=torch.float32)
    x = example(architecture, dtype=torch.float32)
    folded, _ = fold(model, x)
    exact = copy.deepcopy(model).double()(x.double())
    scale = exact.abs().max()
    assert (folded(x) - exact).abs().max() / scale < 3e-6
    assert {p.dtype for p in folded.parameters()} == {torch.float32}


@pytest.mark.parametrize("architecture", SHAPES)
def test_input_is_generated_where_none_is_given(architecture):
    model = build(architecture)
    x = example(architecture)
    torch.testing.assert_close(fold(model).model(x), model(x), **EXACT)


@pytest.mark.parametrize("architecture", ALL_SHAPES)
def test_original_stays_as_it_was(architecture):
    model, x = build(architecture), example(architecture)
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    folded, _ = fold(model, x)
    assert_same_state(model, state)
    assert torch.equal(torch.get_rng_state(), random)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert_same_state(model, state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in folded.modules())


def two_paths():
    """Return a model that torch.fx cannot trace, and an input for each of its paths."""
    model, x = build(EarlyExit), example(EarlyExit)
    conv, bn = model.stem[:2]
    nn.init.ones_(bn.weight)
    slopes = conv.weight.detach().sum((2, 3)) / (bn.running_var + bn.eps).sqrt()[:, None]
    weight = slopes.mean(0)  # of the mean of the outputs, by the channels of the input
    step = 50 * weight[:, None, None] / weight.square().sum()
    assert model.stem(x + step).mean() > 0 > model.stem(x - step).mean()
    return model, x + step, x - step


def test_untraceable_model_is_folded_along_the_path_of_the_example():
    model, high, _ = two_paths()
    folded, report = fold(model, high)
    assert report.found_by == "hooks"
    assert report.folded == {"stem.1": "stem.0", "loud.1": "loud.0"}
    assert "called 2 times" in report.left["repeated.1"]
    assert "not reached" in report.left["quiet.0"]
    for key, value in model(high).items():
        torch.testing.assert_close(folded(high)[key], value, **EXACT)


def test_untraceable_model_with_an_example_for_each_path():
    model, high, low = two_paths()
    folded, report = fold(model, [high, low])
    assert report.folded == {"stem.1": "stem.0", "loud.1": "loud.0", "quiet.0": "quiet.1"}
    for x in (high, low):
        torch.testing.assert_close(folded(x)["features"], model(x)["features"], **EXACT)


def test_folded_model_can_be_copied_pickled_and_folded_again():
    model, x = build(UNet), example(UNet)
    folded, _ = fold(model, x)
    for other in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        assert torch.equal(other(x), folded(x))
    again, report = fold(folded, x)
    assert not report.folded
    assert torch.equal(again(x), folded(x))


def test_stacked_batch_norms_fold_one_after_the_other():
    model = sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    once, report = fold(model)
    assert report.folded == {"1": "0"}
    twice, report = fold(once)
    assert report.folded == {"2": "0"}
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(twice(x), model(x), **EXACT)


# ------------------------------------------------------------------ parameters of the layers


@st.composite
def convolutions(draw):
    """A layer of 1 to 3 axes, and where the batch norm goes."""
    axes = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from([1, 2, 3]))
    c_in, c_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    options = {
        "kernel_size": tuple(draw(st.integers(1, 3)) for _ in range(axes)),
        "stride": draw(st.integers(1, 3)),
        "dilation": draw(st.integers(1, 2)),
        "padding": draw(st.integers(0, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    if transposed:
        limit = max(options["stride"], options["dilation"])
        options["output_padding"] = draw(st.integers(0, limit - 1))
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    else:
        options["padding_mode"] = draw(st.sampled_from(["zeros", "reflect", "circular"]))
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes - 1]
    affine, eps = draw(st.booleans()), draw(st.sampled_from([1e-5, 0.5]))
    after = draw(st.booleans())
    layer = kind(c_in, c_out, **options)
    pair = (layer, norm(c_out if after else c_in, eps=eps, affine=affine))
    return pair if after else pair[::-1], after


@given(convolutions(), st.integers(0, 99))
def test_any_convolution(pair_after, seed):
    pair, after = pair_after
    model = sequential(*pair, seed=seed)
    layer = pair[0] if after else pair[1]
    x = torch.randn(2, layer.in_channels, *[6] * (layer.weight.dim() - 2), dtype=torch.float64)
    try:
        expected = model(x)
    except RuntimeError:  # padding larger than the input, or no output at all
        assume(False)
    folded, report = fold(model, x)
    if after:
        assert report.folded == {"1": "0"}
    torch.testing.assert_close(folded(x), expected, **EXACT)


@given(convolutions(), st.integers(0, 99))
def test_norm_before_a_convolution_is_refused_only_if_the_border_matters(pair_after, seed):
    pair, after = pair_after
    assume(not after)
    layer = pair[1]
    model = sequential(*pair, seed=seed)
    x = torch.randn(2, layer.in_channels, *[6] * (layer.weight.dim() - 2), dtype=torch.float64)
    try:
        model(x)
    except RuntimeError:
        assume(False)
    _, report = fold(model, x)
    # exact if and only if a constant channel, with another for the bias, comes out constant
    one = torch.ones(1, layer.in_channels, *[6] * (layer.weight.dim() - 2), dtype=torch.float64)
    with torch.no_grad():
        positive = copy.deepcopy(layer)
        positive.weight.copy_(layer.weight.abs() + 0.1)
        out = positive(one)
    flat = out.flatten(2)
    constant = bool((flat - flat[..., :1]).abs().max() < 1e-9)
    if report.left:
        assert "the shift is" in report.left["0"]
    if not constant:
        assert report.left
    if layer.padding == (0,) * len(layer.padding) and not layer.transposed:
        assert report.folded


def torch_fused(layer, batch_norm):
    if isinstance(layer, nn.Linear):
        return fusion.fuse_linear_bn_eval(layer, batch_norm)
    return fusion.fuse_conv_bn_eval(layer, batch_norm, transpose=layer.transposed)


@pytest.mark.parametrize(
    "pair",
    [
        (nn.Linear(4, 3), nn.BatchNorm1d(3)),
        (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6)),
        (nn.Conv2d(4, 3, 3, bias=False), nn.BatchNorm2d(3, eps=0.3)),
        (nn.ConvTranspose3d(4, 3, 2), nn.BatchNorm3d(3)),
    ],
    ids=lambda pair: type(pair[0]).__name__,
)
def test_weights_equal_those_of_torch(pair):
    model = sequential(*pair)
    folded, _ = fold(model)
    fused = torch_fused(*model)
    torch.testing.assert_close(folded[0].weight, fused.weight, **EXACT)
    torch.testing.assert_close(folded[0].bias, fused.bias, **EXACT)


def test_grouped_transposed_convolution_where_torch_is_wrong():
    model = sequential(nn.ConvTranspose2d(4, 4, 3, groups=2), nn.BatchNorm2d(4))
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(fold(model).model(x), model(x), **EXACT)
    try:
        wrong = fusion.fuse_conv_bn_eval(*model, transpose=True)(x)
    except RuntimeError:
        return
    assert (wrong - model(x)).abs().max() > 1e-3


def test_weight_without_bias_and_statistics_in_float32_under_half_weights():
    model = sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, bias=False))
    assert fold(model).report.folded == {"1": "0"}
    half = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval().bfloat16()
    half[1].float()
    folded, report = fold(half, torch.randn(5, 4, dtype=torch.bfloat16))
    assert report.folded == {"1": "0"}
    assert folded[0].weight.dtype == folded[0].bias.dtype == torch.bfloat16


def test_memory_format_and_requires_grad_are_kept():
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    model[0].weight.requires_grad_(False)
    folded, _ = fold(model)
    assert folded[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not folded[0].weight.requires_grad


def test_sync_batch_norm_is_folded():
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert fold(model).report.folded == {"1": "0"}


# ------------------------------------------------------------------ what is left alone


class Custom(nn.Module):
    """The forward pass is a function of the module and the input."""

    def __init__(self, forward, *, conv=None, norm=None, **more):
        super().__init__()
        self.conv = conv or nn.Conv2d(2, 2, 1)
        self.norm = norm or nn.BatchNorm2d(2)
        self._forward = forward
        for key, module in more.items():
            setattr(self, key, module)

    def forward(self, x):
        return self._forward(self, x)


def untraceable(function):
    """Make torch.fx fail, so that only the hooks are left."""

    def forward(self, x):
        assert float(x.detach().abs().sum()) >= 0
        return function(self, x)

    return forward


LEFT = {
    "output of the convolution used elsewhere": (
        lambda s, x: (lambda y: s.norm(y) + y)(s.conv(x)),
        "the output of conv is used elsewhere",
    ),
    "output of the convolution returned": (
        lambda s, x: (lambda y: (s.norm(y), y))(s.conv(x)),
        "the output of conv is used elsewhere",
    ),
    "output of the convolution changed in place": (
        lambda s, x: (lambda y: (y.add_(1), s.norm(y))[1])(s.conv(x)),
        "the output of conv is used elsewhere",
    ),
    "convolution called twice": (
        lambda s, x: s.norm(s.conv(s.conv(x))),
        "conv is called 2 times",
    ),
    "batch norm called twice": (lambda s, x: s.norm(s.norm(s.conv(x))), "it is called 2 times"),
    "something between": (lambda s, x: s.norm(torch.relu(s.conv(x))), "not come directly"),
    "weight read elsewhere": (
        lambda s, x: s.norm(s.conv(x)) * s.conv.weight.sum(),
        "parameters of conv are read",
    ),
    "weight of the norm read elsewhere": (
        lambda s, x: s.norm(s.conv(x)) * s.norm.weight.sum(),
        "parameters of it are read",
    ),
    "output of the norm used elsewhere": (
        lambda s, x: (lambda y: s.conv(y) + y)(s.norm(x)),
        "its output is used elsewhere",
    ),
    "norm not called": (lambda s, x: s.conv(x), "not reached"),
}


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("case", LEFT)
def test_left_alone_with_the_reason(case, trace):
    function, reason = LEFT[case]
    model = Custom(function if trace else untraceable(function)).double().eval()
    randomize(model.norm)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    folded, report = fold(model, x)
    assert report.found_by == ("torch.fx" if trace else "hooks")
    assert reason in report.left["norm"]
    assert reason in str(report)
    assert not report.folded
    torch.testing.assert_close(folded(x), model(x))


@pytest.mark.parametrize("trace", [True, False])
def test_asking_for_the_shape_is_no_use(trace):
    def function(self, x):
        y = self.conv(x)
        return self.norm(y).reshape(y.shape[0], y.size(1), -1)

    model = Custom(function if trace else untraceable(function)).double().eval()
    assert fold(model, torch.randn(2, 2, 3, 3)).report.folded == {"norm": "conv"}


@pytest.mark.parametrize("trace", [True, False])
def test_identities_and_idle_dropouts_are_looked_through(trace):
    def function(self, x):
        return self.norm(self.drop(self.same(input=self.conv(x))))

    more = {"drop": nn.Dropout2d(), "same": nn.Identity()}
    model = Custom(function if trace else untraceable(function), **more).eval()
    x = torch.randn(2, 2, 3, 3)
    assert fold(model, x).report.folded == {"norm": "conv"}
    model.drop.train()
    assert "not come directly" in fold(model, x).report.left["norm"]


def test_model_without_parameters():
    model = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.ReLU()).eval()
    assert "directly" in fold(model).report.left["0"]


def test_layer_that_runs_without_its_norm_for_some_inputs():
    def function(self, x):
        y = self.conv(x)
        return self.norm(y) if x.sum() > 0 else y

    model = Custom(function).eval()
    one = torch.ones(2, 2, 3, 3)
    assert fold(model, one).report.folded
    _, report = fold(model, [one, -one])
    assert "conv runs without it" in report.left["norm"]


def test_option_of_the_forward_pass_is_an_example_of_its_own():
    def function(self, x, raw=False):
        y = self.conv(x)
        return y if raw else self.norm(y)

    class Optional(Custom):
        def forward(self, x, raw=False):
            return function(self, x, raw)

    model, x = Optional(None).eval(), torch.ones(2, 2, 3, 3)
    _, report = fold(model, x)
    assert (report.folded, report.found_by) == ({"norm": "conv"}, "torch.fx")
    _, report = fold(model, [x, {"x": x, "raw": True}])
    assert "conv runs without it" in report.left["norm"]


def test_neighbour_that_depends_on_the_input():
    def function(self, x):
        return self.norm(self.conv(x) if x.sum() > 0 else self.other(x))

    model = Custom(function, other=nn.Conv2d(2, 2, 1)).eval()
    one = torch.ones(2, 2, 3, 3)
    assert "depends on the input" in fold(model, [one, -one]).report.left["norm"]


class Activated(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class Standardized(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def hooked(module, register="register_forward_hook"):
    getattr(module, register)(lambda *args: None)
    return module


def poisoned(module):
    module.running_var[0] = float("nan")
    return module


REFUSED_MODULES = {
    "train mode": (nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), "train mode"),
    "no statistics": (
        nn.Conv2d(2, 2, 1),
        nn.BatchNorm2d(2, track_running_stats=False),
        "no running statistics",
    ),
    "norm with an activation": (nn.Conv2d(2, 2, 1), Activated(2), "not a scale and a shift"),
    "layer of its own kind": (Standardized(2, 2, 1), nn.BatchNorm2d(2), "forward of its own"),
    "parametrized": (
        parametrizations.weight_norm(nn.Conv2d(2, 2, 1)),
        nn.BatchNorm2d(2),
        "remove_parametrizations",
    ),
    "hook on the layer": (hooked(nn.Conv2d(2, 2, 1)), nn.BatchNorm2d(2), "forward hooks"),
    "hook on the norm": (nn.Conv2d(2, 2, 1), hooked(nn.BatchNorm2d(2)), "forward hooks"),
    "backward hook on the norm": (
        nn.Conv2d(2, 2, 1),
        hooked(nn.BatchNorm2d(2), "register_full_backward_hook"),
        "backward hooks",
    ),
    "state dict hook on the norm": (
        nn.Conv2d(2, 2, 1),
        hooked(nn.BatchNorm2d(2), "register_state_dict_post_hook"),
        "state dict hooks",
    ),
    "not finite": (nn.Conv2d(2, 2, 1), poisoned(nn.BatchNorm2d(2)), "not finite"),
}


@pytest.mark.parametrize("case", REFUSED_MODULES)
def test_module_that_cannot_be_folded(case):
    conv, norm, reason = REFUSED_MODULES[case]
    model = nn.Sequential(conv, norm).eval()
    norm.train(case == "train mode")
    _, report = fold(model, torch.randn(2, 2, 3, 3))
    assert reason in report.left["1"]


@pytest.mark.parametrize("example", [None, torch.randn(3, 4)])
def test_a_norm_that_is_the_whole_model_has_no_neighbour(example):
    model = nn.BatchNorm1d(4).eval()
    folded, report = fold(model, example)
    assert str(report) == "left the model: it is the whole model: no layer stands next to it"
    assert type(folded) is nn.BatchNorm1d


def test_channels_on_another_axis_than_the_features():
    linear = sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))  # on (m, 4, 4): axis 1 is no feature
    x = torch.randn(2, 4, 4, dtype=torch.float64)
    assert "another axis" in fold(linear, x).report.left["1"]
    unbatched = sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4))
    assert "another axis" in fold(unbatched, x[0, :2]).report.left["1"]
    folded, report = fold(linear, [x, x[0]])
    assert "different numbers of axes" in report.left["1"]
    torch.testing.assert_close(folded(x), linear(x))


PADDED = {
    "zeros": nn.Conv2d(2, 2, 3, padding=1),
    "same": nn.Conv2d(2, 2, 3, padding="same"),
    "one by one, padded": nn.Conv2d(2, 2, 1, padding=1),
    "transposed": nn.ConvTranspose2d(2, 2, 2),
    "transposed, one tap, output padding": nn.ConvTranspose2d(
        2, 2, 1, dilation=2, output_padding=1
    ),
}


@pytest.mark.parametrize("case", PADDED)
def test_norm_before_a_padded_convolution_is_refused_unless_it_does_not_shift(case):
    model = sequential(nn.BatchNorm2d(2), copy.deepcopy(PADDED[case]))
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    assert "shift is" in fold(model, x).report.left["0"]
    model[0].running_mean.zero_()
    nn.init.zeros_(model[0].bias)
    folded, report = fold(model, x)
    assert report.folded == {"0": "1"}
    torch.testing.assert_close(folded(x), model(x), **EXACT)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, padding="valid", groups=2),
        nn.Conv2d(2, 2, 1, padding="same", stride=1),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate"),
        nn.ConvTranspose2d(4, 6, 1, groups=2),
    ],
)
def test_norm_before_a_convolution_without_a_border(layer):
    channels = layer.in_channels
    model = sequential(nn.BatchNorm2d(channels), layer)
    x = torch.randn(2, channels, 5, 5, dtype=torch.float64)
    folded, report = fold(model, x)
    assert report.folded == {"0": "1"}
    torch.testing.assert_close(folded(x), model(x), **EXACT)


def test_output_size_of_a_transposed_convolution():
    def before(self, x):
        return self.conv(self.norm(x), output_size=(5, 5))

    def after(self, x):
        return self.norm(self.conv(x, output_size=(5, 5)))

    x = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    for function, expected in ((before, {}), (after, {"norm": "conv"})):
        model = Custom(function, conv=nn.ConvTranspose2d(2, 2, 1, stride=2)).double().eval()
        randomize(model.norm)
        folded, report = fold(model, x)
        assert report.folded == expected
        torch.testing.assert_close(folded(x), model(x), **EXACT)


def test_shared_module_under_two_names():
    norm = nn.BatchNorm2d(2)
    model = sequential(nn.Conv2d(2, 2, 1), norm, nn.ReLU(), nn.Conv2d(2, 2, 1), norm)
    assert "called 2 times" in fold(model).report.left["1"]
    alias = Custom(lambda s, x: s.again(s.conv(x))).eval()
    alias.again = alias.norm
    folded, report = fold(alias)
    assert report.folded == {"norm": "conv"}
    assert isinstance(folded.again, nn.Identity)


def test_tied_weight_of_another_layer_keeps_its_value():
    model = sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3))
    model[3].weight = model[0].weight
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(fold(model).model(x), model(x), **EXACT)


# ------------------------------------------------------------------ errors


def test_model_in_train_mode():
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        fold(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


@pytest.mark.parametrize(
    ("example_inputs", "error", "match"),
    [
        ("x", TypeError, "a tensor, a tuple"),
        ([], ValueError, "empty list"),
        (torch.ones(2, 3), ValueError, "fails on the example inputs"),
        ((torch.ones(2, 12), 1), ValueError, "fails on the example inputs"),
    ],
)
def test_bad_example(example_inputs, error, match):
    with pytest.raises(error, match=match):
        fold(build(MLP), example_inputs)


def test_no_module():
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        fold(lambda x: x)


def test_no_input_can_be_made():
    model = nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.BatchNorm1d(8)).eval()
    with pytest.raises(ValueError, match="give example_inputs"):
        fold(model)
    assert "directly" in fold(model, torch.tensor([[0, 1], [2, 0]])).report.left["2"]


def test_lazy_model():
    model = nn.Sequential(nn.LazyLinear(3), nn.BatchNorm1d(3)).eval()
    with pytest.raises(ValueError, match="run it once"):
        fold(model, torch.ones(2, 4))


def test_hidden_use_is_found_by_the_comparison():
    def function(self, x):
        y = self.conv(x)
        with torch._C.DisableTorchFunction():  # out of sight of the run
            kept = y * 1
        return self.norm(y) + kept

    model = Custom(untraceable(function)).double().eval()
    randomize(model.norm)
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="output changed"):
        fold(model, torch.randn(2, 2, 3, 3, dtype=torch.float64))
    assert_same_state(model, state)


def test_tolerance():
    model = build(MLP, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="more than the tolerance"):
        fold(model, tolerance=1e-12)
    assert fold(model, tolerance=1e-3).report.difference > 0


def test_random_operations_are_compared_with_the_same_numbers():
    model = Custom(lambda s, x: s.norm(s.conv(x + torch.rand_like(x)))).eval()
    assert fold(model, torch.randn(2, 2, 3, 3)).report.folded


def test_infinite_outputs_are_compared_too():
    def function(self, x):
        return torch.where(x > 0, self.norm(self.conv(x)), -torch.inf)

    assert fold(Custom(function).eval(), torch.randn(2, 2, 3, 3)).report.folded
