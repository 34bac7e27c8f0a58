import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bnlib.doctor.observe import NotPossibleError
from bnlib.doctor.rules import leak_through_batch as rule
from bnlib.surgery import recalibrate


class Functional(Residual):
    """The second norm is called as a function, in train mode for good, as `always` says."""

    def __init__(self, always=True):
        super().__init__()
        self.always = always
        nn.init.ones_(self.d.weight)

    def forward(self, x):
        x = F.relu(self.b(self.a(x)))
        d = self.d
        own = (d.running_mean, d.running_var, d.weight, d.bias)
        x = x + F.batch_norm(self.c(x), *own, training=self.always or self.training)
        return self.e(x.mean((2, 3)))


class WithoutNorm(nn.Module):
    """What is not standardized by a module leaks, too."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return self.head((x - x.mean(0)) / (x.std(0) + 1))


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(5), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.norm(x) - x.mean(0))


def without(channels):
    return nn.BatchNorm1d(channels, track_running_stats=False)


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (lambda: mlp(norm=without), features),
        (Functional, images),
        (ByHand, features),
        (WithoutNorm, features),
    ],
)
def test_companions_that_matter_are_found(make, data):
    model = make().eval()
    [(where, evidence)] = found(rule, model, data())
    assert where == ("",)
    model.double()
    x = data()[0][0].double()
    with torch.no_grad():
        a, b = model(x)[0], model(torch.stack([x[0]] * len(x)))[0]
    expected = (a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max())
    assert evidence["difference"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "data"), [(mlp, features), (Residual, images), (lambda: Functional(False), images)]
)
def test_running_statistics_are_healthy(make, data):
    assert found(rule, make(), data()) == []
    assert found(rule, trained(make(), data()), data()) == []


def test_the_cure_works():
    model = mlp(norm=without)
    for norm in (model[1], model[4]):
        norm.track_running_stats = True
        norm.running_mean, norm.running_var = torch.zeros(8), torch.ones(8)
    recalibrate(model, features())
    assert found(rule, model, features()) == []


def test_random_numbers_in_eval_mode_are_no_leak():
    class Sampled(nn.Sequential):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    assert found(rule, Sampled(*mlp()), features()) == []


def test_instance_norms_and_rounding_are_no_leak():
    class Single(nn.Sequential):
        def forward(self, x):
            assert x.dtype == torch.float32
            return super().forward(x)

    instance = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.Flatten())
    for model, data in ((instance, images()), (Single(*mlp()), features())):
        assert found(rule, model, data) == []
    assert found(rule, Single(*mlp(norm=without)), features())


def test_what_cannot_be_compared_is_skipped():
    class Sum(nn.Sequential):
        def forward(self, x):
            return super().forward(x).sum()

    for model, data, message in (
        (mlp(), features(1, 1), "more than one example"),
        (Sum(*mlp()), features(), "one entry per example"),
    ):
        with pytest.raises(NotPossibleError, match=message):
            found(rule, model, data)


def test_threshold(monkeypatch):
    model = mlp(norm=without)
    monkeypatch.setattr(rule, "ROUNDING", -0.1)
    assert found(rule, model, features()) == []
