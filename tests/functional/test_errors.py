"""Bad input is refused with what was wrong and what would be right, and changes nothing."""

import numpy as np
import pytest

from bnlib import functional as bn

X = np.arange(12.0).reshape(4, 3) ** 2
IMAGES = np.arange(48.0).reshape(2, 4, 2, 3) ** 2
THREE, FOUR = np.ones(3), np.ones(4)
CACHE = bn.batch_norm_forward(X)[1]
GROUPED = bn.group_norm_forward(IMAGES, 2)[1]

VALUE_ERRORS = {
    "one value per channel": (lambda: bn.batch_norm_forward(X[:1]), r"x.*more than one.*\(1, 3\)"),
    "one pixel": (lambda: bn.instance_norm_forward(np.ones((2, 3, 1))), r"x.*more than one"),
    "one feature": (lambda: bn.layer_norm_forward(np.ones((2, 1))), r"x.*more than one"),
    "empty mini-batch": (lambda: bn.batch_norm_forward(X[:0]), r"x: expected at least.*\(0, 3\)"),
    "gamma": (lambda: bn.batch_norm_forward(X, FOUR), r"gamma: expected shape \(3,\).*\(4,\)"),
    "beta": (lambda: bn.batch_norm_forward(X, THREE, FOUR), r"beta: expected shape \(3,\)"),
    "column": (
        lambda: bn.batch_norm_forward(IMAGES, FOUR.reshape(4, 1, 1)),
        r"gamma: expected shape \(4,\)",
    ),
    "scalar gamma": (lambda: bn.batch_norm_forward(X, np.float64(2)), r"gamma: expected shape"),
    "eps < 0": (lambda: bn.batch_norm_forward(X, eps=-1e-5), r"eps: expected.*-1e-05"),
    "eps nan": (lambda: bn.batch_norm_forward(X, eps=np.nan), r"eps: expected"),
    "eps = 0": (lambda: bn.batch_norm_forward(0 * X, eps=0.0), r"eps: 0.*constant channel"),
    "axes": (lambda: bn.batch_norm_forward(X, axes=2), r"axes: 2 is out of range.*2 axes"),
    "negative axes": (lambda: bn.layer_norm_forward(X, axes=-3), r"axes: -3 is out of range"),
    "axis twice": (lambda: bn.layer_norm_forward(X, axes=(1, -1)), r"axes: expected distinct"),
    "no axes": (lambda: bn.standardize(X, ()), r"axes: expected at least one"),
    "one axis": (lambda: bn.batch_norm_forward(X[0]), r"x: expected shape \(m, d\).*\(3,\)"),
    "dy": (lambda: bn.batch_norm_backward(X.T, CACHE), r"dy: expected shape \(4, 3\).*\(3, 4\)"),
    "ddx": (lambda: bn.batch_norm_double_backward(X.T, None, None, X, CACHE), r"ddx: expected"),
    "ddgamma": (lambda: bn.batch_norm_double_backward(X, FOUR, None, X, CACHE), r"ddgamma: exp"),
    "running_mean": (lambda: bn.batch_norm_inference(X, FOUR, THREE), r"running_mean: exp.*\(3,\)"),
    "running_var": (lambda: bn.batch_norm_inference(X, THREE, FOUR), r"running_var: exp.*\(3,\)"),
    "negative running_var": (lambda: bn.batch_norm_inference(X, THREE, -THREE), r"running_var.*-1"),
    "running_var 0": (lambda: bn.batch_norm_inference(X, THREE, 0 * THREE, eps=0), r"eps: 0"),
    "groups": (lambda: bn.group_norm_forward(IMAGES, 3), r"num_groups.*divisor of the 4.*3"),
    "no groups": (lambda: bn.group_norm_forward(IMAGES, 0), r"num_groups: expected a divisor"),
    "group gamma": (lambda: bn.group_norm_forward(IMAGES, 2, THREE), r"gamma: expected shape \(4"),
    "group dy": (lambda: bn.group_norm_backward(X, GROUPED), r"dy: expected shape \(2, 4, 2, 3\)"),
    "instance": (lambda: bn.instance_norm_forward(X), r"x: expected shape \(n, c, l\).*\(4, 3\)"),
    "layer gamma": (lambda: bn.layer_norm_forward(X, FOUR), r"gamma: expected shape \(3,\)"),
    "rms gamma": (lambda: bn.rms_norm_forward(X, FOUR), r"gamma: expected shape \(3,\)"),
    "seeds": (lambda: bn.layer_norm_forward(X, np.ones((2, 3))), r"gamma: expected shape"),
    "zeros": (lambda: bn.rms_norm_forward(0 * X, eps=0.0), r"eps: 0 needs"),
    "upstream": (lambda: bn.numerical_gradient(np.sin, X, THREE), r"upstream: expected.*\(4, 3\)"),
    "step": (lambda: bn.numerical_gradient(np.sin, X, X, h=0.0), r"h: expected a step > 0"),
    "error shapes": (lambda: bn.relative_error(X, X.T), r"b: expected shape \(4, 3\)"),
}

