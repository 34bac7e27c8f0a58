"""Faults that widely read implementations have had: none of them is in ours.

Each test names the fault. Where one can, it shows it on a few lines that have it, so that the
test is known to notice. Faults of torch itself are in test_precision.py and test_errors.py.
"""

import copy
import gc
import os
import pickle
import weakref

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is imported

import keras
import numpy as np
import pytest
import torch
from torch import nn

from bnlib import functional as bn
from bnlib import layers
from bnlib import nn as bnn

X = torch.arange(24.0).reshape(8, 3) ** 1.3
# Keras converts its variables in a way that NumPy has deprecated.
keras_warning = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def standardized(x, correction=0):
    return (x - x.mean(0)) / (x.var(0, correction=correction) + 1e-5).sqrt()


# ------------------------------------------------------------------ mode and state


def test_train_mode_is_not_taken_from_the_gradient_mode(kernel):
    layer = bnn.BatchNorm1d(3)
    with torch.no_grad():
        y = layer(X)
    torch.testing.assert_close(y, standardized(X), rtol=1e-5, atol=1e-5)
    assert layer.num_batches_tracked == 1
    before = copy.deepcopy(layer.state_dict())
    y = layer.eval()(X.clone().requires_grad_())
    assert y.requires_grad
    torch.testing.assert_close(dict(layer.state_dict()), dict(before), rtol=0, atol=0)
    assert (y - standardized(X)).abs().max() > 1


def test_running_statistics_are_in_the_state_dict(kernel):
    layer = bnn.BatchNorm1d(3)
    layer(X)
    twin = bnn.BatchNorm1d(3)
    twin.load_state_dict(layer.state_dict(), strict=True)
    torch.testing.assert_close(twin.eval()(X), layer.eval()(X), rtol=0, atol=0)


def test_running_variance_is_unbiased(kernel):
    layer = bnn.BatchNorm1d(3, momentum=1.0)
    layer(X[:4])
    torch.testing.assert_close(layer.running_var, X[:4].var(0, correction=1))


def test_running_statistics_keep_no_graph(kernel):
    """A graph kept by the running mean grows with each step, and makes deepcopy fail."""
    faulty = nn.Module()
    faulty.register_buffer("running_mean", torch.zeros(3))
    faulty.running_mean = 0.9 * faulty.running_mean + 0.1 * X.clone().requires_grad_().mean(0)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(faulty)

    layer = bnn.BatchNorm1d(3)
    x = X.clone().requires_grad_()
    layer(x).sum().backward()
    for buffer in layer.buffers():
        assert buffer.grad_fn is None
        assert not buffer.requires_grad
    copy.deepcopy(layer)
    pickle.loads(pickle.dumps(layer))
    kept = weakref.ref(x)
    del x
    gc.collect()
    assert kept() is None


# ------------------------------------------------------------------ variance


def test_mini_batch_is_normalized_with_the_biased_variance(kernel):
    x = X[:2]
    expected = standardized(x)
    assert (expected - standardized(x, correction=1)).abs().min() > 0.2
    torch.testing.assert_close(bnn.BatchNorm1d(3)(x), expected)
    np.testing.assert_allclose(bn.batch_norm_forward(x.numpy())[0], expected, rtol=1e-5)


@keras_warning
def test_variance_survives_a_large_mean(kernel, rng):
    """E[x^2] - E[x]^2 in float32 gives -8 or 16 for a variance of 1, in Keras and elsewhere."""
    x = rng.normal(1e4, 1, (64, 16)).astype(np.float32)
    exact = x.astype(np.float64).var(0)
    one_pass = np.square(x).mean(0) - np.square(x.mean(0))
    peer = keras.layers.BatchNormalization(momentum=0.0)
    peer(x, training=True)
    for faulty in (one_pass, peer.moving_variance.numpy()):
        assert np.abs(faulty - exact).max() > 1

    layer = bnn.BatchNorm1d(16, momentum=1.0)
    layer(torch.from_numpy(x))
    np.testing.assert_allclose(layer.running_var, exact * 64 / 63, rtol=1e-5)
    np.testing.assert_allclose(bn.batch_norm_forward(x)[1].var.ravel(), exact, rtol=1e-5)
    ours = layers.BatchNorm(16, momentum=1.0, unbiased=False, dtype=np.float32)
    ours(x)
    np.testing.assert_allclose(ours.running.var, exact, rtol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 1e4, 1e7])
def test_variance_is_never_negative(mean, kernel):
    x = (torch.randn(64, 16) * 1e-3 + mean).float()
    layer = bnn.BatchNorm1d(16, momentum=1.0)
    assert layer(x).isfinite().all()
    assert (layer.running_var >= 0).all()


# ------------------------------------------------------------------ tests that cannot fail


def test_upstream_ones_prove_nothing_and_random_ones_do(rng):
    """With all ones the right gradient is zero: a backward that returns zeros passes."""
    x, ones, dy = rng.normal(size=(8, 3)), np.ones((8, 3)), rng.normal(size=(8, 3))
    gamma = rng.uniform(0.5, 2, 3)
    _, cache = bn.batch_norm_forward(x, gamma)
    np.testing.assert_allclose(bn.batch_norm_backward(ones, cache)[0], 0, atol=1e-12)
    leaf = torch.tensor(x, requires_grad=True)
    y = nn.functional.batch_norm(leaf, None, None, torch.tensor(gamma), training=True)
    (expected,) = torch.autograd.grad(y, leaf, torch.tensor(dy))
    np.testing.assert_allclose(bn.batch_norm_backward(dy, cache)[0], expected)
    assert expected.abs().min() > 1e-9  # zeros would be noticed in every entry


# ------------------------------------------------------------------ replacements


def test_groups_of_one_value_are_refused_where_they_would_erase_the_data(rng):
    """GroupNorm(4, 4) in place of BatchNorm1d(4) turns every (n, 4) input into its bias."""
    x = rng.normal(size=(8, 4))
    erased = nn.GroupNorm(4, 4, dtype=torch.float64)(torch.from_numpy(x))
    assert erased.abs().max() < 1e-12
    with pytest.raises(ValueError, match="one value"):
        bn.group_norm_forward(x, 4)
    with pytest.raises(ValueError, match="one value"):
        layers.GroupNorm(4, 4)(x)


# ------------------------------------------------------------------ arguments


def test_bias_is_an_option_by_keyword_only(kernel):
    layer = bnn.BatchNorm1d(3, bias=False)
    assert layer.bias is None
    assert "bias" not in layer.state_dict()
    torch.testing.assert_close(layer(X), standardized(X), rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError):
        bnn.BatchNorm1d(3, 1e-5, 0.1, True, True, None, None, False)


@pytest.mark.parametrize("eps", [-1e-5, -1.0])
def test_negative_eps_is_refused_in_eval_mode_too(eps):
    messages = []
    for module in (nn.BatchNorm1d(3, eps=eps).eval(), bnn.BatchNorm1d(3, eps=eps).eval()):
        with pytest.raises(ValueError, match="eps") as error:
            module(X)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_running_statistics_that_moved_before_the_backward_pass_are_noticed(kernel):
    layer = bnn.BatchNorm1d(3).eval()
    y = layer(torch.randn(4, 3, requires_grad=True))
    layer.train()(torch.randn(5, 3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()  # torch gives a wrong gradient
