"""Compute the bands that the explorable `training` draws behind the reader's own curves.

Run it from the repository: `python tools/explorable_bands.py`. It trains the networks of the chapter
on learning rates, 16 seeds of them, for each choice that the explorable offers, and writes
book/_data/explorables/training.json with what it computed them with. A test computes one setting
again.
"""

import json
import platform
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np

from bnlib.experiments.engine import networks
from bnlib.experiments.engine.training import record_test_accuracy, train
from bnlib.experiments.records.provenance import versions

TARGET = Path(__file__).parents[1] / "book" / "_data" / "explorables" / "training.json"
NORMS = "none", "batch"
RATES = 0.01, 0.032, 0.1, 0.32, 1.0, 3.2
DEPTHS, SCALES, BATCH_SIZES = (3, 6, 12), (0.32, 1.0, 3.2), (8, 32, 128)
STEPS, EVERY, WIDTH = 200, 20, 32


def curves(norm: str, depth: int, scale: float, batch_size: int) -> np.ndarray:
    """Return the test accuracy in eval mode, (rates, seeds, t); 0 where a run has diverged."""
    config = networks.Config(
        norm=norm,
        depth=depth,
        init_scale=scale,
        batch_size=batch_size,
        width=WIDTH,
        lr=RATES,
        steps=STEPS,
        dtype="float32",
    )
    result = train(config, {"accuracy": record_test_accuracy}, every=EVERY)
    return np.nan_to_num(result.by_rate(result.records["accuracy"]), nan=0.0)


def band(accuracy: np.ndarray) -> list:
    """Return for each rate the mean, the lowest and the highest seed, in thousandths, (r, 3, t)."""
    parts = accuracy.mean(axis=1), accuracy.min(axis=1), accuracy.max(axis=1)
    return np.rint(1000 * np.stack(parts, axis=1)).astype(int).tolist()


def main() -> None:
    """Compute all settings and write them."""
    settings = []
    for depth, scale, batch_size in product(DEPTHS, SCALES, BATCH_SIZES):
        bands = {norm: band(curves(norm, depth, scale, batch_size)) for norm in NORMS}
        settings.append({"depth": depth, "scale": scale, "batch": batch_size, **bands})
        print(f"{len(settings)} of {len(DEPTHS) * len(SCALES) * len(BATCH_SIZES)}", flush=True)
    store = {
        "made": {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "processor": platform.machine(),
            "versions": versions(),
        },
        "seeds": networks.Config.seeds,
        "width": WIDTH,
        "steps": [*range(0, STEPS + 1, EVERY)],
        "rates": RATES,
        "settings": settings,
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(store, separators=(",", ":")).replace('{"depth"', '\n{"depth"')
    TARGET.write_text(f"{lines}\n", "utf8")


if __name__ == "__main__":
    main()
