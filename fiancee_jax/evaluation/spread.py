"""How far the scores of a set of pictures move by z alone: the backbone against itself.

An exit's FD-EffLite0 or mIoU can only be told from the backbone's where the two differ by more than
two runs of the backbone do, at other z's and for other maps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fiancee_jax import metrics
from fiancee_jax.evaluation.records import Records

RESAMPLES = 100  # each takes two Frechet distances


def spread(records: Records, void: int | None, seed: int) -> dict[str, Any] | None:
    """Scores of the backbone's pictures at both sets of z's, and 95 % intervals of the difference.

    The bootstrap draws inputs: the same for both sets, all z's of an input with it.

    Args:
        records: with the backbone rendered again.
        void: class id that counts in no mIoU, or None.
        seed: of the bootstrap.

    Returns:
        By score (fd_efflite0, miou): ``first``, ``second`` (what the sets score) and ``interval``
        (of first - second); and the number of ``resamples``. None where nobody judged the pictures.
    """
    sets: dict[str, tuple[Any, Any, Any]] = {}
    real = records.real_features
    if records.features is not None and records.again_features is not None and real is not None:
        fd = lambda x: metrics.frechet_distance(x, real)  # noqa: E731
        sets["fd_efflite0"] = fd, records.features[:, -1], records.again_features
    if records.confusion is not None and records.again_confusion is not None:
        miou = lambda x: metrics.mean_iou(x.sum(0, np.int64), void)  # noqa: E731
        sets["miou"] = miou, records.confusion[:, -1], records.again_confusion
    if not sets:
        return None
    found = {name: _compared(*pair, records.units, seed) for name, pair in sets.items()}
    return {**found, "resamples": RESAMPLES}


def _compared(
    score: Any, first: np.ndarray, second: np.ndarray, units: np.ndarray, seed: int
) -> dict[str, Any]:
    rng, count = np.random.default_rng(seed), int(units.max()) + 1
    rows = [np.flatnonzero(units == unit) for unit in range(count)]
    moved = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rows[unit] for unit in rng.integers(0, count, count)])
        moved.append(score(first[drawn]) - score(second[drawn]))
    return {
        "first": float(score(first)),
        "second": float(score(second)),
        "interval": np.percentile(moved, [2.5, 97.5]).tolist(),
    }
