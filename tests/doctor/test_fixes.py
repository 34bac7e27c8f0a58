"""The code in a fix runs as it is printed, and the finding is gone."""

import ast
import contextlib
import copy
import importlib
import inspect
from functools import partial

import pytest
import torch
from doctor.planted import features, loss, mlp, trained, watched
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

import bnlib.nn
import bnlib.surgery
from bnlib.doctor import all_rules, examine
from bnlib.doctor.case import Case
from bnlib.doctor.finding import SHORT, code, filled
from bnlib.doctor.report import wrapped

GIVEN = {"model", "loader", "finding", "norm", "x", "a", "b"}
MODULES = {"bnlib": bnlib, "torch": torch, "contextlib": contextlib}
WORDS = {  # what to do is no call: it is about the data, or about how the model is written
    "dead-channel",
    "far-from-zero",
    "leak-through-batch",
    "mixed-populations",
}
SHOWN = {  # code that takes the place of other code, or a name
    "eval-forgotten": "around a loop",
    "padding-in-statistics": "a class",
    "several-streams": "a class",
    "train-forgotten": "in a loop",
    "tiny-scale": "for the optimizer of the next training",
    "two-forwards": "an exercise in pairs: test_two_forwards has the joint pass",
    "wrong-layout": "in the place of norm(x)",
}


def shifted(data):
    return [(x + 3, y) for x, y in data]


def examined(data=(), **options):
    return lambda model: Case(model, data, **options)


def trains(data, step=None, **options):
    """Return how to look at a training: `step(model)` gives what to do for a batch."""
    return lambda model: Case(model, record=watched(model, data, step and step(model), **options))


def accumulating():
    return mlp(), trains(features(8, 6), every=2)


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = mlp()
        self.target = copy.deepcopy(self.network)

    def forward(self, x):
        return self.network(x)


def agent():
    model = trained(Agent(), shifted(features()))
    for old, new in zip(model.target.parameters(), model.network.parameters(), strict=True):
        old.data.copy_(new.data)
    return model, examined()


def decayed(kind):
    model = mlp()
    optimizer = kind(model.parameters(), lr=0.02, weight_decay=0.01)
    return model, lambda m, optimizer=optimizer: Case(m, optimizer=optimizer)


def dropped():
    model = mlp()
    model.insert(3, nn.Dropout(0.5))
    data = features(4, 64)
    return trained(model, data), examined(data)


def few():
    return mlp(), examined(features(2, 4))


def careless():
    return mlp().requires_grad_(False), examined()


def half():
    return mlp().bfloat16(), examined()


def idle():
    return mlp(bias=True), examined(features())


def momentum(value):
    model = mlp(norm=partial(nn.BatchNorm1d, momentum=value))
    return trained(model, features()), examined()


def eps():
    model = mlp()
    model[4].eps = 1e-3
    return model, examined()


def negative():
    model = mlp()
    model[4].running_var[:2] -= 1.5
    return model, examined()


def not_copied():
    source, model = trained(mlp(), features()), mlp()
    for old, new in zip(model.parameters(), source.parameters(), strict=True):
        old.data.copy_(new.data)
    return model, examined()


def poisoned():
    model = trained(mlp(), features())
    model[4].running_var[0] = torch.nan
    return model, examined()


def at_output():
    return nn.Sequential(*mlp(), nn.BatchNorm1d(4)), examined(features())


def moved():
    return trained(mlp(), features()), examined(shifted(features(16)))


def average():
    torch.manual_seed(0)
    models = [trained(mlp(), shifted(features())) for _ in range(2)]
    model = AveragedModel(models[0])
    for each in models:
        model.update_parameters(each)
    return model, examined(shifted(features(16)))


