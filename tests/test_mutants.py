"""The checks notice wrong implementations: every mutant is caught by the checks it names."""

import numpy as np
import pytest
import scipy.linalg
import simulations
import torch
import torch.nn.functional as F  # noqa: N812
from mutants import MUTANTS
from random_inputs import SEED

from bnlib import conventions, layers, measure, surgery
from bnlib import functional as bn
from bnlib import nn as bnn
from bnlib.nn._cpu import definition, dispatch

EPS = 0.1  # large, so that a misplaced eps shows
RNG = np.random.default_rng(1 + SEED)
X, DY, DDX = RNG.normal(2, 3, (3, 8, 4))
IMAGES = RNG.normal(2, 3, (3, 4, 2, 5))
GAMMA, BETA, MEAN, DDGAMMA = RNG.normal(size=(4, 4))
VAR = RNG.uniform(0.5, 2, 4)


def same(result, expected):
    np.testing.assert_allclose(result, expected, rtol=1e-8, atol=1e-8)


def gradients(f, *arrays, upstream=DY):
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    return torch.autograd.grad(f(*leaves), leaves, torch.tensor(upstream))


def train_mode(x, gamma, beta):
    return F.batch_norm(x, None, None, gamma, beta, True, eps=EPS)


def eval_mode(x, gamma, beta):
    mean, var = torch.tensor(MEAN), torch.tensor(VAR)
    return F.batch_norm(x, mean, var, gamma, beta, False, eps=EPS)


def check_forward():
    expected = train_mode(*map(torch.tensor, (X, GAMMA, BETA)))
    same(bn.batch_norm_forward(X, GAMMA, BETA, eps=EPS)[0], expected)


def check_images():
    expected = train_mode(*map(torch.tensor, (IMAGES, GAMMA, BETA)))
    same(bn.batch_norm_forward(IMAGES, GAMMA, BETA, eps=EPS)[0], expected)


def check_backward():
    cache = bn.batch_norm_forward(X, GAMMA, BETA, eps=EPS)[1]
    results = bn.batch_norm_backward(DY, cache)
    for result, expected in zip(results, gradients(train_mode, X, GAMMA, BETA), strict=True):
        same(result, expected)


def check_numeric_gradient():
    def forward(x=X, gamma=GAMMA, beta=BETA):
        return bn.batch_norm_forward(x, gamma, beta, eps=EPS)[0]

    results = bn.batch_norm_backward(DY, bn.batch_norm_forward(X, GAMMA, BETA, eps=EPS)[1])
    for name, value, result in zip(("x", "gamma", "beta"), (X, GAMMA, BETA), results, strict=True):
        numeric = bn.numerical_gradient(lambda v, n=name: forward(**{n: v}), value, DY)
        assert bn.relative_error(result, numeric) < 1e-7


def check_standardize_backward():
    z = bn.standardize(X, 0, eps=EPS)
    numeric = bn.numerical_gradient(lambda x: bn.standardize(x, 0, eps=EPS).x_hat, X, DY)
    assert bn.relative_error(bn.standardize_backward(DY, z), numeric) < 1e-7


def check_double_backward():
    leaves = [torch.tensor(a, requires_grad=True) for a in (DY, X, GAMMA, BETA)]
    y = train_mode(*leaves[1:])
    first = torch.autograd.grad(y, leaves[1:], leaves[0], create_graph=True)
    seconds = [torch.tensor(a) for a in (DDX, DDGAMMA, BETA)]
    wanted = torch.autograd.grad(first, leaves[:3], seconds)
    cache = bn.batch_norm_forward(X, GAMMA, BETA, eps=EPS)[1]
    results = bn.batch_norm_double_backward(DDX, DDGAMMA, BETA, DY, cache)
    for result, expected in zip(results, wanted, strict=True):
        same(result, expected)


def check_inference():
    expected = eval_mode(*map(torch.tensor, (X, GAMMA, BETA)))
    same(bn.batch_norm_inference(X, MEAN, VAR, GAMMA, BETA, eps=EPS), expected)


