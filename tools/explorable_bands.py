"""Compute the bands that the explorable `training` draws behind the reader's own curves.

Run it from the repository: `python tools/explorable_bands.py`. It trains the networks of the
chapter on learning rates, 16 seeds of them, for each choice that the explorable offers, and stores
them in book/_data/explorables/training.json with what they were computed with. It goes on where it
was interrupted. Tests compute a part of it again.
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
BATCH_SIZES, DEPTHS, SCALES = (32, 8), (6, 3, 12), (1.0, 0.32, 3.2)
STEPS, EVERY, WIDTH = 200, 20, 32


def curves(norm: str, depth: int, scale: float, batch: int, rates=RATES) -> np.ndarray:
    """Return the test accuracy in eval mode, (rates, seeds, t); 0 where a run has diverged."""
    config = networks.Config(
        norm=norm,
        depth=depth,
        init_scale=scale,
        batch_size=batch,
        width=WIDTH,
        lr=rates,
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
    """Compute the settings that are missing, and store each."""
    found = json.loads(TARGET.read_text("utf8"))["settings"] if TARGET.exists() else []
    for batch, depth, scale in product(BATCH_SIZES, DEPTHS, SCALES):
        setting = {"depth": depth, "scale": scale, "batch": batch}
        if any(setting.items() <= other.items() for other in found):
            continue
        made = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "processor": platform.machine(),
            "versions": versions(),
        }
        bands = {norm: band(curves(norm, **setting)) for norm in NORMS}
        found.append(setting | {"bands": bands, "made": made})
        write(found)
        print(setting, flush=True)


def write(settings: list) -> None:
    """Write the store, one line a setting."""
    about = {
        "seeds": networks.Config.seeds,
        "width": WIDTH,
        "steps": [*range(0, STEPS + 1, EVERY)],
        "rates": RATES,
    }
    lines = ",\n".join(json.dumps(s, separators=(",", ":")) for s in settings)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(f'{json.dumps(about)[:-1]}, "settings": [\n{lines}\n]}}\n', "utf8")


if __name__ == "__main__":
    main()
