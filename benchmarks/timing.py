"""Time functions against each other, turn by turn, so that all meet the same machine."""

import statistics
import time
from collections.abc import Callable, Mapping

from tqdm.auto import tqdm


def compare(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of one call of each function, after two rounds to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in tqdm(range(rounds + 2), leave=False):
        for name, function in functions.items():
            start = time.perf_counter()
            result = function()
            seconds[name].append(time.perf_counter() - start)
            del result  # freeing the memory is not part of the next function's time
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}
