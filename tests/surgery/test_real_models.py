"""Twelve architectures that people deploy, from torchvision and timm, without trained weights.

Neither package is needed by the book. Where one is missing its models are skipped;
`make architectures` installs both in an environment of its own.
"""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from random_inputs import SEED
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnlib import nn as bnn
from bnlib import surgery
from bnlib.nn import from_torch, to_torch

SIZE = 64
MODELS = {  # name: its batch norms
    "torchvision resnet18": 20,
    "torchvision mobilenet_v3_small": 34,
    "torchvision efficientnet_b0": 49,
    "torchvision densenet121": 121,
    "torchvision regnet_y_400mf": 53,
    "torchvision shufflenet_v2_x0_5": 56,
    "timm resnet18": 20,
    "timm mobilenetv3_small_050": 34,
    "timm densenet121": 121,
    "timm efficientnet_b0": 49,
    "timm regnety_002": 44,
    "timm ghostnet_050": 80,
}
NOT_FOLDED = {  # an activation, or a sum of several layers, stands before these
    "torchvision densenet121": 62,
    "timm densenet121": 62,
}


def images(seed, m=4):
    generator = torch.Generator().manual_seed(SEED + seed)
    return torch.randn(m, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)


def batch_norms(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def built(name):
    """Return the model in float64 and eval mode, with the statistics of some images."""
    package, _, architecture = name.partition(" ")
    library = pytest.importorskip(package)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        if package == "timm":
            model = library.create_model(architecture, pretrained=False)
        else:
            model = library.models.get_model(architecture, weights=None)
        model.double().train()
        norms = batch_norms(model)
        assert len(norms) == MODELS[name]
        for norm in norms.values():
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
            norm.momentum = 1.0
        with torch.no_grad():
            model(images(1))
        for norm in norms.values():
            norm.momentum = 0.1
    return model.eval()


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def original(name):
    return built(name)


@pytest.fixture
def model(original):
    """The model; what a test did to it is found at its end."""
    state = copy.deepcopy(original.state_dict())
    yield original
    for key, value in original.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def relative_difference(y, expected):
    return ((y - expected).abs().max() / expected.abs().max()).item()


def without_drops(model):
    """Let dropouts and stochastic depths stay in eval mode, whatever mode the model is set to."""
    for module in model.modules():
        if "Drop" in type(module).__name__ or "Stochastic" in type(module).__name__:
            module.eval().train = lambda mode=True, module=module: module
    if hasattr(model, "drop_rate"):
        model.drop_rate = 0.0  # of a functional dropout, in timm's ghostnet
    return model


@torch.no_grad()
def test_fold_keeps_the_function(name, model):
    result, report = surgery.fold(model, images(2, m=2))
    assert len(report.folded) + len(report.left) == MODELS[name]
    assert len(report.left) == NOT_FOLDED.get(name, 0), report.left
    x = images(3)
    assert relative_difference(result(x), model(x)) < 1e-10


@torch.no_grad()
def test_replace_changes_the_norms_and_nothing_else(model, monkeypatch):
    result = surgery.replace(model, surgery.group_norm(4))
    assert not batch_norms(result)
    groups = {}
    for norm in result.modules():
        if isinstance(norm, nn.GroupNorm):
            groups[norm.num_channels] = norm.num_groups

    def group_norm(x, mean, var, weight, bias, training, momentum, eps):
        return F.group_norm(x, groups[x.shape[1]], weight, bias, eps)

    x = images(3)
    y = result(x)
    monkeypatch.setattr(F, "batch_norm", group_norm)
    assert relative_difference(y, model(x)) < 1e-10


@torch.no_grad()
def test_replace_by_our_class_keeps_the_function(model):
    result = surgery.replace(model, surgery.to(bnn.BatchNorm2d))
    assert all(type(norm) is bnn.BatchNorm2d for norm in batch_norms(result).values())
    x = images(3)
    assert relative_difference(result(x), model(x)) < 1e-10


def test_recalibrate_equals_the_update_of_torch_on_one_batch(model):
    ours, torchs = copy.deepcopy(model), without_drops(copy.deepcopy(model))
    x = images(4)
    surgery.recalibrate(ours, [x])
    torch.optim.swa_utils.update_bn([x], torchs)
    wanted = batch_norms(torchs)
    for name, norm in batch_norms(ours).items():
        mean, var = wanted[name].running_mean, wanted[name].running_var
        assert ((norm.running_mean - mean) / var.sqrt()).abs().max() < 1e-8, name
        torch.testing.assert_close(norm.running_var, var, rtol=1e-8, atol=0)


@torch.no_grad()
def test_freeze_keeps_the_function_and_the_statistics_in_train_mode(model):
    frozen = without_drops(copy.deepcopy(model))
    assert surgery.freeze(frozen) == list(batch_norms(model))
    x = images(4)
    assert relative_difference(frozen.train()(x), model(x)) < 1e-10
    for key, value in frozen.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def step(model, x):
    """Return the gradients of a step in train mode."""
    model.train().zero_grad()
    model(x).square().mean().backward()
    return {key: p.grad for key, p in model.named_parameters()}


def test_classes_are_exchanged_and_back(model):
    torchs, ours = (without_drops(copy.deepcopy(model)) for _ in range(2))
    kinds = [type(m) for m in ours.modules()]
    plain = [kind for kind in kinds if kind is nn.BatchNorm2d]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*BatchNormAct2d.* as", UserWarning)  # timm's are left
        from_torch(ours)
    assert sum(type(m) is bnn.BatchNorm2d for m in ours.modules()) == len(plain)
    x = images(5)
    got, expected = step(ours, x), step(torchs, x)
    largest = max(grad.abs().max() for grad in expected.values())
    for key, grad in expected.items():
        # a batch norm behind it lets the gradient of some biases be 0
        atol = 1e-7 * grad.abs().max() + 1e-10 * largest
        torch.testing.assert_close(got[key], grad, rtol=0, atol=atol.item(), msg=key)
    to_torch(ours)
    assert [type(m) for m in ours.modules()] == kinds
    wanted = batch_norms(torchs)
    for name, norm in batch_norms(ours).items():
        mean, var = wanted[name].running_mean, wanted[name].running_var
        assert ((norm.running_mean - mean) / var.sqrt()).abs().max() < 1e-8, name
        torch.testing.assert_close(norm.running_var, var, rtol=1e-8, atol=0)
        assert norm.num_batches_tracked == wanted[name].num_batches_tracked
    with torch.no_grad():
        assert relative_difference(ours.eval()(x), torchs.eval()(x)) < 1e-8
