"""Each recipe runs after the first cell of its page alone, and its check fails if it is broken.

A recipe is what stands between two labels ``(recipe-...)=``: a problem, lines to copy, a folded
check, and a link to the page that explains it.
"""

import ast
import copy
import linecache
import re

import nbformat
import pytest
from pages import ROOT, prose, words

MOST_WORDS = 1800
LINE = 72
PAGE = nbformat.read(ROOT / "book" / "recipes.ipynb", as_version=4)
LABEL = re.compile(r"^\((recipe-[\w-]+)\)=\n## ", re.MULTILINE)


def recipes():
    """Map each label to the cells of its recipe; the cells before the first have none."""
    found, label = {"": []}, ""
    for cell in PAGE.cells:
        if match := LABEL.search(cell.source):
            label = match[1]
            found[label] = []
        found[label].append(cell)
    return found


RECIPES = recipes()
SETUP = RECIPES.pop("")
BROKEN = [  # one line of a recipe that its check must miss
    ("recipe-swap", "replace(model, group_norm(8))", "deepcopy(model)"),
    ("recipe-swap", "from_torch(model)  #", "#"),
    ("recipe-sync", "convert_sync_batchnorm(model)", "model"),
    ("recipe-gan", "use_stream(critic, 1):", "use_stream(critic, 0):"),
    ("recipe-gan", ", pause_statistics(critic)", ""),
    ("recipe-conditional", "labels).relu()", "0 * labels).relu()"),
    ("recipe-tabular", "drop_last=True, ", ""),
    ("recipe-target", "target.state_dict().items()", "target.named_parameters()"),
    ("recipe-average", "recalibrate(average, ", "print(len, "),
    ("recipe-accumulation", " ** (1 / k)", ""),
    ("recipe-accumulation", ", y_part) / k)", ", y_part))"),
    ("recipe-quantize", "model.eval(), x", "model, x"),
    ("recipe-doctor-test", "assert_healthy(model, x_train.split(64))", "assert model"),
    ("recipe-doctor-loop", "model(x)  #", "model.eval()(x)  #"),
]


def is_check(cell):
    return {"check", "hide-input"} <= {*cell.metadata.get("tags", [])}


def execute(cells, names):
    """Run code cells; `inspect` finds their source as it does in a kernel."""
    for cell in cells:
        if cell.cell_type == "code":
            file, source = f"<{cell.id}>", cell.source + "\n"
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
            exec(compile(source, file, "exec"), names)


@pytest.fixture(scope="module")
def prepared():
    names = {"__name__": "recipes"}
    execute(SETUP, names)
    return names


@pytest.fixture
def names(prepared):
    return {k: copy.deepcopy(v) if k == "trained" else v for k, v in prepared.items()}


@pytest.mark.parametrize("label", RECIPES)
def test_recipe_runs_without_the_others(label, names, capsys):
    execute(RECIPES[label], names)
    assert capsys.readouterr().out


@pytest.mark.parametrize(("label", "old", "new"), BROKEN)
def test_check_misses_what_the_recipe_is_for(label, old, new, names):
    cells = copy.deepcopy(RECIPES[label])
    lines = [cell for cell in cells if cell.cell_type == "code" and not is_check(cell)]
    assert sum(old in cell.source for cell in lines) == 1
    for cell in lines:
        cell.source = cell.source.replace(old, new)
    with pytest.raises((AssertionError, ValueError)):
        execute([*lines, *filter(is_check, cells)], names)


def test_every_recipe_is_shown_to_fail():
    assert {label for label, _, _ in BROKEN} == {*RECIPES}


@pytest.mark.parametrize("label", RECIPES)
def test_recipe_has_its_parts(label):
    first, *cells = RECIPES[label]
    assert len(first.source.splitlines()) > 3  # the problem
    kinds = "".join("t" if c.cell_type == "markdown" else "lc"[is_check(c)] for c in cells)
    assert re.fullmatch("lc+t", kinds)
    assert all(len(line) <= LINE for line in cells[0].source.splitlines())
    last = ast.parse(cells[-2].source).body[-1]
    assert "print(" in ast.unparse(last)
    assert re.search(r"\{(ref|prf:ref|eq|py:func)\}`", cells[-1].source)


def test_page_is_short():
    assert words(prose(PAGE)) <= MOST_WORDS
