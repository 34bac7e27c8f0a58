import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlib import plots


def test_histograms_hold_the_shares_of_each_layer():
    _, axes = plt.subplots(1, 2, sharey=True)
    values = [np.array([[-0.9, -0.9], [0.1, 0.9]]), np.array([0.1, 0.1, 5.0])]
    patches = plots.layer_histograms(axes, values, ["a", "b"], "none", limits=(-1, 1), bins=2)
    heights = [patch.get_xy()[:, 1] for patch in patches]
    assert heights[0].max() == 0.5
    np.testing.assert_allclose(heights[1].max(), 2 / 3)  # 5.0 lies outside, and counts in the whole
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    assert all(ax.get_xlim() == (-1, 1) for ax in axes)


def test_histograms_refuse_another_number_of_layers():
    _, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match="expected one for each of the axes, got 1 and 2 for 2"):
        plots.layer_histograms(axes, [np.ones(3)], ["a", "b"], "none", limits=(-1, 1))


def test_points_are_means_with_t_intervals():
    _, ax = plt.subplots()
    samples = {
        m: np.random.default_rng(i).normal(size=(5, 3)) for i, m in enumerate(("none", "batch"))
    }
    names = {"none": "no normalization", "batch": "batch norm"}
    containers = plots.points(ax, ["a", "b", "c"], samples, names)
    for meaning, rows in samples.items():
        mean, low, high = plots.mean_interval(rows)
        line, _, (bars,) = containers[meaning].lines
        np.testing.assert_allclose(line.get_ydata(), mean)
        np.testing.assert_allclose(np.array(bars.get_segments())[:, :, 1].T, [low, high])
    assert [text.get_text() for text in ax.texts] == list(names.values())
    ends = [containers[meaning].lines[0].get_xdata() for meaning in samples]
    np.testing.assert_allclose(np.mean(ends, axis=0), [0, 1, 2])
    assert (ends[0] < ends[1]).all()


def test_points_refuse_another_number_of_groups():
    _, ax = plt.subplots()
    with pytest.raises(
        ValueError, match=r"samples\['none'\]: expected shape \(k, 3\), got \(5, 2\)"
    ):
        plots.points(ax, ["a", "b", "c"], {"none": np.ones((5, 2))}, {"none": "x"})


def test_heat_map_writes_every_finite_number_in_its_cell():
    _, ax = plt.subplots()
    mesh = plots.heat_map(ax, [[0.0, np.nan, 1.0], [0.25, 0.5, 0.75]], ["a", "b"], ["x", "y", "z"])
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {
        (0.5, 0.5): "0.00",
        (2.5, 0.5): "1.00",
        (0.5, 1.5): "0.25",
        (1.5, 1.5): "0.50",
        (2.5, 1.5): "0.75",
    }
    assert mesh.get_clim() == (0, 1)
    assert ax.yaxis_inverted()
    dark, light = ax.texts[0].get_color(), ax.texts[1].get_color()
    assert (dark, light) == ("#FAFAFA", "#111111")


def test_heat_map_refuses_names_that_do_not_fit():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"expected shape \(1, 2\), got \(2, 2\)"):
        plots.heat_map(ax, np.eye(2), ["a"], ["x", "y"])
