"""How hard one input is over the plane of z that matters most."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fiancee_jax.evaluation import examples, ridge
from fiancee_jax.evaluation.records import Records
from fiancee_jax.inference import Renderer
from fiancee_jax.models import lpips

STEPS = np.linspace(-2.5, 2.5, 9)
MOST_CROSSED = 32  # coordinates of z; of longer ones only squares, not products, are fitted


def latent_map(
    renderer: Renderer, found: Records, source: Any, difficulty: np.ndarray
) -> dict[str, Any] | str:
    """Exit 1's distance over a plane of z for the input of median difficulty; or why there is none.

    Args:
        renderer: the model.
        found: what was measured of it.
        source: the inputs that were measured.
        difficulty: of each record, [m].

    Returns:
        The dict of `hardness`, or a reason in words.
    """
    if renderer.model.family.latent_dim < 2:
        return "z has fewer than two coordinates"
    if found.vector.shape[1] != renderer.model.family.latent_dim:
        return "the family's vector is not z"
    units = found.units
    means = np.bincount(units, difficulty) / np.bincount(units)
    middle = np.argsort(means, kind="stable")[(len(means) - 1) // 2]
    name = str(found.names[units == middle][0])
    directions = main_directions(found.vector, found.lpips[:, 0])
    inputs = examples.inputs_of(renderer, source, [name])[name]
    z = plane(directions, STEPS)
    made = examples.pictures(renderer, [inputs] * len(z), z)
    distance = jax.jit(lpips.distance)(lpips.load("alex"), made[0], made[-1])
    return {
        "name": name,
        "exit": 1,
        "steps": STEPS.tolist(),
        "directions": directions.tolist(),
        "lpips_alex": np.asarray(distance).reshape(len(STEPS), -1).tolist(),
    }


def plane(directions: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """z [g * g, d] = steps[j] * directions[0] + steps[i] * directions[1], row i after row."""
    columns, rows = np.meshgrid(steps, steps)
    return np.stack([columns.ravel(), rows.ravel()], axis=1) @ directions


def main_directions(z: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The two orthonormal directions [2, d] of z [m, d] that log distances [m] change most along.

    A ridge regression on z and its products gives a slope at every z; the directions are the first
    two eigenvectors of the slopes' mean outer product over z ~ N(0, 1) (the active subspace:
    Constantine, Active Subspaces, 2015, chapter 3). A straight slope would not do: distances
    rise with the length of z, on both sides.
    """
    d = z.shape[1]
    i, j = np.triu_indices(d) if d <= MOST_CROSSED else (np.arange(d), np.arange(d))
    columns = np.concatenate([z, z[:, i] * z[:, j]], axis=1)
    fitted = ridge.fit(columns, np.empty((len(z), 0)), distance[:, None])
    weights = fitted.weights[:, 0] / fitted.scale
    slope, bend = weights[:d], np.zeros((d, d))
    np.add.at(bend, (i, j), weights[d:])
    bend = bend + bend.T  # the slope at z is slope + bend @ z
    vectors = np.linalg.eigh(np.outer(slope, slope) + bend @ bend.T)[1]
    found = vectors[:, [-1, -2]].T
    return found * np.sign(found[[0, 1], np.abs(found).argmax(1)])[:, None]
