"""The model sees two mini-batches for one loss, each normalized by its own statistics.

Two views in a contrastive loss or a Siamese network, real and fake examples for a discriminator:
with two passes each is standardized by itself, with one joint pass both together, and these are
different functions. In two passes no mean tells real from fake, but the running statistics mix
both. Each can be wanted, so this is a note.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "note"
NEEDS = ("structure", "watch")
FIX = "decide for one: model(torch.cat([a, b])).chunk(2), or SplitBatchNorm for separate statistics"
CHAPTER = "alternatives"

SHARE = 0.5
"""Of the steps."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms of a model that runs twice before a backward pass, in one hit."""
    record = case.record
    assert record is not None
    twice = sum(n for pattern, n in record.patterns.items() if "ff" in pattern)
    names = [name for name, seen in record.norms.items() if seen.modes["train"]]
    if names and twice and twice >= SHARE * record.steps:
        message = (
            f"In {twice} of {record.steps} steps the model ran in train mode more than once before "
            "the backward pass."
        )
        yield hit(names, message, steps=twice, of=record.steps)
