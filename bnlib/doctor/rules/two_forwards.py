"""The model sees two mini-batches for one loss, each normalized by its own statistics.

They may be two views in a contrastive loss or a Siamese network, or real and fake examples for a
discriminator. In two passes each mini-batch is standardized by itself, in one joint pass both are
standardized together, and these are different functions. In two passes no mean tells real from
fake, but the running statistics mix both. A second pass that only measures the accuracy is found,
too, if gradients are on. In turn with a generator, a discriminator that adds up the gradients of
its own two passes is found by those of the generator's pass, which are cleared. Each can be wanted,
so this is a note.
"""

from collections.abc import Iterator

from bnlib.doctor.case import Case
from bnlib.doctor.finding import Hit, hit

SEVERITY = "note"
NEEDS = ("structure", "watch")
FIX = (
    "decide for one: `a, b = model(torch.cat([a, b])).chunk(2)`, or "
    "`bnlib.nn.SplitBatchNorm2d` for separate statistics"
)
CHAPTER = "questions#q-two-forward-passes"

SHARE = 0.5
"""Of the steps with a second pass: in fewer it is an occasional look, and no part of the loss."""


def check(case: Case) -> Iterator[Hit]:
    """Yield the norms of a model that runs twice for one backward pass, in one hit."""
    record = case.record
    assert record is not None
    record.require(steps=True)
    twice = sum(n for p, n in record.patterns.items() if _is_twice(p))
    names = [
        name
        for name, seen in record.norms.items()
        if seen.modes["train"] and ".streams." not in f".{name}"  # of SplitBatchNorm
    ]
    if names and twice and twice >= SHARE * record.steps:
        message = (
            f"In {twice} of {record.steps} steps the model ran in train mode several times, each "
            "time by the statistics of one mini-batch."
        )
        yield hit(names, message, steps=twice, of=record.steps)


def _is_twice(pattern: str) -> bool:
    last = pattern.rpartition("z")[2]  # what is left of the gradients
    added = "z" in pattern and last.count("fb") > 1
    return added or pattern.count("f") > pattern.count("b") > 0
