"""The plainest predictors: ridge regression of log distances on class areas, z and products."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

PENALTIES = np.geomspace(1e-3, 1e3, 13)
FLOOR = 1e-3  # as in the predictor's own loss
MOST_PAIRED = 64  # coordinates of z; of longer ones only squares, not products, are columns
MOST_MIXED = 2000  # columns of class areas x z: the largest classes go first
LABELS = {
    "ridge": "ridge on class areas and z",
    "ridge_products": "ridge on areas, z and their products",
}


class Ridge(NamedTuple):
    """log(distance + FLOOR) = ((x - mean) / scale) @ weights + bias, x of `columns`.

    `mixed`: the classes whose areas are multiplied with z; None where there are no products.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    mixed: np.ndarray | None = None

    def predict(self, shares: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Distances [m, n - 1] that never rise with cost, and a last column of zeros."""
        x = (columns(shares, vector, self.mixed) - self.mean) / self.scale
        distance = np.maximum(np.exp(x @ self.weights + self.bias) - FLOOR, 1e-6)
        falling = np.maximum.accumulate(distance[:, ::-1], axis=1)[:, ::-1]
        return np.pad(falling, ((0, 0), (0, 1)))

    @property
    def gmacs(self) -> float:
        """Of one estimate: the weights, and a multiplication for each column if there are any."""
        return (self.weights.size + (0 if self.mixed is None else len(self.weights))) / 1e9


class Targets(NamedTuple):
    """What the predictor was trained on: class areas [m, k], z [m, d], distances [m, n - 1]."""

    shares: np.ndarray
    vector: np.ndarray
    target: np.ndarray


def columns(shares: np.ndarray, vector: np.ndarray, mixed: np.ndarray | None = None) -> np.ndarray:
    """Areas and z [m, k + d]; with `mixed` also z_i z_j (i <= j) and sqrt(areas) x z.

    A root because a class that covers a hundredth of the picture still shows its texture.
    """
    shares, vector = shares.astype(np.float64), vector.astype(np.float64)
    plain = np.concatenate([shares, vector], axis=1)
    if mixed is None:
        return plain
    d = vector.shape[1]
    i, j = np.triu_indices(d) if d <= MOST_PAIRED else (np.arange(d), np.arange(d))
    # grids that are no areas may be negative
    products = np.sqrt(np.abs(shares[:, mixed, None])) * vector[:, None]
    flat = products.reshape(len(plain), -1)
    return np.concatenate([plain, vector[:, i] * vector[:, j], flat], axis=1)


def fit(
    shares: np.ndarray,
    vector: np.ndarray,
    target: np.ndarray,
    holdout: float = 0.2,
    products: bool = False,
) -> Ridge:
    """Fits on what the predictor was trained on; the penalty is chosen on a holdout.

    Args:
        shares: class areas [m, k].
        vector: z [m, d].
        target: measured distances [m, n - 1].
        holdout: share of the rows, the last ones.
        products: with products of areas and z among the columns.
    """
    mixed = None
    if products:
        largest = np.argsort(-shares.mean(0), kind="stable")
        mixed = np.sort(largest[: MOST_MIXED // max(1, vector.shape[1])])
    x = columns(shares, vector, mixed)
    mean, spread = x.mean(0), x.std(0)
    scale = np.where(spread > 1e-9, spread, np.inf)  # nothing is known of what never changed
    x, y = (x - mean) / scale, np.log(target.astype(np.float64) + FLOOR)
    weights, bias = solve(x, y, int(len(x) * (1 - holdout)), PENALTIES)
    return Ridge(mean, scale, weights, bias, mixed)


def solve(
    x: np.ndarray, y: np.ndarray, cut: int, penalties: Iterable[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [k, n] and bias [n] of y [m, n] on all of x [m, k].

    Their penalty is that with which the rows before `cut` tell those after it best.
    """
    held_in = _solver(x[:cut], y[:cut])

    def error(penalty: float) -> float:
        weights, bias = held_in(penalty)
        return float(np.mean((x[cut:] @ weights + bias - y[cut:]) ** 2))

    return _solver(x, y)(min(penalties, key=error))


def read_targets(path: pathlib.Path, exits: int) -> Targets | None:
    """A workdir's ``predictor_targets.npz``; None if it is absent or of another number of exits."""
    if not path.is_file():
        return None
    with np.load(path) as kept:
        if kept["target"].shape[1] != exits:
            return None
        shares = kept["grid"].astype(np.float64).mean((1, 2))
        return Targets(shares, kept["vector"], kept["target"])


def fit_both(targets: Targets) -> dict[str, Ridge]:
    """The ridges of `LABELS`, by row key."""
    return {"ridge": fit(*targets), "ridge_products": fit(*targets, products=True)}


def _solver(x: np.ndarray, y: np.ndarray) -> Callable[[float], tuple[np.ndarray, np.ndarray]]:
    """Weights and bias by penalty; products of columns are summed once."""
    centre, bias = x.mean(0), y.mean(0)
    x = x - centre
    gram, moment = x.T @ x, x.T @ (y - bias)

    def solve(penalty: float) -> tuple[np.ndarray, np.ndarray]:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), moment)
        return weights, bias - centre @ weights

    return solve
