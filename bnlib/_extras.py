"""Packages that only some users need: say which extra brings the one that is missing."""

from importlib import import_module


def require(module: str, *, extra: str) -> None:
    """Import a package, so that its absence is reported together with the remedy.

    Parameters
    ----------
    module : str
        The name under which the package is imported.
    extra : str
        The extra of `pyproject.toml` that holds the package.

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed; the message names the extra. A folder of this name without
        ``__init__.py``, which Python imports as an empty package, does not count. One that is
        installed and lacks a package itself raises its own error.
    """
    missing = None
    try:
        spec = import_module(module).__spec__
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        missing = error
    else:
        if spec is None or spec.origin is not None:
            return
    raise ModuleNotFoundError(
        f"bnlib needs {module!r} for this, and it is not installed. The extra {extra!r} holds "
        f'it: pip install -e ".[{extra}]" in a clone of the book',
        name=module,
    ) from missing
