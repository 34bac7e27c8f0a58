import numpy as np
import pytest
import torch

from bnlib.layers import DynamicTanh
from bnlib.nn import DyT


@pytest.mark.parametrize("shape", [(6, 3), (2, 5, 3), (2, 4, 5, 3)])
def test_equals_the_torch_class(rng, agrees, shape):
    layer = DynamicTanh(3, alpha=0.7)
    np.testing.assert_array_equal(layer.parameters["alpha"], [0.7])
    for parameter in layer.parameters.values():
        parameter[...] = rng.uniform(0.5, 2, parameter.shape)

    def reference(x, alpha, gamma, beta):
        weights = {"alpha": alpha[0], "weight": gamma, "bias": beta}
        return torch.func.functional_call(DyT(3, dtype=torch.float64), weights, (x,))

    agrees(layer, reference, rng.normal(0, 2, shape))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            np.ones((2, 4)),
            ValueError,
            r"DynamicTanh\(3\): x: expected shape \(m, ..., 3\), got \(2, 4\)",
        ),
        (np.ones(3), ValueError, r"x: expected shape \(m, ..., 3\), got \(3,\)"),
        (np.ones((2, 3), np.float32), TypeError, "the layer's dtype float64, got float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        DynamicTanh(3)(x)


def test_sizes_are_checked():
    for sizes in ({"num_features": 0}, {"num_features": 3, "seeds": 0}):
        with pytest.raises(ValueError, match="expected at least 1, got 0"):
            DynamicTanh(**sizes)
