"""What stands between a norm and a layer is named, or carried through if it only moves axes."""

import copy

import pytest
import torch
from surgery.architectures import randomize
from torch import nn

from bnlib.surgery import fold, remove_redundant_bias

EXACT = {"rtol": 1e-9, "atol": 1e-9}


class Custom(nn.Module):
    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def untraceable(function):
    def forward(self, x):
        assert float(x.detach().abs().sum()) >= 0
        return function(self, x)

    return forward


def build(function, trace=True, **modules):
    torch.manual_seed(0)
    model = Custom(function if trace else untraceable(function), **copy.deepcopy(modules))
    randomize(model.norm)
    return model.double().eval()


def tokens(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


LINEAR = {"layer": nn.Linear(3, 5), "norm": nn.BatchNorm1d(5)}
BEHIND = {"norm": nn.BatchNorm1d(3), "layer": nn.Linear(3, 5)}

MOVED = {
    "transpose": (lambda s, x: s.norm(s.layer(x).transpose(1, 2)).transpose(1, 2), LINEAR),
    "swapaxes": (lambda s, x: s.norm(torch.swapaxes(s.layer(x), 2, 1)), LINEAR),
    "permute": (lambda s, x: s.norm(s.layer(x).permute(0, 2, 1).contiguous()), LINEAR),
    "mT": (lambda s, x: s.norm(s.layer(x).mT), LINEAR),
    "flatten": (lambda s, x: s.norm(s.layer(x).flatten(0, 1)), LINEAR),
    "reshape": (lambda s, x: s.norm(s.layer(x).reshape(-1, 5)).view(x.shape[0], -1, 5), LINEAR),
    "reshape_as": (
        lambda s, x: (lambda y: s.norm(y.flatten(0, 1)).reshape_as(y))(s.layer(x)),
        LINEAR,
    ),
    "keywords": (lambda s, x: s.norm(torch.movedim(s.layer(x), source=2, destination=1)), LINEAR),
    "unflatten": (lambda s, x: s.norm(s.layer(x).flatten(0, 1).unflatten(1, (5, 1))), LINEAR),
    "module": (
        lambda s, x: s.norm(s.flat(s.layer(x))),
        LINEAR | {"flat": nn.Flatten(0, 1)},
    ),
    "norm first": (lambda s, x: s.layer(s.norm(x.transpose(1, 2)).transpose(1, 2)), BEHIND),
    "norm first, flat": (lambda s, x: s.layer(s.norm(x.flatten(0, 1)).view_as(x)), BEHIND),
    "convolution": (
        lambda s, x: s.norm(s.layer(x.mT).squeeze(2)),
        {"layer": nn.Conv1d(3, 4, 7), "norm": nn.BatchNorm1d(4)},
    ),
    "unbatched convolution": (
        lambda s, x: s.norm(s.layer(x[0].T).unsqueeze(0)),
        {"layer": nn.Conv1d(3, 4, 2), "norm": nn.BatchNorm1d(4)},
    ),
}


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("case", MOVED)
def test_what_only_moves_axes_is_looked_through(case, trace):
    function, modules = MOVED[case]
    model, x = build(function, trace, **modules), tokens(2, 7, 3)
    folded, report = fold(model, x)
    assert report.folded == {"norm": "layer"}
    assert report.found_by == ("torch.fx" if trace else "hooks")
    torch.testing.assert_close(folded(x), model(x), **EXACT)


SQUARE = {"layer": nn.Linear(5, 5), "norm": nn.BatchNorm1d(5)}
IMAGE = {"layer": nn.Conv1d(5, 5, 1), "norm": nn.BatchNorm1d(5)}

ELSEWHERE = {  # the axes have the right length, but other channels on them
    "no transpose": (lambda s, x: s.norm(s.layer(x)), SQUARE),
    "twice": (lambda s, x: s.norm(s.layer(x).transpose(1, 2).transpose(1, 2)), SQUARE),
    "reshape that is no transpose": (
        lambda s, x: s.norm(s.layer(x).reshape(x.shape[0], 5, -1)),
        SQUARE,
    ),
    "channels of an image in a row": (
        lambda s, x: s.norm(s.layer(x).flatten(0, 1)),
        IMAGE,
    ),
    "view as another type": (
        lambda s, x: s.norm(s.layer(x).view(torch.int64).view(torch.float64)),
        SQUARE,
    ),
    "behind": (lambda s, x: s.layer(s.norm(x).reshape(-1, 5)), SQUARE),
}


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("case", ELSEWHERE)
def test_channels_on_another_axis(case, trace):
    function, modules = ELSEWHERE[case]
    model, x = build(function, trace, **modules), tokens(2, 5, 5)
    folded, report = fold(model, x)
    assert "another axis" in report.left["norm"]
    torch.testing.assert_close(folded(x), model(x), **EXACT)


USED = {
    "moved copy": lambda s, x: (lambda y: s.norm(y.mT).mT + y.flatten(1).sum())(s.layer(x)),
    "before the move": lambda s, x: (lambda y: s.norm(y.mT).mT + y)(s.layer(x)),
    "changed in place": lambda s, x: (lambda y: (y.mT.add_(1), s.norm(y.mT))[1])(s.layer(x)),
    "returned": lambda s, x: (lambda y: (s.norm(y.mT), y.mT))(s.layer(x)),
    "moved weight": lambda s, x: s.norm(s.layer(x).mT) * s.layer.weight.flatten().sum(),
}


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("case", USED)
def test_moved_value_that_is_used_elsewhere(case, trace):
    model, x = build(USED[case], trace, **LINEAR), tokens(2, 7, 3)
    folded, report = fold(model, x)
    assert "elsewhere" in report.left["norm"]
    torch.testing.assert_close(folded(x), model(x), **EXACT)


def test_bias_behind_a_transpose_goes():
    model, x = build(MOVED["transpose"][0], **LINEAR), tokens(2, 7, 3)
    lean, removed = remove_redundant_bias(model, x)
    assert removed == {"layer": "norm"}
    torch.testing.assert_close(lean(x), model(x), **EXACT)


# ------------------------------------------------------------------ reasons


CONV = {"layer": nn.Conv2d(2, 2, 1), "norm": nn.BatchNorm2d(2)}
NAMED = {
    "function before": (lambda s, x: s.norm(torch.cat([s.layer(x)], 1)), "from cat"),
    "module before": (
        lambda s, x: s.norm(s.act(s.layer(x))),
        ("from ReLU (act)", "from relu"),
    ),
    "operator before": (lambda s, x: s.norm(s.layer(x) + 1), "from add"),
    "other norm before": (lambda s, x: s.norm(s.other(s.layer(x))), "from BatchNorm2d (other)"),
    "input": (lambda s, x: s.norm(x), "from the input of the model"),
    "function behind": (lambda s, x: s.layer(s.norm(x).tanh()), "into tanh"),
    "module behind": (
        lambda s, x: s.layer(s.act(s.norm(x))),
        ("into ReLU (act)", "into relu"),
    ),
    "output": (lambda s, x: s.norm(x), "into the output of the model"),
    "two behind": (
        lambda s, x: (lambda y: s.layer(y.tanh()) + y.exp())(s.norm(x)),
        "into tanh and exp",
    ),
    "elsewhere": (
        lambda s, x: (lambda y: s.norm(y) * y.exp())(s.layer(x)),
        "used elsewhere, too: by exp",
    ),
}


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("case", NAMED)
def test_reason_names_what_stands_between(case, trace):
    function, reason = NAMED[case]
    more = {"act": nn.ReLU(), "other": nn.BatchNorm2d(2)}
    report = fold(build(function, trace, **CONV, **more), tokens(2, 2, 3, 3)).report
    expected = reason if isinstance(reason, str) else reason[not trace]
    assert expected in report.left["norm"]


@pytest.mark.parametrize("trace", [True, False])
def test_an_attribute_that_is_gone_is_said(trace):
    model = build(lambda s, x: s.norm(s.layer(x)) * s.norm.num_features, trace, **LINEAR)
    with pytest.raises(RuntimeError, match=r"fails on the example inputs \(.*num_features"):
        fold(model, tokens(4, 3))


class Double(nn.Identity):
    def forward(self, input):
        return 2 * input


class Raised(nn.Dropout):
    def forward(self, input):
        return input + 1


def test_only_what_does_nothing_is_looked_through():
    model = nn.Sequential(
        *(nn.Linear(3, 4), Double(), nn.BatchNorm1d(4), nn.ReLU()),
        *(nn.Linear(4, 4), Raised(), nn.BatchNorm1d(4), nn.ReLU()),
        *(nn.Linear(4, 4), nn.Identity(), nn.BatchNorm1d(4), nn.ReLU()),
        *(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4)),
    ).eval()
    model[9].register_forward_hook(lambda module, args, output: 2 * output)
    report = fold(model).report
    assert report.folded == {"14": "12"}
    assert "not come directly from a layer but from mul" in report.left["2"]
    assert list(report.left) == ["2", "6", "10"]


class Viewed(nn.Module):
    """Mixes channels and positions, unless there is one position."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.linear(x)
        return self.norm(y.view(len(x), 4, -1))


def test_report_says_that_one_position_does_not_show_what_a_view_does():
    model = Viewed().eval()
    for x in (None, torch.randn(2, 1, 3)):
        report = fold(model, x).report
        assert report.ambiguous == ["norm"]
        assert "norm: known for the lengths of the example only" in str(report)
    assert "another axis" in fold(model, torch.randn(2, 5, 3)).report.left["norm"]


class Keeps(nn.Module):
    """Keeps features in an attribute, for a loss or a picture."""

    def __init__(self, branches):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.kept, self.branches = [], branches

    def forward(self, x):
        y = self.linear(x)
        if self.branches and x.sum() > 1e9:
            return y
        self.kept = [y.mT]
        return self.norm(y)


@pytest.mark.parametrize("branches", [False, True])
def test_value_that_an_attribute_keeps_is_used_elsewhere(branches):
    report = fold(Keeps(branches).eval(), torch.randn(2, 3)).report
    assert "linear is used elsewhere, too: by the attribute kept" in report.left["norm"]
