import numpy as np
import pytest
import torch
from pairs import pairwise
from random_inputs import SEED

from bnlib.layers import Conv2d

CASES = pairwise((1, 3, (2, 3)), (1, 2, (2, 1)), (0, 1, (0, 2)), (1, 2, 4), (True, False))


@pytest.mark.parametrize(("kernel", "stride", "padding", "groups", "training"), CASES)
def test_equals_torch(agrees, rng, kernel, stride, padding, groups, training):
    layer = Conv2d(4, 8, kernel, rng=rng, stride=stride, padding=padding, groups=groups)
    layer.parameters["bias"][...] = rng.standard_normal(8)
    layer.train() if training else layer.eval()

    def reference(x, weight, bias):
        return torch.nn.functional.conv2d(x, weight, bias, stride, padding, 1, groups)

    agrees(layer, reference, rng.standard_normal((3, 4, 7, 6)))


@pytest.mark.parametrize("m", [2, 3, 8])
def test_without_bias_equals_torch(agrees, rng, m):
    layer = Conv2d(2, 3, 3, rng=rng, bias=False)
    agrees(
        layer,
        lambda x, weight: torch.nn.functional.conv2d(x, weight),
        rng.standard_normal((m, 2, 5, 5)),
    )


def test_by_hand():
    layer = Conv2d(1, 1, (1, 2), rng=np.random.default_rng(0))
    layer.parameters["weight"][...] = [[[[1.0, -1.0]]]]
    y = layer(np.array([[[[1.0, 4.0, 9.0]]]]))
    np.testing.assert_array_equal(y, [[[[-3.0, -5.0]]]])
    dx = layer.backward(np.array([[[[1.0, 10.0]]]]))
    np.testing.assert_array_equal(dx, [[[[1.0, 9.0, -10.0]]]])
    np.testing.assert_array_equal(layer.gradients["weight"], [[[[41.0, 94.0]]]])
    np.testing.assert_array_equal(layer.gradients["bias"], [11.0])


def test_each_seed_draws_from_its_own_generator():
    ensemble = Conv2d(2, 3, 3, rng=[np.random.default_rng(i + SEED) for i in range(2)])
    for i in range(2):
        alone = Conv2d(2, 3, 3, rng=np.random.default_rng(i + SEED))
        np.testing.assert_array_equal(ensemble.parameters["weight"][i], alone.parameters["weight"])


def test_fans_count_the_window_and_the_channels_of_a_group(rng):
    seen = {}

    def init(rng, shape, fan_in, fan_out):
        seen.update(shape=shape, fan_in=fan_in, fan_out=fan_out)
        return np.zeros(shape)

    Conv2d(4, 6, (3, 2), rng=rng, groups=2, init=init)
    assert seen == {"shape": (6, 2, 3, 2), "fan_in": 12, "fan_out": 18}


def test_output_is_contiguous(rng):
    layer = Conv2d(2, 3, 3, rng=rng)
    y = layer(rng.standard_normal((2, 2, 5, 5)))
    assert y.flags.c_contiguous
    assert layer.backward(y).flags.c_contiguous


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"c_in": 0}, "c_in: expected at least 1"),
        ({"groups": 3}, "groups: expected a divisor of c_in=4 and c_out=6, got 3"),
        ({"kernel_size": 0}, "kernel_size: expected an integer of at least 1, or a pair, got 0"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size: expected an integer"),
        ({"stride": 1.5}, "stride: expected an integer"),
        ({"padding": -1}, "padding: expected an integer of at least 0"),
    ],
)
def test_bad_arguments_are_refused(rng, arguments, message):
    with pytest.raises(ValueError, match=message):
        Conv2d(**{"c_in": 4, "c_out": 6, "kernel_size": 3, "rng": rng, **arguments})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 5, 5), r"x: expected shape \(n, 4, h, w\), got \(2, 3, 5, 5\)"),
        ((4, 5, 5), r"x: expected shape \(n, 4, h, w\), got \(4, 5, 5\)"),
        ((2, 4, 2, 5), r"at least the size of the window \(3, 3\) .* got \(2, 4, 2, 5\)"),
    ],
)
def test_bad_shapes_are_refused(rng, shape, message):
    with pytest.raises(ValueError, match=message):
        Conv2d(4, 6, 3, rng=rng)(np.ones(shape))


def test_repr_shows_what_is_not_the_default(rng):
    assert repr(Conv2d(1, 2, 3, rng=rng)) == "Conv2d(1, 2, kernel_size=3)"
    shown = repr(Conv2d(2, 2, (3, 1), rng=rng, stride=2, padding=(1, 0), groups=2, bias=False))
    assert shown == (
        "Conv2d(2, 2, kernel_size=(3, 1), stride=2, padding=(1, 0), groups=2, bias=False)"
    )
