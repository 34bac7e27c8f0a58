"""The callback of the chapter on debugging, in the loops of trainers that it does not import."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from doctor.planted import features, loss, mlp

BOOK = Path(__file__).parents[2] / "book"


class Lightning:
    """Calls what Lightning's Trainer calls of a callback, in its order and by position."""

    def __init__(self, callback):
        self.callback = callback

    def fit(self, model, data):
        self.optimizers = [torch.optim.SGD(model.parameters(), lr=0.05)]
        self.callback.on_train_start(self, model)
        step(model, self.optimizers[0], data)
        self.callback.on_train_end(self, model)


class HuggingFace:
    """Calls what the Trainer of transformers does, with a wrapped optimizer."""

    def __init__(self, callback):
        self.callback = callback

    def fit(self, model, data):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        given = {"model": model, "optimizer": SimpleNamespace(optimizer=optimizer)}
        args, state, control = SimpleNamespace(), SimpleNamespace(), SimpleNamespace()
        self.callback.on_train_begin(args, state, control, **given)
        step(model, optimizer, data)
        self.callback.on_train_end(args, state, control, **given)


def step(model, optimizer, data):
    for batch in data:
        optimizer.zero_grad()
        loss(model(batch[0]), batch).backward()
        optimizer.step()


def callback():
    """Return the class in the cell of the chapter."""
    cells = json.loads((BOOK / "debugging.ipynb").read_text("utf8"))["cells"]
    (cell,) = (cell for cell in cells if cell["id"] == "callbacks")
    names = {}
    exec("from contextlib import ExitStack\nfrom bnlib.doctor import watch", names)
    exec("".join(cell["source"]), names)
    return names["DoctorCallback"]()


@pytest.mark.parametrize("trainer", [Lightning, HuggingFace])
def test_callback_tells_what_happened_in_the_loop(trainer, capsys):
    model = mlp()
    model.requires_grad_(False)
    model[-1].requires_grad_(True)
    told = callback()
    trainer(told).fit(model, features())
    assert "frozen-but-moving" in capsys.readouterr().out
    assert told.record.steps == 4
    assert dict(told.record.patterns) == {"fbs": 4}


@pytest.mark.parametrize("trainer", [Lightning, HuggingFace])
def test_callback_is_quiet_on_a_healthy_loop_and_leaves_no_hook(trainer, capsys):
    model = mlp()
    trainer(callback()).fit(model, features(count=80))
    assert ": nothing found" in capsys.readouterr().out
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
