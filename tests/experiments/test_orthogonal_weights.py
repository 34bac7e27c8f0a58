import dataclasses

import numpy as np
import pytest

from bnlib.experiments import orthogonal_weights as experiment
from bnlib.experiments.engine import infinite_width

SMALL = experiment.Config(width=8, ratio=2.0, depth=200, seeds=6)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_entries_are_ordered_from_the_input_to_the_output(small):
    assert small.gradients.shape == (2, 6, 201)
    np.testing.assert_allclose(small.gradients[..., -1], 0, atol=0.15)  # drawn, standard normal
    np.testing.assert_array_equal(*small.gradients[..., -1])  # the same for both arms


def test_a_seed_does_not_depend_on_the_others(small):
    later = experiment.run(dataclasses.replace(SMALL, seeds=2, first_seed=4))
    np.testing.assert_allclose(later.gradients, small.gradients[:, 4:], atol=1e-9)


def test_normal_weights_hit_the_theory():
    """Wide linear layers multiply the mean square by (m - 2)/(m - 3)."""
    config = experiment.Config(width=400, ratio=8 / 400, depth=10)
    gradients = experiment.run(config).gradients[0]
    growth = 10 ** (2 * (gradients[:, 1] - gradients[:, -4]) / 6)  # of a layer, on the average
    theory = infinite_width.predict_growth("linear", 8)
    assert abs(growth.mean() / theory - 1) < 0.03


def test_the_gradient_is_that_of_a_loss():
    """Against central differences through layers that were built again."""
    config = experiment.Config(width=3, ratio=2.0, depth=3, seeds=1, activation="tanh")
    for arm, measured in zip(config.weights, experiment.run(config).gradients[:, 0], strict=True):
        rngs = [np.random.default_rng(0)]
        x, g = (np.stack([rng.standard_normal((6, 3)) for rng in rngs]) for _ in "xg")
        blocks = [experiment._block(config, arm, rngs) for _ in range(config.depth)]

        def loss(h, blocks=blocks, g=g):
            for block in blocks:
                h = block(h)
            return np.sum(g * h)

        steps = 1e-6 * np.eye(x.size).reshape(-1, *x.shape)
        dx = np.array([(loss(x + step) - loss(x - step)) / 2e-6 for step in steps])
        np.testing.assert_allclose(measured[0], np.log10(np.square(dx).mean()) / 2, atol=1e-5)


def test_gradients_stop_growing_once_the_features_are_orthogonal(small):
    """After 100 layers they are, and then no layer makes the gradient longer."""
    normal, orthogonal = small.gradients[:, :, 100:-1] - small.gradients[:, :, 101:]
    assert orthogonal.max() < 1e-5
    assert normal.max() > 0.01


def test_with_fewer_examples_than_units_orthogonal_weights_are_worse():
    result = experiment.run(dataclasses.replace(SMALL, ratio=0.25, width=32))
    assert experiment.judge(result).answer == "refuted"
    assert experiment.judge_difference(result).high < -0.5


def test_the_control_with_normal_weights_is_refuted():
    found = experiment.run(experiment.Config(width=16, ratio=1.25, depth=600, seeds=8))
    assert experiment.judge(found).answer == "supported"
    exchanged = dataclasses.replace(found, gradients=found.gradients[::-1])
    assert experiment.judge(exchanged).answer == "refuted"


def test_control_of_other_seeds_is_no_effect():
    for weights in ("normal", "orthogonal"):
        config = dataclasses.replace(SMALL, weights=(weights, f"{weights} again"), depth=40)
        verdict = experiment.judge_difference(experiment.run(dataclasses.replace(config, seeds=16)))
        assert verdict.answer == "no effect"
        assert verdict.effect != 0


def test_the_direction_counts(small):
    """What vanishes does not explode."""
    gradients = np.zeros((2, 6, 3))
    gradients[1, :, 0] = np.linspace(-9, -8.9, 6)
    verdict = experiment.judge(dataclasses.replace(small, gradients=gradients))
    assert (verdict.answer, round(verdict.effect, 2)) == ("supported", 9.95)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": ("normal",)}, "weights: expected two arms, the control first"),
        (
            {"weights": ("normal", "he")},
            r"weights: expected some of \('normal', 'orthogonal'\), got 'he'",
        ),
        ({"activation": "step"}, "activation: expected one of"),
        ({"ratio": 0.2}, "ratio: expected a mini-batch of at least 3, got 2 = 0.2 x 8"),
    ],
)
def test_errors_name_what_was_expected(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
