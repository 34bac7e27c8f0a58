import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp
from random_inputs import SEED
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bnlib.doctor.rules import padding_in_statistics as rule
from bnlib.nn import MaskedBatchNorm1d

LENGTH = 20


def sequences(size=40, shortest=5, before=False):
    """Signals of several lengths (n, 3, l), filled up with zeros, and their masks (n, 1, l)."""
    generator = torch.Generator().manual_seed(SEED)
    lengths = torch.randint(shortest, LENGTH + 1, (size, 1), generator=generator)
    mask = (torch.arange(LENGTH) < lengths)[:, None]
    mask = mask.flip(2) if before else mask
    return [(torch.randn(size, 3, LENGTH, generator=generator) * mask, mask)] * 2


class Words(nn.Module):
    """Embeddings of word 0 for the padding, a residual sum, a functional activation."""

    def __init__(self, masked=False):
        super().__init__()
        self.embed, self.masked = nn.Embedding(9, 6), masked
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.norm = (MaskedBatchNorm1d if masked else nn.BatchNorm1d)(6)

    def forward(self, batch):
        words, mask = batch
        x = self.embed(words).transpose(1, 2)
        x = x + F.relu(self.conv(x))
        return self.norm(x, mask) if self.masked else self.norm(x)


def words(size=40):
    mask = sequences(size)[0][1]
    text = torch.randint(1, 9, (size, LENGTH), generator=torch.Generator().manual_seed(SEED))
    return [((text * mask[:, 0], mask[:, 0]), None)] * 2


def show(model, batch):
    return model(batch[0])


@pytest.mark.parametrize("before", [False, True])
def test_padded_signals_are_found(before):
    data = sequences(before=before)
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4))
    [(where, evidence)] = found(rule, model, data)
    assert where == ("1",)
    filler = 1 - float(data[0][1].double().mean())
    assert evidence["share"] == pytest.approx(filler, abs=0.1)  # without the very edge
    assert evidence["share"] <= filler


def test_padded_words_are_found_and_a_mask_is_the_cure():
    [(where, _)] = found(rule, Words(), words(), show=show)
    assert where == ("norm",)
    assert found(rule, Words(masked=True), words(), show=show) == []


def test_full_sequences_images_and_features_are_healthy():
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4))
    assert found(rule, model, sequences(shortest=LENGTH)) == []
    assert found(rule, mlp(), features()) == found(rule, Residual(), images()) == []


def test_zeros_that_a_relu_makes_are_no_padding():
    """With two channels, a quarter of the positions are zero in both."""
    model = nn.Sequential(nn.Conv1d(3, 2, 1), nn.ReLU(), nn.BatchNorm1d(2))
    nn.init.dirac_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    data = sequences(shortest=LENGTH)
    zero = (model[:2](data[0][0]) == 0).all(1).double().mean()
    assert zero > rule.SHARE
    assert found(rule, model, data) == []


def test_frozen_norms_do_not_average():
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4))
    model[1].eval()
    assert found(rule, model, sequences()) == []


def test_thresholds(monkeypatch):
    model, data = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4)), sequences()
    share = found(rule, model, data)[0][1]["share"]
    for name, value in (("SHARE", share * 1.01), ("LEAST_CHANNELS", 5)):
        with monkeypatch.context() as patch:
            patch.setattr(rule, name, value)
            assert found(rule, model, data) == []
    mixed = nn.Sequential(nn.Conv1d(3, 4, 5, padding=2), nn.BatchNorm1d(4))
    data = [(x + 1, mask) for x, mask in data]  # no zeros, as those that the convolution adds
    assert found(rule, mixed, data)
    monkeypatch.setattr(rule, "EDGE", 0)  # then the last position differs from the rest
    assert found(rule, mixed, data) == []
