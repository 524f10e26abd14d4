"""Real photos: CamVid's street scenes (Brostow et al., 2009) from a folder, at 64x96.

    python train.py camvid_small --data.root CAMVID --workdir runs/camvid_small

CAMVID holds train, predictor, calibration and val, each with images/ and labels/, and classes.json.
Hardware: 2 CPU cores. A backbone step took 0.75 to 2.9 s and a branch step 1.2 s while the machine
was busy with other work; plan an hour. Early exits cost .183, .250, .374 and .511 of the backbone's
0.658 GMACs with LPIPS-alex .103, .096, .098 and .078 to it; a palette from a bank instead of one
learnt from z gave .110, .103, .105 and .085 (docs/results/guides.md). docs/results/camvid-first.md
has a picture. More backbone steps make better pictures.
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
from fiancee_jax.data import Augment, Folder
from fiancee_jax.models.oasis import Oasis

config = Config(
    name="camvid_small",
    model=Oasis(
        size=(64, 96),
        width=12,
        hidden=24,
        z_dim=32,
        blocks=5,
        discriminator_last=32,
        discriminator_channels=(16, 32, 64, 64, 128),
        lambda_labelmix=5.0,
    ),
    data=Folder(root="data/camvid"),
    augment=Augment(flip=True, min_scale=0.6),
    exits=(Exit(1, 0.25), Exit(2, 0.25), Exit(1, 0.5), Exit(3, 0.5)),
    guides=Guides(form="learnt"),
    backbone=BackbonePhase(
        steps=1500,
        batch_size=8,
        step="fused",
        lr_g=4e-4,
        lr_d=4e-4,
        init_gain=1.0,
        ema_decay=0.995,
    ),
    branches=BranchesPhase(steps=400, batch_size=8, lr=4e-3, lpips_net="alex", measure=232),
    predictor=PredictorPhase(
        inputs=4000,
        steps=500,
        batch_size=128,
        lr=3e-3,
        channels=16,
        hidden=32,
        squares=True,
        members=1,
    ),
    calibration=CalibrationPhase(block=5),  # 58 frames of three drives, one a second: 13 units
    logging=Logging(every=50, preview_every=500, checkpoint_every=250),
)
