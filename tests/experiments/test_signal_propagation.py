import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from bnlib.experiments import signal_propagation as experiment
from bnlib.layers import BatchNorm

SMALL = experiment.Config(depth=6, width=40, m=5, seeds=4, scales=(0.5, 1.0, 2.0))


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_shapes(small):
    assert small.activations.shape == small.gradients.shape == (2, 3, 4, 7)
    assert small.weight_gradients.shape == small.saturated.shape == (2, 3, 4, 6)


def test_a_seed_does_not_depend_on_the_other_seeds(small):
    fewer = experiment.run(dataclasses.replace(SMALL, seeds=2))
    np.testing.assert_allclose(fewer.activations, small.activations[:, :, :2], atol=1e-10)


def test_relu_networks_hit_the_theory():
    config = experiment.Config(norms=("none",), depth=20, seeds=32, m=2)
    result = experiment.run(config)
    a_layer = np.log(config.scales) - 5 / (4 * config.width)
    theory = config.depth * a_layer / np.log(10)
    error = np.sqrt(config.depth * 5 / (4 * config.width) / config.seeds) / np.log(10)
    for ends in (result.activations[0, :, :, -1], result.gradients[0, :, :, 0]):
        np.testing.assert_allclose(ends.mean(axis=-1), theory, rtol=0, atol=4 * error)


def test_entries_are_ordered_from_the_input_to_the_output():
    result = experiment.run(dataclasses.replace(SMALL, scales=(0.1,), norms=("none",)))
    assert (np.diff(result.activations) < -0.5).all()
    assert (np.diff(result.gradients) > 0.5).all()
    np.testing.assert_allclose(result.gradients[..., -1], 0, atol=0.1)
    np.testing.assert_allclose(result.activations[..., 0], 0, atol=0.1)


def test_weight_gradients_are_ordered_as_the_layers():
    """Sigmoids keep the activations and shrink the gradients on the way back."""
    config = dataclasses.replace(SMALL, activation="sigmoid", norms=("none",), scales=(1.0,))
    assert (np.diff(experiment.run(config).weight_gradients) > 0.1).all()


def test_share_of_saturated_sigmoids_hits_the_theory():
    """Standard normal inputs: the first layer's z is normal with the scale as deviation."""
    config = experiment.Config("sigmoid", norms=("none",), scales=(0.1, 3.0, 1e6), depth=1)
    shares = experiment.run(config).saturated[0].mean(axis=(1, 2))
    theory = 2 * norm.cdf(-np.log(19) / np.array(config.scales))
    np.testing.assert_allclose(shares, theory, atol=0.01)


def test_batch_norm_stands_before_the_activation_function():
    (block,) = experiment.build(
        dataclasses.replace(SMALL, depth=1), 1.0, "batch", [np.random.default_rng(0)]
    )
    assert isinstance(block[1], BatchNorm)
    assert len(block) == 3


def test_batch_norm_does_not_see_the_scale_of_the_weights():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 8, SMALL.width))
    outputs = []
    for scale in (0.5, 2.0):
        h = x
        for block in experiment.build(SMALL, scale, "batch", [np.random.default_rng(0)]):
            h = block(h)
        outputs.append(h)
    np.testing.assert_allclose(*outputs, atol=1e-2)


def test_judge_of_each_scale_finds_nothing_in_the_negative_control():
    config = dataclasses.replace(SMALL, norms=("none", "none again"), seeds=12)
    control = experiment.judge_scales(experiment.run(config))
    assert {each.answer for each in control} <= {"no effect", "undecided"}
    assert all(each.effect != 0 for each in control)


def fake(drifts):
    """Make a result of two norms and one scale with the given drifts, (2, k)."""
    activations = np.zeros((2, 1, len(drifts[0]), 3))
    activations[:, 0, :, -1] = drifts
    config = dataclasses.replace(SMALL, scales=(1.0,), seeds=len(drifts[0]))
    return experiment.Result(config, activations, *np.zeros((3, 1)))


def test_judge_pairs_by_seed():
    verdict = experiment.judge(fake([[8.0, 5.0, 2.5], [6.0, 3.0, 0.5]]))
    np.testing.assert_allclose([verdict.effect, verdict.low, verdict.high], 2.0)


@pytest.mark.parametrize("norm", ["none again", "batch again", "identity", "layer", "group", "rms"])
def test_every_arm_runs_and_only_those_of_no_norm_are_no_effect(norm):
    config = dataclasses.replace(
        SMALL, norms=("none", norm), scales=(0.25,), depth=20, width=40, seeds=8
    )
    verdict = experiment.judge(experiment.run(config))
    if norm in ("none again", "identity"):  # the identity has the weights of "none"
        assert verdict.answer in ("no effect", "cannot tell")
        assert (verdict.effect == 0) == (norm == "identity")
    else:
        assert verdict.answer == "supported"


def test_judge_says_where_it_depends_on_the_scale():
    result = experiment.run(experiment.Config(depth=12, m=4, scales=(0.25, 1.0)))
    assert [each.answer for each in experiment.judge_scales(result)] == ["supported", "no effect"]
    verdict = experiment.judge(result)
    assert verdict.answer == "it depends on the scale"


def test_judge_refuses_one_norm():
    with pytest.raises(ValueError, match=r"two arms, the control first, got \('none',\)"):
        experiment.judge(experiment.run(dataclasses.replace(SMALL, norms=("none",), depth=1)))


@pytest.mark.parametrize(
    ("change", "message"), [({"activation": "step"}, "activation"), ({"norms": ("step",)}, "norm")]
)
def test_unknown_names_are_refused(change, message):
    with pytest.raises(ValueError, match=f"{message}: expected"):
        experiment.run(dataclasses.replace(SMALL, **change))


def test_linear_networks_keep_the_activations():
    config = dataclasses.replace(SMALL, activation="linear", norms=("none",), scales=(1.0,))
    np.testing.assert_allclose(experiment.run(config).activations, 0, atol=0.3)


def test_residual_blocks_add_a_branch_of_the_same_size():
    config = dataclasses.replace(SMALL, residual=True, width=100, scales=(1.0,), m=16)
    activations = experiment.run(config).activations[:, 0].mean(axis=1)  # (norms, depth + 1)
    blocks = np.arange(config.depth + 1)
    np.testing.assert_allclose(activations[0], blocks * np.log10(2) / 2, atol=0.05)
    np.testing.assert_allclose(activations[1], np.log10(1 + blocks) / 2, atol=0.05)
