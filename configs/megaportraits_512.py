"""The base model of MegaPortraits at 512x512, for accelerators; published recipe where it is known.

Drobyshev et al., ACM MM 2022 (arXiv 2207.07621). Perceptual loss by VGG16 in the place of the
paper's VGG19 and VGGFace, no gaze loss: those networks cannot be had freely. Exits as in FIANCEE's
second task: light branches of a third of the channels in the decoder.
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
from fiancee_jax.data import Augment, Clips
from fiancee_jax.models.megaportraits import MegaPortraits

config = Config(
    name="megaportraits_512",
    model=MegaPortraits(pose=0.0),  # recorded clips come without head poses
    data=Clips(root="data/clips"),
    augment=Augment(flip=True),
    exits=(Exit(0, 1 / 3), Exit(1, 1 / 3), Exit(3, 1 / 3), Exit(5, 1 / 3)),
    guides=Guides(form="none"),
    backbone=BackbonePhase(
        steps=200_000,
        batch_size=24,
        step="published",
        lr_g=2e-4,
        lr_d=2e-4,
        schedule="cosine",
        beta1=0.5,
        beta2=0.999,
        weight_decay=1e-2,
        init_gain=1.0,
        ema_decay=0.999,
        reconstruction=20.0,
        perceptual_net="vgg",
        precision="bfloat16",
        remat=True,
        recollect=1,
    ),
    branches=BranchesPhase(steps=20_000, batch_size=24, lpips_net="vgg", precision="bfloat16"),
    predictor=PredictorPhase(),
    calibration=CalibrationPhase(),
    logging=Logging(every=50, preview_every=1000, checkpoint_every=1000),
)