class Transfer(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = mlp(), nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            x = self.backbone(x)
        return self.head(x.relu())


def transfer():
    return Transfer(), trains(features(3))


def two_epochs(model):
    """Norms are put into eval mode once, and the second epoch begins with `train()`."""
    steps = []
    for name in ("1", "4"):
        model.get_submodule(name).eval()

    def step(batch):
        steps.append(model.train() if len(steps) == 3 else model)
        loss(model(batch[0]), batch).backward()

    return step


def thawed():
    return mlp(), trains(features(5), two_epochs)


def forgotten(model):
    """The third step begins in eval mode."""
    steps = []

    def step(batch):
        steps.append(model.eval() if len(steps) == 2 else model)
        loss(model(batch[0]), batch).backward()

    return step


def young():
    data = shifted(features())
    return trained(mlp(), data, 10), examined(data)


def untracked():
    model = mlp()
    model[4].track_running_stats = False
    return model, examined()


def checkpointed():
    """Return a model whose training takes the `context_fn` of the fix, once there is one."""
    model = mlp()

    def step(model):
        options = {"context_fn": model.context_fn} if hasattr(model, "context_fn") else {}

        def run(batch):
            y = checkpoint(model, batch[0], use_reentrant=False, **options)
            loss(y, batch).backward()

        return run

    return model, trains(features(3), step)


def stuck():
    model = mlp()
    nn.init.zeros_(model[4].weight)
    return model, examined(features())


CURES = [  # rule, what is planted, which parts of the code are run
    ("accumulated-gradients", accumulating, (0,)),
    ("buffers-not-copied", agent, (0, 1)),
    ("decayed-norm", partial(decayed, torch.optim.SGD), (0,)),
    ("decayed-norm", partial(decayed, torch.optim.AdamW), (0,)),
    ("dropout-before-norm", dropped, (0, 1)),
    ("few-values", few, (1,)),
    ("frozen-but-moving", careless, (0,)),
    ("half-statistics", half, (0,)),
    ("idle-bias", idle, (0,)),
    ("large-momentum", partial(momentum, 0.99), (0, 1)),
    ("large-momentum", partial(momentum, 1.0), (0, 1)),
    ("mixed-eps", eps, (0,)),
    ("negative-variance", negative, (0,)),
    ("never-updated", not_copied, (0,)),
    ("nonfinite-statistics", poisoned, (0,)),
    ("norm-at-output", at_output, (0,)),
    ("shifted-input", moved, (0,)),
    ("stale-average", average, (0,)),
    ("stale-average", average, (1,)),
    ("statistics-move-without-gradient", transfer, (0,)),
    ("thawed-by-train", thawed, (0,)),
    ("too-few-updates", young, (0,)),
    ("train-forgotten", lambda: (mlp(), trains(features(12), forgotten)), (1,)),
    ("tracking-flag", untracked, (0,)),
    ("tracking-flag", untracked, (1,)),
    ("train-eval-gap", moved, (0,)),
    ("updated-twice", checkpointed, (1,)),
    ("tiny-scale", stuck, (0,)),
]
PROCESSES = {  # convert_sync_batchnorm, and recalibration in each process
    "few-values": (0,),
    "ranks-differ": (0, 1),
}
ELSEWHERE = {"statistics-move-without-gradient": (1,), "updated-twice": (0,)}  # a context manager


@pytest.mark.parametrize(
    ("rule", "plant", "parts"), CURES, ids=[f"{rule}-{i}" for i, (rule, *_) in enumerate(CURES)]
)
def test_code_runs_as_printed_and_the_finding_is_gone(rule, plant, parts):
    model, look = plant()
    [finding] = all_rules()[rule].findings(look(model))
    data = list(look(model).batches) or features()
    names = MODULES | {"model": model, "loader": data, "finding": finding}
    for part in parts:
        exec(code(finding.fix)[part], names)
    model = names["model"]
    if "optimizer" in names:
        again = Case(model, optimizer=names["optimizer"])
    else:
        if "context_fn" in names:
            model.context_fn = names["context_fn"]
        again = look(model)
    assert not again.norms or all_rules()[rule].findings(again) == []  # group norms are no norms


def fixes():
    """Return the code of each rule's file, that of single hits included."""
    for name, rule in all_rules().items():
        tree = ast.parse(inspect.getsource(inspect.getmodule(rule.check)))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in docs:
                yield name, node.value


@pytest.mark.parametrize("name", all_rules())
def test_code_is_complete_python_whose_names_resolve(name):
    texts = [text for rule, text in fixes() if rule == name]
    assert all_rules()[name].fix in texts
    parts = [part for text in texts for part in code(text)]
    assert bool(parts) == (name not in WORDS)
    for part in parts:
        tree = ast.parse(part)
        own = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name | ast.arg) and _is_set(n)}
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.Constant) and node.value is ...), part
            if isinstance(node, ast.Name) and node.id in MODULES:
                continue
            if isinstance(node, ast.Name) and node.id not in own:
                assert node.id in GIVEN | {"map", "zip", "network", "target"}, part
            if isinstance(node, ast.Attribute) and _root(node) in MODULES:
                _resolve(ast.unparse(node))


def _is_set(node):
    return isinstance(node, ast.arg) or isinstance(node.ctx, ast.Store)


def _root(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _resolve(path):
    first, *rest = path.split(".")
    value = importlib.import_module(first)
    for each in rest:
        value = getattr(value, each)


def test_every_part_of_every_fix_is_run_or_said_not_to_be():
    for name, rule in all_rules().items():
        run = {part for each, _, parts in CURES if each == name for part in parts}
        run |= {*PROCESSES.get(name, ()), *ELSEWHERE.get(name, ())}
        whole = set(range(len(code(rule.fix))))
        assert run >= whole or name in SHOWN, name
        assert not whole or name not in WORDS


def test_no_text_says_a_name_without_its_package():
    for name, text in fixes():
        assert "surgery." not in text.replace("bnlib.surgery.", ""), name
        assert "..." not in text, name
        assert text.count("`") % 2 == 0, name


def test_few_names_are_printed_and_many_are_referred_to():
    fix = "`f(finding.where, finding.evidence['momentum'])`"
    assert filled(fix, ("a", "b"), {"momentum": 0.99}) == "`f(['a', 'b'], 0.99)`"
    many = tuple(f"layer{i}.norm" for i in range(SHORT // 15 + 1))
    assert filled(fix, many, {"momentum": 1}).startswith("`f(finding.where, 1)` (finding.where: ")


def test_lines_break_outside_of_code_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    text = "a remedy of many words, " * 3 + "`model = bnlib.surgery.replace(model, f())` and " * 3
    lines = wrapped(text).splitlines()
    assert len(lines) > 3
    assert all(len(line) <= 72 for line in lines)
    assert all(line.count("`") % 2 == 0 for line in lines)
    assert " ".join(" ".join(lines).split()) == text.strip()


def test_the_report_has_the_fix_with_its_names():
    model = mlp(norm=partial(nn.BatchNorm1d, momentum=0.99))
    [finding] = examine(model, select=["large-momentum"]).findings
    assert "`for name in ['1', '4']: model.get_submodule(name).momentum = 1 - 0.99`" in finding.fix
    assert "`" in finding.fix
