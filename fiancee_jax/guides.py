"""The guide bank: exact nearest-neighbour retrieval of what the backbone made of other inputs.

FIANCEE, section 3.2: a bank of (key, guide) pairs; the guide of the nearest keys helps a branch.
The forms are described in `config.Guides`. A bank is a plain dict of arrays and travels in the
checkpoint.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fiancee_jax.config import Guides
from fiancee_jax.models.branches import Guide, Taps
from fiancee_jax.models.layers import average_pool
from fiancee_jax.models.staged import Inputs, StagedGenerator

Bank = dict[str, Any]  # arrays by name

RANK = 16  # directions that keys keep at most
IMAGE_FACTOR = 4  # reduction of the pictures kept by form "image"
PRIOR = 1e-3  # weight of a part's mean colour beside the neighbours' shares


# --- use ----------------------------------------------------------------------------------------
def nearest(keys: Float[Array, "n d"], queries: Float[Array, "q d"], k: int) -> Int[Array, "q k"]:
    """Exact k nearest keys of each query in squared distance, by one matmul."""
    dots = jnp.matmul(queries, keys.T, precision=jax.lax.Precision.HIGHEST)
    norms = jnp.sum(keys * keys, axis=1)
    return jax.lax.top_k(2 * dots - norms[None, :], k)[1]


def retrieve(
    guides: Guides, family: StagedGenerator, bank: Bank, inputs: Inputs, taps: Taps
) -> Guide:
    """The guide of each input.

    Args:
        guides: the form of the bank and its options.
        family: paints palettes.
        bank: what `build` returned; empty for the forms without one.
        inputs: generator inputs; palettes and images are searched by the vector of `family.view`.
        taps: trunk features; form ``patch`` reads those after ``guides.patch_stage``.
    """
    if guides.form == "palette":
        palette = _palette(guides, bank, family.view(inputs)[1])
        return Guide(base=family.paint(palette, inputs))
    if guides.form == "image":
        index = nearest(bank["keys"], _project(bank, family.view(inputs)[1]), 1)[:, 0]
        return Guide(features=bank["images"][index])
    if guides.form == "patch":
        return Guide(features=_stitch(bank, taps[guides.patch_stage]))
    if guides.form == "zeros":
        b, h, w, _ = taps[min(taps)].shape
        return Guide(features=jnp.zeros((b, h, w, 3)))
    return Guide()


def _palette(guides: Guides, bank: Bank, vector: Array) -> Float[Array, "b k 3"]:
    index = nearest(bank["keys"], _project(bank, vector), guides.neighbours)
    share = bank["share"][index]  # [b, neighbours, classes]
    total = jnp.einsum("bnk,bnkc->bkc", share, bank["palette"][index])
    prior = PRIOR * bank["mean"][None]
    return (total + prior) / (share.sum(1) + PRIOR)[..., None]


def _project(bank: Bank, vector: Float[Array, "b d"]) -> Float[Array, "b r"]:
    """Queries, as precise as the keys they are compared with."""
    return jnp.matmul(vector, bank["projection"], precision=jax.lax.Precision.HIGHEST)


def _stitch(bank: Bank, tap: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 3"]:
    """Each cell's nearest patch, put at its place."""
    b, h, w, c = tap.shape
    index = nearest(bank["keys"], tap.reshape(-1, c) / bank["scale"][None], 1)[:, 0]
    cells = bank["cells"][index]  # [b*h*w, p, p, 3]
    p = cells.shape[1]
    cells = cells.reshape(b, h, w, p, p, 3).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(b, h * p, w * p, 3)


# --- population ---------------------------------------------------------------------------------
def random_entries(
    rng: np.random.Generator, available: int, entries: int, maps: int
) -> Int[np.ndarray, "e m"]:
    """Which training inputs make each entry: `maps` of them, drawn at random, share one z."""
    return rng.integers(0, available, (entries, maps))


# --- construction -------------------------------------------------------------------------------
def summarise(
    guides: Guides, family: StagedGenerator, images: Array, inputs: Inputs, taps: Taps
) -> Bank:
    """What one batch of the backbone's pictures adds to the bank; batches are concatenated."""
    if guides.form == "patch":
        return _cells(guides, images, taps[guides.patch_stage])
    palette, share = family.summarise(images, inputs)
    record = {"vector": family.view(inputs)[1], "palette": palette, "share": share}
    if guides.form == "image":
        record["images"] = average_pool(images, IMAGE_FACTOR)
    return record


