"""ONNX export, run by ONNX Runtime, agrees."""

import warnings

import numpy as np
import pytest
import torch
from family_modules import FAMILY, build
from torch import nn
from torch_modules import CASES, pair

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SOME = [n for n in FAMILY if "2d" in n and "Decorrelated" not in n]
SOME += ["MaskedBatchNorm1d", "ConditionalBatchNorm1d", "DyT", "ScaleNorm"]


def export(module, *inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        return torch.onnx.export(module, inputs, dynamo=True, verbose=False)


def run(program, *inputs):
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    names = [i.name for i in session.get_inputs()]
    (y,) = session.run(None, dict(zip(names, (v.numpy() for v in inputs), strict=True)))
    return y


@pytest.mark.parametrize("name", CASES)
def test_exported_model_agrees(name):
    args, options, shape = CASES[name]
    module, _ = pair(name, *args, **options)
    module(torch.randn(shape))
    x, other = torch.randn(2, *shape)
    y = run(export(module.eval(), x), other)
    np.testing.assert_allclose(y, module(other).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SOME)
def test_exported_layer_that_torch_has_not_agrees(name):
    module, shape, others = build(name)
    module(torch.randn(shape), *others)
    x, other = torch.randn(2, *shape)
    y = run(export(module.eval(), x, *others), other, *others)
    np.testing.assert_allclose(y, module(other, *others).detach(), rtol=1e-4, atol=1e-5)


def test_whitening_is_not_exported():
    module, shape, _ = build("DecorrelatedBatchNorm1d")
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match=r"linalg_eigh"):
        export(module.eval(), torch.randn(shape))


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
