import numpy as np
import pytest
import torch

from bnlib.exercises import check


@pytest.mark.parametrize("answer", [(1.5, 2.25, 0.4375), np.array([[1.5], [2.25], [7 / 16]])])
def test_two_weights(answer):
    assert check("two-weights", tuple(np.ravel(answer)))


def moved(step_of_second):
    """Work through the example with a = 2 and eta = 1/2, and let the second weight step or not."""
    a, b, eta = 2.0, 0.5, 0.5
    old = 2 * a**2 * b
    a, b = a - eta * 2 * a * b**2, b - eta * old * step_of_second
    new = 2 * a**2 * b
    return a, new, abs(new - old) / old


def test_two_weights_by_steps():
    assert check("two-weights", moved(0))
    assert "both weights" in check("two-weights", moved(1)).message


def test_it_says_which_of_the_three_is_wrong():
    message = check("two-weights", (1.5, 2.25, 9)).message
    assert message.startswith("w_1 and G' are right. S_g:")


def by_autograd(x, target, w_1, w_2, eta, step_of_second=0.0, reduction=0.5):
    x, target, w_1, w_2 = (torch.tensor(a) for a in (x, target, w_1, w_2))

    def gradients(w_1, w_2):
        w_1, w_2 = w_1.requires_grad_(), w_2.requires_grad_()
        loss = reduction * ((x @ w_1 @ w_2 - target) ** 2).sum() / len(x)
        return torch.autograd.grad(loss, (w_1, w_2))

    g_1, g = gradients(w_1, w_2)
    w_1, w_2 = w_1.detach() - eta * g_1, w_2.detach() - step_of_second * eta * g
    g_new = gradients(w_1, w_2)[1]
    cos = torch.nn.functional.cosine_similarity(g.flatten(), g_new.flatten(), dim=0)
    return (g_new - g).norm() / g.norm(), cos


def loop(x, target, w_1, w_2, eta):
    def gradients(w_1):
        g_1, g_2 = np.zeros_like(w_1), np.zeros_like(w_2)
        for row, t in zip(x, target, strict=True):
            error = row @ w_1 @ w_2 - t
            g_1 += np.outer(row, w_2 @ error) / len(x)
            g_2 += np.outer(row @ w_1, error) / len(x)
        return g_1, g_2

    g_1, g = gradients(w_1)
    new = gradients(w_1 - eta * g_1)[1]
    cos = np.vdot(g, new) / np.sqrt(np.vdot(g, g) * np.vdot(new, new))
    return [np.sqrt(np.vdot(new - g, new - g) / np.vdot(g, g)), cos]


def features_first(x, target, w_1, w_2, eta):
    x, target, a, b = x.T, target.T, w_1.T, w_2.T  # y = b a x
    errors = b @ a @ x - target
    a_new = a - eta * b.T @ errors @ x.T / x.shape[1]
    g = errors @ (a @ x).T
    g_new = (b @ a_new @ x - target) @ (a_new @ x).T
    shift = np.linalg.norm(g_new - g) / np.linalg.norm(g)
    return shift, np.sum(g * g_new) / np.linalg.norm(g) / np.linalg.norm(g_new)


@pytest.mark.parametrize("answer", [by_autograd, loop, features_first])
def test_gradient_change(answer):
    assert check("gradient-change", answer)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"step_of_second": 1.0}, "both layers"), ({"reduction": 1.0}, "the 1/2 of the loss")],
)
def test_gradient_change_wrong(options, says):
    def answer(*given):
        return by_autograd(*given, **options)

    assert says in check("gradient-change", answer).message


def test_a_difference_that_is_not_divided():
    def answer(x, target, w_1, w_2, eta):
        shift, cos = loop(x, target, w_1, w_2, eta)
        return shift * np.linalg.norm((x @ w_1).T @ (x @ w_1 @ w_2 - target) / len(x)), cos

    assert "divide by the norm of G" in check("gradient-change", answer).message
