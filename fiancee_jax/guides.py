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

from fiancee_jax import population
from fiancee_jax.config import Guides
from fiancee_jax.models.branches import Guide, Taps
from fiancee_jax.models.layers import average_pool
from fiancee_jax.models.staged import Inputs, StagedGenerator

Bank = dict[str, Any]  # arrays by name

PAINTED = ("palette", "random")  # forms that paint colours of the bank's entries
JOINS = ("add", "concat")  # or both
KEPT = (*PAINTED, "image", "patch")  # forms with a bank
VIEWED = ("vector", "palette", "share")  # what a record says of a picture and its input

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
    if guides.form in PAINTED:
        painted = family.paint(_palette(guides, bank, family.view(inputs)[1]), inputs)
        base, features = (painted if guides.join in (way, "both") else None for way in JOINS)
        return Guide(base, features)
    if guides.form == "image":
        index = nearest(bank["keys"], _project(bank, family.view(inputs)[1]), 1)[:, 0]
        return Guide(features=bank["images"][index])
    if guides.form == "own":
        return Guide(features=_own(family, inputs))
    if guides.form == "patch":
        tap = taps[guides.patch_stage]
        if guides.key != "trunk":
            tap = _beside(tap, _project(bank, family.view(inputs)[1]))
        return Guide(features=_stitch(bank, tap))
    if guides.form == "zeros":
        b, h, w, _ = taps[min(taps)].shape
        return Guide(features=jnp.zeros((b, h, w, 3)))
    return Guide()


def _palette(guides: Guides, bank: Bank, vector: Array) -> Float[Array, "b k 3"]:
    if guides.form == "random":
        index = _anywhere(vector, len(bank["keys"]), guides.neighbours)
    else:
        index = nearest(bank["keys"], _project(bank, vector), guides.neighbours)
    share = bank["share"][index]  # [b, neighbours, classes]
    total = jnp.einsum("bnk,bnkc->bkc", share, bank["palette"][index])
    prior = PRIOR * bank["mean"][None]
    return (total + prior) / (share.sum(1) + PRIOR)[..., None]


def _anywhere(vector: Float[Array, "b d"], entries: int, k: int) -> Int[Array, "b k"]:
    """Entries that have nothing to do with the input, though always the same for it."""
    bits = jax.lax.bitcast_convert_type(vector.astype(jnp.float32), jnp.uint32)
    odd = 2654435761 * (2 * np.arange(vector.shape[1], dtype=np.uint64) + 1)  # Knuth's multiplier
    words = jnp.sum(bits * jnp.asarray(odd.astype(np.uint32))[None], axis=1, dtype=jnp.uint32)
    keys = jax.vmap(lambda word: jax.random.fold_in(jax.random.key(0), word))(words)
    return jax.vmap(lambda key: jax.random.randint(key, (k,), 0, entries))(keys)


def _own(family: StagedGenerator, inputs: Inputs) -> Float[Array, "b h w 3"]:
    """The nearest of the frames that came with the input, reduced."""
    found = family.own_frames(inputs)
    if found is None:
        raise ValueError("guides of form 'own' need a family with frames of its own")
    keys, query, pictures = found
    index = jnp.argmin(jnp.sum((keys - query[:, None]) ** 2, axis=-1), axis=-1)
    nearest = jnp.take_along_axis(pictures, index[:, None, None, None, None], axis=1)[:, 0]
    return average_pool(nearest, IMAGE_FACTOR)


def _beside(tap: Float[Array, "b h w c"], vector: Float[Array, "b r"]) -> Float[Array, "b h w d"]:
    """Features with a vector beside them, the same at every place."""
    wide = jnp.broadcast_to(vector[:, None, None, :], (*tap.shape[:3], vector.shape[1]))
    return jnp.concatenate([tap, wide.astype(tap.dtype)], axis=-1)


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
    record = _cells(guides, images, taps[guides.patch_stage]) if guides.form == "patch" else {}
    if guides.form == "patch" and guides.key == "trunk":
        return record
    palette, share = family.summarise(images, inputs)
    record |= {"vector": family.view(inputs)[1], "palette": palette, "share": share}
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

    More entries than ``guides.size`` are candidates for its population.

    Args:
        guides: the form of the bank and its options.
        records: records of consecutive pictures; every `maps` of them (which share one z) make an
            entry.
        maps: pictures per entry.
    """
    if guides.form not in KEPT:
        return {}
    if guides.form == "patch":
        return _cell_bank(guides, records)
    return _palette_bank(guides, {k: np.asarray(v, np.float64) for k, v in records.items()}, maps)


def _cell_bank(guides: Guides, records: Bank) -> Bank:
    keys = np.asarray(records["keys"])
    scale, bank = keys.std(0) + 1e-6, {}
    if guides.key != "trunk":
        vector, palette, share = (np.asarray(records[k], np.float64) for k in VIEWED)
        mean = np.einsum("ek,ekc->kc", share, palette) / np.maximum(share.sum(0), 1e-9)[:, None]
        bank["projection"] = np.eye(vector.shape[1])
        if guides.key == "colours":
            bank["projection"] = _directions(vector, palette - mean, share)
        beside = np.repeat(vector @ bank["projection"], len(keys) // len(vector), axis=0)
        # As much variance in all as the features have: one part does not drown the other.
        even = (beside.var(0).sum() / keys.shape[1]) ** 0.5 + 1e-6
        scale = np.concatenate([scale, np.full(beside.shape[1], even)])
        keys = np.concatenate([keys, beside], axis=1)
    # Cells of all pictures and places: the first ones would come from a few pictures only.
    chosen = np.random.default_rng(0).permutation(len(keys))[: guides.size]
    bank |= {"keys": keys[chosen] / scale[None], "scale": scale, "cells": records["cells"][chosen]}
    return {k: np.asarray(v, np.float32) for k, v in bank.items()}


def _palette_bank(guides: Guides, records: dict[str, np.ndarray], maps: int) -> Bank:
    vector = records["vector"].reshape(-1, maps, records["vector"].shape[1]).mean(1)
    share = records["share"].reshape(len(vector), maps, -1)
    colors = records["palette"].reshape(len(vector), maps, -1, 3)
    total = share.sum(1)
    palette = np.einsum("emk,emkc->ekc", share, colors) / np.maximum(total, 1e-9)[..., None]
    mean = np.einsum("ek,ekc->kc", total, palette) / np.maximum(total.sum(0), 1e-9)[:, None]
    projection = _directions(vector, palette - mean, total)
    entries = {"keys": vector @ projection, "palette": palette, "share": total / maps}
    if guides.form == "image":
        entries["images"] = records["images"][::maps]
    size = min(guides.size, len(vector))
    chosen = population.choose(guides.population, entries["keys"], entries["share"], size)
    bank = {k: v[chosen] for k, v in entries.items()}
    bank |= {"projection": projection, "mean": mean}
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


def abstract_bank(guides: Guides, family: StagedGenerator, taps: Taps, length: int) -> Bank:
    """Shapes of a bank of ``guides.size`` entries, for counting costs before it exists.

    `length` is that of the family's vector.
    """
    n, (parts, channels) = guides.size, family.palette_shape
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
        beside = {"trunk": 0, "vector": length, "colours": rank}[guides.key]
        shape = {"keys": (n, c + beside), "scale": (c + beside,), "cells": (n, p, p, 3)}
        if beside:
            shape["projection"] = (length, beside)
    if guides.form not in KEPT:
        shape = {}
    return {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shape.items()}
