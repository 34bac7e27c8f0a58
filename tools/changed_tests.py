"""Print the tests of what changed since `main`, for `make quick`; without changes, nothing.

A module of the library has a file of tests, and doctests of its own; where it has no file, its
folder is tested. A chapter or a page has to keep the rules of the book; it is not executed here.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = "tests/book/test_book_rules.py"


def tests_of(changed: Iterable[str], root: Path) -> list[str]:
    """Return the paths of tests that belong to changed files, all relative to `root`."""
    found = set()
    for file in map(Path, changed):
        top, *folders = file.parts
        folder = Path("tests", *folders[:-1])
        test = folder / f"test_{file.stem.lstrip('_')}.py"
        if top == "bnlib" and file.suffix == ".py":
            found |= {file, test if (root / test).exists() or len(folders) == 1 else folder}
            found.add(folder.with_name(f"test_{folder.name}.py"))  # one file for a package
        elif top == "tools":
            found.add(test)
        elif top == "book" and file.suffix == ".py":
            found.add(Path("tests/book"))
        elif top == "tests" and file.match("test_*.py"):
            found.add(file)
        elif top == "tests" and file.name == "conftest.py" and len(folders) > 1:
            found.add(folder)
        elif top == "book":
            found.add(Path(RULES))
    existing = {path for path in found if (root / path).exists()}
    inside = {path for path in existing if existing & set(path.parents)}
    return sorted(path.as_posix() for path in existing - inside)


def changed_since_main() -> list[str]:
    """List the files that differ from where this branch left `main`, new ones among them."""

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    (start,) = git("merge-base", "main", "HEAD")
    return git("diff", "--name-only", start) + git("ls-files", "--others", "--exclude-standard")


if __name__ == "__main__":
    print(*tests_of(changed_since_main(), ROOT))
