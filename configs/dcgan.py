"""A DCGAN at 32x32 on procedural landscapes, pictures only: the smallest model with exits.

    python train.py dcgan --workdir runs/dcgan

The example of docs/adding-a-generator.md, for the machinery rather than for the pictures: horizons,
skies and fields in the colours of the data, without detail.

Hardware: 2 CPU cores; 6.4 minutes while the machine was busy with other work (5.4 minutes of CPU
time in all). Early exits cost .376, .512 and .828 of the backbone's 0.0326 GMACs with LPIPS-alex
.0125, .0093 and .0090 to it; the predictor's rank correlation on held-out z is .67 to .71. Of 512
unseen z at max_lpips .01 two thirds of the GMACs were spent (.64 of the backbone's) and 19 % were
above it.

The base picture is learnt with the branch. With exits of widths .35, .5 and .5 it gave .0106, .0096
and .0085; no base .0131, .0105 and .0105; a palette of the nearest z .0129, .0112 and .0120: here
colours are not nearly linear in z.
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
from fiancee_jax.data import Augment, Landscapes
from fiancee_jax.models.dcgan import Dcgan

config = Config(
    name="dcgan",
    model=Dcgan(size=(32, 32), width=24, z_dim=32, stages=3),
    data=Landscapes(train=2000, predictor=512, calibration=512, report=64),
    augment=Augment(flip=True),
    exits=(Exit(1, 0.2), Exit(1, 0.5), Exit(2, 0.5)),
    guides=Guides(form="learnt"),
    backbone=BackbonePhase(
        steps=1200,
        batch_size=32,
        step="fused",
        lr_g=5e-4,
        lr_d=5e-4,
        schedule="cosine",
        beta1=0.5,
        init_gain=1.0,
        ema_decay=0.98,
    ),
    branches=BranchesPhase(steps=300, batch_size=16, lr=4e-3, lpips_net="alex", measure=256),
    predictor=PredictorPhase(inputs=3000, steps=500, batch_size=128),
    calibration=CalibrationPhase(inputs=64),
    logging=Logging(every=50, preview_every=200, checkpoint_every=400),
)
