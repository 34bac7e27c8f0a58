import numpy as np
import pytest
import torch

from bnlib.layers import BatchNorm, GhostBatchNorm
from bnlib.nn import GhostBatchNorm1d, GhostBatchNorm2d


def ghost(size, rng, k=2, d=3):
    layer = GhostBatchNorm(d, size, seeds=k)
    layer.parameters["gamma"][...] = rng.uniform(0.5, 2, (k, d))
    layer.parameters["beta"][...] = rng.standard_normal((k, d))
    return layer


def test_each_part_is_normalized_by_itself(rng):
    layer, x = ghost(4, rng), rng.normal(2, 3, (2, 12, 3))
    y = layer(x)
    for seed in range(2):
        gamma, beta = (torch.tensor(layer.parameters[n][seed]) for n in ("gamma", "beta"))
        for part in range(3):
            rows = slice(part, None, 3)
            expected = torch.nn.functional.batch_norm(
                torch.tensor(x[seed, rows]), None, None, gamma, beta, training=True
            )
            np.testing.assert_allclose(y[seed, rows], expected)


def test_one_part_is_batch_norm(rng):
    x = rng.normal(2, 3, (2, 8, 3))
    whole, plain = GhostBatchNorm(3, 8, seeds=2), BatchNorm(3, seeds=2)
    for _ in range(2):
        np.testing.assert_allclose(whole(x), plain(x))
    np.testing.assert_allclose(whole.running.var, plain.running.var)
    np.testing.assert_allclose(whole.eval()(x), plain.eval()(x))
    dy = rng.standard_normal(x.shape)
    np.testing.assert_allclose(whole.backward(dy), plain.backward(dy))


def test_running_statistics_are_those_of_the_parts(rng):
    layer, x = ghost(4, rng), rng.normal(2, 3, (2, 12, 3))
    layer(x)
    parts = x.reshape(2, 4, 3, 3)  # (k, size, parts, d)
    np.testing.assert_allclose(layer.running.mean, 0.1 * x.mean(axis=1))
    var = parts.var(axis=1, ddof=1).mean(axis=1)
    np.testing.assert_allclose(layer.running.var, 0.9 + 0.1 * var)


@pytest.mark.parametrize(
    ("sibling", "spatial"),
    [(GhostBatchNorm1d, ()), (GhostBatchNorm1d, (5,)), (GhostBatchNorm2d, (2, 3))],
)
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_torch_class_on_the_parts_in_their_order(
    rng, agrees, sibling, spatial, training
):
    layer = GhostBatchNorm(3, 4, momentum=None, eps=1e-3)
    torch_layer = sibling(3, ghost_size=4, momentum=None, eps=1e-3, dtype=torch.float64)
    in_order = np.arange(12).reshape(4, 3).T.ravel()  # part 0 is the examples 0, 3, 6, 9
    for parameter in layer.parameters.values():
        parameter[...] = rng.uniform(0.5, 2, 3)

    def reference(x, gamma, beta):
        weights = {"weight": gamma, "bias": beta}
        y = torch.func.functional_call(torch_layer, weights, (x[in_order],))
        return y[np.argsort(in_order)]

    for _ in range(3):  # the running statistics move
        agrees(layer, reference, rng.normal(2, 3, (12, 3, *spatial)))
    if not training:
        torch_layer.eval()
        layer.eval()
        agrees(layer, reference, rng.normal(2, 3, (12, 3, *spatial)))
    np.testing.assert_allclose(layer.running.mean, torch_layer.running_mean)
    np.testing.assert_allclose(layer.running.var, torch_layer.running_var)


def test_what_does_not_divide_is_refused_and_the_state_stays(rng):
    layer = GhostBatchNorm(3, 4)
    with pytest.raises(ValueError, match=r"x: expected a multiple of 4 examples, got \(6, 3\)"):
        layer(rng.standard_normal((6, 3)))
    assert layer.running.count == 0
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        GhostBatchNorm(3, 0)
