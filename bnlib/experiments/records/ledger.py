"""Hand a chapter's verdict to the ledger of claims, which the build of the book collects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bnlib.experiments.records.verdict import Verdict, case_name, overall

_KEY = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def glue_verdict(
    key: str,
    verdict: Verdict | Mapping[str | tuple[str, ...], Verdict],
    *factors: str,
    whole: Verdict | None = None,
) -> None:
    """Deliver the verdict on one claim; the book shows it in :doc:`/book/claims`.

    Outside of a notebook, or without myst-nb, nothing is delivered, but the same errors are raised.

    Parameters
    ----------
    key : str
        The key of the claim in the list of claims: lower-case words joined by hyphens.
    verdict : Verdict, or mapping of str, or tuple of str, to Verdict
        What a judge answered; or one answer for each case, under words that name the case.
    *factors : str
        What the entries of a case stand for, as in
        :func:`bnlib.experiments.records.verdict.overall`, which puts the answers into one.
    whole : Verdict, optional
        The verdict on the claim as a whole, where one case decides it.

    Raises
    ------
    ValueError
        If the key is not of that form, there is no verdict, or the cases do not fit the factors.

    Examples
    --------
    >>> from bnlib.experiments.records.ledger import glue_verdict
    >>> from bnlib.experiments.records.verdict import paired_verdict
    >>> glue_verdict("more-of-it", paired_verdict("More.", "", [0.9, 0.8], [0.2, 0.1], margin=0.1))
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"key: expected lower-case words joined by hyphens, got {key!r}")
    cases = {"": verdict} if isinstance(verdict, Verdict) else dict(verdict)
    answer = whole.answer if whole else overall(cases, *factors)
    numbers = {case_name(case): asdict(each) for case, each in cases.items()}
    _deliver(f"verdict-{key}", {"answer": answer, "cases": numbers})


def _deliver(name: str, record: dict[str, Any]) -> None:
    try:
        from IPython import get_ipython
        from myst_nb import glue
    except ImportError:
        return
    if get_ipython() is not None:
        glue(name, json.dumps(record), display=False)