TYPE_ERRORS = {
    "integers": lambda: bn.batch_norm_forward(np.ones((4, 3), int)),
    "complex": lambda: bn.batch_norm_forward(X + 0j),
    "integer gamma": lambda: bn.batch_norm_forward(X, np.ones(3, int)),
    "integer dy": lambda: bn.batch_norm_backward(np.ones((4, 3), int), CACHE),
    "axis": lambda: bn.batch_norm_forward(X, axes=0.5),
    "float32 gradient check": lambda: bn.numerical_gradient(np.sin, X.astype("f4"), X),
}


@pytest.mark.parametrize(("call", "message"), VALUE_ERRORS.values(), ids=VALUE_ERRORS.keys())
def test_value_error_names_what_was_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("call", TYPE_ERRORS.values(), ids=TYPE_ERRORS.keys())
def test_type_error_names_the_dtype(call):
    with pytest.raises(TypeError, match=r"expected (float|int)"):
        call()


BAD_BATCHES = {
    "nan mean": ((np.array([np.nan, 0.0]), np.ones(2), 8), r"mean: expected finite"),
    "infinite var": ((np.zeros(2), np.array([1.0, np.inf]), 8), r"var: expected finite"),
    "negative var": ((np.zeros(2), np.array([1.0, -1.0]), 8), r"var: expected variances >= 0"),
    "shape": ((np.zeros(3), np.ones(3), 8), r"mean: expected shape \(2,\).*\(3,\)"),
    "one value": ((np.zeros(2), np.ones(2), 1), r"n: expected at least 2 values"),
    "momentum": ((np.zeros(2), np.ones(2), 8, 1.5), r"momentum: expected a number in \[0, 1\]"),
    "nan momentum": ((np.zeros(2), np.ones(2), 8, np.nan), r"momentum: expected"),
}


@pytest.mark.parametrize(("batch", "message"), BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_running_statistics_refuse_a_bad_batch_and_keep_their_state(batch, message):
    running = bn.RunningStatistics(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 5)
    with pytest.raises(ValueError, match=message):
        running.update(*batch)
    np.testing.assert_array_equal(running.mean, [1, 2])
    np.testing.assert_array_equal(running.var, [3, 4])
    assert running.count == 5


def test_running_statistics_refuse_an_overflow_in_their_own_precision():
    running = bn.RunningStatistics.initial((1,), np.float32)
    with pytest.raises(ValueError, match="finite"), np.errstate(over="ignore"):
        running.update(np.array([0.0]), np.array([1e300]), 8)
    assert (running.mean, running.var, running.count) == (0, 1, 0)


def test_running_statistics_copy_what_they_are_given():
    mean = np.zeros(2)
    running = bn.RunningStatistics(mean, np.ones(2))
    mean += 1
    np.testing.assert_array_equal(running.mean, 0)


@pytest.mark.parametrize("count", [-1, 0.5])
def test_running_statistics_refuse_a_bad_count(count):
    with pytest.raises(ValueError, match="count"):
        bn.RunningStatistics(np.zeros(2), np.ones(2), count)


def test_direction_of_the_momentum_is_one_of_two():
    with pytest.raises(ValueError, match="momentum_weighs"):
        bn.RunningStatistics.initial((2,)).update(THREE[:2], THREE[:2], 8, momentum_weighs="both")
