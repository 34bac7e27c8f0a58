"""Processes with parts of a mini-batch against torch on one big mini-batch, in float64."""

import copy
import inspect
import pathlib
import pickle
import subprocess
import sys

import pytest
import sync_processes as work
import torch
import torch.distributed as dist
from torch import nn
from torch_modules import distance, step

from bnlib import nn as bnn
from bnlib.nn.processes import launch

TIMEOUT = 240.0  # far more than needed: a machine may be busy
PEER = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}


@pytest.fixture(scope="module", params=[2, 3])
def found(request):
    """What each process found; one start of processes for all checks."""
    return launch(work.every_check, request.param, request.param, timeout=TIMEOUT)


def in_one_process(case, world_size):
    """Torch's own batch norm on the whole mini-batches, in float64."""
    peer = work.layer_for(case, PEER[len(work.CASES[case][1])]).double()
    steps = work.data(case, world_size)[1]
    results = [
        work.derivatives(peer, *(t.double().contiguous() for t in step[1:])) for step in steps
    ]
    return results, peer.state_dict()


@pytest.mark.parametrize("case", work.CASES)
def test_equals_one_big_batch(found, case):
    for variant in work.variants(len(found)):
        check_case(found, case, variant)


def check_case(found, case, variant):
    tolerance = work.CASES[case][4]
    exact, state = in_one_process(case, len(found))
    for t, expected in enumerate(exact):
        parts = [process[variant, case][0][t] for process in found]
        for key, value in expected.items():
            if key.removeprefix("penalty ") in ("dweight", "dbias"):
                got = sum(part[key].double() for part in parts)
            else:
                got = torch.cat([part[key] for part in parts])
                assert got.dtype == getattr(torch, work.CASES[case][2])
            assert distance(got, value, 1.0) < tolerance, (variant, t, key)
    for process in found:
        assert process[variant, case][1].keys() == state.keys()
        for key, value in state.items():
            assert distance(process[variant, case][1][key], value, 1.0) < tolerance, (variant, key)


def test_all_processes_hold_the_same_statistics(found):
    for case in work.CASES:
        first, *others = [process["torch", case][1] for process in found]
        assert all(
            torch.equal(value, other[key]) for key, value in first.items() for other in others
        )


def test_bad_input_raises_in_every_process_and_changes_nothing(found):
    for process in found:
        name, message, same = process["few_values"]
        assert name == "ValueError"
        assert "more than 1 value per channel" in message
        assert same
        name, message, same = process["not_finite"]
        assert name == "ValueError"
        assert "refuse_nonfinite" in message
        assert same
        names, messages, sames = zip(*process["wrong_channels"], strict=True)
        assert names == ("RuntimeError", "RuntimeError", "ValueError", "RuntimeError")
        assert "3 channels" in messages[0]
        assert "float64" in messages[1]
        assert "2D" in messages[2]
        assert all(sames)


def test_eval_mode_sends_nothing(found):
    assert found[0]["eval_mode"] == pytest.approx(3 / (1 + 1e-5) ** 0.5)


def test_process_group_limits_who_takes_part(found):
    *together, alone = [process["subgroup"] for process in found]
    values = torch.tensor([v + 10 * rank for rank in range(len(together)) for v in (1.0, 3.0)])
    for mean, var in together:
        assert mean == pytest.approx(values.mean().item())
        assert var == pytest.approx(values.var().item())
    assert alone == (2 + 10 * len(together), 2)


def test_constant_channel_gives_exactly_the_bias(found):
    assert [process["constant"] for process in found] == [0.0] * len(found)


def test_half_precision_is_computed_in_single(found):
    for dtype, largest in (process["half"] for process in found):
        assert dtype == torch.bfloat16
        assert 0.5 < largest < 5


