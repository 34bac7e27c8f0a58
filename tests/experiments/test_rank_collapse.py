import dataclasses

import numpy as np
import pytest

from bnlib.experiments import rank_collapse as experiment
from bnlib.experiments.engine import infinite_width

SMALL = experiment.Config(layers=(1, 4, 30), seeds=6)


@pytest.fixture(scope="module")
def small():
    return experiment.run(SMALL)


def test_every_rank_supports_the_claim(small):
    deep = experiment.judge(experiment.run(dataclasses.replace(SMALL, seeds=16)))
    assert len(deep) == 6
    assert {verdict.answer for verdict in deep.values()} == {"supported"}


def test_control_of_other_seeds_is_no_effect():
    sizes = experiment.Config(norms=("none", "none"), layers=(100,))
    one, two = (experiment.run(dataclasses.replace(sizes, first_seed=s)) for s in (0, 16))
    mixed = {key: np.stack([one.ranks[key][0], two.ranks[key][0]]) for key in one.ranks}
    verdicts = experiment.judge(dataclasses.replace(one, ranks=mixed))
    assert {v.answer for v in verdicts.values()} == {"no effect"}


def test_cosines_of_wide_networks_hit_the_theory():
    result = experiment.run(dataclasses.replace(SMALL, width=400, layers=(1, 2, 5)))
    cosine, theory = 0.0, []
    for _ in range(5):
        cosine = 2 * infinite_width.relu_kernel(cosine)
        theory.append(cosine)
    measured = result.cosine.mean(axis=1)
    np.testing.assert_allclose(measured[0], np.array(theory)[[0, 1, 4]], atol=0.02)
    centred = 2 * infinite_width.relu_kernel(-1 / (SMALL.m - 1))
    np.testing.assert_allclose(measured[1], centred, atol=0.02)


def test_judge_refuses_one_norm(small):
    one = dataclasses.replace(small, config=dataclasses.replace(SMALL, norms=("none",)))
    with pytest.raises(ValueError, match="two arms"):
        experiment.judge(one)
