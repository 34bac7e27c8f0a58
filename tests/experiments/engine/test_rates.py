import numpy as np
import pytest

from bnlib.experiments.engine import rates

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([0.3, 0.2, 0.4], 1),
        ([NAN, 0.2, 0.1], 2),
        ([-INF, 0.2, INF], 1),
        ([0.2, 0.2, NAN], 0),
        ([NAN, NAN, INF], 0),
    ],
)
def test_a_run_that_diverged_is_the_worst(loss, expected):
    assert rates.best(loss) == expected


def test_each_row_has_its_own_best_rate():
    loss = np.array([[0.3, NAN, 0.1], [0.2, 0.9, INF]])
    np.testing.assert_array_equal(rates.best(loss, axis=1), [2, 0])
    np.testing.assert_array_equal(rates.best(loss, axis=0), [1, 1, 0])


def test_the_largest_accuracy_is_the_smallest_negative_one():
    assert rates.best(-np.array([0.4, NAN, 0.6])) == 2
