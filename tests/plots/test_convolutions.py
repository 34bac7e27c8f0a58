import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bnlib import plots

IMAGE = np.array([[0, 3, 1, 2], [1, 0, 2, 5], [4, 1, 0, 1]])
KERNEL = np.array([[-1, 1], [2, 0]])


@pytest.fixture
def ax():
    return plt.subplots()[1]


def numbers(texts):
    return [
        [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in row] for row in texts
    ]


def test_feature_map_is_that_of_torch(ax):
    drawn = plots.convolution_window(ax, IMAGE, KERNEL, at=(0, 0))
    tensors = (torch.tensor(a, dtype=torch.float64)[None, None] for a in (IMAGE, KERNEL))
    expected = torch.nn.functional.conv2d(*tensors)[0, 0]
    assert numbers(drawn.feature_map) == expected.tolist()
    assert numbers(drawn.image) == IMAGE.tolist()
    assert numbers(drawn.kernel) == KERNEL.tolist()


def inside(frame, texts):
    return [[frame.get_bbox().contains(*text.get_position()) for text in row] for row in texts]


def test_frames_show_the_window_and_its_value(ax):
    drawn = plots.convolution_window(ax, IMAGE, KERNEL, at=(1, 2))
    window, value = np.zeros((3, 4), dtype=bool), np.zeros((2, 3), dtype=bool)
    window[1:3, 2:4] = value[1, 2] = True
    assert inside(drawn.window, drawn.image) == window.tolist()
    assert inside(drawn.value, drawn.feature_map) == value.tolist()
    assert not np.any(inside(drawn.window, drawn.kernel))


def test_numbers_fit_into_their_cells(ax):
    drawn = plots.convolution_window(ax, IMAGE, KERNEL, at=(0, 0))
    ax.figure.draw_without_rendering()
    value = drawn.value.get_window_extent()
    assert drawn.feature_map[0][0].get_window_extent().width < value.width
    assert ax.yaxis_inverted()


@pytest.mark.parametrize("at", [(2, 0), (0, 3), (-1, 0)])
def test_window_outside_of_the_image_is_refused(ax, at):
    with pytest.raises(
        ValueError, match=r"at: expected a place in a feature map of shape \(2, 3\)"
    ):
        plots.convolution_window(ax, IMAGE, KERNEL, at=at)


@pytest.mark.parametrize("kernel", [np.ones((4, 1)), np.ones(2)])
def test_kernel_that_does_not_fit_is_refused(ax, kernel):
    with pytest.raises(ValueError, match="kernel: expected two axes and at most the size"):
        plots.convolution_window(ax, IMAGE, kernel, at=(0, 0))
