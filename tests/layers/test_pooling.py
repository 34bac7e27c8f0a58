import numpy as np
import pytest
import torch

from bnlib.layers import AvgPool2d, MaxPool2d

F = torch.nn.functional
POOLS = {
    MaxPool2d: F.max_pool2d,
    AvgPool2d: F.avg_pool2d,
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("kernel", [1, 2, 3, (2, 3)])
@pytest.mark.parametrize("stride", [None, 1, 2, (3, 1)])
def test_equals_torch(agrees, rng, pool, kernel, stride):
    x = rng.standard_normal((3, 2, 7, 8))
    agrees(pool(kernel, stride), lambda x: POOLS[pool](x, kernel, stride), x)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradient_of_equal_entries_goes_to_the_first_as_in_torch(agrees, rng, stride):
    x = rng.integers(0, 2, (4, 3, 6, 6)).astype(float)
    agrees(MaxPool2d(2, stride), lambda x: F.max_pool2d(x, 2, stride), x)


@pytest.mark.parametrize("pool", POOLS)
def test_window_larger_than_the_image_is_refused(pool):
    with pytest.raises(ValueError, match=r"h >= 3, w >= 2, got \(1, 1, 2, 2\)"):
        pool((3, 2))(np.ones((1, 1, 2, 2)))


@pytest.mark.parametrize("pool", POOLS)
def test_bad_sizes_are_refused(pool):
    with pytest.raises(ValueError, match="kernel_size: expected an integer of at least 1"):
        pool(0)
    with pytest.raises(ValueError, match="stride: expected an integer of at least 1"):
        pool(2, (1, 0))


def test_repr():
    assert repr(MaxPool2d(2)) == "MaxPool2d(2)"
    assert repr(AvgPool2d((2, 3), 1)) == "AvgPool2d((2, 3), stride=1)"
