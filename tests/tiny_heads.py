"""A MegaPortraits so small that a test can afford to train it on rendered heads, all phases."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

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
            width=16,
            blocks=2,
            doublings=2,
            depth=4,
            channels=8,
            appearance_width=8,
            encoder=(8, 2, 1),
            descriptor=8,
            expression=8,
            warp_width=16,
            volume=(8, 8),
            critic=(8, 8),
            critic_scales=1,
            roll=False,
        ),
        data=DATA,
        augment=Augment(flip=False),
        exits=(Exit(0, 0.5), Exit(2, 0.5)),
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


def heads_workdir(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    """Trains `heads_config` through all phases; the finished workdir."""
    return train(heads_config(**changes), folder / "tiny_heads")


def heads_renderer(folder: pathlib.Path, **changes: Any) -> Renderer:
    """The same, loaded."""
    return inference.load(heads_workdir(folder, **changes))
