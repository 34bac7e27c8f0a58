import numpy as np
import pytest
import torch

from bnlib.exercises import check
from bnlib.functional import batch_norm_forward, instance_norm_forward


@pytest.mark.parametrize("answer", [(401_408, 128), [32 * 112**2, 2 * 64], np.array([401408, 128])])
def test_count(answer):
    assert check("count", answer)


def test_count_per_position():
    assert "per position" in check("count", (32, 2 * 64 * 112 * 112)).message


def loop(x, gamma, beta, eps):
    y = np.empty_like(x)
    for c, (scale, shift) in enumerate(zip(gamma, beta, strict=True)):
        values = [v for image in x for v in image[c].ravel()]
        mean = sum(values) / len(values)
        var = sum((v - mean) ** 2 for v in values) / len(values)
        y[:, c] = scale * (x[:, c] - mean) / (var + eps) ** 0.5 + shift
    return y


def transposed(x, gamma, beta, eps):
    rows = np.moveaxis(x, 1, -1)
    y, _ = batch_norm_forward(rows.reshape(-1, x.shape[1]), gamma, beta, eps=eps)
    return np.moveaxis(y.reshape(rows.shape), -1, 1)


def pytorch(x, gamma, beta, eps):
    x, gamma, beta = map(torch.tensor, (x, gamma, beta))
    return torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


@pytest.mark.parametrize("answer", [loop, transposed, pytorch])
def test_bn_of_images(answer):
    assert check("bn-of-images", answer)


def mixed(x, gamma, beta, eps):
    rows = x.reshape(-1, x.shape[1])
    return batch_norm_forward(rows, gamma, beta, eps=eps)[0].reshape(x.shape)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (mixed, "without moving the channels"),
        (lambda x, gamma, beta, eps: instance_norm_forward(x, gamma, beta, eps=eps)[0], "instance"),
        (
            lambda x, gamma, beta, eps: loop(x, gamma**0, 0 * beta, eps) * gamma + beta,
            "along the width",
        ),
        (
            lambda x, gamma, beta, eps: (
                torch.nn.functional.layer_norm(torch.tensor(x), x.shape[1:], eps=eps)
                * torch.tensor(gamma)[:, None, None]
                + torch.tensor(beta)[:, None, None]
            ),
            "layer norm",
        ),
    ],
)
def test_bn_of_images_wrong(answer, says):
    assert says in check("bn-of-images", answer).message
