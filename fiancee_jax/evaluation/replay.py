"""Policies replayed offline: which exit every record would take, without rendering anything.

A policy is a matrix of probabilities [m records, n exits] whose rows sum to 1: one-hot for a
router, equal rows for a blind mixture. Distances are measured ones; `predicted` are a router's
estimates with a last column of zeros. `gmacs` [n] rises; predictor costs are added by
`evaluation.rows`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fiancee_jax.routing.calibration import chosen

Policy = np.ndarray  # [m, n]


def one_hot(exits: np.ndarray, n: int) -> Policy:
    """Exit numbers 1..n [m] as a policy."""
    return np.eye(n)[exits - 1]


def static(m: int, n: int, exit: int) -> Policy:
    """The same exit for all."""
    return one_hot(np.full(m, exit), n)


def threshold(predicted: np.ndarray, tau: float) -> Policy:
    """The cheapest exit whose predicted distance is at most tau (FIANCEE, section 3.3).

    The backbone is always allowed, whatever tau is.
    """
    return one_hot(chosen(predicted[:, :-1], tau), predicted.shape[1])


def lagrangian(predicted: np.ndarray, gmacs: np.ndarray, weight: float) -> Policy:
    """The exit that minimises share of full + weight * predicted distance."""
    # float64 whatever the weight's type: `weight_at_cost` ends at a tie, which float32 would flip
    score = gmacs / gmacs[-1] + weight * predicted.astype(np.float64)
    return one_hot(np.argmin(score, axis=1) + 1, predicted.shape[1])


def random_router(policy: Policy) -> Policy:
    """The same histogram of exits, dealt without looking at the input."""
    return np.broadcast_to(policy.mean(0), policy.shape)


def mean_cost(policy: Policy, gmacs: np.ndarray) -> float:
    """Mean GMACs per picture, without a predictor."""
    return float(policy.mean(0, dtype=np.float64) @ gmacs)  # exact where all take the same exit


def mean_of(policy: Policy, values: np.ndarray) -> float:
    """Mean over records of a measured value [m, n] at the exits taken."""
    return float((policy * values).sum(1).mean())


# --- oracles ------------------------------------------------------------------------------------
def oracle(lpips: np.ndarray, max_lpips: float) -> Policy:
    """The cheapest exit whose *measured* distance keeps the threshold."""
    return threshold(lpips, max_lpips)


def oracle_at_violation(
    lpips: np.ndarray, gmacs: np.ndarray, max_lpips: float, rate: float
) -> Policy:
    """The cheapest policy that breaks the threshold for a share `rate` of the records.

    Starts from `oracle`; a record that may break it takes exit 1, those that save most first.
    """
    policy = np.array(oracle(lpips, max_lpips))
    saving = policy @ gmacs - gmacs[0]
    left = rate * len(policy)
    for i in np.argsort(-saving, kind="stable"):
        if left <= 0 or saving[i] <= 0:
            break
        part = min(1.0, left)
        policy[i] *= 1 - part
        policy[i, 0] += part
        left -= part
    return policy


# --- frontiers: lower convex hulls of (mean GMACs, mean distance) -------------------------------
class Frontier(NamedTuple):
    """Points of a lower convex hull, cost rising and distance falling."""

    cost: np.ndarray
    distance: np.ndarray

    def cost_at(self, distance: float) -> float:
        """GMACs of the mixture of two neighbouring points that has this mean distance."""
        return float(np.interp(-distance, -self.distance, self.cost))

    def distance_at(self, cost: float) -> float:
        """Mean distance of the mixture of two neighbouring points that has this cost."""
        return float(np.interp(cost, self.cost, self.distance))


def frontier(cost: np.ndarray, distance: np.ndarray) -> Frontier:
    """The lower convex hull of points, between its cheapest and its nearest point."""
    hull: list[tuple[float, float]] = []
    for c, d in sorted(zip(cost.tolist(), distance.tolist(), strict=True)):
        if hull and d >= hull[-1][1]:
            continue  # dearer and no nearer
        while len(hull) > 1 and _above(hull[-2], hull[-1], (c, d)):
            hull.pop()
        hull.append((c, d))
    cost_, distance_ = np.array(hull).T
    return Frontier(cost_, distance_)


def _above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


WEIGHTS = np.concatenate([[0.0], np.geomspace(1e-2, 1e4, 400)])


def lagrangian_points(
    judged: np.ndarray, lpips: np.ndarray, gmacs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cost and measured distance of each record under `lagrangian` at each of WEIGHTS, [w, m].

    Args:
        judged: distances that the rule looks at (predicted; measured ones for an oracle), [m, n].
        lpips: measured distances [m, n].
        gmacs: [n].
    """
    rows, cost, distance = np.arange(len(lpips)), [], []
    for weight in WEIGHTS:
        exits = np.argmin(gmacs / gmacs[-1] + weight * judged, axis=1)
        cost.append(gmacs[exits])
        distance.append(lpips[rows, exits])
    return np.stack(cost), np.stack(distance)


def blind_frontier(lpips: np.ndarray, gmacs: np.ndarray) -> Frontier:
    """Mixtures of two static exits: what can be had without looking at the input."""
    return frontier(gmacs, lpips.mean(0))


def blind_at(lpips: np.ndarray, gmacs: np.ndarray, cost: float) -> Policy:
    """The blind mixture of mean cost `cost` with the smallest mean distance."""
    hull = blind_frontier(lpips, gmacs)
    row = np.zeros(lpips.shape[1])
    for i, corner in enumerate(hull.cost):
        weight = np.interp(cost, hull.cost, np.eye(len(hull.cost))[i])
        row[int(np.argmin(np.abs(gmacs - corner)))] = weight.round(9)  # 1e-16 is not taken
    return np.broadcast_to(row, lpips.shape)


# --- settings that meet a cost ------------------------------------------------------------------
def threshold_at_cost(predicted: np.ndarray, gmacs: np.ndarray, cost: float) -> float:
    """The tau of `threshold` whose mean cost is nearest to `cost`; cost falls as tau rises."""
    settings = np.unique(np.concatenate([[0.0], predicted[:, :-1].ravel()]))
    low, high = 0, len(settings) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if mean_cost(threshold(predicted, settings[middle]), gmacs) > cost:
            low = middle
        else:
            high = middle
    gaps = [abs(mean_cost(threshold(predicted, settings[i]), gmacs) - cost) for i in (low, high)]
    return float(settings[(low, high)[int(np.argmin(gaps))]])


def weight_at_cost(predicted: np.ndarray, gmacs: np.ndarray, cost: float) -> float:
    """The largest weight of `lagrangian` whose mean cost is at most `cost` (0 if none is)."""
    low, high = -12.0, 16.0  # logarithms
    for _ in range(60):
        middle = (low + high) / 2
        if mean_cost(lagrangian(predicted, gmacs, np.exp(middle)), gmacs) <= cost:
            low = middle
        else:
            high = middle
    fits = mean_cost(lagrangian(predicted, gmacs, np.exp(low)), gmacs) <= cost
    return float(np.exp(low)) if fits else 0.0
