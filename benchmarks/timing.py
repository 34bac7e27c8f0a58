"""Time functions against each other: turn by turn, so that all meet the same machine.

`compare` takes each in a process of its own, so that it finds the allocator and the caches as its
own last call left them, as it does where it is used alone. `alternate` takes all in this process:
for functions that have most of their work, and the memory for it, in common.
"""

import contextlib
import multiprocessing
import os
import statistics
import time
import unittest.mock
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor

from tqdm.auto import tqdm

TURN = 8  # calls in a row
WARM_UP = 3  # of them that do not count
KEEP_MEMORY = {  # of the GNU C library
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}

_call: Callable[[], object]  # what a process times


def compare(
    functions: Mapping[str, Callable], rounds: int, *, keep_memory: bool = False
) -> dict[str, float]:
    """Return the median seconds of one call of each function.

    The values of `functions` prepare the call that is timed: they can be pickled, take nothing and
    return a function that takes nothing. There are `rounds` turns of each. With `keep_memory`, the
    processes keep what they free: new pages from the system can cost more than a kernel does, and
    whether it gets old ones depends on what else a process has freed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    with contextlib.ExitStack() as stack:
        if keep_memory:
            stack.enter_context(unittest.mock.patch.dict(os.environ, KEEP_MEMORY))
        processes = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare, (prepare,))
            )
            for name, prepare in functions.items()
        }
        for _ in tqdm(range(rounds), leave=False):
            for name, process in processes.items():
                seconds[name] += process.submit(_take_turn).result()
    return {name: statistics.median(values) for name, values in seconds.items()}


def alternate(functions: Mapping[str, Callable], rounds: int) -> dict[str, float]:
    """Return the median seconds of one call of each function, turn by turn in this process."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in tqdm(range(rounds), leave=False):
        for name, call in functions.items():
            call()  # after another's turn the caches are cold
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _prepare(prepare: Callable) -> None:
    global _call
    _call = prepare()


def _take_turn() -> list[float]:
    seconds = []
    for _ in range(TURN):
        start = time.perf_counter()
        result = _call()
        seconds.append(time.perf_counter() - start)
        del result  # freeing the memory is not part of the next call's time
    return seconds[WARM_UP:]
