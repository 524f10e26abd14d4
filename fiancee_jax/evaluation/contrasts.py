"""The comparisons that decide: a router against blind mixtures, baselines and students."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fiancee_jax.evaluation import replay
from fiancee_jax.evaluation.gap import gap, paired
from fiancee_jax.evaluation.rows import Row
from fiancee_jax.evaluation.table import CONTROLS, Table


def gaps(table: Table, max_lpips: float) -> list[dict[str, Any]]:
    """Routers between the blind mixture and the oracle, at their own mean distance."""
    learned = table.learned(max_lpips)
    ridges = [table.ridge_row(key, max_lpips) for key in table.ridges]
    rows = [learned, table.lambda_rule(learned), *ridges]
    return _gaps(table, max_lpips, rows, table.subject.records.lpips)


def gaps_in_violations(table: Table, max_lpips: float) -> list[dict[str, Any]]:
    """Routers between the blind mixture and the oracle, at their own violation rate.

    A threshold rule keeps a threshold and no mean, so this is what it is for.
    """
    learned, lpips = table.learned(max_lpips), table.subject.records.lpips
    rows = [learned, table.lambda_rule(learned), *table.guaranteed(max_lpips)]
    return _gaps(table, max_lpips, rows, (~(lpips <= max_lpips)).astype(np.float64))


def _gaps(
    table: Table, max_lpips: float, rows: list[Row], harm: np.ndarray
) -> list[dict[str, Any]]:
    """`gap` of each row; `harm` [m, n] is what mixture and oracle share with it on average."""
    subject, found = table.subject, []
    for row in rows:
        judged = gap(row.taken, row.overhead, harm, subject.gmacs, subject.units, table.seed)
        words = {"policy": row.policy, "threshold": max_lpips}
        found.append({**words, **dataclasses.asdict(judged)})
    return found


def comparisons(table: Table, max_lpips: float) -> list[dict[str, Any]]:
    """The learned router against others of equal mean GMACs, on the same inputs and z's.

    Settings meet a cost as nearly as the exits allow; `gap.paired` says how nearly.
    """
    learned = table.learned(max_lpips)
    cost = replay.mean_cost(learned.taken, table.subject.gmacs) + learned.overhead
    pairs: list[tuple[Row, Row]] = []
    for name in CONTROLS:
        if name in table.companions:
            other = table.companions[name]
            mine = cost - other.predictor_gmacs
            tau = replay.threshold_at_cost(other.records.predicted, other.gmacs, mine)
            pairs.append((learned, table.routed(name, CONTROLS[name], other, tau)))
    for key, fitted in table.ridges.items():
        mine, gmacs = cost - fitted.gmacs, table.subject.gmacs
        tau = replay.threshold_at_cost(table.ridge_estimates(key), gmacs, mine)
        pairs.append((learned, table.ridge_row(key, tau)))
    pairs += [(router, student) for student, router in table.students()]
    return [paired(a, b, max_lpips, table.seed) for a, b in pairs]
