import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn

from bnlib.doctor.observe import NotPossibleError
from bnlib.doctor.rules import mixed_populations as rule


def populations(data):
    """Each mini-batch from another place."""
    return [(x + number, y) for number, (x, y) in enumerate(data)]


def shuffled(data):
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return [*zip(x[order].chunk(len(data)), y[order].chunk(len(data)), strict=True)]


@pytest.mark.parametrize(("make", "data", "first"), [(mlp, features, "1"), (Residual, images, "b")])
def test_other_populations_are_found_and_shuffling_is_the_cure(make, data, first):
    model = make()
    [(where, evidence)] = found(rule, model, populations(data()))
    assert where == (first,)
    assert evidence["batches"] == 4
    assert found(rule, model, shuffled(populations(data()))) == []
    assert found(rule, model, data()) == found(rule, trained(model, data()), data()) == []


def test_the_ratio_is_the_f_statistic():
    stats = pytest.importorskip("scipy.stats")
    data = populations(features())
    model = nn.Sequential(nn.BatchNorm1d(5))
    expected = [stats.f_oneway(*(x[:, c].double() for x, _ in data)).statistic for c in range(5)]
    [(_, evidence)] = found(rule, model, data)
    assert evidence["ratio"] == pytest.approx(sorted(expected)[2], rel=1e-5)
    assert stats.f(3, 1000).sf(rule.RATIO) == pytest.approx(1 / 500, rel=0.1)
    assert stats.f(1, 1000).sf(rule.RATIO) == pytest.approx(1 / 40, rel=0.1)


def test_streams_within_a_step_are_another_rule():
    """Real and fake examples in turn, of which each mini-batch has both."""

    class Twice(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + super().forward(x + 5)

    assert found(rule, Twice(*mlp()), features()) == []


def test_too_little_to_say_is_skipped():
    for data in (features(3), features(4, 3)):
        with pytest.raises(NotPossibleError, match="4 mini-batches of 4 examples"):
            found(rule, mlp(), data)


def test_thresholds(monkeypatch):
    data = populations(features())
    ratio = found(rule, mlp(), data)[0][1]["ratio"]
    for name, value, is_found in (
        ("RATIO", 10 * ratio, False),
        ("BATCHES", 5, None),
        ("LEAST", 17, None),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(rule, name, value)
            if is_found is None:
                with pytest.raises(NotPossibleError):
                    found(rule, mlp(), data)
            else:
                assert found(rule, mlp(), data) == []
    monkeypatch.setattr(rule, "RATIO", 0.05)
    assert found(rule, mlp(), features())


def test_classes_that_only_the_last_norm_tells_apart_are_found():
    """The sign of a product tells them, which no single feature does."""

    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.BatchNorm1d(4), nn.BatchNorm1d(3)

        def forward(self, x):
            x = self.first(x)
            return self.last(x[:, 1:] * x[:, :1])

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    x[:, 1:] = x[:, :1].sign() * x[:, 1:].abs()
    x[32:, 1:] *= -1
    [(where, _)] = found(rule, Products(), [*x.split(16)])
    assert where == ("last",)
    assert found(rule, Products(), [x[i::4] for i in range(4)]) == []


class Frames(nn.Module):
    """Frames of clips in the place of examples, one clip after the other, or in turn."""

    def __init__(self, together):
        super().__init__()
        self.net, self.together = mlp(), together

    def forward(self, x):
        n, t = x.shape[:2]
        x = x.flatten(0, 1) if self.together else x.transpose(0, 1).flatten(0, 1)
        y = self.net(x)
        return y.view(n, t, -1).mean(1) if self.together else y.view(t, n, -1).mean(0)


@pytest.mark.parametrize("together", [True, False])
def test_frames_of_a_clip_are_one_example(together):
    generator = torch.Generator().manual_seed(3)
    clips = torch.randn(64, 1, 5, generator=generator)
    clips = clips + 0.1 * torch.randn(64, 16, 5, generator=generator)
    model = Frames(together)
    assert found(rule, model, clips.split(16)) == []
    offsets = 3 * torch.arange(4.0).repeat_interleave(16)[:, None, None]
    assert found(rule, model, (clips + offsets).split(16))


def test_nodes_of_graphs_are_skipped():
    def show(model, batch):
        return torch.zeros(5, 4).index_add(0, batch["graph"], model(batch["x"]))

    data = [{"x": torch.randn(17, 5), "graph": torch.arange(17) % 5} for _ in range(4)]
    with pytest.raises(NotPossibleError, match="equally many of each example"):
        found(rule, mlp(), data, show=show)
