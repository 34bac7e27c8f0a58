"""The examples are read as recalibrate reads them, and something is compared, at a bounded cost."""

import dataclasses
import re

import pytest
import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from bnlib.surgery import fold, remove_redundant_bias

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def random(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double().eval()
    model[1].running_mean.copy_(random(4))
    return model


# ------------------------------------------------------------------ batches


LABELS = {
    "classes": torch.arange(6) % 2,
    "real numbers": random((6, 2), 1),
    "a number": random((6,), 1),
    "strings": ["a", "b"] * 3,
    "boxes": {"boxes": random((6, 4)), "labels": torch.arange(6)},
    "several": [torch.arange(6), random((6,))],
    "that the model would take": random((6, 3), 1),
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("kind", [list, tuple])
def test_mini_batch_with_labels(label, kind):
    model, x = dense(), random((6, 3))
    folded, report = fold(model, kind([x, LABELS[label]]))
    assert report.folded == {"1": "0"}
    assert report.examples == 1 + (kind is list and label == "that the model would take")
    torch.testing.assert_close(folded(x), model(x), **EXACT)


def test_batch_of_a_loader_in_the_type_of_the_model():
    data = TensorDataset(random((12, 3), dtype=torch.float32), torch.arange(12) % 2)
    loader = DataLoader(data, batch_size=6)
    model = dense().float()
    assert fold(model, next(iter(loader))).report.folded
    report = fold(model, iter(loader)).report
    assert (report.folded, report.examples) == ({"1": "0"}, 2)
    model[0].bias = nn.Parameter(torch.ones(4))
    assert remove_redundant_bias(model, next(iter(loader)))[1] == {"0": "1"}


def test_list_whose_second_element_is_neither_an_example_nor_labels():
    for second in (random((5, 2)), random((5,)), "text", 3, None):
        with pytest.raises((TypeError, ValueError), match="example"):
            fold(dense(), [random((6, 3)), second])


def test_positional_arguments_are_no_labels():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = dense()

        def forward(self, x, y=None):
            return self.net(x) if y is None else self.net(x * y)

    with pytest.raises(ValueError, match="fails on the example inputs"):
        fold(Two().eval(), (random((6, 3)), random((6, 2))))


class Detector(nn.Module):
    """Takes a list of images of several sizes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))

    def forward(self, images):
        largest = [max(side) for side in zip(*(image.shape[1:] for image in images), strict=True)]
        batch = images[0].new_zeros(len(images), 2, *largest)
        for padded, image in zip(batch, images, strict=True):
            padded[:, : image.shape[1], : image.shape[2]].copy_(image)
        return [{"scores": scores} for scores in self.body(batch).mean((2, 3))]


def test_list_of_images_is_one_argument():
    images = [random((2, 6, 7)), random((2, 8, 5))]
    report = fold(Detector().eval(), (images,)).report
    assert report.folded == {"body.1": "body.0"}
    targets = [{"labels": torch.tensor([1])}] * 2
    report = fold(Detector().eval(), (images, targets), forward=lambda net, b: net(b[0])).report
    assert report.folded == {"body.1": "body.0"}


# ------------------------------------------------------------------ outputs


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = dense()

    def forward(self, x):
        return torch.distributions.Categorical(logits=self.net(x))


@dataclasses.dataclass
class Output:
    logits: torch.Tensor


class Wrapped(Policy):
    def forward(self, x):
        return Output(self.net(x))


@pytest.mark.parametrize(
    ("kind", "found_by"), [(Policy, "hooks"), (Wrapped, "torch.fx")], ids=["Policy", "Wrapped"]
)
def test_output_without_tensors_is_read_by_forward(kind, found_by):
    model, x = kind().eval(), random((6, 3))
    name = type(model(x)).__name__
    with pytest.raises(ValueError, match=f"output holds no tensor .* is {name}: .* forward="):
        fold(model, x)
    folded, report = fold(model, x, forward=lambda model, x: model(x).logits)
    assert (report.folded, report.found_by) == ({"net.1": "net.0"}, found_by)
    torch.testing.assert_close(folded(x).logits, model(x).logits, **EXACT)
    _, removed = remove_redundant_bias(model, x, forward=lambda model, x: model(x).logits)
    assert removed == {"net.0": "net.1"}


def test_what_forward_returns_is_compared():
    model, x = dense(), random((6, 3))
    assert fold(model, x, forward=lambda model, x: model(x)[:, :2]).report.folded
    with pytest.raises(RuntimeError, match="output changed"):
        fold(model, x, forward=lambda model, x: model(x) + changed(model))


def test_forward_gets_the_batch_as_it_is():
    @dataclasses.dataclass
    class Batch:
        x: torch.Tensor

    model, x = dense(), random((6, 3))
    for batch in ([x, 1], {"x": [x]}, Batch(x)):
        seen = []

        def show(model, given, seen=seen):
            seen.append(type(given))
            return model(x)

        assert fold(model, batch, forward=show).report.folded
        assert set(seen) == {type(batch)}
    report = fold(model, iter([x, x + 1]), forward=lambda model, x: model(x)).report
    assert report.examples == 2
    with pytest.raises(ValueError, match="forward needs example_inputs"):
        fold(model, forward=lambda model, x: model(x))
    with pytest.raises(ValueError, match=r"fails on the example .*forward\(model, batch\)"):
        fold(model, random((6, 2)), forward=lambda model, x: model(x))


def test_values_within_an_unknown_batch_decide_on_the_path():
    """The trace would see the values of the example as constants, and hold for them only."""

    class Batch:
        def __init__(self, x):
            self.x = x

    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = dense()

        def forward(self, batch):
            y = self.net[0](batch.x)
            return self.net[1](y) if batch.x.mean() > 0 else y

    model, one = Branch().eval(), torch.ones(6, 3, dtype=torch.float64)
    report = fold(model, (Batch(one),)).report
    assert (report.folded, report.found_by) == ({"net.1": "net.0"}, "hooks")
    report = fold(model, [(Batch(one),), (Batch(-one),)]).report
    assert "runs without it" in report.left["net.1"]


NOTHING = {
    "is empty": (lambda x: x[:0], "is empty"),
    "is NaN": (lambda x: x * torch.nan, "no finite value"),
    "is infinite": (lambda x: x * torch.inf, "no finite value"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_example_of_which_nothing_can_be_compared(case):
    change, match = NOTHING[case]
    x = random((6, 3))
    with pytest.raises(ValueError, match=match):
        fold(dense(), change(x))
    with pytest.raises(ValueError, match=f"of example 1 .*{match}|of example 1 {match}"):
        fold(dense(), [x, change(x)])


def changed(model):
    return isinstance(model[1], nn.Identity)


def test_number_in_the_place_of_a_nan_is_a_difference():
    def show(model, x, value=0.0):
        missing = value if changed(model) else torch.nan
        return torch.where(torch.arange(6)[:, None] == 2, missing, model(x))

    assert fold(dense(), random((6, 3)), forward=lambda m, x: show(m, x, torch.nan))
    for value in (0.0, torch.inf, -torch.inf):
        with pytest.raises(RuntimeError, match="output changed"):
            fold(dense(), random((6, 3)), forward=lambda m, x, v=value: show(m, x, v))


def test_complex_outputs_are_compared_in_both_parts():
    def show(model, x, wrong=False):
        y = model(x)
        return torch.complex(y, y + (wrong and changed(model)))

    assert fold(dense(), random((6, 3)), forward=show).report.folded
    with pytest.raises(RuntimeError, match="output changed"):
        fold(dense(), random((6, 3)), forward=lambda m, x: show(m, x, wrong=True))


@pytest.mark.parametrize(
    ("tolerance", "error"),
    [("tight", TypeError), (True, TypeError), (-1, ValueError), (float("nan"), ValueError)],
)
@pytest.mark.parametrize("function", [fold, remove_redundant_bias])
def test_bad_tolerance(tolerance, error, function):
    with pytest.raises(error, match=f"tolerance must be .*{re.escape(repr(tolerance))}"):
        function(dense(), random((6, 3)), tolerance=tolerance)


@pytest.mark.parametrize("function", [fold, remove_redundant_bias])
def test_forward_that_is_no_function(function):
    with pytest.raises(TypeError, match="forward: expected a function of a model and a batch, got"):
        function(dense(), random((6, 3)), forward="logits")


# ------------------------------------------------------------------ report


def test_report_says_where_it_holds():
    model, x = dense(), random((6, 3))
    assert "hooks" not in str(fold(model, x).report)
    assert str(fold(model, [x, x]).report).endswith(" on 2 example inputs")

    def branch(model, x):
        return model(x) if x.sum() > -1e9 else x

    text = str(fold(model, x, forward=branch).report)
    assert text.splitlines()[-1] == (
        "found by hooks: known for the example inputs only; give examples of all paths"
    )


# ------------------------------------------------------------------ cost


class Spy(nn.Module):
    """Notes the shape and the type of what it gets, in all copies of the model."""

    def __init__(self, seen):
        super().__init__()
        self.note = seen.append

    def forward(self, x):
        if isinstance(x, torch.Tensor):
            self.note((tuple(x.shape), x.dtype))
        return x


def image_net(seen, *more):
    layers = [Spy(seen), nn.Conv2d(3, 2, 3, stride=16), nn.BatchNorm2d(2), *more]
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 3, 32, 32), ((4, 3, 32, 32), torch.float64)),
        ((32, 3, 64, 64), ((5, 3, 64, 64), torch.float64)),
        ((8, 3, 224, 224), ((2, 3, 224, 224), torch.float32)),
    ],
)
def test_cost_of_a_large_example_is_bounded(shape, expected):
    seen = []
    report = fold(image_net(seen), torch.randn(shape)).report
    assert (report.folded, report.found_by) == ({"2": "1"}, "torch.fx")
    assert seen == [expected] * 2


class Loud(nn.Module):
    def forward(self, x):
        return x if x.mean() < 1e9 else -x


def test_large_example_of_a_model_whose_path_depends_on_values_is_taken_whole():
    seen = []
    report = fold(image_net(seen, Loud()), torch.randn(8, 3, 224, 224)).report
    assert (report.folded, report.found_by) == ({"2": "1"}, "hooks")
    assert seen == [((8, 3, 224, 224), torch.float32)] * 2


class Eight(nn.Module):
    def forward(self, x):
        return x.reshape(8, 2, 14, 14)


def test_model_that_insists_on_its_mini_batch():
    seen = []
    report = fold(image_net(seen, Eight()), torch.randn(8, 3, 224, 224)).report
    assert report.folded == {"2": "1"}
    assert seen[-1] == ((8, 3, 224, 224), torch.float32)


def test_generated_image_leaves_maps_on_which_a_kernel_is_seen_whole():
    seen = []
    layers = [nn.Conv2d(3, 2, 3, stride=32, padding=1, bias=False), nn.BatchNorm2d(2)]
    layers += [Spy(seen), nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)]
    assert len(fold(nn.Sequential(*layers).eval()).report.folded) == 2
    assert {shape for shape, _ in seen} == {(2, 2, 3, 3)}


# ------------------------------------------------------------------ what cannot be copied


def test_meta_tensors_have_no_values():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    with pytest.raises(ValueError, match=r"0\.weight is on the meta device"):
        fold(model)


def pruned():
    layer = nn.Linear(3, 4)
    return prune.l1_unstructured(layer, "weight", 0.5)


def normed():
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(3, 4))


@pytest.mark.parametrize("build", [pruned, normed])
def test_weights_that_hooks_compute(build):
    model = nn.Sequential(build(), nn.BatchNorm1d(4)).eval()
    model(torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"0\.weight was computed .*remove_weight_norm"):
        fold(model, torch.randn(2, 3))
    with torch.no_grad():
        model(torch.randn(2, 3))
    assert "remove_weight_norm" in fold(model, torch.randn(2, 3)).report.left["1"]


# ------------------------------------------------------------------ quantization


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


@pytest.mark.filterwarnings("ignore")
def test_quantization_fuses_what_is_left():
    torch.manual_seed(0)
    model, x = nn.Sequential(Block(), Block(), nn.Conv2d(2, 3, 1)).eval(), torch.randn(2, 2, 8, 8)
    kinds = []
    for each in (model, fold(model, x).model):
        prepared = quantize_fx.prepare_fx(each, get_default_qconfig_mapping("x86"), (x,))
        prepared(x)
        quantized = quantize_fx.convert_fx(prepared)
        kinds.append([type(module).__name__ for module in quantized.modules()])
    assert kinds[0] == kinds[1]
    assert kinds[1].count("ConvReLU2d") == 2


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_folded_model_can_be_scripted_traced_and_exported():
    x = torch.randn(2, 2, 8, 8)
    folded = fold(nn.Sequential(Block(), nn.Conv2d(2, 3, 1)).eval(), x).model
    others = [torch.jit.script(folded), torch.jit.trace(folded, x), torch.fx.symbolic_trace(folded)]
    others.append(torch.export.export(folded, (x,)).module())
    for other in others:
        torch.testing.assert_close(other(x), folded(x))


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "symbolic_trace": torch.fx.symbolic_trace,
    "compile": lambda model: torch.compile(model, backend="eager"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_models(wrapper):
    x = torch.randn(2, 2, 8, 8)
    model = WRAPPERS[wrapper](nn.Sequential(Block(), nn.Conv2d(2, 3, 1)).eval()).eval()
    folded, report = fold(model, x)
    assert [name.rpartition("0.")[2] for name in report.folded] == ["bn"]
    torch.testing.assert_close(folded(x), model(x))


def test_names_in_the_state_dict_stay():
    model = nn.Sequential(Block(), nn.Conv2d(2, 3, 1)).eval()
    folded = fold(model).model
    assert list(folded.state_dict()) == [
        key for key in model.state_dict() if not key.startswith("0.bn.")
    ]
