"""Real photos: CamVid's street scenes (Brostow et al., 2009) at 192x256, for one GPU.

    python train.py camvid_192 --data.root CAMVID --workdir runs/camvid_192

CAMVID holds train, predictor, calibration and val, each with images/ and labels/, and classes.json.
Hardware: one H200, a backbone step in 0.035 s. 11,682 of them made the backbone of
docs/results/ablations.md (class blocks), whose weights were not kept; compiling six light SPADE
branches took over 200 s there. Predictor and calibration have not been trained at this size.
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
    name="camvid_192",
    model=Oasis(
        size=(192, 256),
        width=24,
        hidden=48,
        z_dim=32,
        blocks=5,
        discriminator_channels=(64, 64, 128, 128, 256, 256),
        lambda_labelmix=5.0,
        light_block="class",
        view_borders=True,
    ),
    data=Folder(root="data/camvid"),
    augment=Augment(flip=True, min_scale=0.6),
    exits=(Exit(1, 0.25), Exit(1, 0.5), Exit(2, 0.5), Exit(2, 1.0), Exit(3, 1.0)),
    guides=Guides(form="learnt"),
    backbone=BackbonePhase(
        steps=10_000,
        batch_size=16,
        step="fused",
        lr_g=4e-4,
        lr_d=4e-4,
        init_gain=1.0,  # at 0.02 the discriminator stood still for 9,000 steps
        ema_decay=0.999,
        precision="bfloat16",
    ),
    branches=BranchesPhase(
        steps=6_000,
        batch_size=16,
        lr=5e-4,  # they begin as the backbone's own stages
        running_statistics=True,
        lpips_net="alex",
        compose=0.5,
        measure=464,
        precision="bfloat16",
    ),
    predictor=PredictorPhase(
        inputs=12_000, compose=0.5, steps=4_000, lr=3e-3, channels=32, hidden=64, squares=True
    ),
    calibration=CalibrationPhase(block=5),
    logging=Logging(every=100, preview_every=2000, checkpoint_every=2000),
)
