"""The node tests that the ONNX project ships for its normalization operators."""

import importlib
import pkgutil
import re

import numpy as np
import pytest
from onnx import helper
from onnx.backend.test.case import node

from bnlib import functional as bn

# Importing a module registers its cases; collect_testcases() would import all 200 of them. Their
# names differ from one release of ONNX to another: batchnorm, batch_normalization.
for module in pkgutil.iter_modules(node.__path__):
    if re.match("(batch|group|instance|layer|meanvariance|rms)_?norm", module.name):
        importlib.import_module(f"{node.__name__}.{module.name}")


def batch_normalization(inputs, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    x, gamma, beta, mean, var = inputs
    if not training_mode:
        return [bn.batch_norm_inference(x, mean, var, gamma, beta, eps=epsilon)]
    y, cache = bn.batch_norm_forward(x, gamma, beta, eps=epsilon)
    running = bn.RunningStatistics(mean, var)
    running.update(
        cache.mean, cache.var, cache.count, momentum, unbiased=False, momentum_weighs="old"
    )
    return [y, running.mean, running.var]


def group_normalization(inputs, *, num_groups, epsilon=1e-5):
    x, gamma, beta = inputs
    return [bn.group_norm_forward(x, num_groups, gamma, beta, eps=epsilon)[0]]


def instance_normalization(inputs, *, epsilon=1e-5):
    return [bn.instance_norm_forward(*inputs, eps=epsilon)[0]]


def layer_normalization(inputs, *, axis=-1, epsilon=1e-5):
    x = inputs[0]
    axes = tuple(range(axis % x.ndim, x.ndim))
    y, cache = bn.layer_norm_forward(*inputs, eps=epsilon, axes=axes)
    shape = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    return [y, cache.mean.reshape(shape), cache.inv_std.reshape(shape)]


def mean_variance_normalization(inputs, *, axes=(0, 2, 3)):
    return [bn.standardize(*inputs, axes=tuple(axes), eps=1e-9).x_hat]  # the operator's constant


def rms_normalization(inputs, *, axis=-1, epsilon=1e-5):
    x, gamma = inputs
    return [bn.rms_norm_forward(x, gamma, eps=epsilon, axes=tuple(range(axis % x.ndim, x.ndim)))[0]]


OPERATORS = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}
# Cases called "expanded" are the same numbers with the operator written out in others.
CASES = [c for c in node._NodeTestCases if c.model.graph.node[0].op_type in OPERATORS]


def test_every_operator_has_cases():
    found = {case.model.graph.node[0].op_type for case in CASES}
    assert found == set(OPERATORS)
    assert len(CASES) >= 45


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node(case):
    operator = case.model.graph.node[0]
    attributes = {a.name: helper.get_attribute_value(a) for a in operator.attribute}
    [(inputs, outputs)] = case.data_sets
    results = OPERATORS[operator.op_type](inputs, **attributes)
    for result, output in zip(results, outputs, strict=False):
        np.testing.assert_allclose(result, output, rtol=1e-3, atol=1e-6)  # ONNX's own tolerances
        assert result.shape == output.shape
