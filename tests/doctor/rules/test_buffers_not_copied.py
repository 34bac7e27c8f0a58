import copy

import pytest
import torch
from doctor.planted import Residual, features, found, images, mlp, trained
from torch import nn

from bnlib.doctor.rules import buffers_not_copied as rule


class Agent(nn.Module):
    """A network and its target."""

    def __init__(self, network):
        super().__init__()
        self.network, self.target = network, copy.deepcopy(network)

    def forward(self, x):
        return self.network(x)

    @torch.no_grad()
    def follow(self, share=1.0):
        for old, new in zip(self.target.parameters(), self.network.parameters(), strict=True):
            old.lerp_(new, share)


CASES = [(mlp, features, 1.0), (Residual, images, 0.97)]


def shifted(data):
    return [(x + 10, y) for x, y in data]


@pytest.mark.parametrize(("make", "data", "share"), CASES)
def test_a_target_made_of_parameters_is_found_and_its_cure_is_quiet(make, data, share):
    agent = Agent(make())
    assert found(rule, agent) == []
    trained(agent, shifted(data()))
    agent.follow(share)
    [(where, evidence)] = found(rule, agent)
    assert where == ("network", "target")
    norms = [norm for norm in agent.network.modules() if hasattr(norm, "running_mean")]
    others = [norm for norm in agent.target.modules() if hasattr(norm, "running_mean")]
    gaps = [
        float(((a.running_mean - b.running_mean) / a.running_var.sqrt()).abs().median())
        for a, b in zip(norms, others, strict=True)
    ]
    assert evidence["gap"] == pytest.approx(max(gaps), rel=1e-6)
    agent.target.load_state_dict(agent.network.state_dict())
    assert found(rule, agent) == []


def test_other_networks_and_followers_in_train_mode_are_healthy():
    assert (
        found(rule, nn.ModuleList([trained(mlp(), features()), trained(mlp(), features())])) == []
    )
    agent = Agent(mlp())
    for batch in features(40):
        trained(agent, [batch], 1)
        agent.target(batch[0])
        agent.follow()
    assert found(rule, agent) == []


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(5, 5), nn.BatchNorm1d(5)

    def forward(self, x):
        return 3 * torch.relu(self.norm(x + self.linear(x)) + 1)


def test_blocks_that_start_as_copies_are_healthy():
    """An encoder clones its layer, and one forward pass gives each its own statistics."""
    block = Block()
    encoder = nn.Sequential(*[copy.deepcopy(block) for _ in range(3)])
    for batch in features(30):
        encoder(batch[0])
    gap = encoder[0].norm.running_mean - encoder[1].norm.running_mean
    assert gap.abs().median() > rule.GAP * encoder[0].norm.running_var.sqrt().median()
    assert found(rule, encoder) == []


def test_parts_with_other_norms_are_not_compared():
    one, other = Block(), Block()
    other.load_state_dict(one.state_dict())
    other.norm = nn.Identity()
    assert found(rule, nn.ModuleList([one, other])) == []


def test_thresholds(monkeypatch):
    agent = Agent(mlp())
    trained(agent, shifted(features()))
    agent.follow(0.95)
    [(_, evidence)] = found(rule, agent)
    for name, value in (("GAP", evidence["gap"] * 1.01), ("NEAR", evidence["distance"] * 0.99)):
        with monkeypatch.context() as patch:
            patch.setattr(rule, name, value)
            assert found(rule, agent) == []
    agent.follow(-80.0)  # far away
    assert found(rule, agent) == []
