"""A few inputs of an evaluation rendered again, at every exit, to be looked at."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax.evaluation import records
from fiancee_jax.evaluation.records import BATCH
from fiancee_jax.inference import Renderer, file_latent
from fiancee_jax.models.staged import Inputs


def inputs_of(renderer: Renderer, source: Any, names: Collection[str]) -> dict[str, Inputs]:
    """The inputs of these names without z, each a batch of one; reads no further than it must."""
    found: dict[str, Inputs] = {}
    for in_batch, batch in records.batches(renderer, source):
        for i, name in enumerate(in_batch):
            if name in names and name not in found:
                found[name] = jax.tree.map(lambda x, i=i: x[i : i + 1], batch.inputs)
        if len(found) == len(set(names)):
            break
    return found


def latent_of(renderer: Renderer, name: str, seed: int, k: int) -> np.ndarray:
    """z [d] of the k-th record of this name; see `records.latents_of`."""
    return file_latent(seed, f"{name}#{k}" if k else name, renderer.model.family.latent_dim)


def pictures(renderer: Renderer, inputs: list[Inputs], z: np.ndarray) -> list[np.ndarray]:
    """Pictures of every exit, the backbone's last.

    Args:
        renderer: the model.
        inputs: of `inputs_of`, m of them.
        z: [m, d].

    Returns:
        For each exit [m, h, w, 3] in [-1, 1].
    """
    parts: list[list[np.ndarray]] = []
    for start in range(0, len(z), BATCH):  # full batches: the program that made the records
        rows = np.minimum(np.arange(start, start + BATCH), len(z) - 1)
        taken = [inputs[i] for i in rows]
        joined = jax.tree.map(lambda *x: np.concatenate(x), *taken)
        made = records._pictures(
            renderer.model, renderer.variables, {**joined, "z": jnp.asarray(z[rows], jnp.float32)}
        )
        parts.append([np.asarray(x)[: len(z) - start] for x in made])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]
