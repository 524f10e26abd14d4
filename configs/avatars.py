"""Rendered heads at 64x64: a small MegaPortraits, trainable on two CPU cores in an hour or two.

The size of the first model that shows all of it: a source's identity in a driver's motion, exits in
the decoder, routing by what is hard (docs/avatars.md).
"""

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
from fiancee_jax.models.megaportraits import MegaPortraits

config = Config(
    name="avatars",
    model=MegaPortraits(
        size=(64, 64),
        width=48,
        doublings=1,
        depth=8,
        channels=8,
        appearance_width=12,
        appearance_blocks=1,
        encoder=(16, 3, 1),
        descriptor=64,
        expression=32,
        warp_width=64,
        volume=(16, 24),
        critic=(8, 16, 32),
        critic_scales=1,
        adversarial=0.1,
        matching=2.0,
        contrast=0.2,
        roll=False,  # half of the pairs are of two identities: see data.Heads
        pose=10.0,
    ),
    data=Heads(predictor=6000, calibration=1000, report=1000),
    augment=Augment(flip=False),  # a mirrored face would not have its pose
    exits=(Exit(0, 0.25), Exit(0, 0.5), Exit(1, 0.25), Exit(3, 0.25), Exit(3, 0.5), Exit(5, 0.5)),
    guides=Guides(form="learnt"),  # docs/results/ablations/avatars
    backbone=BackbonePhase(
        steps=10000,
        batch_size=4,
        step="fused",
        lr_g=6e-4,
        lr_d=4e-4,
        schedule="cosine",
        beta1=0.5,
        weight_decay=1e-4,
        init_gain=1.0,
        ema_decay=0.998,
        reconstruction=10.0,
        l1=5.0,
        recollect=1,
    ),
    branches=BranchesPhase(steps=1500, batch_size=16, lr=2e-3, lpips_net="alex", measure=512),
    predictor=PredictorPhase(inputs=6000, steps=2000),
    calibration=CalibrationPhase(),
    logging=Logging(every=50, preview_every=1000, checkpoint_every=500),
)
