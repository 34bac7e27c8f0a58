from dataclasses import replace

import numpy as np
import pytest
import torch

from bnlib.experiments import small_batches
from bnlib.experiments.engine import networks, training
from bnlib.functional import numerical_gradient, relative_error
from bnlib.layers import BatchNorm, BatchRenorm

TINY = small_batches.Config(
    sizes=(2, 8), epochs=1, rates=(0.03,), n_train=64, depth=1, width=8, seeds=2
)


def renorm(rng, k=2, d=3, **options):
    layer = BatchRenorm(d, seeds=k, **options)
    layer.running.mean[...] = rng.standard_normal((k, d))
    layer.running.var[...] = rng.uniform(0.5, 20, (k, d))
    randomize(layer, rng)
    return layer


def randomize(layer, rng):
    for parameter in layer.parameters.values():
        parameter[...] = rng.uniform(0.5, 2, parameter.shape)


def check_parameter_gradients(layer, output, dy):
    """Compare with central differences; `output` is the layer as a function of its parameters."""
    for name, parameter in layer.parameters.items():
        gradient = layer.gradients[name]

        def changed(value, parameter=parameter):
            old = parameter.copy()
            parameter[...] = value
            y = output()
            parameter[...] = old
            return y

        numeric = numerical_gradient(changed, parameter.copy(), dy)
        assert relative_error(gradient, numeric) < 1e-7, name


# ------------------------------------------------------------------ batch renormalization


def test_renorm_is_algorithm_1(rng):
    layer, x = renorm(rng, r_max=1.5, d_max=0.5), rng.normal(2, 3, (2, 8, 3))
    mean, std = (torch.tensor(a)[:, None] for a in (layer.running.mean, layer.running.var**0.5))
    gamma, beta = (torch.tensor(layer.parameters[n])[:, None] for n in ("gamma", "beta"))
    t = torch.tensor(x, requires_grad=True)
    batch_std = (t.var(1, keepdim=True, correction=0) + layer.eps).sqrt()
    std = (std**2 + layer.eps).sqrt()
    r = (batch_std / std).clamp(1 / 1.5, 1.5).detach()
    d = ((t.mean(1, keepdim=True) - mean) / std).clamp(-0.5, 0.5).detach()
    assert ((r != batch_std / std) | (d.abs() == 0.5)).any()  # some are clipped ...
    assert not ((r != batch_std / std) | (d.abs() == 0.5)).all()  # ... and some are not
    y = gamma * ((t - t.mean(1, keepdim=True)) / batch_std * r + d) + beta
    np.testing.assert_allclose(layer(x), y.detach())
    dy = rng.standard_normal(x.shape)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(layer.backward(dy), t.grad, atol=1e-12)


def test_renorm_gradients_agree_with_central_differences_at_fixed_r_and_d(rng):
    layer, x, dy = renorm(rng), *rng.normal(2, 3, (2, 2, 6, 3))
    running = layer.running.mean.copy(), layer.running.var.copy()
    mean, inv_std = running[0][:, None], 1 / np.sqrt(running[1] + layer.eps)[:, None]
    batch = x.mean(1, keepdims=True), np.sqrt(x.var(1, keepdims=True) + layer.eps)
    r = np.clip(batch[1] * inv_std, 1 / 3, 3)
    d = np.clip((batch[0] - mean) * inv_std, -5, 5)
    layer(x)
    dx = layer.backward(dy)

    def output(z=x):
        gamma, beta = (layer.parameters[n][:, None] for n in ("gamma", "beta"))
        std = np.sqrt(z.var(1, keepdims=True) + layer.eps)
        return gamma * ((z - z.mean(1, keepdims=True)) / std * r + d) + beta

    assert relative_error(dx, numerical_gradient(output, x, dy)) < 1e-6
    check_parameter_gradients(layer, output, dy)


def test_renorm_in_bounds_has_the_output_of_eval_mode(rng):
    layer, x = renorm(rng, r_max=1e6, d_max=1e6), rng.normal(2, 3, (2, 2, 3))
    expected = layer.eval()(x)
    np.testing.assert_allclose(layer.train()(x), expected)


def test_renorm_without_room_is_batch_norm(rng):
    x, dy = rng.normal(2, 3, (2, 2, 8, 3))
    layer, plain = BatchRenorm(3, r_max=1, d_max=0, seeds=2), BatchNorm(3, seeds=2)
    for _ in range(2):
        np.testing.assert_allclose(layer(x), plain(x))
        np.testing.assert_allclose(layer.backward(dy), plain.backward(dy))
    np.testing.assert_allclose(layer.gradients["gamma"], plain.gradients["gamma"])
    np.testing.assert_allclose(layer.running.var, plain.running.var)
    np.testing.assert_allclose(layer.eval()(x), plain.eval()(x))


def test_renorm_takes_the_running_statistics_before_their_update(rng):
    layer, x = BatchRenorm(1, seeds=1, r_max=9, d_max=9), rng.normal(2, 3, (1, 8, 1))
    np.testing.assert_allclose(layer(x), x / np.sqrt(1 + layer.eps))  # mean 0, variance 1


def test_bounds_of_renorm_grow_after_the_warm_up(rng):
    layer, x = BatchRenorm(1, seeds=1, warm_up=2), rng.normal(2, 3, (1, 8, 1))
    bounds = []
    for _ in range(6):
        bounds.append(layer.bounds)
        layer(x)
    assert bounds == [(1, 0), (1, 0), (1, 0), (2, 2.5), (3, 5), (3, 5)]
    assert layer.eval()(x) is not None
    assert layer.updates == 6


