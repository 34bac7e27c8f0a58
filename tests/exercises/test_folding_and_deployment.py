import numpy as np
import pytest
import torch

from bnlib.exercises import check
from bnlib.functional import batch_norm_inference


@pytest.mark.parametrize("answer", [(10, -3), np.array([[10.0], [-3.0]])])
def test_fold_by_hand(answer):
    assert check("fold-by-hand", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((10, 2 + 1 - 8), "did not scale the bias"),
        ((5 * 6 / np.sqrt(8), 1 + 6 * (2 - 4) / np.sqrt(8)), "left eps out"),
    ],
)
def test_fold_by_hand_wrong(answer, says):
    assert says in check("fold-by-hand", answer).message


def after_loop(weight, bias, gamma, beta, mean, var, eps):
    new_weight, new_bias = weight.copy(), bias.copy()
    for o in range(len(bias)):
        s = gamma[o] / (var[o] + eps) ** 0.5
        new_weight[o] *= s
        new_bias[o] = beta[o] + s * (bias[o] - mean[o])
    return new_weight, new_bias


def after_diagonal(weight, bias, gamma, beta, mean, var, eps):
    scale = np.diag(gamma / np.sqrt(var + eps))
    return scale @ weight, scale @ (bias - mean) + beta


def after_probed(weight, bias, *bn):
    """Read the affine map off its values at 0 and at the unit vectors."""
    gamma, beta, mean, var, eps = bn
    x = np.vstack([0 * bias, np.eye(len(bias))])
    y = batch_norm_inference(x @ weight.T + bias, mean, var, gamma, beta, eps=eps)
    return (y[1:] - y[0]).T, y[0]


def after_in_torch(weight, bias, gamma, beta, mean, var, eps):
    given = [torch.tensor(a) for a in (weight, bias, mean, var)]
    fuse = torch.nn.utils.fusion.fuse_linear_bn_weights
    return fuse(*given, eps, torch.tensor(gamma), torch.tensor(beta))


@pytest.mark.parametrize("answer", [after_loop, after_diagonal, after_probed, after_in_torch])
def test_fold_after(answer):
    assert check("fold-after", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *given: after_diagonal(*given[:-1], 0.0), "left eps out"),
        (lambda w, b, *bn: (after_diagonal(w.T, b, *bn)[0].T, after_loop(w, b, *bn)[1]), "columns"),
        (lambda w, b, *bn: (after_loop(w, b, *bn)[0], b + after_loop(w, 0 * b, *bn)[1]), "scale"),
        (lambda w, b, g, t, mean, *more: after_loop(w, b, g, t, -mean, *more), "added the mean"),
        (lambda w, b, g, t, mu, var, eps: after_loop(w, b, g, t, mu, (var + eps) ** 2, 0), "root"),
    ],
)
def test_fold_after_wrong(answer, says):
    assert says in check("fold-after", answer).message


def before_loop(gamma, beta, mean, var, eps, weight, bias):
    new_weight, new_bias = np.empty_like(weight), bias.copy()
    for o, row in enumerate(weight):
        for j, w in enumerate(row):
            new_weight[o, j] = w * gamma[j] / (var[j] + eps) ** 0.5
            new_bias[o] += w * beta[j] - new_weight[o, j] * mean[j]
    return new_weight, new_bias


def before_diagonal(gamma, beta, mean, var, eps, weight, bias):
    new = weight @ np.diag(gamma / np.sqrt(var + eps))
    return new, bias + weight @ beta - new @ mean


def before_probed(gamma, beta, mean, var, eps, weight, bias):
    x = np.vstack([0 * mean, np.eye(len(mean))])
    y = batch_norm_inference(x, mean, var, gamma, beta, eps=eps) @ weight.T + bias
    return (y[1:] - y[0]).T, y[0]


@pytest.mark.parametrize("answer", [before_loop, before_diagonal, before_probed])
def test_fold_into_linear(answer):
    assert check("fold-into-linear", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *given: after_loop(*given[5:], *given[:5]), "as if the BN came after"),
        (lambda *given: before_diagonal(*given[:4], 0.0, *given[5:]), "left eps out"),
        (lambda *given: before_diagonal(*given[:6], 0.0), "dropped the bias"),
        (
            lambda *given: (
                before_diagonal(*given)[0],
                before_diagonal(*given[:5], np.eye(len(given[0])), given[6])[1],
            ),
            "passes through the weights",
        ),
    ],
)
def test_fold_into_linear_wrong(answer, says):
    assert says in check("fold-into-linear", answer).message
