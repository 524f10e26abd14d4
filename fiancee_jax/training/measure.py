"""Measuring exits: distances of every exit's picture to the backbone's, at the same z."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax import losses, rendering
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.hosts import gathered
from fiancee_jax.models import lpips
from fiancee_jax.models.staged import Inputs
from fiancee_jax.training.adversarial import partly_composed, random_latents
from fiancee_jax.training.workspace import Workspace


@functools.partial(jax.jit, static_argnames=("model", "by_cell"))
def distances(
    model: MultiExit,
    variables: Variables,
    inputs: Inputs,
    net: lpips.LpipsParams,
    by_cell: bool = False,
) -> tuple[Float[Array, "b n"] | Float[Array, "b n h w"], Float[Array, "b n"]]:
    """LPIPS and mean absolute difference of each early exit to the backbone, [b, exits - 1].

    If `by_cell`, of LPIPS what each cell of the view's grid has: their mean is LPIPS.
    """
    *early, full = model.pictures(variables, inputs)
    target = lpips.features(net, full)
    compare = lpips.distance_from_features
    if by_cell:
        shape = model.view_shapes[0].shape[1:3]
        compare = functools.partial(lpips.cells_from_features, shape=shape)
    perceptual = [compare(net, lpips.features(net, x), target) for x in early]
    return jnp.stack(perceptual, axis=1), jnp.stack([losses.l1(x, full) for x in early], axis=1)


@functools.partial(jax.jit, static_argnames=("model",))
def view(model: MultiExit, variables: Variables, inputs: Inputs) -> tuple[Array, Array]:
    """What the predictor sees of the inputs."""
    return model.view(variables, inputs)


def records(
    work: Workspace,
    phase: str,
    variables: Variables,
    count: int,
    batch_size: int,
    compose: float = 0.0,
    of_train: float = 0.0,
    by_cell: bool = False,
) -> dict[str, np.ndarray]:
    """Measures all exits on `count` fresh inputs of the split ``predictor`` (augmented, random z).

    A share `compose` of them is made of two each. Of the batches a share `of_train`, spread evenly,
    is of the split ``train``.

    Returns:
        ``lpips`` and ``l1`` [count, exits - 1], and the predictor's views ``grid`` (float16) and
        ``vector``. If `by_cell`, also ``cells`` [count, exits - 1, h, w] (float16): what each cell
        of the grid has of LPIPS.
    """
    net, columns = work.perceptual("alex"), []
    total = -(-count // batch_size)
    work.log.begin(f"{phase} (measuring exits)", 0, total)
    for i, batch in enumerate(_drawn(work, phase, total, batch_size, of_train)):
        key = work.key(phase, i)
        given = partly_composed(work.model, batch.inputs, key, compose)
        inputs = {**given, "z": random_latents(work.model, batch, key)}
        inputs = rendering.encode(work.model, variables, inputs)
        seen = view(work.model, variables, inputs)
        found = distances(work.model, variables, inputs, net, by_cell)
        columns.append(gathered((*found, *seen)))
        work.log.advance(i + 1)
    work.log.end()
    found, l1, grid, vector = (np.concatenate(x)[:count] for x in zip(*columns, strict=True))
    measured = {"l1": l1, "grid": grid.astype(np.float16), "vector": vector}
    if by_cell:
        return {"lpips": found.mean((2, 3)), "cells": found.astype(np.float16), **measured}
    return {"lpips": found, **measured}


def _drawn(
    work: Workspace, phase: str, total: int, batch_size: int, of_train: float
) -> Iterator[Batch]:
    """So many batches of random inputs, of either split."""
    other = [int((i + 1) * of_train) > int(i * of_train) for i in range(total)]
    sources = {
        taken: work.draw(split, other.count(taken) * batch_size, batch_size, phase)
        for taken, split in ((False, "predictor"), (True, "train"))
    }
    return (next(sources[taken]) for taken in other)
