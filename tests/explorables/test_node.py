"""The JavaScript of the explorables computes what bnlib computes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))

import fixtures  # noqa: E402

NODE = shutil.which("node")


@pytest.mark.skipif(not NODE, reason="Node.js is not installed: the explorables are not compared")
def test_explorables_compute_as_the_library(tmp_path):
    fixtures.write(tmp_path, np.random.default_rng(0))
    files = sorted(str(file) for file in HERE.glob("*.test.mjs"))
    assert len(files) >= 2
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", *files],
        env={**os.environ, "FIXTURES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0\n" not in done.stdout
    assert "# skipped 0\n" in done.stdout
