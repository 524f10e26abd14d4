"""A model so small that a test can afford it: every phase present, filled with random numbers."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax import checkpoint
from fiancee_jax.config import Config, Exit, Guides, PredictorPhase, write_config
from fiancee_jax.data import Augment, Landscapes
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.inference import Renderer
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
    shapes = _everything(model)
    rng = np.random.default_rng(seed)
    return model, jax.tree_util.tree_map_with_path(lambda p, x: _fill(rng, p, x), shapes)


def tiny_renderer(seed: int = 0, **options: Any) -> Renderer:
    """A renderer of `tiny_model`; options as for `tiny_config`."""
    config = tiny_config(**options)
    return Renderer(config, *tiny_model(config, seed), menu=[])


def _everything(model: MultiExit) -> Variables:
    """Shapes of the variables of all phases."""
    variables, _ = model._abstract
    branches = {e.name: model.branch_shapes(e) for e in model.exits}
    return {**variables, "branches": branches, "predictor": model.predictor_shapes}


def _fill(rng: np.random.Generator, path: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
    name, noise = path[-1].key, rng.standard_normal(like.shape)
    if name == "kernel" and path[0].key == "predictor":
        values = noise * (3.0 / np.prod(like.shape[:-1])) ** 0.5  # distances that differ
    elif name == "kernel":
        gain = 0.1 if "conv_img" in (part.key for part in path) else 1.5
        values = noise * (gain / np.prod(like.shape[:-1])) ** 0.5
    elif name == "var":
        values = 1 + 0.1 * np.abs(noise)
    elif name in ("palette", "share", "mean") and path[0].key == "bank":
        values = np.clip(np.abs(noise) if name == "share" else 0.4 * noise, -0.9, 0.9)
    elif name == "offset":
        values = -3 + 0.3 * noise  # distances around 0.05
    else:
        values = 0.1 * noise
    return jnp.asarray(values, like.dtype)


def tiny_workdir(folder: pathlib.Path, renderer: Renderer, dropped: tuple[int, ...] = ()) -> None:
    """Writes a renderer as a finished workdir; exits with the numbers `dropped` leave the menu.

    They take the predictor with them, which knows all exits.
    """
    write_config(renderer.config, folder)
    store = checkpoint.Store(folder)
    menu = [
        {"tap": e.tap, "width": e.width, "dropped": "too dear" if i in dropped else ""}
        for i, e in enumerate(renderer.model.exits, start=1)
    ]
    phases = {"backbone": "backbone", "guides": "bank", "branches": "branches"}
    phases |= {} if dropped else {"predictor": "predictor"}
    for phase, name in phases.items():
        extra = {"finished": True, "menu": menu if phase == "branches" else []}
        store.save(phase, 1, model=renderer.variables[name], train={}, extra=extra)
    store.close()
