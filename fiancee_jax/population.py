"""Which candidates enter a guide bank. On the host, float64, a function of its arguments alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

CANDIDATES = 4  # times as many entries are made as are kept
ROUNDS = 20  # of k-means


def choose(
    population: str,
    keys: Float[np.ndarray, "n d"],
    share: Float[np.ndarray, "n k"],
    size: int,
) -> Int[np.ndarray, "size"]:
    """Indices of the entries that are kept.

    Args:
        population: see `config.Guides`.
        keys: what entries are searched by.
        share: of the pixels, by part (OASIS: class).
        size: how many to keep, at most n.
    """
    if population == "kmeans":
        return medoids(keys, size)
    if population == "kcenter":
        return far_apart(keys, size)
    if population == "balanced":
        return balanced(share, size)
    return np.arange(size)


def far_apart(keys: Float[np.ndarray, "n d"], size: int) -> Int[np.ndarray, "size"]:
    """Greedy k-center: from the key nearest to the mean on, always the key farthest from all."""
    chosen = [int(np.argmin(_squared(keys, keys.mean(0))))]
    gap = _squared(keys, keys[chosen[0]])
    while len(chosen) < size:
        gap[chosen[-1]] = -1.0  # never again, even among equal keys
        chosen.append(int(np.argmax(gap)))
        gap = np.minimum(gap, _squared(keys, keys[chosen[-1]]))
    return np.array(chosen)


def medoids(keys: Float[np.ndarray, "n d"], size: int) -> Int[np.ndarray, "size"]:
    """k-means from keys that are `far_apart`; then the key nearest to each centre, each once."""
    centres = keys[far_apart(keys, size)]
    for _ in range(ROUNDS):
        owner = np.argmin(_distances(keys, centres), axis=1)
        counts = np.bincount(owner, minlength=size)
        sums = np.zeros_like(centres)
        np.add.at(sums, owner, keys)
        filled = counts > 0  # an empty cluster keeps its centre
        centres[filled] = sums[filled] / counts[filled, None]
    distances, chosen = _distances(keys, centres), []
    for cluster in range(size):
        chosen.append(int(np.argmin(distances[:, cluster])))
        distances[chosen[-1]] = np.inf
    return np.array(chosen)


def balanced(share: Float[np.ndarray, "n k"], size: int) -> Int[np.ndarray, "size"]:
    """Greedily the entry that adds most to the sum of logarithms of the parts' total shares."""
    total, left = np.full(share.shape[1], 1e-3), np.ones(len(share), bool)
    chosen = []
    for _ in range(size):
        gain = np.log(total[None] + share).sum(1)
        chosen.append(int(np.argmax(np.where(left, gain, -np.inf))))
        left[chosen[-1]] = False
        total = total + share[chosen[-1]]
    return np.array(chosen)


def _squared(keys: np.ndarray, point: np.ndarray) -> np.ndarray:
    return ((keys - point[None]) ** 2).sum(1)


def _distances(keys: np.ndarray, centres: np.ndarray) -> np.ndarray:
    norms = (keys**2).sum(1)[:, None] + (centres**2).sum(1)[None]
    return norms - 2 * keys @ centres.T