def check_inference_backward():
    results = bn.batch_norm_inference_backward(DY, X, MEAN, VAR, GAMMA, eps=EPS)
    for result, expected in zip(results, gradients(eval_mode, X, GAMMA, BETA), strict=True):
        same(result, expected)


def check_consistent():
    together = bn.batch_norm_inference(X, MEAN, VAR)
    same(bn.batch_norm_inference(X[:1], MEAN, VAR), together[:1])


def check_large_mean():
    x = (1e4 + X).astype(np.float32)
    np.testing.assert_allclose(bn.standardize(x, 0).var[0], x.astype("f8").var(0), rtol=1e-5)


def check_constant_channel():
    for value in np.linspace(0.1, 1e4, 50).astype(np.float32):
        x = np.full((3, 1, 70, 70), value)
        np.testing.assert_array_equal(bn.standardize(x, (0, 2, 3)).x_hat, 0)


def check_seeds():
    x, gamma = np.stack([X, DY]), np.stack([GAMMA, BETA])
    together = bn.batch_norm_forward(x, gamma)[0]
    for i in range(2):
        same(together[i], bn.batch_norm_forward(x[i], gamma[i])[0])


def running_after(module, **options):
    module = module.double()
    running = bn.RunningStatistics.initial((4,))
    for x in (X, DY, DDX):
        module(torch.tensor(x))
        cache = bn.batch_norm_forward(x)[1]
        running.update(cache.mean, cache.var, cache.count, **options)
    same(running.mean, module.running_mean)
    same(running.var, module.running_var)


def check_running():
    running_after(torch.nn.BatchNorm1d(4, momentum=0.2), momentum=0.2)


def check_old_momentum():
    running_after(torch.nn.BatchNorm1d(4, momentum=0.2), momentum=0.8, momentum_weighs="old")


def check_cumulative():
    running_after(torch.nn.BatchNorm1d(4, momentum=None), momentum=None)


def check_conversion():
    """Take a layer of torch to Keras, and compare with Keras's documented averages."""
    module = torch.nn.BatchNorm1d(4, momentum=0.2, eps=0.01).double()
    mean, var = np.zeros(4), np.ones(4)
    for x in (X, DY, DDX):
        module(torch.tensor(x))
        mean, var = 0.8 * mean + 0.2 * x.mean(0), 0.8 * var + 0.2 * x.var(0)
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    given = {"momentum": module.momentum, "eps": module.eps}
    sizes = {"m": len(X), "steps": 3}
    arrays, options = conventions.convert(state, given, source="pytorch", target="keras", **sizes)
    assert options == {"momentum": 0.8, "epsilon": 0.01}
    same(arrays["moving_mean"], mean)
    same(arrays["moving_variance"], var)


def check_poisoned_batch():
    running = bn.RunningStatistics.initial((1,))
    with pytest.raises(ValueError, match="finite"):
        running.update(np.array([np.nan]), np.array([1.0]), 8)


def check_layer_backward():
    def layer_norm(x, gamma, beta):
        return F.layer_norm(x, (4,), gamma, beta, EPS)

    cache = bn.layer_norm_forward(X, GAMMA, BETA, eps=EPS)[1]
    results = bn.layer_norm_backward(DY, cache)
    for result, expected in zip(results, gradients(layer_norm, X, GAMMA, BETA), strict=True):
        same(result, expected)


def check_group_forward():
    x = np.concatenate([IMAGES, IMAGES**2], axis=1)
    same(bn.group_norm_forward(x, 2, eps=EPS)[0], F.group_norm(torch.tensor(x), 2, eps=EPS))


def check_rms_forward():
    expected = F.rms_norm(torch.tensor(X), (4,), torch.tensor(GAMMA), EPS)
    same(bn.rms_norm_forward(X, GAMMA, eps=EPS)[0], expected)


