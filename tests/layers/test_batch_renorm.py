"""NumPy's batch renormalization against that of torch; more in tests/experiments."""

import numpy as np
import pytest
import torch

from bnlib.layers import BatchRenorm
from bnlib.nn import BatchRenorm1d


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_torch_class(rng, agrees, training):
    layer = BatchRenorm(3, r_max=1.5, d_max=0.5, eps=1e-3, seeds=1)
    sibling = BatchRenorm1d(3, r_max=1.5, d_max=0.5, eps=1e-3, dtype=torch.float64)
    layer.running.mean[...] = rng.standard_normal((1, 3))
    layer.running.var[...] = rng.uniform(0.5, 20, (1, 3))
    sibling.running_mean.copy_(torch.tensor(layer.running.mean[0]))
    sibling.running_var.copy_(torch.tensor(layer.running.var[0]))
    for each in (layer, sibling):
        each.train() if training else each.eval()
    for parameter in layer.parameters.values():
        parameter[...] = rng.uniform(0.5, 2, parameter.shape)

    def reference(x, gamma, beta):
        weights = {"weight": gamma[0], "bias": beta[0]}
        return torch.func.functional_call(sibling, weights, (x[0],))[None]

    agrees(layer, reference, rng.normal(2, 3, (1, 8, 3)))
    np.testing.assert_allclose(layer.running.mean[0], sibling.running_mean)
