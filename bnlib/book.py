"""What only the notebooks of the book need, and what stands in for it elsewhere.

In the browser there is no PyTorch, and outside of the book no myst-nb. A chapter that takes both
from here runs there, too: it leaves out what it cannot compare, and says so. Python is several
times slower there, so long experiments are smaller, and what they find is not checked.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["at_full_size", "glue", "in_browser", "optional", "peers", "resized"]

Config = TypeVar("Config")


def optional(module: str) -> ModuleType | None:
    """Import a package, or return None where it is not at hand.

    Parameters
    ----------
    module : str
        The name under which it is imported.

    Returns
    -------
    module or None

    Examples
    --------
    >>> from bnlib.book import optional
    >>> optional("no_package_of_this_name") is None
    True
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # it is there, and lacks a package itself
        return None


def peers(torch: ModuleType | None) -> str:
    """Say what a check compares with: the library, and PyTorch where it is at hand.

    Parameters
    ----------
    torch : module or None
        What ``optional("torch")`` has returned.

    Returns
    -------
    str

    Examples
    --------
    >>> from bnlib.book import peers
    >>> peers(None)
    'bnlib (not PyTorch, which is not at hand here)'
    """
    return "bnlib and PyTorch" if torch else "bnlib (not PyTorch, which is not at hand here)"


def glue(name: str, variable: Any, display: bool = False) -> None:
    """Keep a value under a name for the text of the book, as `myst_nb.glue` does.

    Parameters
    ----------
    name : str
        The name that the text uses, unique in the book.
    variable : object
        The value.
    display : bool
        Whether to show it below the cell as well.

    Notes
    -----
    Where there is no myst-nb, as in the browser, there is no text that would print the value, and
    nothing is kept.
    """
    book = optional("myst_nb")
    if book is not None:
        book.glue(name, variable, display=display)


def in_browser() -> bool:
    """Say whether it is a browser that runs Python.

    Returns
    -------
    bool

    Examples
    --------
    >>> from bnlib.book import in_browser
    >>> in_browser()
    False
    """
    return sys.platform == "emscripten"


def resized(config: Config, **smaller: Any) -> Config:
    """Return the config of an experiment; in the browser a smaller one, and say so.

    Parameters
    ----------
    config : dataclass
        The config, of the size that the book runs.
    **smaller : object
        What is smaller in the browser, besides the seeds, which are 2 if nothing else is said.

    Returns
    -------
    dataclass

    Examples
    --------
    >>> from bnlib.book import resized
    >>> from bnlib.experiments import conditioning
    >>> resized(conditioning.Config()).seeds
    16
    """
    if not in_browser():
        return config
    smaller = {"seeds": 2, **smaller}
    sizes = ", ".join(f"{name} = {value}" for name, value in smaller.items())
    print(f"smaller in the browser than in the book: {sizes}")
    return replace(config, **smaller)


def at_full_size() -> bool:
    """Say whether experiments have the size of the book, so that what they find can be checked.

    Returns
    -------
    bool
        In the browser False, and a line says that it is not checked.

    Examples
    --------
    >>> from bnlib.book import at_full_size
    >>> at_full_size()
    True
    """
    if in_browser():
        print("not checked in the browser, where the experiment is smaller than in the book")
    return not in_browser()
