"""Passes over a copy, and what its norms see."""

import contextlib
import functools
import types

import pytest
import torch
from doctor.planted import Residual, features, images, mlp
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bnlib.doctor import examine
from bnlib.doctor.case import Case
from bnlib.doctor.observe import NotPossibleError, same_random_state, untouched
from bnlib.nn import InstanceNorm1d, MaskedBatchNorm1d


def test_calls_hold_the_statistics_of_the_input():
    data = images(2)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
    calls = Case(model, data).forward(training=True).calls["0"]
    assert [call.batch for call in calls] == [0, 1]
    for call, (x, _) in zip(calls, data, strict=True):
        x = x.double()
        rows = x.transpose(0, 1).flatten(1)
        close = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
        close(call.mean, rows.mean(1))
        close(call.var, rows.var(1, correction=0))
        close(call.positions, x.mean((0, 1)))
        assert (call.shape, call.values, call.uses_batch) == (tuple(x.shape), 16 * 36, True)
    assert [c.uses_batch for c in Case(model, data).forward(training=False).calls["0"]] == [
        False
    ] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moments_far_from_zero_and_of_constants(dtype):
    """float32 holds them because one value of each channel is subtracted first."""
    x = torch.randn(8, 3, 50, dtype=torch.float64) + torch.tensor([0.0, 3e3, 0.1])[:, None]
    x[:, 2] = 0.1
    x = x.to(dtype)
    [call] = Case(nn.BatchNorm1d(3).to(dtype), [x]).forward(training=True).calls[""]
    rows = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(call.mean, rows.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(call.var, rows.var(1, correction=0), rtol=1e-5, atol=0)
    assert call.var[2] == 0


def test_means_of_examples_are_those_of_the_first_and_the_last_norm():
    data = images(2)
    model = nn.Sequential(*[nn.BatchNorm2d(3) for _ in range(3)])
    made = Case(model, data).forward(training=False)
    assert made.examples.keys() == {"0", "2"}
    for means, (x, _) in zip(made.examples["0"], data, strict=True):
        torch.testing.assert_close(means, x.mean((2, 3)))


def test_a_mask_and_an_example_without_batch():
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    x = torch.randn(2, 3, 5)
    [call] = (
        Case(MaskedBatchNorm1d(3), [{"input": x, "mask": mask}]).forward(training=True).calls[""]
    )
    kept = torch.cat([x[0], x[1, :, :2]], 1).double()
    torch.testing.assert_close(call.mean, kept.mean(1), rtol=1e-5, atol=1e-6)
    assert call.values == 7
    [call] = Case(InstanceNorm1d(3), [torch.randn(3, 5)]).forward(training=True).calls[""]
    assert (len(call.mean), call.values) == (3, 5)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (torch.randn(2, 3, 4, 5), False),
        (torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), True),
        (torch.randn(2, 3, 1, 1).contiguous(memory_format=torch.channels_last), False),
        (torch.randn(2, 1, 4, 5).contiguous(memory_format=torch.channels_last), False),
    ],
)
def test_channels_last(x, expected):
    [call] = Case(nn.BatchNorm2d(x.shape[1]), [x]).forward(training=True).calls[""]
    assert call.channels_last == expected


def test_channels_last_of_volumes():
    x = torch.randn(2, 3, 4, 5, 2).contiguous(memory_format=torch.channels_last_3d)
    [call] = Case(nn.BatchNorm3d(3), [x]).forward(training=True).calls[""]
    assert call.channels_last


class Ends(nn.Module):
    """A norm, and what `end` makes of it."""

    def __init__(self, end):
        super().__init__()
        self.norm, self.end = nn.BatchNorm1d(5), end

    def forward(self, x):
        return self.end(self.norm(x))


ENDS = [
    (lambda y: y, True),
    (lambda y: {"a": [y, None], "b": 3}, True),
    (lambda y: (y + 1, y), True),
    (lambda y: y.relu_(), False),
    (lambda y: y.add_(0), False),
    (lambda y: y.clone(), False),
    (lambda y: y.view(-1), True),
    (lambda y: y[:, :1].squeeze(1), True),
    (lambda y: y[:, :1].squeeze(1).relu_(), False),
    (lambda y: y.sum(), False),
]


@pytest.mark.parametrize(("end", "is_output"), ENDS)
def test_is_output(end, is_output):
    [call] = Case(Ends(end), features(1)).forward(training=True).calls["norm"]
    assert call.is_output == is_output


def test_is_output_of_the_last_of_two_calls():
    model = Ends(lambda y: y)
    case = Case(model, features(1), show=lambda m, batch: m.norm(m(batch[0]) + 1))
    assert [call.is_output for call in case.forward(training=True).calls["norm"]] == [False, True]


def test_look_sees_input_and_output_of_each_call():
    data = features(2)
    made = Case(mlp(), data).look(lambda norm, x, y: (norm.name, x, y), training=True)
    assert {name: len(seen) for name, seen in made.seen.items()} == {"1": 2, "4": 2}
    name, x, y = made.seen["1"][0]
    assert name == "1"
    assert [x.requires_grad, y.requires_grad] == [False, False]
    torch.testing.assert_close(F.batch_norm(x, None, None, training=True), y)


