"""What rules see of a model."""

import pytest
import torch
from doctor.planted import Residual, features, images, loss, mlp
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bnlib.doctor.case import NEEDS, Case, either, needed
from bnlib.doctor.observe import NotPossibleError


def test_what_there_is():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Case(model.state_dict()).has == {"state"}
    assert Case(model).has == {"state", "structure"}
    assert Case(model, features(), optimizer=optimizer).has == NEEDS.keys() - {"watch"}
    assert either("forward or watch") == ["forward", "watch"]
    assert needed("forward or watch") == f"{NEEDS['forward']} or {NEEDS['watch']}"


def test_what_there_is_not_says_how_to_give_it():
    case = Case(mlp().state_dict())
    for attribute in ("model", "optimizer"):
        with pytest.raises(
            NotPossibleError, match="optimizer=" if attribute[0] == "o" else "model"
        ):
            getattr(case, attribute)
    with pytest.raises(NotPossibleError, match="batches="):
        Case(mlp()).forward(training=True)


@pytest.mark.parametrize(("make", "data"), [(mlp, features), (Residual, images)])
def test_alone_compares_the_first_example_among_its_copies(make, data):
    model = make().double().eval()
    x = data()[0][0].double()
    case = Case(model, data())
    [whole], [alone] = case.alone
    with torch.no_grad():
        torch.testing.assert_close(whole, model(x)[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(alone, model(x[:1])[0], rtol=1e-12, atol=1e-15)
    assert whole.dtype == torch.float64


def test_alone_with_companions_that_matter():
    model = nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False))
    [whole], [alone] = Case(model, features()).alone
    x = features()[0][0].double()
    torch.testing.assert_close(whole, F.batch_norm(x, None, None, training=True)[0])
    assert alone.abs().max() < 1e-12  # among copies each value is the mean


def test_alone_needs_tensors_of_one_size_and_an_output_per_example():
    odd = [(torch.randn(4, 5), torch.zeros(3))]
    for data, message in ((odd, "more than one example"), (features(1, 1), "more than one")):
        with pytest.raises(NotPossibleError, match=message):
            _ = Case(mlp(), data).alone
    case = Case(mlp(), features(), show=lambda model, batch: model(batch[0]).mean(0))
    with pytest.raises(NotPossibleError, match="one entry per example"):
        _ = case.alone


def test_gradients_are_those_of_autograd_in_both_modes():
    model, data = mlp(bias=True), features()
    found = Case(model, data, loss=loss).backward
    reference = mlp(bias=True).double()
    reference.load_state_dict(model.state_dict())
    for training in (False, True):  # train mode would move the statistics
        reference.train(training)
        reference.zero_grad()
        loss(reference(data[0][0].double()), data[0]).backward()
        for name, parameter in reference.named_parameters():
            torch.testing.assert_close(found[training].parameters[name], parameter.grad)
        assert found[training].arriving.keys() == {"0", "1", "3", "4", "6"}


def test_values_are_those_of_passes_that_were_made():
    case = Case(mlp(), [*features(2), (torch.randn(3, 5), torch.zeros(3))])
    assert case.values() == {}
    case.forward(training=True)
    assert case.values() == {"1": 3, "4": 3}


def test_a_pass_that_one_value_ends():
    case = Case(mlp(), features(1, 1))
    assert case.attempt(training=True).failed == "1"
    with pytest.raises(NotPossibleError, match='"1" has one value per mean'):
        case.forward(training=True)
