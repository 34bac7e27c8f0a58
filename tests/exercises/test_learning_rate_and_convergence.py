import numpy as np
import pytest
from scipy.optimize import brentq

from bnlib.exercises import check


@pytest.mark.parametrize("answer", [(2.5, 0.08, 1), [5 / 2, 2 / 25, 1.0]])
def test_longer_weights(answer):
    assert check("longer-weights", answer)


def test_longer_weights_in_the_plane():
    w, g, lr = np.array([2.0, 0.0]), np.array([0.0, 3.0]), 0.5
    new = np.linalg.norm(w - lr * g)
    assert check("longer-weights", (new, lr / new**2, np.linalg.norm(g) / 3))
    assert "eta/|w|" in check("longer-weights", (new, lr / new, 1)).message
    along = np.linalg.norm(w - lr * g[::-1])
    assert "pointed along w" in check("longer-weights", (along, lr / along**2, 1)).message


def closed(lr, decay, G):
    effective = np.sqrt(2 * lr * decay) / G  # to first order
    return np.sqrt(lr / effective), effective


def repeated(lr, decay, G):
    n = 1.0
    for _ in range(30_000):
        n = (1 - lr * decay) ** 2 * n + (lr * G) ** 2 / n
    return n**0.5, lr / n


def by_root(lr, decay, G):
    def change(n):
        return (1 - lr * decay) ** 2 * n + lr**2 * G**2 / n - n

    n = brentq(change, 1e-6, 1e6)
    return [np.sqrt(n), lr / n]


@pytest.mark.parametrize("answer", [closed, repeated, by_root])
def test_equilibrium(answer):
    assert check("equilibrium", answer)


def decoupled(lr, decay, G):
    n = 1.0
    for _ in range(3000):
        n = (1 - decay) ** 2 * n + (lr * G) ** 2 / n
    return n**0.5, lr / n


def constant_gradient(lr, decay, G):
    n = lr**2 * G**2 / (2 * lr * decay)
    return n**0.5, lr / n


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (constant_gradient, "took the gradient g as constant"),
        (lambda *given: (closed(*given)[0], given[0] / closed(*given)[0]), "eta/|w|"),
        (lambda lr, decay, G: closed(lr, decay / 2, G), "lost a factor of 2"),
        (decoupled, "without the learning rate"),
    ],
)
def test_equilibrium_wrong(answer, says):
    assert says in check("equilibrium", answer).message


@pytest.mark.parametrize("answer", ["matrix", "Matrix", " matrix "])
def test_what_layer_norm_keeps(answer):
    assert check("what-layer-norm-keeps", answer)


def test_the_answer_of_batch_norm():
    assert "batch norm" in check("what-layer-norm-keeps", "columns").message
