"""What the README promises: its code runs, its links exist, and the name trap is never set."""

import re
from pathlib import Path

import numpy as np
import pytest

import bnlib

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TEXTS = sorted(
    path
    for pattern in ("*.md", "*.txt", "*.toml", "*.cff", "book/**/*.md", "book/*.ipynb")
    for path in ROOT.glob(pattern)
)


def blocks(language: str) -> list[str]:
    return [body for name, body in FENCE.findall(README) if name == language]


@pytest.fixture
def run(capsys):
    """Run the example of the README that imports a package, and return its names."""

    def run(package):
        (code,) = (each for each in blocks("python") if f"import {package}" in each)
        names: dict = {}
        exec(compile(code, "README.md", "exec"), names)
        assert capsys.readouterr().out
        return names

    return run


def test_numpy_example_runs_and_does_what_it_says(run):
    names = run("numpy")
    np.testing.assert_allclose(names["y"].mean(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(names["y"].std(axis=0), 2, rtol=1e-4)
    np.testing.assert_allclose(names["dx"].sum(axis=0), 0, atol=1e-12)
    assert np.abs(names["dx"]).max() > 0.1  # zeros would sum to 0 too


def test_torch_example_runs_and_does_what_it_says(run):
    torch = pytest.importorskip("torch")
    names = run("torch")
    net, batches, folded = names["net"], names["batches"], names["folded"]
    assert names["report"].folded == {"1": "0"}
    assert not any(isinstance(module, names["BatchNorm2d"]) for module in folded.modules())
    torch.testing.assert_close(folded(batches[1]), net(batches[1]))
    means = net[0](torch.cat(batches)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(net[1].running_mean, means, rtol=0, atol=1e-5)
    assert means.abs().max() > 1e-3  # not those of a new layer


def test_examples_are_short():
    lengths = [sum(map(bool, code.split("\n"))) for code in blocks("python")]
    assert lengths == [6, 8, 2]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "book/index.md"])
def test_commands_are_targets_of_the_makefile(page):
    makefile = (ROOT / "Makefile").read_text("utf8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    text = (ROOT / page).read_text("utf8")
    code = "\n".join([body for _, body in FENCE.findall(text)] + re.findall(r"`([^`\n]+)`", text))
    assert {"book", "test"} <= set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)) <= targets


def test_local_links_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert len(local) >= 5
    assert [target for target in local if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_installs_the_foreign_bnlib(path):
    # On the package index that name is an unrelated project.
    assert not re.search(r"pip3?\s+install[^\n`]*\bbnlib\b", path.read_text("utf8"))


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text("utf8")
    assert f"\nversion: {bnlib.__version__}\n" in citation
    assert f"version = {{{bnlib.__version__}}}" in README
    assert f"## [{bnlib.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf8")