def _cells(guides: Guides, images: Array, tap: Array) -> Bank:
    b, h, w, c = tap.shape
    p = guides.cell
    small = average_pool(images, images.shape[1] // (h * p))
    cells = small.reshape(b, h, p, w, p, 3).transpose(0, 1, 3, 2, 4, 5)
    return {"keys": tap.reshape(-1, c), "cells": cells.reshape(-1, p, p, 3)}


def build(guides: Guides, records: Bank, maps: int) -> Bank:
    """The finished bank from the concatenated records of `summarise` (on the host).

    Args:
        guides: the form of the bank and its options.
        records: records of consecutive pictures; every `maps` of them (which share one z) make an
            entry.
        maps: pictures per entry.
    """
    if guides.form in ("zeros", "learnt", "none"):
        return {}
    if guides.form == "patch":
        # Cells of all pictures and places: the first ones would come from a few pictures only.
        chosen = np.random.default_rng(0).permutation(len(records["keys"]))[: guides.size]
        scale = records["keys"].std(0) + 1e-6
        keys = records["keys"][chosen] / scale[None]
        return {"keys": keys, "scale": scale, "cells": records["cells"][chosen]}
    return _palette_bank(guides, {k: np.asarray(v, np.float64) for k, v in records.items()}, maps)


def _palette_bank(guides: Guides, records: dict[str, np.ndarray], maps: int) -> Bank:
    vector = records["vector"].reshape(-1, maps, records["vector"].shape[1]).mean(1)
    share = records["share"].reshape(len(vector), maps, -1)
    colors = records["palette"].reshape(len(vector), maps, -1, 3)
    total = share.sum(1)
    palette = np.einsum("emk,emkc->ekc", share, colors) / np.maximum(total, 1e-9)[..., None]
    mean = np.einsum("ek,ekc->kc", total, palette) / np.maximum(total.sum(0), 1e-9)[:, None]
    projection = _directions(vector, palette - mean, total)
    bank = {
        "keys": vector @ projection,
        "projection": projection,
        "palette": palette,
        "share": total / maps,
        "mean": mean,
    }
    if guides.form == "image":
        bank["images"] = records["images"][::maps]
    return {k: np.asarray(v, np.float32) for k, v in bank.items()}


def _directions(vector: np.ndarray, colors: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Directions of the vector (OASIS: z) that move colours, scaled by how much: [d, rank].

    A ridge regression from it to each part's colour, parts weighted by the root of their share.
    """
    d, maps = vector.shape[1], []
    for k in range(colors.shape[1]):
        weighted = vector * share[:, k : k + 1]
        gram = weighted.T @ vector + (1e-2 * share[:, k].sum() + 1e-9) * np.eye(d)
        maps.append(np.linalg.solve(gram, weighted.T @ colors[:, k]) * share[:, k].mean() ** 0.5)
    u, s, _ = np.linalg.svd(np.concatenate(maps, axis=1), full_matrices=False)
    rank = min(RANK, d)
    return u[:, :rank] * s[:rank]


def abstract_bank(guides: Guides, family: StagedGenerator, taps: Taps) -> Bank:
    """Shapes of a bank of ``guides.size`` entries, for counting costs before it exists."""
    n, (parts, channels) = guides.size, family.palette_shape
    length = jax.eval_shape(family.view, family.abstract_inputs(1))[1].shape[1]
    rank, (height, width) = min(RANK, length, parts * channels), family.size
    shape = {
        "keys": (n, rank),
        "projection": (length, rank),
        "palette": (n, parts, channels),
        "share": (n, parts),
        "mean": (parts, channels),
    }
    if guides.form == "image":
        shape["images"] = (n, height // IMAGE_FACTOR, width // IMAGE_FACTOR, 3)
    if guides.form == "patch":
        c, p = taps[guides.patch_stage].shape[-1], guides.cell
        shape = {"keys": (n, c), "scale": (c,), "cells": (n, p, p, 3)}
    if guides.form in ("zeros", "learnt", "none"):
        shape = {}
    return {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shape.items()}
