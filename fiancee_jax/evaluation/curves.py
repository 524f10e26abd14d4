"""What the page draws: policies swept over their setting, estimates against measurements."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from fiancee_jax.evaluation import replay
from fiancee_jax.evaluation.table import CONTROLS, Table

POINTS = 41  # of a swept curve
BINS = 10


def curves(table: Table) -> dict[str, list[dict[str, float]]]:
    """Quality against compute by policy: points of share of full, mean LPIPS-alex and setting."""
    subject = table.subject
    lpips, gmacs = subject.records.lpips, subject.gmacs
    full = table.full_gmacs
    hull = replay.blind_frontier(lpips, gmacs)
    found = {
        "learned": _thresholds(subject.records.predicted, lpips, gmacs, subject.predictor_gmacs),
        "lambda": _weights(subject.records.predicted, lpips, gmacs, subject.predictor_gmacs),
        "oracle": _weights(lpips, lpips, gmacs, 0.0),
        "mixture": [_point(c, d) for c, d in zip(*hull, strict=True)],
        "exits": [_point(c, d) for c, d in zip(gmacs, lpips.mean(0), strict=True)],
    }
    if table.ridge is not None:
        found["ridge"] = _thresholds(table.ridge_estimates(), lpips, gmacs, 0.0)
    for name in CONTROLS:
        if name in table.companions:
            other = table.companions[name]
            records = other.records
            found[name] = _thresholds(
                records.predicted, records.lpips, other.gmacs, other.predictor_gmacs
            )
    if "students" in table.companions:
        other = table.companions["students"]
        points = zip(other.gmacs[:-1], other.records.lpips.mean(0)[:-1], strict=True)
        found["students"] = [_point(c, d) for c, d in points]
    return {
        name: [{**p, "share": p["gmacs"] / full} for p in points] for name, points in found.items()
    }


def _point(gmacs: Any, lpips: Any, setting: Any = 0.0) -> dict[str, float]:
    return {"gmacs": float(gmacs), "lpips": float(lpips), "setting": float(setting)}


def _thresholds(
    predicted: np.ndarray, lpips: np.ndarray, gmacs: np.ndarray, overhead: float
) -> list[dict[str, float]]:
    points = []
    for tau in np.quantile(predicted[:, :-1], np.linspace(0, 1, POINTS)):
        taken = replay.threshold(predicted, tau)
        cost = replay.mean_cost(taken, gmacs) + overhead
        points.append(_point(cost, replay.mean_of(taken, lpips), tau))
    return points


def _weights(
    judged: np.ndarray, lpips: np.ndarray, gmacs: np.ndarray, overhead: float
) -> list[dict[str, float]]:
    # Every setting as it came out: picking the best ones by what was measured would flatter.
    cost, distance = (x.mean(1) for x in replay.lagrangian_points(judged, lpips, gmacs))
    cost, rows = np.unique(cost, return_index=True)
    keep = np.unique(np.linspace(0, len(cost) - 1, POINTS).round().astype(int))
    settings = replay.WEIGHTS[rows[keep]]
    points = zip(cost[keep] + overhead, distance[rows[keep]], settings, strict=True)
    return [_point(c, d, weight) for c, d, weight in points]


def reliability(predicted: np.ndarray, lpips: np.ndarray) -> list[dict[str, Any]]:
    """Predicted against measured LPIPS-alex by early exit, in bins of equally many records.

    Both [m, n]. A bin holds its mean estimate, and mean, p10 and p90 of what was measured.
    """
    found = []
    for e in range(lpips.shape[1] - 1):
        order = np.argsort(predicted[:, e], kind="stable")
        bins = []
        for part in np.array_split(order, min(BINS, len(order))):
            p10, p90 = np.percentile(lpips[part, e], [10, 90])
            mean = float(predicted[part, e].mean()), float(lpips[part, e].mean())
            bins.append(
                dict(zip(("predicted", "measured", "p10", "p90"), (*mean, p10, p90), strict=True))
            )
        found.append({"exit": e + 1, "bins": bins})
    return found


def promises(table: Table) -> list[dict[str, Any]]:
    """How often thresholds are broken: by the raw router (confidence null) and calibrated ones."""
    found = []
    for limit, promised in table.calibrated.items():
        raw = table.learned(limit)
        rows = [(None, limit, raw)]
        kept = zip(promised, table.guaranteed(limit), strict=True)
        rows += [(promise.confidence, promise.tau, row) for promise, row in kept]
        for confidence, tau, row in rows:
            cost = replay.mean_cost(row.taken, table.subject.gmacs) + row.overhead
            found.append(
                {
                    "threshold": limit,
                    "confidence": confidence,
                    "tau": tau,
                    "violations": float(row.violations(limit).mean()),
                    "violations_interval": by_block(row.violations(limit), table.subject.units),
                    "blocks": int(table.subject.units.max()) + 1,
                    "share": cost / table.full_gmacs,
                }
            )
    return found


def by_block(broken: np.ndarray, blocks: np.ndarray) -> list[float]:
    """95 % Clopper-Pearson interval of a rate [m], a block of records counting as one trial.

    Shares of a block add up to a number of failures that need not be whole; the interval is the
    beta distribution's at that number. It takes records of a block to be one and the same, which is
    cautious.
    """
    n = int(blocks.max()) + 1
    sums, sizes = np.bincount(blocks, broken, n), np.bincount(blocks, minlength=n)
    failures = float((sums / sizes).sum())
    low = stats.beta.ppf(0.025, failures, n - failures + 1) if failures > 0 else 0.0
    high = stats.beta.ppf(0.975, failures + 1, n - failures) if failures < n else 1.0
    return [float(low), float(high)]
