import dataclasses

import numpy as np
import pytest

from bnlib.experiments import trainable_depth as experiment
from bnlib.experiments.engine import networks
from bnlib.layers import Residual

SMALL = experiment.Config(
    case="sigmoid", depths=(1, 4), rates=(0.3, 1.0), width=24, budgets=(60, 120), seeds=4
)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_deep_sigmoid_networks_need_batch_norm(small):
    assert small.accuracy.shape == (2, 2, 2, 2, 4)
    verdict = experiment.judge(small)["sigmoid", "120 steps"]
    assert verdict.answer == "supported"
    assert verdict.effect > 0.8


def test_a_budget_is_what_a_run_of_so_many_steps_gives(small):
    """The learning rate is constant, so one run has all smaller budgets in it."""
    shorter = experiment.run(dataclasses.replace(SMALL, budgets=(60,)))
    np.testing.assert_array_equal(shorter.accuracy[0], small.accuracy[0])
    np.testing.assert_array_equal(shorter.validation[0], small.validation[0])


def test_control_of_other_seeds_is_no_effect():
    config = experiment.Config(
        norms=("none", "none again"), depths=(4, 16), rates=(0.1,), budgets=(150,)
    )
    (verdict,) = experiment.judge(experiment.run(config)).values()
    assert verdict.answer not in ("supported", "refuted")
    assert verdict.effect != 0


def fake(accuracy, validation=None, depths=(2, 8, 32)):
    """Make a result of one budget and one rate from accuracies, (n, t, k)."""
    accuracy = np.asarray(accuracy, float)[None, :, :, None]
    config = dataclasses.replace(SMALL, depths=depths, budgets=(120,))
    return experiment.Result(config, accuracy, accuracy if validation is None else validation)


def test_depth_is_interpolated_where_the_accuracy_first_falls_below_the_target():
    columns = [[0.9, 0.9, 0.9], [0.5, 0.9, 0.9], [0.85, 0.65, 0.9]]  # one a seed
    result = fake([np.transpose(columns)])
    np.testing.assert_allclose(result.doublings.low, [[[5, -np.inf, 2]]])
    np.testing.assert_allclose(result.doublings.high, [[[np.inf, 1, 2]]])


def test_rate_is_chosen_on_validation_examples_and_judged_on_test_examples():
    accuracy = np.zeros((1, 1, 2, 2, 3))
    accuracy[..., 1, :] = 0.9  # the second rate is better on test examples
    validation = accuracy[..., ::-1, :]
    result = experiment.Result(dataclasses.replace(SMALL, norms=("none",)), accuracy, validation)
    assert result.best.tolist() == [[[0, 0]]]
    assert (result.at_best == 0).all()


def test_diverged_runs_count_as_failed():
    config = dataclasses.replace(
        SMALL, case="residual", norms=("none",), depths=(48,), rates=(1.0,), budgets=(4,)
    )
    assert (experiment.run(config).accuracy == 0).all()


def test_blocks_of_the_residual_network_are_scaled():
    config = networks.Config(depth=4, width=64, init_scale=0.5, norm="batch", seeds=2)
    network = experiment.build_residual(config)
    blocks = [layer for layer in network if isinstance(layer, Residual)]
    assert len(blocks) == 4
    for block in blocks:
        assert len(block.branch) == 3
        std = block.parameters["branch.2.weight"].std()
        np.testing.assert_allclose(std, 0.5 * np.sqrt(2 / 64), rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case": "step"}, "case: expected"),
        ({"depths": (4, 2)}, "depths: expected"),
        ({"budgets": ()}, "budgets: expected"),
    ],
)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.run(dataclasses.replace(SMALL, **change))


def test_judge_refuses_one_norm(small):
    one = dataclasses.replace(small, config=dataclasses.replace(SMALL, norms=("none",)))
    with pytest.raises(ValueError, match="two arms"):
        experiment.judge(one)
