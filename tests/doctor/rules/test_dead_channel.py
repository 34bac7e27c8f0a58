import pytest
import torch
from doctor.planted import Residual, checked, features, found, images, mlp, trained

from bnlib.doctor.rules import dead_channel as rule


def cut(model, name, channels):
    """Set the weights of the layer before a norm to zero, for the first channels."""
    with torch.no_grad():
        model.get_submodule(name).weight[:channels] = 0
    return model


CASES = [(mlp, features, "3", "4", 8), (Residual, images, "c", "d", 6)]


@pytest.mark.parametrize(("make", "data", "layer", "norm", "of"), CASES)
def test_dead_channels_are_found_in_data_and_in_statistics(make, data, layer, norm, of):
    model = cut(make(), layer, 2)
    expected = [((norm,), {"channels": 2, "share": 2 / of})]
    assert found(rule, model, data()) == expected
    for _ in range(100):
        for batch in data():
            model(batch[0])
    assert found(rule, model) == found(rule, model.state_dict()) == expected


def test_most_of_a_layer_is_a_warning():
    for channels, severity in ((4, None), (5, "warning")):
        [each] = checked(rule, cut(mlp(), "3", channels), features())
        assert each.severity == severity


@pytest.mark.parametrize(("make", "data"), [(mlp, features), (Residual, images)])
def test_new_and_trained_models_are_healthy(make, data):
    model = make()
    assert found(rule, model) == found(rule, model, data()) == []
    trained(model, data())
    assert found(rule, model) == found(rule, model, data()) == []


def test_what_the_limit_says():
    """At a hundredth of eps, the output has a tenth of a standard deviation."""
    x = torch.randn(1000, 1, dtype=torch.float64)
    x = (x - x.mean()) / x.std(correction=0) * (rule.BELOW_EPS * 1e-5) ** 0.5
    norm = torch.nn.BatchNorm1d(1, dtype=torch.float64)
    assert float(norm(x).detach().std()) == pytest.approx(0.1, rel=0.01)
    norm.eval()
    norm.running_var.zero_()
    norm.running_mean.zero_()
    assert norm(torch.ones(2, 1, dtype=torch.float64))[0].item() == pytest.approx(316, rel=0.01)


def test_thresholds(monkeypatch):
    model = mlp()
    model[4].running_var[0] = 2e-7
    assert found(rule, model) == []
    monkeypatch.setattr(rule, "BELOW_EPS", 0.03)
    assert found(rule, model)[0][0] == ("4",)
    monkeypatch.setattr(rule, "MANY", 0.1)
    assert checked(rule, model)[0].severity == "warning"


def test_a_value_that_the_mini_batches_lack_is_rare_and_not_dead():
    norm = torch.nn.BatchNorm1d(5)
    data = [(torch.cat([x[:, :4], torch.zeros(len(x), 1)], 1), y) for x, y in features()]
    assert found(rule, norm, data) == [(("",), {"channels": 1, "share": 0.2})]
    norm.running_mean.fill_(0.1)
    norm.running_var.fill_(0.5)  # it has seen the value elsewhere
    assert found(rule, norm, data) == []
    norm.running_var[4] = 0
    assert found(rule, norm, data) == [(("",), {"channels": 1, "share": 0.2})]


def test_a_small_layer_scale_is_no_cut():
    """A new network may begin its branches at 1e-6: tiny values, which are not constant."""
    for scale, severity in ((1e-6, None), (1e-9, "warning")):
        norm = torch.nn.BatchNorm1d(5)
        [each] = checked(rule, norm, [(scale * x, y) for x, y in features()])
        assert each.severity == severity
