"""Precision: what the statistics are worth when the mean is large, and in short formats."""

import numpy as np
import pytest

from bnlib import functional as bn

ULP = float(np.finfo(np.float32).eps)
LAYOUTS = {
    "(m, d)": ((4096, 3), (0,)),
    "(n, c, h, w)": ((16, 3, 32, 32), (0, 2, 3)),
    "channels last": ((16, 32, 32, 3), (0, 1, 2)),
    "layer norm": ((8, 4096), (1,)),
    "seeds": ((2, 512, 5), (1,)),
    "long rows": ((2, 2, 300, 300), (0, 2, 3)),
    "kept and averaged in turn": ((3, 4, 5, 6, 7), (0, 2, 4)),
}


@pytest.mark.parametrize(("shape", "axes"), LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("ratio", [0.0, 1.0, 100.0, 1e4])
def test_float32_statistics_are_right_to_a_few_ulp(shape, axes, ratio, rng):
    x = (ratio + rng.normal(size=shape)).astype(np.float32)
    exact = x.astype(np.float64)
    z = bn.standardize(x, axes)
    scale = np.maximum(np.abs(exact).mean(axes, keepdims=True), 1)
    assert np.all(np.abs(z.mean - exact.mean(axes, keepdims=True)) <= 16 * ULP * scale)
    np.testing.assert_allclose(z.var, exact.var(axes, keepdims=True), rtol=16 * ULP)
    x_hat = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(
        exact.var(axes, keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(z.x_hat, x_hat, rtol=0, atol=32 * ULP)


def test_the_shortcut_formula_fails_where_ours_does_not(rng):
    x = (1e4 + rng.normal(size=(4096, 1))).astype(np.float32)
    exact = x.astype(np.float64).var()
    shortcut = np.mean(x**2) - np.mean(x) ** 2
    assert abs(shortcut - exact) > 0.5
    assert bn.standardize(x, 0).var.item() == pytest.approx(exact, rel=8 * ULP)


def test_an_outlier_in_first_place_costs_no_precision(rng):
    x = rng.normal(size=(1000, 1)).astype(np.float32)
    x[0] = 1e6
    exact = x.astype(np.float64)
    assert bn.standardize(x, 0).var.item() == pytest.approx(exact.var(), rel=16 * ULP)
    assert bn.standardize(x, 0).mean.item() == pytest.approx(exact.mean(), rel=4 * ULP)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e4])
@pytest.mark.parametrize("shape", [(3, 2), (60, 2), (1000, 2), (3, 2, 7, 7), (2, 2, 70, 70)])
def test_a_constant_channel_gives_exactly_beta(dtype, value, shape):
    x = np.full(shape, value, dtype)
    gamma, beta = np.array([1e3, -2], dtype), np.array([1e-3, 0.3], dtype)
    y, cache = bn.batch_norm_forward(x, gamma, beta)
    np.testing.assert_array_equal(y.swapaxes(1, -1) - beta, 0)
    np.testing.assert_array_equal(cache.mean, dtype(value))
    np.testing.assert_array_equal(cache.var, 0)


def test_a_constant_channel_of_huge_values_gives_exactly_beta():
    y, _ = bn.batch_norm_forward(np.full((5, 1), 1e10, np.float32), None, np.full(1, 0.25, "f4"))
    np.testing.assert_array_equal(y, 0.25)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_have_the_dtype_of_the_input(dtype, rng):
    x, dy = rng.normal(size=(2, 4, 6)).astype(dtype)
    gamma, beta = np.ones(6, dtype), np.zeros(6, dtype)
    y, cache = bn.batch_norm_forward(x, gamma, beta)
    gradients = bn.batch_norm_backward(dy, cache)
    eval_y = bn.batch_norm_inference(x, np.zeros(6), np.ones(6), gamma, beta)
    eval_gradients = bn.batch_norm_inference_backward(dy, x, beta, gamma, gamma)
    assert [a.dtype for a in (y, *gradients, eval_y, *eval_gradients)] == [dtype] * 8
    for forward, backward in (
        (bn.layer_norm_forward, bn.layer_norm_backward),
        (lambda *a: bn.group_norm_forward(a[0], 2, *a[1:]), bn.group_norm_backward),
    ):
        y, cache = forward(x, gamma, beta)
        assert [a.dtype for a in (y, *backward(dy, cache))] == [dtype] * 4


def test_float16_statistics_are_taken_in_float32(rng):
    x = (300 * rng.normal(size=(512, 3))).astype(np.float16)  # x**2 overflows float16
    _, cache = bn.batch_norm_forward(x)
    assert cache.var.dtype == np.float32
    np.testing.assert_allclose(cache.var, x.astype(np.float64).var(axis=0), rtol=8 * ULP)


@pytest.mark.parametrize(("shape", "axes"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_gives_what_plain_numpy_gives(shape, axes, rng):
    x, g = rng.normal(1, 2, (2, *shape))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    z = bn.standardize(x, axes, eps=0.1)
    x_hat = (x - mean) / np.sqrt(var + 0.1)
    np.testing.assert_allclose(z.x_hat, x_hat, atol=1e-12)
    np.testing.assert_allclose(z.mean, mean, atol=1e-12)
    np.testing.assert_allclose(z.var, var, atol=1e-12)
    projected = g - g.mean(axes, keepdims=True) - x_hat * (g * x_hat).mean(axes, keepdims=True)
    np.testing.assert_allclose(
        bn.standardize_backward(g, z), projected / np.sqrt(var + 0.1), atol=1e-12
    )


def test_arrays_that_are_not_contiguous_are_welcome(rng):
    x, dy = rng.normal(size=(2, 6, 5, 4)).transpose(0, 3, 1, 2)[:, :, ::2]
    y, cache = bn.batch_norm_forward(x)
    expected, contiguous = bn.batch_norm_forward(np.ascontiguousarray(x))
    np.testing.assert_allclose(y, expected, atol=1e-14)
    dx, dx_contiguous = (
        bn.batch_norm_backward(g, c)[0] for g, c in ((dy, cache), (dy.copy(), contiguous))
    )
    np.testing.assert_allclose(dx, dx_contiguous, atol=1e-13)
