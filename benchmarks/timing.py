"""Time functions against each other: turn by turn, and each in a process of its own.

Turn by turn, so that all meet the same machine. In processes of their own, so that each finds the
allocator and the caches as its own last call left them, as it does where it is used alone.
"""

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor

from tqdm.auto import tqdm

TURN = 8  # calls in a row
WARM_UP = 3  # of them that do not count

_call: Callable[[], object]  # what a process times


def compare(functions: Mapping[str, Callable], rounds: int) -> dict[str, float]:
    """Return the median seconds of one call of each function.

    The values of `functions` prepare the call that is timed: they can be pickled, take nothing and
    return a function that takes nothing. There are `rounds` turns of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    with contextlib.ExitStack() as stack:
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
