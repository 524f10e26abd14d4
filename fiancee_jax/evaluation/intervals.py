"""Intervals of 95 %: of what was measured on inputs, which are drawn, not records."""

from __future__ import annotations

import functools

import numpy as np
from scipy import stats

RESAMPLES = 1000


@functools.lru_cache(maxsize=64)
def _draws(units: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, units, (RESAMPLES, units))


def bootstrap(values: np.ndarray, units: np.ndarray, seed: int) -> list[float]:
    """Of the mean of values [m] when units are drawn with replacement."""
    count = int(units.max()) + 1
    sums = np.bincount(units, values, count)
    sizes = np.bincount(units, minlength=count)
    drawn = _draws(count, seed)
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    return np.percentile(means, [2.5, 97.5]).tolist()


def exact(broken: np.ndarray, units: np.ndarray) -> list[float]:
    """Clopper and Pearson's of a rate [m], a unit counting as one trial.

    Shares of a unit add up to a number of failures that need not be whole; the interval is the
    beta distribution's at that number. It takes records of a unit to be one and the same, which is
    cautious.
    """
    n = int(units.max()) + 1
    sums, sizes = np.bincount(units, broken, n), np.bincount(units, minlength=n)
    failures = float((sums / sizes).sum())
    low = stats.beta.ppf(0.025, failures, n - failures + 1) if failures > 0 else 0.0
    high = stats.beta.ppf(0.975, failures + 1, n - failures) if failures < n else 1.0
    return [float(low), float(high)]


def rate(broken: np.ndarray, units: np.ndarray, seed: int) -> list[float]:
    """Of a rate [m]: `bootstrap`, or `exact` where nothing or everything is broken.

    There every resample is like the other, and a bootstrap would claim to be certain.
    """
    if np.ptp(broken) == 0 and broken[0] in (0, 1):
        return exact(broken, units)
    return bootstrap(broken, units, seed)
