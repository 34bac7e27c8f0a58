"""The kernels: every view of a tensor, any number of threads, a process that was forked."""

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_inputs import SEED
from torch_modules import distance, pair, step

from bnlib import nn as bnn
from bnlib.nn._cpu import definition, dispatch, memory_format

EPS = 1e-3


@st.composite
def tensors(draw):
    """A dense tensor of two to five axes in some memory format, from one value to many blocks."""
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=5))
    shape[0] = draw(st.sampled_from([1, 2, 3, 8, 70]))
    shape[1] = draw(st.sampled_from([1, 2, 3, 9, 300]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(SEED + len(shape)))
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if len(shape) in formats and draw(st.booleans()):
        x = x.contiguous(memory_format=formats[len(shape)])
    return x * draw(st.sampled_from([1, 1e-3, 1e3])) + draw(st.sampled_from([0, 5, 1e3]))


@given(tensors())
def test_loops_agree_with_the_definition(x):
    kernel = dispatch.kernel()
    if kernel is None or x.numel() == x.shape[1]:
        return
    weight, bias = torch.linspace(-1, 2, 2 * x.shape[1], dtype=x.dtype).view(2, -1)
    exact = x.double()
    y, mean, var = definition.batch_norm(exact, weight.double(), bias.double(), EPS)
    dy = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(x.shape)
    gradients = definition.batch_norm_backward(dy.double(), exact, weight.double(), EPS)
    unit = torch.finfo(x.dtype).eps * (1 + float((mean**2 / (var + EPS)).max()) ** 0.5)
    dense = memory_format.dense(x)
    got = kernel.forward(dense, weight, bias, EPS)
    std = max(1.0, float(var.max()) ** 0.5)
    for value, expected, size in zip(got, (y, mean, var), (1, std, 1), strict=True):
        atol = 99 * unit * size
        torch.testing.assert_close(value.double(), expected, rtol=99 * unit, atol=atol)
    assert got[0].stride() == dense.stride()
    back = kernel.backward(memory_format.like(dy, dense), dense, weight, *got[1:], EPS)
    scale = 6 / float((var + EPS).min()) ** 0.5  # of what cancels in the gradient
    torch.testing.assert_close(back[0].double(), gradients[0], rtol=0, atol=99 * unit * scale)
    for value, expected in zip(back[1:], gradients[1:], strict=True):
        size = 3 * x.numel() / x.shape[1]
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=99 * unit * size)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("name", ["BatchNorm2d", "GroupNorm", "LayerNorm", "RMSNorm"])
def test_without_numba_it_is_torchs_own_operation(name, last):
    """Not more accurate than torch, and not less: the same digits."""
    args = {"GroupNorm": (2, 6), "BatchNorm2d": (6,)}.get(name, (5,))
    x, dy = torch.randn(2, 8, 6, 7, 5) + 100
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    with dispatch.use_kernel("torch"):
        results = [step(module, x, dy) for module in pair(name, *args)]
    for key in ("y", "dx", *(key for key in results[0] if key.startswith("dweight"))):
        torch.testing.assert_close(results[0][key], results[1][key], rtol=0, atol=0)


def test_kernel_has_what_the_protocol_asks_for(loops):
    for name in dispatch.Kernel.__annotations__:
        assert callable(getattr(dispatch.kernel(), name))


def test_use_kernel_refuses_other_names():
    expected = pytest.raises(ValueError, match="expected 'numba' or 'torch', got 'cuda'")
    with expected, dispatch.use_kernel("cuda"):
        pass


def test_gradients_come_from_where_the_output_came():
    pytest.importorskip("numba")
    x, dy = torch.randn(2, 8, 6, 7, 5)
    x = x + 1e4
    module, peer = pair("BatchNorm2d", 6)
    with dispatch.use_kernel("numba"):
        leaf = x.clone().requires_grad_()
        y = module(leaf)
    with dispatch.use_kernel("torch"):
        (dx,) = torch.autograd.grad(y, leaf, dy)
    assert distance(dx, step(peer.double(), x.double(), dy.double())["dx"]) < 1e-6


@pytest.mark.parametrize("shape", [(8, 16, 40, 40), (4, 3, 90, 90), (700, 100)], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_result_does_not_depend_on_the_number_of_threads(shape, last):
    pytest.importorskip("numba")
    x, dy = torch.randn(2, *shape)
    if last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    module, _ = pair("BatchNorm2d" if len(shape) == 4 else "BatchNorm1d", shape[1], momentum=1.0)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with dispatch.use_kernel("numba"):  # torch's own operation promises no such thing
                results.append(step(module, x, dy))
    finally:
        torch.set_num_threads(before)
    for name in ("y", "dx", "dweight", "dbias", "running_mean", "running_var"):
        torch.testing.assert_close(results[0][name], results[1][name], rtol=0, atol=0)


def _in_child(queue):
    torch.set_num_threads(1)  # torch's own threads do not survive a fork either
    y = bnn.BatchNorm2d(3)(torch.ones(64, 3, 50, 50))
    queue.put((dispatch.kernel() is not None, float(y.detach().abs().max())))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_process_does_without_numbas_threads():
    pair("BatchNorm2d", 3)[0](torch.randn(64, 3, 50, 50))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_in_child, args=(queue,))
    process.start()
    try:
        assert queue.get(timeout=60) == (False, 0)
        process.join(timeout=60)
        assert process.exitcode == 0
    finally:
        process.kill()


def run_alone(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_works_without_numba():
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch; from bnlib import nn; from bnlib.nn._cpu import dispatch\n"
        "assert dispatch.kernel() is None\n"
        "x = torch.randn(4, 3, 5, 5, requires_grad=True)\n"
        "nn.BatchNorm2d(3)(x).sum().backward(); nn.LayerNorm(5)(x); nn.RMSNorm(5)(x)\n"
    )
    run_alone(script)


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_keeps_its_number_of_threads(threads):
    script = (
        f"import torch; torch.set_num_threads({threads}); from bnlib import nn\n"
        "nn.BatchNorm2d(3)(torch.randn(64, 3, 50, 50)); nn.LayerNorm(50)(torch.randn(9, 50))\n"
        f"assert torch.get_num_threads() == {threads}, torch.get_num_threads()\n"
    )
    run_alone(script)
