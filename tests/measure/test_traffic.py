import numpy as np
import pytest
from random_inputs import SEED

from bnlib.measure import Traffic, count_traffic


def test_an_operation_reads_its_operands_and_writes_its_result():
    a, b = np.ones((4, 5)), np.ones(5)
    assert count_traffic(lambda a, b: a * b, a, b) == Traffic(read=25, written=20, operations=20)


def test_an_array_that_is_both_operands_is_read_once():
    assert count_traffic(lambda a: a * a, np.ones(6)) == Traffic(6, 6, 6)


def test_a_sum_costs_one_operation_for_each_operand():
    assert count_traffic(lambda a: a.sum(0), np.ones((4, 5))) == Traffic(20, 5, 20)


def test_results_in_place_are_counted():
    def double(a):
        a = a + 1  # read 6, written 6
        a *= 2  # read 6, written 6
        return a

    assert count_traffic(double, np.ones(6)) == Traffic(12, 12, 12)


def test_variance_takes_the_passes_counted_by_hand():
    # mean: read 1, then x - mean: read 1 write 1, square in place: read 1 write 1, sum: read 1
    m = 10_000
    traffic = count_traffic(lambda a: a.var(), np.ones(m))
    assert (round(traffic.read / m), round(traffic.written / m)) == (4, 2)


def test_values_and_arguments_stay_as_they_are():
    a, b = np.random.default_rng(SEED).normal(size=(2, 3, 4))
    copies, results = (a.copy(), b.copy()), []
    count_traffic(lambda a, b: results.append((a - a.mean(0)) / np.sqrt(b**2 + 1)), a, b)
    np.testing.assert_array_equal(results[0], (a - a.mean(0)) / np.sqrt(b**2 + 1))
    np.testing.assert_array_equal([a, b], copies)
    assert type(a) is np.ndarray


def test_intensity_is_operations_a_byte():
    assert Traffic(read=3, written=1, operations=8).intensity(itemsize=4) == 0.5


def test_lists_are_refused():
    with pytest.raises(TypeError, match="arrays: expected NumPy arrays, got list"):
        count_traffic(np.sum, [1.0, 2.0])
