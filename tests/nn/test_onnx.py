"""ONNX export, run by ONNX Runtime, agrees."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import CASES, pair

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def export(module, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        return torch.onnx.export(module, (x,), dynamo=True, verbose=False)


@pytest.mark.parametrize("name", CASES)
def test_exported_model_agrees(name):
    args, options, shape = CASES[name]
    module, _ = pair(name, *args, **options)
    module(torch.randn(shape))
    x, other = torch.randn(2, *shape)
    program = export(module.eval(), x)
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    (y,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    np.testing.assert_allclose(y, module(other).detach(), rtol=1e-4, atol=1e-5)


def test_a_network_exports_to_the_operators_of_torch_nn():
    graphs = []
    for norms in zip(
        pair("GroupNorm", 2, 4), pair("BatchNorm2d", 4), pair("LayerNorm", 6), strict=True
    ):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), norms[0], nn.ReLU(), *norms[1:])
        program = export(network.eval(), torch.randn(2, 3, 8, 8))
        graphs.append([node.op_type for node in program.model_proto.graph.node])
    assert graphs[0] == graphs[1]
    assert {"BatchNormalization", "LayerNormalization"} <= set(graphs[0])