def test_a_pass_is_made_once_and_a_look_each_time():
    shown = []

    def show(model, batch):
        shown.append(model.training)
        return model(batch[0])

    case = Case(mlp(), features(1), show=show)
    first = case.forward(training=True)
    assert case.forward(training=True) is first
    case.forward(training=False)
    case.look(lambda *_: None, training=True)
    assert shown == [True, False, True]


class Dropping(nn.Module):
    """Dropout by modules and by functions, in place and not."""

    def __init__(self):
        super().__init__()
        self.drop, self.norm = nn.Dropout(0.5, inplace=True), nn.BatchNorm1d(5)

    def forward(self, x):
        noise = torch.rand(3)
        y = self.norm(F.dropout(self.drop(x.clone()), training=self.training))
        return F.alpha_dropout(y, 0.3, self.training, inplace=True), noise, torch.rand(3)


def test_dropout_can_be_off_with_the_same_random_numbers():
    case = Case(Dropping(), features(1))
    off, on = (case.forward(training=True, dropout=d).outputs[0] for d in (False, True))
    expected = F.batch_norm(features(1)[0][0], None, None, training=True)
    torch.testing.assert_close(off[0], expected)
    assert not torch.allclose(on[0], expected)
    assert torch.equal(off[1], on[1])
    assert torch.equal(off[2], on[2])


def test_modes_are_those_of_the_model_unless_it_is_in_eval_mode():
    model = mlp()
    model[1].eval()
    uses = Case(model, features(1)).forward(training=True).calls
    assert [uses[name][0].uses_batch for name in ("1", "4")] == [False, True]
    uses = Case(model.eval(), features(1)).forward(training=True).calls
    assert [uses[name][0].uses_batch for name in ("1", "4")] == [True, True]


def test_a_model_without_a_call_is_refused():
    with pytest.raises(NotPossibleError, match="none was"):
        Case(nn.Linear(5, 2), features(1)).forward(training=True)


def test_random_states_come_back_after_an_exception():
    before = torch.get_rng_state()
    with contextlib.suppress(KeyError), same_random_state():
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_untouched_puts_back_what_a_forward_does_to_the_model_itself():
    model = Residual()
    images_of = images(1)[0][0]
    model(images_of).sum().backward()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [None if p.grad is None else (p.grad, p.grad.clone()) for p in model.parameters()]
    with contextlib.suppress(KeyError), untouched(model):
        model(images_of).sum().backward()
        model.eval()
        raise KeyError
    assert model.d.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    for p, kept in zip(model.parameters(), gradients, strict=True):
        assert (p.grad is None) == (kept is None)
        assert kept is None or (p.grad is kept[0] and torch.equal(p.grad, kept[1]))


class Other(nn.Module):
    """Keeps running statistics as norms do, of what `read` gives."""

    def __init__(self, shape=(4,)):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def forward(self, x):
        return {"x": x["x"] - self.running_mean} if isinstance(x, dict) else x - self.running_mean


def test_inputs_without_channels_are_not_calls():
    for show, shape in (
        (lambda model, batch: model[2]({"x": model[:2](batch[0])})["x"], (4,)),
        (lambda model, batch: model[2](model[:2](batch[0])[:, 0]), ()),
    ):
        model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), Other(shape))
        report = examine(model, features(), forward=show)
        assert "shifted-input" in report.checked
        assert Case(model, features(), show=show).forward(training=True).calls.keys() == {"1"}


def test_a_norm_of_any_arguments():
    class Any(nn.BatchNorm1d):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    for show in (lambda m, batch: m(batch[0]), lambda m, batch: m(input=batch[0])):
        made = Case(Any(5), features(1), show=show).forward(training=True)
        assert made.calls[""][0].shape == (16, 5)


def test_a_forward_that_holds_the_module_itself_is_not_copied():
    model = mlp()
    old = model[1].forward
    model[1].forward = lambda x: old(x)
    with pytest.raises(NotPossibleError, match=r"1\.forward was replaced"):
        Case(model, features()).forward(training=False)
    report = examine(model, features())
    assert "1.forward was replaced" in report.skipped["leak-through-batch"]
    assert report.findings == ()
    model[1].forward = types.MethodType(nn.BatchNorm1d.forward, model[1])  # is copied
    assert Case(model, features()).forward(training=False).calls


def test_models_without_values():
    lazy = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Linear(8, 4))
    assert "run it once" in examine(lazy, features()).skipped["few-values"]
    with torch.device("meta"):
        meta = mlp()
    with pytest.raises(ValueError, match=r"0\.weight is on the meta device"):
        examine(meta)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_scripts_and_parameters_made_in_inference_mode():
    assert examine(torch.jit.script(mlp()), features()).findings == ()
    with torch.inference_mode():
        model = mlp().eval()
    assert examine(model).findings == ()


def test_the_generator_of_a_loader_stays_as_it_was():
    data = torch.utils.data.TensorDataset(*features(1, 64)[0])
    for owner in ("loader", "sampler", "batch sampler"):
        generator = torch.Generator().manual_seed(3)
        sampler = torch.utils.data.RandomSampler(data, generator=generator)
        options = {
            "loader": {"batch_size": 16, "shuffle": True, "generator": generator},
            "sampler": {"batch_size": 16, "sampler": sampler},
            "batch sampler": {"batch_sampler": torch.utils.data.BatchSampler(sampler, 16, False)},
        }
        before = generator.get_state()
        examine(mlp(), torch.utils.data.DataLoader(data, **options[owner]))
        assert torch.equal(generator.get_state(), before)