def check_layer_modes():
    layer, module = layers.BatchNorm(4), torch.nn.BatchNorm1d(4, dtype=torch.float64)
    for x in (X, DY):
        same(layer(x), module(torch.tensor(x)).detach())
    same(layer.eval()(X), module.eval()(torch.tensor(X)).detach())


def half(cls, function, **options):
    layer = cls(4, **options)
    layer.parameters["gamma"][...], layer.parameters["beta"][...] = GAMMA, BETA
    results = layer(X), layer.backward(DY), *layer.gradients.values()

    def reference(x, gamma, beta):
        return gamma * function(x) + beta

    expected = reference(*map(torch.tensor, (X, GAMMA, BETA)))
    wanted = expected, *gradients(reference, X, GAMMA, BETA)
    for result, value in zip(results, wanted, strict=True):
        same(result, value)


def check_mean_only():
    half(layers.MeanOnlyBatchNorm, lambda x: x - x.mean(0))


def check_scale_only():
    half(layers.ScaleOnlyBatchNorm, lambda x: x / torch.sqrt((x**2).mean(0) + EPS), eps=EPS)


def check_linear():
    layer = layers.Linear(4, 3, rng=np.random.default_rng(0))
    weight, bias = layer.parameters.values()
    bias += GAMMA[:3]
    expected = gradients(lambda x, w, b: x @ w + b, X, weight, bias, upstream=DY[:, :3])
    layer(X)
    results = layer.backward(DY[:, :3]), layer.gradients["weight"], layer.gradients["bias"]
    for result, wanted in zip(results, expected, strict=True):
        same(result, wanted)


def check_cross_entropy():
    labels = np.arange(len(X)) % 4
    logits = torch.tensor(X, requires_grad=True)
    loss = F.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    same(layers.softmax_cross_entropy(X, labels)[0], loss.item())
    same(layers.softmax_cross_entropy(X, labels)[1], logits.grad)


def check_relu():
    layer = layers.ReLU()
    layer(X)
    same(layer.backward(DY), gradients(F.relu, X)[0])


def check_coverage():
    simulate = simulations.simulate.__wrapped__  # what a mutant judged is not for other tests
    verdicts = simulate("normal", 4, 0.5, 0.5)
    low, high = simulations.expected_share(0.95)
    assert low <= simulations.coverage(verdicts, 0.5) <= high


def check_dropout():
    dropped = layers.Dropout(0.5, rng=np.random.default_rng(0))(np.ones((50, 40)))
    assert set(np.unique(dropped)) == {0.0, 2.0}


def check_calibration():
    logits = np.log([[3.0, 1.0], [9.0, 1.0]])  # right with 0.75, wrong with 0.9: bins 8 and 10
    same(measure.expected_calibration_error(logits, np.array([0, 1])), (0.25 + 0.9) / 2)


def check_covariate_shift():
    rng = np.random.default_rng(0)
    network = layers.Sequential(*(layers.Linear(4, 4, rng=rng) for _ in range(2)))
    optimizer, loss = layers.SGD(network, 0.1), layers.mean_squared_error
    shift = measure.covariate_shift(network, optimizer, loss, X, DY)
    assert shift.difference[0] == 0  # nothing stands before the first layer


def trained(*modules):
    model = torch.nn.Sequential(*modules).double().eval()
    for module in model:
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            state = (MEAN, VAR, GAMMA, BETA)
            tensors = (module.running_mean, module.running_var, module.weight, module.bias)
            for tensor, values in zip(tensors, state, strict=True):
                tensor.data.copy_(torch.tensor(values))
    return model


def folds(*modules, x):
    model, x = trained(*modules), torch.tensor(x)
    folded, report = surgery.fold(model, x, tolerance=float("inf"))
    assert len(report.folded) == 1
    same(folded(x).detach(), model(x).detach())


