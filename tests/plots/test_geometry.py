import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlib import plots


def test_projection_keeps_lengths_in_its_plane():
    right = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)  # parallel to the page
    np.testing.assert_allclose(plots.project(right), [1, 0], atol=1e-15)
    up, back = plots.project([1, 1, 1]) / np.sqrt(3), plots.project([1, 1, -2]) / np.sqrt(6)
    np.testing.assert_allclose([up[0], back[0]], 0, atol=1e-15)
    np.testing.assert_allclose(up[1] ** 2 + back[1] ** 2, 1)


def test_points_lie_on_the_circle_that_is_drawn():
    _, ax = plt.subplots()
    x = np.random.default_rng(0).uniform(-2, 2, size=(4, 3))
    points = plots.sphere_and_plane(ax, x)
    x_hat = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    np.testing.assert_allclose(points.get_xydata(), plots.project(x_hat))
    tilt = plots.project([1, 1, -2])[1] / np.sqrt(6)
    right, up = points.get_xydata().T
    np.testing.assert_allclose(right**2 + (up / tilt) ** 2, 3)  # the ellipse that the circle shows
    halves = [line.get_xydata().T for line in ax.lines if len(line.get_xdata()) == 100]
    assert len(halves) == 2
    for right, up in halves:
        np.testing.assert_allclose(right**2 + (up / tilt) ** 2, 3)


@pytest.mark.parametrize("x", [np.ones((2, 3)), np.eye(2), np.arange(3.0)])
def test_sphere_refuses_bad_examples(x):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="x: expected"):
        plots.sphere_and_plane(ax, x)
