"""What stands back: a finding beside its cause, and a rule whose backward pass torch refuses."""

import pytest
import torch
from doctor.planted import features, mlp, trained
from torch import nn

from bnlib.doctor import all_rules, examine


def test_causes_are_other_rules():
    rules = all_rules()
    causes = {name: rule.causes for name, rule in rules.items() if rule.causes}
    assert "train-eval-gap" in causes
    for name, found in causes.items():
        assert set(found) <= rules.keys() - {name}


def test_a_gap_is_a_note_beside_its_cause():
    model = nn.Sequential(nn.BatchNorm1d(5, affine=False), *mlp())
    trained(model, features())
    moved = [(x + 3, y) for x, y in features()]
    alone = examine(model, moved, select=["train-eval-gap"]).findings
    assert [finding.severity for finding in alone] == ["warning"]
    cause, gap = examine(model, moved, select=["train-eval-gap", "shifted-input"]).findings
    assert (cause.rule, cause.severity) == ("shifted-input", "warning")
    assert (gap.rule, gap.severity) == ("train-eval-gap", "note")
    assert gap.message.startswith(alone[0].message)
    assert gap.message.endswith("It may come from shifted-input: mend that first.")
    assert gap.evidence == alone[0].evidence


class Detour(nn.Module):
    """A backward pass goes through a graph that an earlier one has freed."""

    def __init__(self):
        super().__init__()
        self.norm, self.scale = nn.BatchNorm1d(5), nn.Parameter(torch.ones(5))

    def forward(self, x):
        squares = self.scale**2
        if torch.is_grad_enabled():
            squares.sum().backward()
        return self.norm(x) * squares


def test_a_backward_pass_that_torch_refuses_skips_the_rule():
    report = examine(Detour(), features())
    assert "second time" in report.skipped["idle-bias"]
    assert "large-momentum" in report.checked


def test_a_loss_that_fails_comes_through():
    def loss(output, batch):
        raise RuntimeError("no targets")

    with pytest.raises(RuntimeError, match="no targets"):
        examine(mlp(), features(), loss=loss)
