import dataclasses

import numpy as np
import pytest

from bnlib.experiments.detached_statistics import ARMS, Config, judge, run

SMALL = Config(seeds=4, steps=200)


@pytest.fixture(scope="module")
def result():
    return run(SMALL)


def test_shapes(result):
    for rows in (result.loss, result.bias, result.weight_norm, result.removed):
        assert list(rows) == list(ARMS)
        assert {row.shape for row in rows.values()} == {(4, 200)}


def test_the_correct_backward_moves_no_bias(result):
    np.testing.assert_allclose(result.bias["correct"], 0, atol=1e-12)


def test_the_correct_backward_never_shortens_the_weights(result):
    assert (np.diff(result.weight_norm["correct"]) > -1e-5).all()  # eps = 1e-5 spoils it a little


def test_detached_weights_grow_as_the_theory_says(result):
    norm = result.weight_norm["detached"][:, -1]
    np.testing.assert_allclose(norm, result.theory()[-1], rtol=0.05)
    np.testing.assert_allclose(result.bias["detached"][:, -1], norm, rtol=0.1)


def test_loss_ends_near_what_the_layer_can_reach(result):
    # slope 2, offset 1, noise 1; the output has slope 1 and offset 0: (1^2 + 1^2 + 1^2) / 2
    assert result.best_loss() == 1.5
    for arm in ARMS:
        np.testing.assert_allclose(result.loss[arm][:, -50:].mean(), 1.5, rtol=0.05)


def test_two_thirds_of_the_detached_gradient_are_error_at_the_end(result):
    # slope and offset are what P removes, the noise is what it leaves
    np.testing.assert_allclose(result.removed["correct"][:, -50:].mean(), 2 / 3, rtol=0.05)


def test_judge_finds_the_bias_and_no_change_of_the_loss(result):
    judgements = judge(result)
    assert judgements["bias"].answer == "supported"
    assert judgements["loss"].answer == "no effect"
    assert judgements["bias"].low < judgements["bias"].effect < judgements["bias"].high


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(0.03, "supported"), (-0.03, "refuted"), (0.01, "no effect"), (0.015, "undecided")],
)
def test_verdict_follows_from_the_interval_and_the_margin(result, shift, verdict):
    noise = np.linspace(-1e-4, 1e-4, SMALL.seeds)[:, None]
    loss = {"correct": result.loss["correct"], "detached": result.loss["correct"] + shift + noise}
    assert judge(dataclasses.replace(result, loss=loss))["loss"].answer == verdict


def test_unknown_treatment_is_refused():
    with pytest.raises(ValueError, match=r"treatment: expected one of .* got 'none'"):
        run(Config(treatment="none"))
