import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp
from torch import nn

from bnlib.doctor import examine, watch
from bnlib.doctor.rules import few_values as rule
from bnlib.nn import GhostBatchNorm1d, InstanceNorm2d
from bnlib.surgery import freeze


def test_small_batches_of_features_are_found():
    assert found(rule, mlp(), features(2, 4)) == [(("1", "4"), {"values": 4, "last_batch": False})]


def test_one_value_is_an_error_though_torch_refuses_it():
    model = mlp()
    report = examine(model, features(2, 1))
    [finding] = report.findings
    assert (finding.rule, finding.severity, finding.where) == ("few-values", "error", ("1",))
    assert '"1" has one value per mean' in report.skipped["idle-bias"]
    assert report.norms[0].values == 1


def test_squeezed_maps_of_one_image_are_found():
    squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert found(rule, squeeze, images(1, 2)) == [(("2",), {"values": 2, "last_batch": False})]


def test_two_images_have_many_values():
    assert found(rule, Residual(), images(1, 2)) == []


def test_norms_in_eval_mode_on_purpose_are_healthy():
    model = mlp()
    freeze(model)
    assert found(rule, model, features(2, 4)) == []
    model = mlp().train()
    model[1].eval()
    model[4].eval()
    assert found(rule, model, features(2, 1)) == []


def loader(examples, drop_last=False):
    data = torch.utils.data.TensorDataset(torch.randn(examples, 5))
    return torch.utils.data.DataLoader(data, batch_size=16, drop_last=drop_last)


def test_the_last_batch_of_a_loader_counts_though_it_is_not_read():
    [finding] = examine(mlp(), loader(16 * 20 + 1)).findings
    assert finding.evidence == {"values": 1, "last_batch": True}
    assert finding.severity == "error"
    for healthy in (loader(16 * 20), loader(16 * 20 + 1, drop_last=True), loader(16 * 20 + 9)):
        assert examine(mlp(), healthy).findings == ()


def test_ghost_batches_and_instance_norms_count_their_own_values():
    ghosts = nn.Sequential(nn.Linear(5, 8), GhostBatchNorm1d(8, ghost_size=4))
    assert found(rule, ghosts, features(1, 16))[0][1]["values"] == 4
    instance = nn.Sequential(nn.AdaptiveAvgPool2d(2), InstanceNorm2d(3))
    assert found(rule, instance, images(1, 16))[0][1]["values"] == 4


def test_watched_loop():
    model = mlp()
    with watch(model) as record:
        for batch in [*features(3), features(1, 3)[0]]:
            model(batch[0])
    [finding] = record.report(select=["few-values"]).findings
    assert finding.evidence["values"] == 3


@pytest.mark.parametrize(("size", "is_found"), [(8, True), (9, False)])
def test_threshold(size, is_found, monkeypatch):
    assert bool(found(rule, mlp(), features(1, size))) == is_found
    monkeypatch.setattr(rule, "FEWEST", 9 if size == 9 else 8)
    assert not found(rule, mlp(), features(1, size))
    monkeypatch.setattr(rule, "FEWEST", size + 1)
    assert found(rule, mlp(), features(1, size))


def test_threshold_of_an_error(monkeypatch):
    for limit, severity in ((2, None), (3, "error")):
        monkeypatch.setattr(rule, "HOPELESS", limit)
        [finding] = examine(mlp(), features(1, 3)).findings
        assert finding.severity == (severity or rule.SEVERITY)


def test_single_examples_of_a_deployed_model_are_not_those_of_training():
    report = examine(mlp().eval(), features(2, 1), select=["few-values"])
    assert "train mode refuses those" in report.skipped["few-values"]
    last = [*features(2), *features(1, 1)]  # but this is the end of an epoch
    [finding] = examine(mlp().eval(), last, select=["few-values"]).findings
    assert finding.evidence["values"] == 1
