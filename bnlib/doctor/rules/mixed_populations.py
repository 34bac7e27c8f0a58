"""Mini-batches differ by more than chance: each holds another population.

The cause may be sorted data, one class or one recording per mini-batch, or mini-batches that are
all real or all fake. Train mode subtracts the mean of a population, and with it what tells the
populations apart. But the running statistics are those of the mixture, so in eval mode the layers
meet other inputs. The rule compares the variance between the means of mini-batches with the one
that shuffled examples would have, at the first norm and at the last one, whose inputs tell classes
apart. It does so in eval mode, because train mode would subtract the means before the last norm.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

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
    for name, rows in made.examples.items():
        if len(rows) < BATCHES or min(len(each) for each in rows) < LEAST:
            raise NotPossibleError(f"{BATCHES} mini-batches of {LEAST} examples or more")
        ratio = _ratio([each.double() for each in rows])
        if ratio > RATIO:
            message = (
                f"The variance between the means of {len(rows)} mini-batches is {ratio:.3g} times "
                "what shuffled examples would give."
            )
            yield hit(name, message, ratio=ratio, batches=len(rows))
            return


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
