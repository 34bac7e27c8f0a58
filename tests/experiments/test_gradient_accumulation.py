"""Accumulated gradients: exact without batch norm, and those of ghost batches with it."""

import numpy as np
import pytest

from bnlib.experiments.gradient_accumulation import Config, gradient, judge, run
from bnlib.layers import BatchNorm, Linear, Sequential

SMALL = {"width": 8, "seeds": 3}


def test_without_batch_norm_nothing_but_rounding_differs():
    result = run(Config(norms=("none", "layer", "group"), **SMALL))
    assert result.error.max() < 1e-12
    assert (result.noise > 0.1).all()


def test_one_part_is_the_mini_batch():
    result = run(Config(parts=(1,), **SMALL))
    assert not result.error.any()
    np.testing.assert_allclose(result.cosine, 1)


def test_smaller_parts_are_farther_off():
    verdicts = judge(run(Config(parts=(2, 8, 32), **SMALL)))
    effects = [verdict.effect for verdict in verdicts.values()]
    assert [*verdicts] == ["2 parts", "8 parts", "32 parts"]
    assert 0.05 < effects[0] < effects[1] < effects[2]


def test_gradient_agrees_with_differences():
    rng = np.random.default_rng(0)
    network = Sequential(Linear(3, 2, rng=[rng, rng]), BatchNorm(2, seeds=2))
    x, y = rng.normal(size=(2, 4, 3)), rng.integers(2, size=(2, 4))
    exact = gradient(network, x, y)
    assert exact.shape == (2, 3 * 2 + 2 + 2 + 2)

    def loss():
        logits = network(x)
        shifted = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return -np.take_along_axis(shifted, y[..., None], axis=-1).mean(axis=(1, 2))

    weight = network.parameters["0.weight"]
    weight[:, 0, 0] += 1e-6
    above = loss()
    weight[:, 0, 0] -= 2e-6
    position = [*network.gradients].index("0.weight")
    assert position == 0
    np.testing.assert_allclose((above - loss()) / 2e-6, exact[:, 0], atol=1e-8)


@pytest.mark.parametrize("parts", [0, 3, 64])
def test_parts_that_do_not_fit(parts):
    with pytest.raises(ValueError, match="parts: expected divisors of batch_size=64"):
        Config(parts=(parts,))
