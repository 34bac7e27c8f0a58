"""Split batch norm against one torch layer per stream."""

import pytest
import torch
from torch import nn

from bnlib import nn as bnn

SHAPES = {"1d": (4, 3), "2d": (4, 3, 2, 5), "3d": (2, 3, 2, 3, 2)}


@pytest.mark.parametrize("axes", SHAPES)
def test_each_stream_is_a_layer_of_its_own(axes, kernel):
    peers = [getattr(nn, f"BatchNorm{axes}")(3, dtype=torch.float64) for _ in range(3)]
    for peer in peers:
        nn.init.normal_(peer.weight)
    module = getattr(bnn, f"SplitBatchNorm{axes}")(3, dtype=torch.float64, streams=3)
    for stream, peer in zip(module.streams, peers, strict=True):
        stream.load_state_dict(peer.state_dict(), strict=True)
    for s in (0, 2, 2, 1):
        x = s + 2 * torch.randn(SHAPES[axes], dtype=torch.float64)
        module.stream = s
        torch.testing.assert_close(module(x), peers[s](x))
    module.eval()
    for s, peer in enumerate(peers):
        peer.load_state_dict(module.streams[s].state_dict(), strict=True)
        with bnn.use_stream(module, s):
            torch.testing.assert_close(module(x), peer.eval()(x))
    assert module.stream == 1


def test_only_the_stream_in_use_gets_gradients():
    module = bnn.SplitBatchNorm1d(2)
    with bnn.use_stream(module, 1):
        module(torch.randn(4, 2)).pow(3).sum().backward()
    assert module.streams[0].weight.grad is None
    assert module.streams[1].weight.grad is not None


def model():
    inner = nn.Sequential(nn.Conv2d(1, 2, 1), bnn.SplitBatchNorm2d(2))
    return nn.Sequential(inner, nn.Flatten(), bnn.SplitBatchNorm1d(8, streams=3))


def fail_inside(net, stream):
    with bnn.use_stream(net, stream):
        assert (net[0][1].stream, net[2].stream) == (stream, stream)
        raise KeyError


def test_use_stream_reaches_a_whole_model_and_puts_back_what_was():
    net = model()
    net[2].stream = 2
    with pytest.raises(KeyError):
        fail_inside(net, 1)
    assert (net[0][1].stream, net[2].stream) == (0, 2)


def test_a_stream_that_one_layer_has_not_is_refused_everywhere():
    net = model()
    with (
        pytest.raises(ValueError, match="stream: expected less than 2, got 2"),
        bnn.use_stream(net, 2),
    ):
        pass
    assert (net[0][1].stream, net[2].stream) == (0, 0)
    with pytest.raises(ValueError, match="model"), bnn.use_stream(nn.Linear(2, 2), 0):
        pass


@pytest.mark.parametrize(("stream", "error"), [(-1, ValueError), (2, ValueError), ("a", TypeError)])
def test_wrong_stream(stream, error):
    module = bnn.SplitBatchNorm1d(2)
    with pytest.raises(error, match="stream"):
        module.stream = stream
    assert module.stream == 0


def test_state_of_a_plain_model_goes_to_each_stream():
    plain = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    plain(torch.randn(8, 2))
    nn.init.normal_(plain[1].weight)
    split = nn.Sequential(nn.Linear(2, 3), bnn.SplitBatchNorm1d(3, streams=3))
    state = plain.state_dict()
    split.load_state_dict(state, strict=True)
    assert list(state) == list(plain.state_dict())
    x = torch.randn(4, 2)
    for s in range(3):
        with bnn.use_stream(split.eval(), s):
            torch.testing.assert_close(split(x), plain.eval()(x))
    split[1].streams[0].weight.data.zero_()
    assert split[1].streams[1].weight.abs().min() > 0


def test_state_of_a_plain_layer_is_assigned_to_each_stream_by_itself():
    plain = nn.BatchNorm1d(3)
    split = bnn.SplitBatchNorm1d(3, streams=2)
    split.load_state_dict(plain.state_dict(), assign=True)
    split(5 + torch.randn(8, 3)).sum().backward()
    torch.optim.SGD(split.streams[0].parameters(), lr=0.1).step()
    assert all(
        map(torch.equal, split.streams[1].state_dict().values(), plain.state_dict().values())
    )
    assert not torch.equal(split.streams[0].running_mean, plain.running_mean)
    assert not torch.equal(split.streams[0].bias, plain.bias)
