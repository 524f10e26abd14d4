"""A model so small that a test can afford it: every phase present, filled with random numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax import guides
from fiancee_jax.config import Config, Exit, Guides, PredictorPhase
from fiancee_jax.data import Augment, Landscapes
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.inference import Renderer
from fiancee_jax.models.layers import fold_spectral
from fiancee_jax.models.oasis import Oasis

CLASSES = Landscapes().classes()


def tiny_config(
    classes: tuple[str, ...] = CLASSES,
    size: tuple[int, int] = (32, 32),
    blocks: int = 4,
    width: int = 2,
    hidden: int = 4,
    z_dim: int = 4,
    exits: tuple[tuple[int, float], ...] = ((1, 0.5), (2, 0.5)),
    **changes: Any,
) -> Config:
    """A config of landscapes; `changes` are other fields of `Config`."""
    family = Oasis(
        size=size,
        classes=classes,
        width=width,
        hidden=hidden,
        z_dim=z_dim,
        blocks=blocks,
        discriminator_channels=(4, 4, 8),
        min_channels=1,
    )
    config = Config(
        name="tiny",
        model=family,
        data=Landscapes(train=16, predictor=16, calibration=8, report=8),
        augment=Augment(flip=False),
        exits=tuple(Exit(*pair) for pair in exits),
        guides=Guides(size=16, neighbours=4),
        predictor=PredictorPhase(channels=4, hidden=8),
    )
    return dataclasses.replace(config, **changes)


def tiny_model(config: Config | None = None, seed: int = 0) -> tuple[MultiExit, Variables]:
    """The networks of a config and variables of all phases, without compiling anything.

    Kernels keep the variance of their input, so that pictures are neither grey nor saturated, and
    the predictor's last layer is not zero, so that inputs differ.
    """
    model = MultiExit.of(config or tiny_config())
    shapes = jax.eval_shape(lambda: _everything(model))
    rng = np.random.default_rng(seed)
    return model, jax.tree_util.tree_map_with_path(lambda p, x: _fill(rng, p, x), shapes)


def tiny_renderer(seed: int = 0, **options: Any) -> Renderer:
    """A renderer of `tiny_model`; options as for `tiny_config`."""
    config = tiny_config(**options)
    return Renderer(config, *tiny_model(config, seed), menu=[])


def _everything(model: MultiExit) -> Variables:
    """The variables of all phases; traced for their shapes only."""
    key = jax.random.key(0)
    inputs = {k: jnp.zeros(x.shape, x.dtype) for k, x in model.family.abstract_inputs(1).items()}
    backbone = model.init_backbone(key, inputs)
    params = fold_spectral(backbone["params"], backbone.pop("spectral"))
    variables: Variables = {"backbone": {**backbone, "params": params}}
    taps = model.full(variables, inputs)[1]
    bank = guides.abstract_bank(model.guides, model.family, taps)
    variables["bank"] = {k: jnp.zeros(x.shape, x.dtype) for k, x in bank.items()}
    guide = model.guide(variables, inputs, taps)
    branches = {e.name: model.init_branch(key, e, inputs, taps, guide) for e in model.exits}
    predictor = model.init_predictor(key, inputs)
    return {**variables, "branches": branches, "predictor": predictor}


def _fill(rng: np.random.Generator, path: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
    name, noise = path[-1].key, rng.standard_normal(like.shape)
    if name == "kernel" and path[0].key == "predictor":
        values = noise * (3.0 / np.prod(like.shape[:-1])) ** 0.5  # distances that differ
    elif name == "kernel":
        values = noise * (1.5 / np.prod(like.shape[:-1])) ** 0.5
    elif name == "var":
        values = 1 + 0.1 * np.abs(noise)
    elif name in ("palette", "share", "mean") and path[0].key == "bank":
        values = np.clip(np.abs(noise) if name == "share" else 0.4 * noise, -0.9, 0.9)
    elif name == "offset":
        values = -3 + 0.3 * noise  # distances around 0.05
    else:
        values = 0.1 * noise
    return jnp.asarray(values, like.dtype)
