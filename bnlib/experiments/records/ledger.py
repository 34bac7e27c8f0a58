"""Hand a chapter's verdict to the ledger of claims, which the build of the book collects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

from bnlib.experiments.records.verdict import Answer, Verdict, common_answer

_KEY = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def glue_verdict(
    key: str, verdict: Verdict | Mapping[str, Verdict], answer: str | None = None
) -> None:
    """Deliver the verdict on one claim; the book shows it in :doc:`/book/claims`.

    Outside of a notebook, or without myst-nb, nothing is delivered, but the same errors are raised.

    Parameters
    ----------
    key : str
        The key of the claim in the list of claims: lower-case words joined by hyphens.
    verdict : Verdict or mapping of str to Verdict
        What a judge answered; or one answer for each case, under words that name the case.
    answer : str, optional
        The answer to the claim as a whole, as a judge computed it: one of the words of `Verdict`,
        perhaps with an explanation after a colon. By default the answer that all cases share, or
        "mixed".

    Raises
    ------
    ValueError
        If the key is not of that form, there is no verdict, or the answer starts with no known one.

    Examples
    --------
    >>> from bnlib.experiments.records.ledger import glue_verdict
    >>> from bnlib.experiments.records.verdict import paired_verdict
    >>> glue_verdict("more-of-it", paired_verdict("More.", "", [0.9, 0.8], [0.2, 0.1], margin=0.1))
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"key: expected lower-case words joined by hyphens, got {key!r}")
    _deliver(f"verdict-{key}", _record(verdict, answer))


def _record(verdict: Verdict | Mapping[str, Verdict], answer: str | None) -> dict[str, Any]:
    cases = {"": verdict} if isinstance(verdict, Verdict) else dict(verdict)
    if not cases:
        raise ValueError("verdict: expected at least one case, got none")
    if answer is None:
        answer = common_answer(cases.values())
    if answer.partition(":")[0] not in get_args(Answer):
        raise ValueError(f"answer: expected one of {get_args(Answer)} to start it, got {answer!r}")
    return {"answer": answer, "cases": {case: asdict(each) for case, each in cases.items()}}


def _deliver(name: str, record: dict[str, Any]) -> None:
    try:
        from IPython import get_ipython
        from myst_nb import glue
    except ImportError:
        return
    if get_ipython() is not None:
        glue(name, json.dumps(record), display=False)