def check_fold_after():
    linear = torch.nn.Linear(4, 4)
    folds(linear, torch.nn.BatchNorm1d(4, EPS), x=X)
    transposed = torch.nn.ConvTranspose2d(4, 4, 2, groups=2)
    folds(transposed, torch.nn.BatchNorm2d(4, EPS), x=IMAGES)


def check_fold_before():
    folds(torch.nn.BatchNorm1d(4, EPS), torch.nn.Linear(4, 3), x=X)


def check_fold_border():
    model = trained(torch.nn.BatchNorm2d(4, EPS), torch.nn.Conv2d(4, 2, 3, padding=1))
    assert surgery.fold(model, torch.tensor(IMAGES), tolerance=float("inf")).report.left


def check_recalibrate():
    model = torch.nn.BatchNorm1d(4).double()
    x = torch.tensor(np.concatenate([X, DY[:3] + 9]))
    surgery.recalibrate(model, x.split(8))
    same(model.running_mean, x.mean(0))
    same(model.running_var, x.var(0))


def check_renorm():
    layer = bnn.BatchRenorm1d(4, eps=EPS, r_max=1e9, d_max=1e9, dtype=torch.float64)
    x = torch.tensor(X, requires_grad=True)
    y = layer(x)
    r = torch.tensor(np.sqrt(X.var(0) + EPS) / np.sqrt(1 + EPS))
    mean = torch.tensor(X.mean(0) / np.sqrt(1 + EPS))
    expected = train_mode(x, r, mean)
    same(y.detach(), expected.detach())
    upstream = torch.tensor(DY)
    same(*(torch.autograd.grad(out, x, upstream)[0] for out in (y, expected)))


def check_ghost():
    layer = bnn.GhostBatchNorm1d(4, eps=EPS, ghost_size=3, dtype=torch.float64)
    y = layer(torch.tensor(X)).detach()
    same(y, np.concatenate([bn.batch_norm_forward(part, eps=EPS)[0] for part in (X[:4], X[4:])]))


def check_whitening():
    layer = bnn.DecorrelatedBatchNorm1d(4, eps=EPS, dtype=torch.float64)
    root = scipy.linalg.sqrtm(np.cov(X.T, ddof=0) + EPS * np.eye(4))
    same(layer(torch.tensor(X)).detach().numpy() @ root, X - X.mean(0))


def check_nn_gradients():
    expected = gradients(train_mode, IMAGES, GAMMA, BETA, upstream=IMAGES[::-1].copy())
    x, dy = torch.tensor(IMAGES), torch.tensor(IMAGES[::-1].copy())
    got = definition.batch_norm_backward(dy, x, torch.tensor(GAMMA), EPS)
    same(torch.cat([t.flatten() for t in got]), torch.cat([t.flatten() for t in expected]))


def check_nn_constant():
    x = torch.tensor([0.1, 1e4 + 0.1, -1e10, 3.3])[:, None].expand(7, 4, 999)
    assert not definition.batch_norm(x, None, None, EPS)[0].any()


def running_as_in_torch(name):
    modules = [getattr(m, name)(4, track_running_stats=True).double() for m in (bnn, torch.nn)]
    for module in modules:
        module(torch.tensor(IMAGES))
    same(modules[0].running_mean, modules[1].running_mean)
    same(modules[0].running_var, modules[1].running_var)


def check_nn_running():
    with dispatch.use_kernel("torch"):  # nothing to compile
        running_as_in_torch("BatchNorm2d")


def check_nn_instance_running():
    with dispatch.use_kernel("torch"):
        running_as_in_torch("InstanceNorm2d")


CHECKS = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
}


@pytest.mark.parametrize("name", CHECKS)
def test_check_accepts_the_library(name):
    CHECKS[name]()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_caught(mutant, monkeypatch):
    mutant.swap_in(monkeypatch)
    for name in mutant.caught_by:
        with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
            CHECKS[name]()


def test_every_check_catches_something():
    assert {name for mutant in MUTANTS for name in mutant.caught_by} == set(CHECKS)
