"""What must hold for every mini-batch, tried on many (hypothesis)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bnlib import functional as bn

SHAPES = st.tuples(st.integers(2, 9), st.integers(1, 4), *[st.integers(1, 5)] * 2)
SEEDS = st.integers(0, 2**32 - 1)
EPS = st.sampled_from([0.0, 1e-5, 0.1, 10.0])


def draw(shape, seed, arrays=1):
    rng = np.random.default_rng(seed)
    return rng.normal(rng.normal(0, 3), rng.uniform(0.5, 5), (arrays, *shape))


def channel(v):
    return v.reshape(-1, 1, 1)


@given(SHAPES, SEEDS, EPS)
def test_x_hat_has_mean_0_and_variance_var_over_var_plus_eps(shape, seed, eps):
    [x] = draw(shape, seed)
    _, cache = bn.batch_norm_forward(x, eps=eps)
    np.testing.assert_allclose(cache.x_hat.mean((0, 2, 3)), 0, atol=1e-9)
    np.testing.assert_allclose(cache.x_hat.var((0, 2, 3)), cache.var / (cache.var + eps), rtol=1e-9)


@given(SHAPES, SEEDS, st.floats(0.1, 10), st.floats(-100, 100))
def test_shift_and_scale_of_the_input_do_not_matter(shape, seed, a, b):
    [x] = draw(shape, seed)
    y, _ = bn.batch_norm_forward(x, eps=1e-3)
    z, _ = bn.batch_norm_forward(a * x + b, eps=a**2 * 1e-3)
    np.testing.assert_allclose(y, z, atol=1e-7)


@given(SHAPES, SEEDS, EPS)
def test_the_gradient_sums_to_zero(shape, seed, eps):
    x, dy = draw(shape, seed, 2)
    _, cache = bn.batch_norm_forward(x, eps=eps)
    dx, _, _ = bn.batch_norm_backward(dy, cache)
    size = np.abs(dx).sum() + np.abs(dy).sum()
    np.testing.assert_allclose(dx.sum((0, 2, 3)), 0, atol=1e-9 * size)


@given(SHAPES, SEEDS, EPS)
def test_what_remains_of_the_gradient_along_x_hat_is_due_to_eps(shape, seed, eps):
    x, dy = draw(shape, seed, 2)
    _, cache = bn.batch_norm_forward(x, eps=eps)
    dx, _, _ = bn.batch_norm_backward(dy, cache)
    along = (dx * cache.x_hat).sum((0, 2, 3))
    expected = cache.inv_std * eps / (cache.var + eps) * (dy * cache.x_hat).sum((0, 2, 3))
    np.testing.assert_allclose(along, expected, atol=1e-9 * (1 + np.abs(dy).sum()))


@given(SHAPES, SEEDS)
def test_the_projector_is_idempotent_and_symmetric_at_eps_0(shape, seed):
    x, g, h = draw(shape, seed, 3)
    z = bn.standardize(x, (0, 2, 3), eps=0.0)
    one = np.ones_like(z.inv_std)

    def p(v):
        return bn.project(v, z.x_hat, z.axes, one)[0]

    np.testing.assert_allclose(p(p(g)), p(g), atol=1e-8)
    np.testing.assert_allclose((h * p(g)).sum(), (p(h) * g).sum(), rtol=1e-8, atol=1e-8)


@given(SHAPES, SEEDS, EPS)
def test_the_backward_pass_is_the_numerical_gradient(shape, seed, eps):
    shape = (*shape[:2], min(shape[2], 2), min(shape[3], 2))
    x, dy = draw(shape, seed, 2)
    gamma, beta = np.random.default_rng(seed).normal(size=(2, shape[1]))
    if shape[0] * shape[2] * shape[3] < 3 and eps == 0:
        eps = 1e-5  # two values: dx is 0, and central differences give rounding alone
    _, cache = bn.batch_norm_forward(x, gamma, beta, eps=eps)
    dx, dgamma, dbeta = bn.batch_norm_backward(dy, cache)

    def forward(x=x, gamma=gamma, beta=beta):
        return bn.batch_norm_forward(x, gamma, beta, eps=eps)[0]

    tolerance = 1e-5 * (np.abs(cache.inv_std).max() ** 2 + 1) * (1 + np.abs(dy).max())
    for exact, argument, value in ((dx, "x", x), (dgamma, "gamma", gamma), (dbeta, "beta", beta)):
        numeric = bn.numerical_gradient(lambda v, a=argument: forward(**{a: v}), value, dy, 1e-5)
        np.testing.assert_allclose(exact, numeric, atol=tolerance)


@given(SHAPES, SEEDS, st.integers(2, 4))
@settings(max_examples=30)
def test_seeds_on_a_leading_axis_are_networks_apart(shape, seed, k):
    x, dy = draw((k, *shape), seed, 2)
    gamma, beta = np.random.default_rng(seed).normal(size=(2, k, shape[1]))
    y, cache = bn.batch_norm_forward(x, gamma, beta)
    gradients = bn.batch_norm_backward(dy, cache)
    for i in range(k):
        y_i, cache_i = bn.batch_norm_forward(x[i], gamma[i], beta[i])
        np.testing.assert_allclose(y[i], y_i, atol=1e-12)
        for together, alone in zip(gradients, bn.batch_norm_backward(dy[i], cache_i), strict=True):
            np.testing.assert_allclose(together[i], alone, atol=1e-9)


@given(SHAPES, SEEDS)
def test_inference_does_not_look_at_the_rest_of_the_batch(shape, seed):
    [x] = draw(shape, seed)
    rng = np.random.default_rng(seed)
    mean, var, gamma, beta = rng.uniform(0.5, 2, (4, shape[1]))
    together = bn.batch_norm_inference(x, mean, var, gamma, beta)
    alone = [bn.batch_norm_inference(x[i : i + 1], mean, var, gamma, beta) for i in range(len(x))]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@given(SHAPES, SEEDS)
def test_inference_with_the_batch_statistics_is_train_mode(shape, seed):
    [x] = draw(shape, seed)
    y, cache = bn.batch_norm_forward(x)
    np.testing.assert_allclose(bn.batch_norm_inference(x, cache.mean, cache.var), y, atol=1e-9)


@given(SHAPES, SEEDS)
def test_nothing_modifies_its_inputs(shape, seed):
    x, dy, ddx = draw(shape, seed, 3)
    gamma, beta = np.random.default_rng(seed).normal(size=(2, shape[1]))
    before = [a.copy() for a in (x, dy, ddx, gamma, beta)]
    y, cache = bn.batch_norm_forward(x, gamma, beta)
    fields = [np.copy(f) for f in cache]
    bn.batch_norm_backward(dy, cache)
    bn.batch_norm_double_backward(ddx, gamma, beta, dy, cache)
    y += 1  # the cache must not hold y
    bn.batch_norm_inference_backward(dy, x, beta, gamma**2, gamma)
    for now, was in zip((x, dy, ddx, gamma, beta), before, strict=True):
        np.testing.assert_array_equal(now, was)
    for now, was in zip(cache, fields, strict=True):
        np.testing.assert_array_equal(now, was)


@given(st.integers(1, 6), st.integers(2, 20), st.floats(0, 1), SEEDS)
def test_both_directions_of_the_momentum_are_one_rule(d, n, momentum, seed):
    rng = np.random.default_rng(seed)
    new, old = bn.RunningStatistics.initial((d,)), bn.RunningStatistics.initial((d,))
    for _ in range(3):
        mean, var = rng.normal(size=d), rng.uniform(0, 2, d)
        new.update(mean, var, n, momentum)
        old.update(mean, var, n, 1 - momentum, momentum_weighs="old")
    np.testing.assert_allclose(new.mean, old.mean, atol=1e-12)
    np.testing.assert_allclose(new.var, old.var, atol=1e-12)


@given(st.integers(1, 8), st.integers(2, 20), SEEDS)
def test_the_cumulative_average_is_the_mean_of_all_batches(steps, n, seed):
    means, variances = np.random.default_rng(seed).uniform(0, 2, (2, steps, 3))
    running = bn.RunningStatistics.initial((3,))
    for mean, var in zip(means, variances, strict=True):
        running.update(mean, var, n, None, unbiased=False)
    np.testing.assert_allclose(running.mean, means.mean(0), atol=1e-12)
    np.testing.assert_allclose(running.var, variances.mean(0), atol=1e-12)
