"""The plainest predictor: ridge regression of log distances on class areas and z."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import numpy as np

PENALTIES = np.geomspace(1e-3, 1e3, 13)
FLOOR = 1e-3  # as in the predictor's own loss


class Ridge(NamedTuple):
    """log(distance + FLOOR) = ((x - mean) / scale) @ weights + bias."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def predict(self, shares: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Distances [m, n - 1] that never rise with cost, and a last column of zeros."""
        x = (np.concatenate([shares, vector], axis=1) - self.mean) / self.scale
        distance = np.maximum(np.exp(x @ self.weights + self.bias) - FLOOR, 1e-6)
        falling = np.maximum.accumulate(distance[:, ::-1], axis=1)[:, ::-1]
        return np.pad(falling, ((0, 0), (0, 1)))


def fit(shares: np.ndarray, vector: np.ndarray, target: np.ndarray, holdout: float = 0.2) -> Ridge:
    """Fits on what the predictor was trained on; the penalty is chosen on a holdout.

    Args:
        shares: class areas [m, k].
        vector: z [m, d].
        target: measured distances [m, n - 1].
        holdout: share of the rows, the last ones.
    """
    x = np.concatenate([shares, vector], axis=1).astype(np.float64)
    mean, scale = x.mean(0), x.std(0) + 1e-9
    x, y = (x - mean) / scale, np.log(target.astype(np.float64) + FLOOR)
    cut = int(len(x) * (1 - holdout))

    def error(penalty: float) -> float:
        weights, bias = _solve(x[:cut], y[:cut], penalty)
        return float(np.mean((x[cut:] @ weights + bias - y[cut:]) ** 2))

    weights, bias = _solve(x, y, min(PENALTIES, key=error))
    return Ridge(mean, scale, weights, bias)


def fit_targets(path: pathlib.Path) -> Ridge | None:
    """`fit` on a workdir's ``predictor_targets.npz``; None if it is not there."""
    if not path.is_file():
        return None
    with np.load(path) as kept:
        shares = kept["grid"].astype(np.float64).mean((1, 2))
        return fit(shares, kept["vector"], kept["target"])


def _solve(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    centre, bias = x.mean(0), y.mean(0)
    x = x - centre
    gram = x.T @ x + penalty * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (y - bias))
    return weights, bias - centre @ weights
