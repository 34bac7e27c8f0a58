import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, mlp, trained
from surgery.batch_norm_act import BatchNormAct2d
from torch import nn

from bnlib.doctor.rules import norm_at_output as rule


class Ending(Residual):
    """Ends with a norm; what `forward` gives besides does not matter."""

    def __init__(self):
        super().__init__()
        self.f = nn.BatchNorm1d(4)

    def forward(self, x):
        return {"logits": self.f(super().forward(x)), "size": x.shape}


def test_a_norm_at_the_end_is_found():
    perceptron = nn.Sequential(*mlp(), nn.BatchNorm1d(4))
    for model, data, name in ((perceptron, features(), "7"), (Ending(), images(), "f")):
        [each] = checked(rule, model, data)
        assert (each.where, each.evidence, each.severity) == ((name,), {"channels": 4}, None)


def test_the_mean_of_all_predictions_is_the_shift():
    model = nn.Sequential(*mlp(), nn.BatchNorm1d(4))
    nn.init.normal_(model[7].bias)
    for x, _ in features():
        torch.testing.assert_close(model(10 * x).mean(0), model[7].bias)


@pytest.mark.parametrize(("make", "data"), [(mlp, features), (Residual, images)])
def test_linear_ends_are_healthy(make, data):
    assert found(rule, make(), data()) == found(rule, trained(make(), data()), data()) == []


def test_what_is_done_to_the_output_counts():
    class InPlace(nn.Sequential):
        def forward(self, x):
            return super().forward(x).add_(1)

    activated = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4))
    model = nn.Sequential(*mlp(), nn.BatchNorm1d(4), nn.ReLU(inplace=True))
    for healthy, data in (
        (InPlace(*mlp(), nn.BatchNorm1d(4)), features()),
        (model, features()),
        (activated, images()),
    ):
        assert found(rule, healthy, data) == []
    assert found(rule, model[:-1], features())[0][0] == ("7",)
    assert found(rule, nn.Sequential(*mlp(), nn.BatchNorm1d(4))[:-1], features()) == []  # the cure


def test_embeddings_and_feature_maps_are_notes():
    embedding = nn.Sequential(*mlp(), nn.BatchNorm1d(4, affine=False))
    maps = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    for model, data in ((embedding, features()), (maps, images())):
        assert [each.severity for each in checked(rule, model, data)] == ["note"]


def test_instance_norms_and_norms_in_eval_mode_are_healthy():
    styled = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4))
    assert found(rule, styled, images()) == []
    model = nn.Sequential(*mlp(), nn.BatchNorm1d(4))
    model[7].eval()
    assert found(rule, model, features()) == []


def test_outputs_on_purpose_are_notes():
    embedding = nn.Sequential(*mlp(), nn.BatchNorm1d(4))
    embedding[7].weight.requires_grad_(False)

    class Neck(nn.Sequential):
        def forward(self, x):
            features = super().forward(x)
            return features.sum(1), features

    for model in (embedding, Neck(*mlp(), nn.BatchNorm1d(4))):
        assert [each.severity for each in checked(rule, model, features())] == ["note"]


def test_a_view_of_the_output_is_found():
    class Squeezed(nn.Sequential):
        def forward(self, x):
            return super().forward(x).squeeze(1)

    model = Squeezed(*mlp()[:-1], nn.Linear(8, 1), nn.BatchNorm1d(1))
    [each] = checked(rule, model, features())
    assert (each.where, each.severity) == (("7",), None)
