"""How much of the way from a blind mixture to an oracle does a router go? With its uncertainty."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fiancee_jax.evaluation import replay
from fiancee_jax.evaluation.replay import Policy
from fiancee_jax.evaluation.rows import Row

RESAMPLES = 1000
ROUNDING = 1e-6  # of the mixture's cost; a gap below that is none
EQUAL = 0.02  # mean GMACs that differ by no more count as equal


@dataclasses.dataclass(frozen=True)
class Gap:
    """A router between the blind mixture and the oracle of equal mean distance; intervals of 95 %.

    Attributes:
        router, mixture, oracle: mean GMACs; the router's predictor counted.
        gain: mixture - router, GMACs. `gain_interval`: of a bootstrap over inputs.
        taken: gain / (mixture - oracle). `taken_interval`: likewise.
    """

    router: float
    mixture: float
    oracle: float
    gain: float
    gain_interval: tuple[float, float]
    taken: float
    taken_interval: tuple[float, float]


def gap(
    policy: Policy,
    overhead: float,
    lpips: np.ndarray,
    gmacs: np.ndarray,
    units: np.ndarray,
    seed: int = 0,
) -> Gap:
    """Compares at the router's own mean distance.

    Args:
        policy: of the router, [m, n].
        overhead: GMACs of its predictor.
        lpips: measured distances, or 1 where a threshold is broken and else 0, [m, n].
        gmacs: of the exits [n].
        units: the input (or block of frames) that each record belongs to, [m]; these are drawn,
            not records.
        seed: of the bootstrap.
    """
    table = _Table(policy, overhead, lpips, gmacs)
    whole = table.at(np.full(len(units), 1 / len(units)))
    rng = np.random.default_rng(seed)
    drawn = np.array([table.at(_weights(rng, units)) for _ in range(RESAMPLES)])
    gains, takens = drawn[:, 1] - drawn[:, 0], _taken(drawn)
    return Gap(
        *map(float, whole),
        gain=float(whole[1] - whole[0]),
        gain_interval=_interval(gains),
        taken=float(_taken(whole[None])[0]),
        taken_interval=_interval(takens),
    )


class _Table:
    """Everything a resample needs, so that it is a few products."""

    def __init__(
        self, policy: Policy, overhead: float, lpips: np.ndarray, gmacs: np.ndarray
    ) -> None:
        self.gmacs, self.lpips = gmacs, lpips
        self.cost = policy @ gmacs + overhead
        self.distance = (policy * lpips).sum(1)
        self.oracle_cost, self.oracle_distance = replay.lagrangian_points(lpips, lpips, gmacs)

    def at(self, weights: np.ndarray) -> np.ndarray:
        """Mean GMACs of router, mixture and oracle under weights of the records [m]."""
        distance = float(weights @ self.distance)
        mixture = replay.frontier(self.gmacs, weights @ self.lpips)
        oracle = replay.frontier(self.oracle_cost @ weights, self.oracle_distance @ weights)
        costs = weights @ self.cost, mixture.cost_at(distance), oracle.cost_at(distance)
        return np.array(costs, np.float64)


def _taken(costs: np.ndarray) -> np.ndarray:
    router, mixture, oracle = costs.T
    open_ = mixture - oracle > ROUNDING * mixture
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing to take: NaN
        return np.where(open_, (mixture - router) / (mixture - oracle), np.nan)


def _weights(rng: np.random.Generator, units: np.ndarray) -> np.ndarray:
    """Weights of the records when inputs are drawn with replacement."""
    count = units.max() + 1
    times = np.bincount(rng.integers(0, count, count), minlength=count)
    weights = times[units].astype(np.float64)
    return weights / weights.sum()


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 %."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


# --- two policies on the same inputs ------------------------------------------------------------
def paired(a: Row, b: Row, max_lpips: float, seed: int = 0) -> dict[str, Any]:
    """Differences a - b on the same inputs and z's, with a 95 % bootstrap interval over inputs.

    Returns:
        mean GMACs and LPIPS-alex, p95 and violation rate of both; `equal_gmacs`, whether a's and
        b's mean GMACs are within `EQUAL` of each other, as a fair comparison wants;
        `lpips_difference` and `violation_difference` with their intervals. Negative: a is nearer,
        or breaks it less.
    """
    units = a.subject.units
    distances = [(row.taken * row.subject.records.lpips).sum(1) for row in (a, b)]
    broken = [row.violations(max_lpips) for row in (a, b)]
    rng = np.random.default_rng(seed)
    weights = np.stack([_weights(rng, units) for _ in range(RESAMPLES)])
    found: dict[str, Any] = {"a": a.policy, "b": b.policy, "threshold": max_lpips}
    for name, row, distance, violation in zip("ab", (a, b), distances, broken, strict=True):
        found[f"{name}_gmacs"] = float((row.taken @ row.subject.gmacs).mean() + row.overhead)
        found[f"{name}_lpips"] = float(distance.mean())
        found[f"{name}_p95"] = float(np.quantile(distance, 0.95, method="inverted_cdf"))
        found[f"{name}_violations"] = float(violation.mean())
    found["equal_gmacs"] = abs(found["a_gmacs"] / found["b_gmacs"] - 1) <= EQUAL
    for name, (one, two) in (("lpips", distances), ("violation", broken)):
        found[f"{name}_difference"] = float((one - two).mean())
        found[f"{name}_interval"] = list(_interval(weights @ (one - two)))
    return found
