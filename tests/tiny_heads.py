"""A MegaPortraits of rendered heads so small that a test can afford it: filled, or trained."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tiny import tiny_model

from fiancee_jax import inference
from fiancee_jax.config import (
    BackbonePhase,
    BranchesPhase,
    CalibrationPhase,
    Config,
    Exit,
    Guides,
    Logging,
    PredictorPhase,
)
from fiancee_jax.data import Augment, Heads
from fiancee_jax.inference import Renderer
from fiancee_jax.models.megaportraits import MegaPortraits
from fiancee_jax.training.run import train

DATA = Heads(train=16, predictor=16, calibration=8, report=8, identities=8)


def heads_config(**changes: Any) -> Config:
    """A config of 32x32 heads, two steps a phase; `changes` are other fields of `Config`."""
    config = Config(
        name="tiny_heads",
        model=MegaPortraits(
            size=(32, 32),
            width=32,
            blocks=1,
            doublings=2,
            depth=4,
            channels=8,
            appearance_width=8,
            encoder=(8, 1, 1),
            descriptor=8,
            expression=8,
            warp_width=16,
            volume=(8,),
            critic=(8, 8),
            critic_scales=1,
            roll=False,
        ),
        data=DATA,
        augment=Augment(flip=False),
        exits=(Exit(0, 0.5), Exit(1, 0.5)),
        guides=Guides(form="none"),
        backbone=BackbonePhase(
            steps=2,
            batch_size=4,
            step="fused",
            lr_g=1e-3,
            init_gain=1.0,
            ema_decay=0.5,
            reconstruction=10.0,
            recollect=1,
        ),
        branches=BranchesPhase(steps=2, batch_size=4, lpips_net="alex", measure=4),
        predictor=PredictorPhase(
            inputs=16, steps=2, batch_size=4, channels=4, hidden=8, holdout=0.5
        ),
        calibration=CalibrationPhase(inputs=4),
        logging=Logging(every=2, preview_every=2, checkpoint_every=2),
    )
    return dataclasses.replace(config, **changes)


@functools.cache
def heads_renderer() -> Renderer:
    """Untrained, with random numbers in all phases; nothing is compiled."""
    config = heads_config()
    model, variables = tiny_model(config)
    rng = np.random.default_rng(0)
    variables = jax.tree_util.tree_map_with_path(lambda p, x: _scaled(rng, p, x), variables)
    return Renderer(config, model, variables, menu=[])


def _scaled(rng: np.random.Generator, path: Any, leaf: jax.Array) -> jax.Array:
    """Scales of norms about 1, so that pictures depend on the inputs."""
    noise = 0.1 * rng.standard_normal(leaf.shape)
    return jnp.asarray(1 + noise, leaf.dtype) if path[-1].key == "scale" else leaf


def trained_renderer(folder: pathlib.Path, **changes: Any) -> Renderer:
    """Trained through all phases into `folder`, and loaded: minutes, nearly all to compile."""
    return inference.load(train(heads_config(**changes), folder / "tiny_heads"))
