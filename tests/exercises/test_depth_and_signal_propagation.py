import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from bnlib.exercises import check


def by_hand(m, layers, block):
    factor = (m - 2) / (m - 3)
    return factor, layers / 2 * np.log10(factor), 1 / (block + 1)


@pytest.mark.parametrize("answer", [by_hand(5, 40, 4), [1.5, 3.52, 0.2], (3 / 2, 3.522, 1 / 5)])
def test_growth_by_hand(answer):
    assert check("growth-by-hand", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (by_hand(5, 80, 4), "decades of the mean square"),
        (by_hand(5, 40, 3), "the input of the network"),
        (by_hand(6, 40, 4), "(m-1)/(m-2)"),
    ],
)
def test_growth_by_hand_wrong(answer, says):
    assert says in check("growth-by-hand", answer).message


def closed(factor, layers):
    """Solve (1 - s)^2 = q (1 + s^2)."""
    q = np.pi * (1 - factor ** (-2 / layers))
    return (1 - np.sqrt(1 - (1 - q) ** 2)) / (1 - q)


a = np.linspace(-10, 10, 20_001)
weight = norm.pdf(a) * (a[1] - a[0])


def on_the_grid(factor, layers, left=None):
    def excess(s):
        phi, slope = np.where(a > 0, a, s * a), np.where(a > 0, 1, s if left is None else left)
        chi = weight @ slope**2 / (weight @ phi**2 - (weight @ phi) ** 2)
        return layers * np.log(chi) - 2 * np.log(factor)

    return brentq(excess, 0, 1)


def layer_by_layer(factor, layers):
    """Count the RMS over the layers, and try all slopes."""
    s = np.linspace(0, 1, 100_001)
    rms = np.ones_like(s)
    for _ in range(layers):
        rms *= np.sqrt((1 + s**2) / (1 + s**2 - (1 - s) ** 2 / np.pi))
    return s[np.abs(rms - factor).argmin()]


@pytest.mark.parametrize("answer", [closed, on_the_grid, layer_by_layer])
def test_leak(answer):
    assert check("leak", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda f, n: on_the_grid(f, n, left=0), "derivative of ReLU"),
        (lambda f, n: closed(f, 2 * n), "grows by its root only"),
        (lambda f, n: closed((1 + (f - 1) / n) ** n, n), "added up"),
        (lambda f, n: 1 / closed(f, n), "above 1"),
    ],
)
def test_leak_wrong(answer, says):
    assert says in check("leak", answer).message
