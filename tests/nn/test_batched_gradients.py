"""Many gradients in one backward pass: ``is_grads_batched``, and Jacobians from it."""

import pytest
import torch
from family_modules import FAMILY, build
from torch.autograd import gradcheck
from torch.autograd.functional import hessian, jacobian
from torch_modules import pair

DROP_INS = {  # name: constructor arguments, options, shape of an input
    "BatchNorm1d": ((2,), {}, (4, 2)),
    "BatchNorm2d": ((2,), {"momentum": None}, (2, 2, 1, 3)),
    "BatchNorm3d": ((2,), {}, (2, 2, 1, 2, 1)),
    "InstanceNorm1d": ((2,), {"affine": True}, (2, 2, 3)),
    "InstanceNorm2d": ((2,), {"track_running_stats": True}, (2, 2, 1, 3)),
    "GroupNorm": ((2, 4), {}, (2, 4, 3)),
    "LayerNorm": ((3,), {}, (2, 3)),
    "RMSNorm": ((3,), {}, (2, 3)),
}
TOLERANCE = {torch.float64: 1e-9, torch.float16: 2e-2, torch.bfloat16: 1e-1}
EVERY = pytest.mark.parametrize("name", [*DROP_INS, *FAMILY])
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def function(name, training, dtype=torch.float64):
    """A layer as a function of its first input, that input, and the parameters."""
    if name in DROP_INS:
        args, options, shape = DROP_INS[name]
        module, others = pair(name, *args, **options)[0].to(dtype), ()
    else:
        module, shape, others = build(name, dtype)
    module.train(training)
    x = torch.randn(shape).to(dtype).requires_grad_()
    return lambda x: module(x, *others), x, list(module.parameters())


def gradients(y, leaves, dy, **options):
    """Gradients of the leaves that `y` depends on; a split batch norm uses one stream's."""
    found = torch.autograd.grad(y, leaves, dy, retain_graph=True, allow_unused=True, **options)
    return [gradient for gradient in found if gradient is not None]


@EVERY
@MODES
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_rows_at_once_are_the_rows_one_by_one(name, training, dtype, kernel):
    f, x, parameters = function(name, training, dtype)
    y = f(x)
    upstream = torch.randn(5, *y.shape).to(dtype)
    got = gradients(y, [x, *parameters], upstream, is_grads_batched=True)
    rows = [gradients(y, [x, *parameters], dy) for dy in upstream]
    for value, expected in zip(got, zip(*rows, strict=True), strict=True):
        tolerance = TOLERANCE[dtype] * float(torch.stack(expected).abs().max().clamp(min=1))
        torch.testing.assert_close(value, torch.stack(expected), rtol=0, atol=tolerance)


@EVERY
@MODES
def test_vectorized_jacobian_and_hessian(name, training, kernel):
    f, x, _ = function(name, training)

    def loss(x):
        return (f(x) ** 3).sum()

    rows = jacobian(f, x)
    torch.testing.assert_close(jacobian(f, x, vectorize=True), rows)
    if (name, kernel) == ("GroupNorm", "torch"):
        pytest.skip("torch 2.13's own group norm has no vectorized second derivative")
    torch.testing.assert_close(hessian(loss, x, vectorize=True), hessian(loss, x))


@pytest.mark.parametrize("name", DROP_INS)
@MODES
def test_gradcheck_of_batched_gradients(name, training, kernel):
    f, x, _ = function(name, training)
    assert gradcheck(f, x, check_batched_grad=True)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own use of it
@pytest.mark.parametrize("name", DROP_INS)
def test_gradcheck_of_batched_forward_gradients(name, kernel):
    f, x, _ = function(name, True)
    options = {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert gradcheck(f, x, **options)
