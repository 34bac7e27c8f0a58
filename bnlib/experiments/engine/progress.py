"""A progress bar, or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Entry = TypeVar("Entry")


def track(entries: Iterable[Entry], progress: bool, unit: str) -> Iterable[Entry]:
    """Go through the entries, with a progress bar if there is to be one."""
    if not progress:
        return entries
    from tqdm.auto import tqdm

    return tqdm(entries, unit=unit, leave=False)