@pytest.mark.parametrize("bounds", [{"r_max": 0.5}, {"d_max": -1}, {"r_max": float("nan")}])
def test_renorm_refuses_impossible_bounds(bounds):
    with pytest.raises(ValueError, match="r_max, d_max: expected"):
        BatchRenorm(3, seeds=1, **bounds)


# ------------------------------------------------------------------ the experiment


@pytest.mark.parametrize("norm", small_batches.ARMS)
def test_networks_of_every_arm(norm):
    config = networks.Config(depth=2, width=8, seeds=2, batch_size=4, n_train=64)
    network = small_batches.build(config, norm, 0.1)
    names = {
        "none": [],
        "batch": ["GhostBatchNorm"],
        "layer": ["LayerNorm"],
        "rms": ["RMSNorm"],
        "group": ["GroupNorm"],
        "tanh": ["DynamicTanh"],
        "renorm": ["BatchRenorm"],
        "ghost-8": ["GhostBatchNorm"],
        "stopped": ["StopGradient", "GhostBatchNorm"],
    }[norm]
    assert [type(each).__name__ for each in network] == ["Linear", *names, "ReLU"] * 2 + ["Linear"]
    biased = "0.bias" in network.parameters
    assert biased == (norm not in ("batch", "renorm", "ghost-8", "stopped"))


def test_nothing_before_a_stopped_norm_has_a_gradient(rng):
    config = networks.Config(depth=2, width=8, seeds=2, batch_size=4)
    network = small_batches.build(config, "stopped", 0.1, eps=0.5)
    assert network[2].eps == 0.5
    y = network(rng.normal(size=(2, 4, 64)))
    network.backward(rng.normal(size=y.shape))
    learn = {name for name, gradient in network.gradients.items() if gradient.any()}
    assert learn == {"6.gamma", "6.beta", "8.weight", "8.bias"}


def test_batch_norm_is_one_ghost_of_the_whole_mini_batch():
    config = networks.Config(depth=1, width=8, seeds=2, batch_size=16)
    assert small_batches.build(config, "batch", 0.1)[1].size == 16
    assert small_batches.build(config, "ghost-8", 0.1)[1].size == 8
    assert small_batches.build(replace(config, batch_size=4), "ghost-8", 0.1)[1].size == 4


def test_equal_epochs_and_memory():
    seen = []

    def build(config, norm, momentum, eps):
        seen.append((config.batch_size, config.steps, momentum, eps))
        return original(config, norm, momentum, eps)

    original = small_batches.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_batches, "build", build)
        small_batches.run(replace(TINY, norms=("batch",), eps=0.1))
    assert seen == [(2, 32, 2 / 640, 0.1), (8, 8, 8 / 640, 0.1)]


def test_recalibration_uses_all_training_examples():
    config = networks.Config(
        depth=2, width=8, seeds=2, batch_size=4, n_train=64, steps=3, dtype="float64"
    )
    networks_seen = []

    def errors(state):
        scores = small_batches._errors(state)
        networks_seen.append((state.network, state.data.x_train))
        return scores

    training.train(
        config,
        {"e": errors},
        every=3,
        build=lambda c: small_batches.build(c, "batch", 0.1),
    )
    network, x = networks_seen[-1]
    x = np.broadcast_to(x, (2, *x.shape))
    network.eval()
    for layer in network:
        if isinstance(layer, BatchNorm):
            np.testing.assert_allclose(layer.running.mean, x.mean(axis=1))
            np.testing.assert_allclose(layer.running.var, x.var(axis=1, ddof=1))
        x = layer(x)


def test_arms_without_statistics_have_nothing_to_recalibrate():
    result = small_batches.run(replace(TINY, norms=("layer", "batch")))
    np.testing.assert_array_equal(result.error["layer"], result.recalibrated["layer"])
    assert result.error["batch"].shape == (2, 2)


def test_every_size_has_its_best_rate():
    config = replace(TINY, norms=("none",), rates=(1e-6, 0.05))
    result = small_batches.run(config)
    np.testing.assert_allclose(result.rate["none"], 0.05 * np.sqrt(config.sizes))


def test_a_run_that_diverges_counts_as_a_guess():
    result = small_batches.run(replace(TINY, norms=("none",), rates=(1e9,)))
    np.testing.assert_allclose(result.error["none"], small_batches.GUESSING, atol=0.01)


def test_other_seeds_of_one_norm_are_no_effect():
    config = replace(TINY, norms=("group",), seeds=8, epochs=2)
    first = small_batches.run(config)
    second = small_batches.run(replace(config, first_seed=100))
    error = {"group": first.error["group"], "layer": second.error["group"]}
    both = replace(first, config=replace(config, norms=("group", "layer")), error=error)
    for verdict in small_batches.judge(both).values():
        assert verdict.answer in ("no effect", "mixed")
        assert verdict.low < 0 < verdict.high


def test_batch_norm_at_two_examples_sees_signs_only():
    network = small_batches.build(
        networks.Config(depth=1, width=8, seeds=2, batch_size=2), "batch", 0.1
    )
    x = 100 * np.random.default_rng(0).standard_normal((2, 2, 64))
    np.testing.assert_allclose(np.abs(network[1](network[0](x))), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"), [({"norms": ("batsh",)}, "norms"), ({"sizes": (3,)}, "sizes")]
)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}: expected"):
        replace(TINY, **change)
