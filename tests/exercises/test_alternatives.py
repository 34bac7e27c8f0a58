import numpy as np
import pytest
import torch

from bnlib.exercises import check


def loop(x, groups, eps):
    n, c, size = len(x), x.shape[3], x.shape[3] // groups
    x_hat = np.empty_like(x)
    for i in range(n):
        for first in range(0, c, size):
            part = x[i, :, :, first : first + size]
            var = np.square(part - part.mean()).mean()
            x_hat[i, :, :, first : first + size] = (part - part.mean()) / (var + eps) ** 0.5
    return x_hat


def in_torch(x, groups, eps):
    channels_first = torch.tensor(x).permute(0, 3, 1, 2)
    return torch.nn.functional.group_norm(channels_first, groups, eps=eps).permute(0, 2, 3, 1)


def merged_pixels(x, groups, eps):
    n, h, w, c = x.shape
    parts = x.reshape(n, h * w, groups, -1).swapaxes(1, 2).reshape(n, groups, -1)
    parts = parts - parts.mean(2, keepdims=True)
    parts /= np.sqrt((parts**2).mean(2, keepdims=True) + eps)
    return parts.reshape(n, groups, h * w, -1).swapaxes(1, 2).reshape(n, h, w, c)


@pytest.mark.parametrize("answer", [loop, in_torch, merged_pixels])
def test_group_norm_channels_last(answer):
    assert check("group-norm-channels-last", answer)


def axes_of_channels_first(x, groups, eps):
    n, h, w, c = x.shape
    return torch.nn.functional.group_norm(torch.tensor(x).view(n, c, h, w), groups, eps=eps).view(
        n, h, w, c
    )


def every_k_th_channel(x, groups, eps):
    x_hat = np.empty_like(x)
    for g in range(groups):
        part = x[..., g::groups]
        mean, var = (f(part, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
        x_hat[..., g::groups] = (part - mean) / np.sqrt(var + eps)
    return x_hat


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (axes_of_channels_first, "as if the channels came first"),
        (every_k_th_channel, "every k-th channel"),
        (lambda x, groups, eps: loop(x, x.shape[3] // groups, eps), "the number of channels in"),
        (lambda x, groups, eps: loop(x, x.shape[3], eps), "that is instance norm"),
        (lambda x, groups, eps: in_torch(x, 1, eps), "that is layer norm"),
    ],
)
def test_group_norm_channels_last_wrong(answer, says):
    assert says in check("group-norm-channels-last", answer).message


def counting_down(c, wanted, positions):
    g = min(c, wanted)
    while c % g or c * positions < 4 * g:
        g -= 1
    return g


def from_divisors(c, wanted, positions):
    sizes = np.arange(1, c + 1)
    sizes = sizes[(c % sizes == 0) & (sizes * positions >= 4) & (c // sizes <= wanted)]
    return c // sizes.min()


def recursive(c, wanted, positions):
    if c % wanted == 0 and c // wanted * positions >= 4:
        return wanted
    return recursive(c, wanted - 1, positions)


@pytest.mark.parametrize("answer", [counting_down, from_divisors, recursive])
def test_groups_for(answer):
    assert check("groups-for", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.gcd, "TypeError"),  # two arguments only
        (lambda c, wanted, positions: np.gcd(c, wanted), "common divisor"),
        (lambda c, wanted, positions: counting_down(c, wanted, 1), "forget its pixels"),
        (lambda c, wanted, positions: counting_down(c, wanted, 4), "erases the data"),
        (lambda c, wanted, positions: counting_down(c, wanted, 2 * positions), "only a sign"),
    ],
)
def test_groups_for_wrong(answer, says):
    assert says in check("groups-for", answer).message


@pytest.mark.parametrize("answer", [(128, 96, 16, 32), np.array([128.0, 96, 16, 32])])
def test_values_that_share_a_mean(answer):
    assert check("values-that-share-a-mean", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((8 * 4 * 4, 6 * 4 * 4, 4 * 4, 3 * 4 * 4), "number of groups"),
        ([8, 6, 1, 2], "forgot the pixels: they"),
    ],
)
def test_values_that_share_a_mean_wrong(answer, says):
    assert says in check("values-that-share-a-mean", answer).message