def test_training_with_ddp_equals_training_in_one_process(found):
    model = work.model_to_train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, labels in work.batches(len(found)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    for process in found:
        for key, value in model.state_dict().items():
            assert distance(process["ddp"][key], value, 1.0) < 1e-10, key


def test_torch_func(found):
    x, tangent, dy = torch.randn(
        3, 5, 2, generator=torch.Generator().manual_seed(5 + work.SEED), dtype=torch.float64
    )
    layer = nn.BatchNorm1d(2, track_running_stats=False).double()
    exact = layer(x.requires_grad_())
    (dx,) = torch.autograd.grad(exact, x, dy)
    along = torch.autograd.functional.jvp(layer, x, tangent)[1]
    for i, value in enumerate((along, dx)):
        got = torch.cat([process["functional"][i] for process in found])
        assert distance(got, value, 1.0) < 1e-11


@pytest.mark.parametrize("found", [2], indirect=True)
def test_compiled_in_several_graphs_it_does_the_same(found):
    for plain, compiled, error in (process["compiled"] for process in found):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)
        assert "function `batch_norm`" in error  # one graph is refused


def test_process_that_fails_ends_the_others():
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="second process"):
        launch(work.fails, 2, timeout=TIMEOUT)


def test_processes_that_take_too_long_are_ended():
    with pytest.raises(TimeoutError, match="1 processes did not finish"):
        launch(work.fails, 1, timeout=0.01)


def test_torchrun_starts_it():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = pathlib.Path(work.__file__)
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")[:-1]) == ["rank 0: mean 7", "rank 1: mean 7"]


# ------------------------------------------------------------------ in one process


def test_signature_is_that_of_torch_with_one_more_option():
    ours = inspect.signature(bnn.SyncBatchNorm).parameters
    peer = inspect.signature(nn.SyncBatchNorm).parameters
    assert [*ours][:-1] == [*peer]
    assert all(ours[name].default == peer[name].default for name in peer)


@pytest.mark.parametrize("group", [False, True], ids=["no group", "group of one"])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False, "eps": 1e-3}])
def test_alone_it_is_plain_batch_norm(options, group, tmp_path):
    ours, peer = bnn.SyncBatchNorm(3, **options), nn.BatchNorm2d(3, **options)
    if group:
        meeting = (tmp_path / "meeting").as_uri()
        dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        for x in torch.randn(3, 4, 3, 5, 5):
            assert distance(ours(x), peer(x)) < 1e-5
        with pytest.raises(ValueError, match="more than 1 value"):
            ours(torch.ones(1, 3))
    finally:
        if group:
            dist.destroy_process_group()
    peer.load_state_dict(ours.state_dict(), strict=True)
    nn.SyncBatchNorm(3, **options).load_state_dict(ours.state_dict(), strict=True)
    assert distance(ours.eval()(x), peer.eval()(x)) < 1e-5


@pytest.mark.filterwarnings("ignore")  # what the compiler says of itself
@pytest.mark.parametrize("training", [True, False])
def test_alone_it_compiles_to_one_graph(training):
    layer = bnn.SyncBatchNorm(3).train(training)
    peer, (x, dy) = copy.deepcopy(layer), torch.randn(2, 4, 3, 5)
    layer.compile(fullgraph=True, backend="aot_eager")
    got = step(layer, x, dy)
    torch.testing.assert_close(got, step(peer, x, dy), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (4, 0)])
def test_error_is_that_of_torch(shape):
    errors = []
    for cls in (bnn.SyncBatchNorm, nn.SyncBatchNorm):
        with pytest.raises(ValueError, match=r"expected at least|non-zero") as error:
            cls(3)(torch.ones(shape))
        errors.append(str(error.value))
    assert errors[0] == errors[1]


# ------------------------------------------------------------------ conversion


class Activated(nn.BatchNorm2d):
    """A batch norm with something after it."""

    def forward(self, input):
        return super().forward(input).relu()

    def answer(self):
        return 42


class Other(nn.BatchNorm2d):
    """Not a batch norm any more."""

    def forward(self, input):
        return 2 * input


def model():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Activated(4), bnn.BatchNorm2d(4),
        nn.Sequential(nn.BatchNorm2d(4, affine=False)), nn.Flatten(), nn.BatchNorm1d(4),
    )  # fmt: skip
    net[2].eval()
    net[1].weight.requires_grad_(False)
    net.calls = []
    net[1].register_forward_hook(lambda *_: net.calls.append("hook"))
    return net


