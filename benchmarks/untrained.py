"""Models with untrained weights, to be timed: speed does not depend on what they have learnt."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import street_maps
from fiancee_jax.classes import unnamed
from fiancee_jax.config import load_config
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.models.layers import fold_spectral, initialise
from fiancee_jax.models.staged import Inputs


def networks(
    name: str, *, size: tuple[int, int] | None = None, width: int | None = None
) -> tuple[MultiExit, Variables]:
    """A config's networks, at another size or width (hidden = 2 x width) if given."""
    config, rng = load_config(name), np.random.default_rng(0)
    family = config.model
    if not family.classes:
        known = getattr(config.data, "root", None) is None
        family = family.with_classes(config.data.classes() if known else unnamed(12))
    if size is not None:
        family = family.with_size(size)
    if width is not None:
        family = dataclasses.replace(family, width=width, hidden=2 * width)
    model = MultiExit.of(dataclasses.replace(config, model=family))
    fresh = initialise(model.backbone_shapes, rng, 1.0)
    params = fold_spectral(fresh["params"], fresh["spectral"])
    variables: Variables = {
        "backbone": {"params": params, "batch_stats": fresh["batch_stats"]},
        "bank": jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype), model.bank_shapes),
        "branches": {e.name: initialise(model.branch_shapes(e), rng, 1.0) for e in model.exits},
    }
    views = model.family.view(with_latents(model, np.zeros((1, *model.family.size), int)))
    variables["predictor"] = model.predictor_net().init(jax.random.key(0), *views)
    return model, jax.device_put(variables)


def inputs_of(
    name: str, model: MultiExit, batch: int, data: pathlib.Path | None, tiles: int = 2
) -> Inputs:
    """Label maps at the model's size, and z's.

    Args:
        name: of the config, whose own maps are taken if `data` is not given.
        model: its networks.
        batch: how many.
        data: folder data set of street maps for mosaics (`street_maps.mosaics`).
        tiles: of a mosaic along a side.

    Raises:
        UserError: the folder is absent.
    """
    if data is not None:
        return with_latents(model, street_maps.mosaics(data, batch, model.family.size, tiles=tiles))
    source = load_config(name).data.open("report", model.family.size)
    return with_latents(model, np.stack([source[i]["labels"] for i in range(batch)]))


def with_latents(model: MultiExit, labels: np.ndarray) -> Inputs:
    """The maps, ids beyond the model's classes cut off, and a z for each."""
    last = model.family.num_classes - 1  # pyright: ignore[reportAttributeAccessIssue]
    z = np.random.default_rng(0).standard_normal((len(labels), model.family.latent_dim))
    return {
        "labels": jnp.asarray(np.minimum(labels, last), jnp.int32),
        "z": jnp.asarray(z, jnp.float32),
    }
