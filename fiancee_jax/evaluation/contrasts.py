"""The comparisons that decide: a router against blind mixtures, baselines and students."""

from __future__ import annotations

import dataclasses
from typing import Any

from fiancee_jax.evaluation import replay
from fiancee_jax.evaluation.gap import gap, paired
from fiancee_jax.evaluation.rows import Row
from fiancee_jax.evaluation.table import CONTROLS, Table


def gaps(table: Table, max_lpips: float) -> list[dict[str, Any]]:
    """Routers between the blind mixture and the oracle, at their own mean distance."""
    learned, subject = table.learned(max_lpips), table.subject
    ridges = [table.ridge_row(key, max_lpips) for key in table.ridges]
    found = []
    for row in [learned, table.lambda_rule(learned), *ridges]:
        lpips, gmacs, units = subject.records.lpips, subject.gmacs, subject.units
        judged = gap(row.taken, row.overhead, lpips, gmacs, units, table.seed)
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
