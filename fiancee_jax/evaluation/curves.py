"""What the page draws: policies swept over their setting, estimates against measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiancee_jax.evaluation import intervals, replay
from fiancee_jax.evaluation.table import CONTROLS, Table

POINTS = 41  # of a swept curve
BINS = 10
EVERY_EXIT = float(np.finfo(np.float32).max)  # no estimate is above it: written for infinity


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
    for name, fitted in table.ridges.items():
        found[name] = _thresholds(table.ridge_estimates(name), lpips, gmacs, fitted.gmacs)
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
    """How often thresholds are broken: by the raw router (confidence null) and calibrated ones.

    `tau` is always a number: -1 where the backbone is taken for all, `EVERY_EXIT` where every exit
    is allowed. Intervals are `intervals.exact`, whatever happened.
    """
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
                    "tau": min(tau, EVERY_EXIT),
                    "violations": float(row.violations(limit).mean()),
                    "violations_interval": intervals.exact(
                        row.violations(limit), table.subject.units
                    ),
                    "blocks": int(table.subject.units.max()) + 1,
                    "share": cost / table.full_gmacs,
                }
            )
    return found
