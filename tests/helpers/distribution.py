"""What `pyproject.toml` and the files of requirements name, for the tests of packaging."""

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named(lines: Iterable[str]) -> dict[str, Requirement]:
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def extra(name: str) -> dict[str, Requirement]:
    """Return what an extra brings, by itself and by the extras that it contains."""
    found = named(EXTRAS[name])
    if own := found.pop(PROJECT["name"], None):
        found |= {key: each for inner in own.extras for key, each in extra(inner).items()}
    return found


def everything() -> dict[str, Requirement]:
    """Return the dependencies and those of all extras."""
    found = named(PROJECT["dependencies"])
    return found | {key: each for name in EXTRAS for key, each in extra(name).items()}


def listed(file: str) -> dict[str, Requirement]:
    """Return the requirements of a file; options and comments are left out."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text("utf8").split("\n")]
    return named(line for line in lines if line and not line.startswith("-"))


def distributions_of(module: str) -> set[str]:
    """Return the distributions that hold a package, from the name under which it is imported."""
    return _installed().get(module, set())


def modules_of(distributions: Iterable[str]) -> set[str]:
    """Return the names under which the packages of some distributions are imported."""
    wanted = set(distributions)
    return {module for module, holders in _installed().items() if holders & wanted}


@cache
def _installed() -> dict[str, set[str]]:
    found = metadata.packages_distributions()
    return {module: set(map(canonicalize_name, names)) for module, names in found.items()}
