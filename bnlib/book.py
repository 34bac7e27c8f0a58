"""What only the notebooks of the book need, and what stands in for it elsewhere.

In the browser there is no PyTorch, and outside of the book no myst-nb. A chapter that takes both
from here runs there, too: it leaves out what it cannot compare, and says so.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["glue", "optional", "peers"]


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