def test_conversion_keeps_everything_but_the_class():
    net = model()
    modules, tensors = list(net.modules()), {**net.state_dict(keep_vars=True)}
    modes = [m.training for m in modules]
    classes = [type(m) for m in modules]
    assert bnn.convert_sync_batchnorm(net) is net
    synced = [m for m in net.modules() if isinstance(m, bnn.SyncBatchNorm)]
    assert len(synced) == 5
    assert isinstance(net[2], Activated)
    assert net[2].answer() == 42
    for now in (net, bnn.revert_sync_batchnorm(net)):
        assert all(a is b for a, b in zip(now.modules(), modules, strict=True))
        assert [m.training for m in now.modules()] == modes
        assert all(now.state_dict(keep_vars=True)[k] is v for k, v in tensors.items())
        assert not net[1].weight.requires_grad
    assert [type(m) for m in net.modules()] == classes
    assert not any("process_group" in vars(m) for m in net.modules())


def test_converted_model_computes_the_same():
    net = model()
    twin = bnn.convert_sync_batchnorm(copy.deepcopy(net))
    x = torch.randn(6, 3, 1, 1)
    assert distance(twin(x), net(x)) < 1e-5
    assert twin[2](-torch.rand(2, 4, 1, 1)).min() == 0  # Activated's own forward
    assert net.calls == ["hook", "hook"]
    with pytest.raises(ValueError, match="4D"):
        twin[1](torch.ones(4, 4))
    with pytest.raises(ValueError, match="4D"):
        twin[3](torch.ones(4, 4))


def test_converted_model_can_be_pickled_and_copied():
    net = bnn.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(4), bnn.BatchNorm1d(4)))
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert [type(m) for m in other] == [type(m) for m in net]
        assert other[0].weight is not net[0].weight
        other.load_state_dict(net.state_dict(), strict=True)
        assert type(bnn.revert_sync_batchnorm(other)[0]) is nn.BatchNorm2d


def test_conversion_takes_the_group_and_torch_layers():
    group = object()
    net = nn.Sequential(nn.BatchNorm1d(3), nn.SyncBatchNorm(3))
    bnn.SyncBatchNorm.convert_sync_batchnorm(net, group)
    assert [m.process_group for m in net] == [group, group]
    assert type(net[1]) is bnn.SyncBatchNorm
    bnn.convert_sync_batchnorm(net)
    assert [m.process_group for m in net] == [group, group]
    y = bnn.revert_sync_batchnorm(net)(torch.randn(4, 3))
    assert y.std() > 0
    assert not any(isinstance(m, bnn.SyncBatchNorm | nn.SyncBatchNorm) for m in net)


class OtherSync(nn.SyncBatchNorm):
    """Torch's own synchronized batch norm, changed in some way."""


@pytest.mark.parametrize("cls", [Other, OtherSync])
def test_conversion_warns_of_another_forward(cls):
    net = nn.Sequential(cls(3))
    with pytest.warns(UserWarning, match=rf"0 \({cls.__name__}\) has a forward"):
        bnn.convert_sync_batchnorm(net)
    assert type(net[0]) is cls


def test_conversion_refuses_a_lazy_layer_and_changes_nothing():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match="lazy batch norm without parameters, got '1'"):
        bnn.convert_sync_batchnorm(net)
    assert type(net[0]) is nn.BatchNorm1d


@pytest.mark.parametrize("cls", [bnn.GhostBatchNorm1d, bnn.BatchRenorm1d, bnn.MaskedBatchNorm1d])
def test_relatives_that_take_their_own_statistics_are_not_converted(cls):
    model = nn.Sequential(cls(4), bnn.BatchNorm1d(4))
    with pytest.warns(UserWarning, match=rf"{cls.__name__}.* stays as it is"):
        bnn.convert_sync_batchnorm(model)
    assert type(model[0]) is cls
    assert isinstance(model[1], bnn.SyncBatchNorm)
