import pytest
import torch
from doctor.planted import (
    Residual,
    checked,
    features,
    found,
    images,
    in_turn_with_a_generator,
    loss,
    mlp,
    watched,
)

from bnlib.doctor.rules import two_forwards as rule
from bnlib.nn import SplitBatchNorm1d, use_stream

CASES = [(mlp, features, ("1", "4")), (Residual, images, ("b", "d"))]


def views(model, joint):
    def step(batch):
        one, other = batch[0], batch[0].flip(-1)
        if joint:
            a, b = model(torch.cat([one, other])).chunk(2)
        else:
            a, b = model(one), model(other)
        (a - b).square().mean().backward()

    return step


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_two_views_are_found_and_a_joint_pass_is_the_cure(make, data, names):
    model = make()
    record = watched(model, data(3), views(model, False))
    assert record.patterns == {"ffbs": 3}
    assert found(rule, model, record=record) == [(names, {"steps": 3, "of": 3})]
    assert found(rule, model, record=watched(model, data(3), views(model, True))) == []


def test_a_look_at_the_accuracy_is_found():
    model = mlp()

    def step(batch):
        loss(model(batch[0]), batch).backward()
        model(batch[0]).argmax(1)

    record = watched(model, features(3), step)
    assert [each.evidence for each in checked(rule, model, record=record)] == [
        {"steps": 3, "of": 3}
    ]


def test_split_statistics_are_the_other_cure():
    model = mlp(norm=lambda c: SplitBatchNorm1d(c, streams=2))

    def step(batch):
        outputs = []
        for stream in (0, 1):
            with use_stream(model, stream):
                outputs.append(model(batch[0] + stream))
        (outputs[0] - outputs[1]).square().mean().backward()

    assert found(rule, model, record=watched(model, features(3), step)) == []


@pytest.mark.parametrize(("make", "data", "names"), CASES)
def test_plain_and_accumulated_steps_and_evaluations_are_healthy(make, data, names):
    model = make()

    def evaluated(batch):
        loss(model.train()(batch[0]), batch).backward()
        with torch.no_grad():
            model.eval()(batch[0])

    for record in (
        watched(model, data(4)),
        watched(model, data(4), every=2),
        watched(model, data(4), evaluated),
    ):
        assert found(rule, model, record=record) == []


def test_a_part_without_gradient_is_no_second_pass():
    """No backward pass is seen where the first parameter gets no gradient."""
    model = mlp()

    def step(batch):
        with torch.no_grad():
            x = model[:3](batch[0])
        loss(model[3:](x), batch).backward()

    assert found(rule, model, record=watched(model, features(4), step, every=2)) == []


@pytest.mark.parametrize("stops_gradients", [True, False])
def test_a_discriminator_in_turn_with_its_generator_is_found(stops_gradients):
    record, model = in_turn_with_a_generator(stops_gradients)
    assert record.patterns == {"fbfbs": 1, "ffbfbs" if stops_gradients else "fbzfbfbs": 4}
    assert found(rule, model, record=record) == [(("1.1", "1.4"), {"steps": 4, "of": 5})]


def test_an_encoder_and_a_decoder_that_the_loop_calls_are_healthy():
    model = torch.nn.ModuleDict({"encoder": mlp(), "decoder": torch.nn.Sequential(mlp()[3:])})
    model["encoder"] = model["encoder"][:6]

    def step(batch):
        loss(model["decoder"](model["encoder"](batch[0])), batch).backward()

    assert found(rule, model, record=watched(model, features(4), step)) == []


def test_threshold(monkeypatch):
    model = mlp()
    both = [views(model, False), views(model, True)] * 2
    turns = iter(both)
    record = watched(model, features(4), lambda batch: next(turns)(batch))
    assert found(rule, model, record=record)[0][1] == {"steps": 2, "of": 4}
    monkeypatch.setattr(rule, "SHARE", 0.6)
    assert found(rule, model, record=record) == []
