"""Mini-batches differ by more than chance: each holds another population.

The cause may be sorted data, one class or one recording per mini-batch, or mini-batches that are
all real or all fake. Train mode subtracts the mean of a population, and with it what tells the
populations apart. But the running statistics are those of the mixture, so in eval mode the layers
meet other inputs. The rule compares the variance between the means of mini-batches with the one
that shuffled examples would have, at the first norm and at the last one, whose inputs tell classes
apart. It does so in eval mode, because train mode would subtract the means before the last norm.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit
from bnlib.doctor.observe import NotPossibleError

SEVERITY = "warning"
NEEDS = ("structure", "forward")
FIX = "shuffle=True in the loader, or several classes in each mini-batch"
CHAPTER = "debugging"

RATIO = 5.0
"""Variance between mini-batches divided by that of chance, in the median channel. With four large
mini-batches chance exceeds 5 for one independent channel in 500, and two norms are looked at."""

BATCHES = 4
"""Fewest mini-batches: with only two, chance exceeds 5 for one independent channel in 40."""

LEAST = 4
"""Fewest examples per mini-batch: with fewer the variance within them is hardly known."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the first or the last norm, if the means of mini-batches at its input lie apart."""
    made = case.attempt(training=False)
    examples = [_examples(*each) for each in zip(case.batches, made.outputs, strict=False)]
    for name, means in made.examples.items():
        folded = [_folded(x.double(), n) for x, n in zip(means, examples, strict=False)]
        if len(folded) < BATCHES or min(len(rows) for rows, _ in folded) < LEAST:
            raise NotPossibleError(f"{BATCHES} mini-batches of {LEAST} examples or more")
        ratio = min(_ratio([*rows]) for rows in zip(*folded, strict=True))
        if ratio > RATIO:
            message = (
                f"The variance between the means of {len(folded)} mini-batches is {ratio:.3g} "
                "times what shuffled examples would give."
            )
            yield hit(name, message, ratio=ratio, batches=len(folded))
            return


def _examples(batch: Any, outputs: list[Tensor]) -> int:
    """Return how many examples there are: rows of the input, or of the output if they are fewer.

    Frames of a video or nodes of a graph may be rows of the one, but they belong together.
    """
    leaves = [x for x in tree_leaves(batch) if isinstance(x, Tensor) and x.dim()]
    return min([len(x) for x in (*leaves[:1], *[y for y in outputs if y.dim()][:1])], default=0)


def _folded(rows: Tensor, examples: int) -> tuple[Tensor, Tensor]:
    """Return the means over the rows that belong to an example: if they lie together, or apart."""
    if not examples or len(rows) % examples:
        raise NotPossibleError("a norm whose rows are examples, or equally many of each example")
    parts = len(rows) // examples
    together = rows.view(examples, parts, -1).mean(1)
    return together, rows.view(parts, examples, -1).mean(0)


def _ratio(rows: list[Tensor]) -> float:
    """Return the F statistic of a one-way analysis of variance, the median over channels."""
    means = torch.stack([each.mean(0) for each in rows])  # (batches, c)
    sizes = torch.tensor([len(each) for each in rows], dtype=torch.float64)[:, None]
    grand = (sizes * means).sum(0) / sizes.sum()
    between = (sizes * (means - grand) ** 2).sum(0) / (len(rows) - 1)
    within = sum((each - each.mean(0)).square().sum(0) for each in rows)
    within = within / (sizes.sum() - len(rows))
    live = within > 0
    return float((between / within)[live].median()) if live.any() else 0.0
