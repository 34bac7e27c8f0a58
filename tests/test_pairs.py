from itertools import combinations, product

import pytest
from pairs import pairwise


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3, 3), (3, 3, 3, 3, 2), (1, 4, 2), (5, 2, 7)])
def test_every_pair_of_values_occurs(sizes):
    axes = [[(axis, i) for i in range(size)] for axis, size in enumerate(sizes)]
    rows = pairwise(*axes)
    assert set(rows) <= set(product(*axes))
    expected = {pair for a, b in combinations(axes, 2) for pair in product(a, b)}
    assert {pair for row in rows for pair in combinations(row, 2)} == expected
    assert rows == pairwise(*axes)


def test_few_rows_are_enough():
    assert len(pairwise("abc", "def", "ghi", "jkl", "mn")) < 15
