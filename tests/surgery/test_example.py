"""The network of the examples learns, and trains the same each time."""

import torch

from bnlib.surgery.example import digits_images, train_cnn


def test_network_learns_and_is_reproducible():
    state = torch.get_rng_state()
    net, again = train_cnn(), train_cnn()
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[key])
    _, _, x, y = digits_images()
    assert (net.eval()(x).argmax(1) == y).double().mean() > 0.9
    assert not torch.equal(train_cnn(epochs=1, seed=1)[0].weight, train_cnn(epochs=1)[0].weight)
