"""The lines for several processes that *Fine-tuning and freezing* shows do what it says."""

import json
import re
from pathlib import Path

import pytest
import torch
from sync_processes import lines_of_the_book

from bnlib.nn.processes import launch

TIMEOUT = 300.0  # far more than needed: a machine may be busy
CHAPTER = Path(__file__).parents[2] / "book" / "fine_tuning_and_freezing.ipynb"


@pytest.fixture(scope="module")
def lines():
    cells = json.loads(CHAPTER.read_text("utf8"))["cells"]
    text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M)
    assert len(block.splitlines()) <= 10
    return block


@pytest.fixture(scope="module")
def alone(lines):
    return launch(lines_of_the_book, 1, lines, timeout=TIMEOUT)[0]


def test_two_processes_train_as_one_with_the_whole_mini_batches(lines, alone):
    for state in launch(lines_of_the_book, 2, lines, timeout=TIMEOUT):
        for name, exact in alone.items():
            torch.testing.assert_close(state[name], exact, rtol=0, atol=1e-10)


def test_without_the_conversion_they_do_not(lines, alone):
    """So that the test above can fail."""
    plain = lines.replace("convert_sync_batchnorm(build())", "build()")
    assert plain != lines
    state, _ = launch(lines_of_the_book, 2, plain, timeout=TIMEOUT)
    weights = [name for name in alone if name.endswith("weight")]
    assert max((state[name] - alone[name]).abs().max() for name in weights) > 1e-3
