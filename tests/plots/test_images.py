import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlib import plots


def test_images_stand_in_rows_from_the_top():
    _, ax = plt.subplots()
    rows = {"dark": np.zeros((3, 2, 2)), "light": np.ones((3, 2, 2))}
    drawn = plots.image_rows(ax, rows, limits=(-1, 2))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dark", "light"]
    assert [float(image.get_array().mean()) for image in drawn] == [0, 0, 0, 1, 1, 1]
    assert {image.get_clim() for image in drawn} == {(-1, 2)}
    lefts, _, bottoms, tops = np.array([image.get_extent() for image in drawn]).T
    assert (np.diff(lefts.reshape(2, 3)) > 1).all()
    assert (tops[3:] < bottoms[:3]).all()
    np.testing.assert_allclose(ax.get_yticks(), (tops + bottoms)[[0, 3]] / 2)


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ({}, r"got \[\]"),
        ({"a": np.zeros((2, 2))}, r"got \[\(2, 2\)\]"),
        ({"a": np.zeros((2, 2, 2)), "b": np.zeros((3, 2, 2))}, r"got \[\(2, 2, 2\), \(3, 2, 2\)\]"),
    ],
)
def test_rows_of_other_shapes_are_refused(rows, got):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=rf"rows: expected images of one shape \(n, h, w\), {got}"):
        plots.image_rows(ax, rows)
