"""Verdicts one below the other: effects, intervals and margins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from bnlib.plots.style import COLORS

_HEIGHT = 0.7  # of the margin, in rows
_ROOM = 0.08  # beside the outermost number, as a share of the width


def forest(ax: Axes, verdicts: Mapping[str, Any]) -> list[Annotation]:
    """Draw a row for each verdict: the effect, its interval, and the margin behind it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    verdicts : mapping of str to Verdict
        Name of the row -> :class:`bnlib.experiments.records.verdict.Verdict`, from top to
        bottom; their effects have one unit.

    Returns
    -------
    list of matplotlib.text.Annotation
        The answers, at the right of their rows.

    Raises
    ------
    ValueError
        If there is no verdict.

    Notes
    -----
    An interval without an end is an arrow. A row has no dot where the effect is not known, and
    nothing but its answer where both ends are not.
    """
    if not verdicts:
        raise ValueError("verdicts: expected at least one, got none")
    numbers = [x for v in verdicts.values() for x in (v.effect, v.low, v.high, v.margin, -v.margin)]
    finite = np.array(numbers)[np.isfinite(numbers)]
    room = _ROOM * np.ptp(finite) or 1.0
    left, right = finite.min() - room, finite.max() + room
    ax.axvline(0, color=COLORS["reference"], linewidth=0.8)
    answers = []
    for row, verdict in enumerate(verdicts.values()):
        ax.barh(
            row, 2 * verdict.margin, _HEIGHT, -verdict.margin, color=COLORS["reference"], alpha=0.2
        )
        _draw_interval(ax, row, verdict, left, right)
        answers.append(
            ax.annotate(
                verdict.answer,
                (1, row),
                (6, 0),
                xycoords=ax.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                annotation_clip=False,
            )
        )
    ax.set(xlim=(left, right), ylim=(len(verdicts) - 0.5, -0.5))
    ax.set_yticks(range(len(verdicts)), [*verdicts])
    ax.set_xlabel("effect, 95 % interval, and margin (grey)")
    return answers


def _draw_interval(ax: Axes, row: int, verdict: Any, left: float, right: float) -> None:
    low, high = np.isfinite((verdict.low, verdict.high))
    if not low and not high:
        return
    ends = (verdict.low if low else left), (verdict.high if high else right)
    ax.plot(ends, (row, row), color="black", linestyle="-")
    if not (low and high):
        ax.plot(
            right if low else left, row, color="black", marker=">" if low else "<", clip_on=False
        )
    if np.isfinite(verdict.effect):
        ax.plot(verdict.effect, row, color="black", marker="o", linestyle="none")
