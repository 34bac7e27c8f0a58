from dataclasses import replace

import numpy as np
import pytest

from bnlib.experiments import small_batches
from bnlib.experiments.engine import networks, training
from bnlib.layers import BatchNorm

TINY = small_batches.Config(
    sizes=(2, 8), epochs=1, rates=(0.03,), n_train=64, depth=1, width=8, seeds=2
)


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
    config = replace(TINY, norms=("group", "group again"), seeds=8, epochs=2)
    for verdict in small_batches.judge(small_batches.run(config)).values():
        assert verdict.answer in ("no effect", "undecided")
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
