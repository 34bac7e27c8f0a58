import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.contour import ContourSet

from bnlib import plots

HESSIAN = np.array([[2.0, 0.5], [0.5, 1.0]])
PATH = np.array([[1.0, -2.0], [0.5, 0.5], [0.0, 0.1]])


def test_path_lies_on_the_contours_of_the_quadratic():
    _, ax = plt.subplots()
    line = plots.descent_path(ax, HESSIAN, PATH, "batch")
    np.testing.assert_array_equal(line.get_xydata(), PATH)
    (contours,) = (artist for artist in ax.collections if isinstance(artist, ContourSet))
    start = PATH[0] @ HESSIAN @ PATH[0] / 2
    np.testing.assert_allclose(contours.levels[-1], start)
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        e = path.vertices
        np.testing.assert_allclose(
            np.einsum("ij,jk,ik->i", e, HESSIAN, e) / 2, level, atol=0.01 * start
        )


def test_whole_path_is_visible_in_equal_units():
    _, ax = plt.subplots()
    plots.descent_path(ax, HESSIAN, PATH, "none")
    assert ax.get_aspect() == 1
    assert ax.get_ylim()[0] < -2 < 2 < ax.get_ylim()[1]


@pytest.mark.parametrize("hessian", [np.eye(3), np.diag([1.0, -1.0])])
def test_hessian_is_checked(hessian):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="hessian: expected"):
        plots.descent_path(ax, hessian, PATH, "none")


def test_path_is_checked():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"path: expected shape \(t, 2\), got \(2,\)"):
        plots.descent_path(ax, HESSIAN, PATH[0], "none")
