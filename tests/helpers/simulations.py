"""Many experiments whose true effect is known, and how often a judge is right about them."""

from functools import lru_cache

import numpy as np
from scipy import stats

from bnlib.experiments.records import verdict

EXPERIMENTS = 4000
LUCK = 0.999  # a correct judge is inside the limits of `expected_share` so often
NOISE = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential arms": lambda rng, shape: (
        rng.exponential(size=shape) - rng.exponential(size=shape)
    ),
    "exponential difference": lambda rng, shape: rng.exponential(size=shape) - 1,
}
"""Name -> the paired difference without its mean; of mean 0, and of any unit."""


@lru_cache
def simulate(noise: str, seeds: int, effect: float, margin: float, experiments: int = EXPERIMENTS):
    """Judge experiments with a true effect; the seeds vary far more than the arms of one seed."""
    rng = np.random.default_rng(0)
    shape = experiments, seeds
    control = 10 * rng.normal(size=shape)
    treatment = control + effect + NOISE[noise](rng, shape)
    arms = zip(treatment, control, strict=True)
    return tuple(verdict.paired_verdict("", "", one, other, margin) for one, other in arms)


def coverage(verdicts, effect: float) -> float:
    """Return the share of intervals that contain the true effect."""
    return float(np.mean([v.low <= effect <= v.high for v in verdicts]))


def share(verdicts, *answers: str) -> float:
    """Return the share of verdicts with one of these answers."""
    return float(np.mean([v.answer in answers for v in verdicts]))


def expected_share(p: float, experiments: int = EXPERIMENTS) -> tuple[float, float]:
    """Return the limits between which a share lies that is p in the long run."""
    low, high = stats.binom.interval(LUCK, experiments, p)
    return low / experiments, high / experiments


def power(effect: float, margin: float, seeds: int) -> float:
    """Return the probability of "supported" for normal differences of standard deviation 1."""
    quantile = stats.t.ppf((1 + verdict.CONFIDENCE) / 2, seeds - 1)
    return float(stats.nct.sf(quantile, seeds - 1, (effect - margin) * seeds**0.5))
