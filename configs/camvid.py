"""Real photos: CamVid's street scenes (Brostow et al., 2009) at 96x128, on two CPU cores.

    python train.py camvid --data.root CAMVID --workdir runs/camvid

CAMVID holds train, predictor, calibration and val, each with images/ and labels/, and classes.json.
A backbone step takes 1.1 s, a branch step 0.8 to 1.6 s, a measured input of the predictor 0.04 to
0.08 s: five hours in all. The model in the box had half of the backbone's steps:
pretrained/camvid/README.md has its commands, docs/results/camvid.md what it reaches.
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
    name="camvid",
    model=Oasis(
        size=(96, 128),
        width=16,
        hidden=32,
        z_dim=32,
        blocks=5,
        discriminator_channels=(32, 32, 64, 64, 128),
        discriminator_last=16,
        lambda_labelmix=5.0,
        light_block="class",
        view_borders=True,
    ),
    data=Folder(root="data/camvid"),
    augment=Augment(flip=True, min_scale=0.6),
    exits=(Exit(0, 0.75), Exit(2, 1.0)),
    guides=Guides(form="learnt"),
    backbone=BackbonePhase(
        steps=12_000,
        batch_size=4,
        step="fused",
        lr_g=4e-4,
        lr_d=4e-4,
        init_gain=1.0,
        ema_decay=0.998,
    ),
    branches=BranchesPhase(
        steps=2500,
        batch_size=8,
        lr=5e-4,  # they begin as the backbone's own stages
        l1=0.3,
        running_statistics=True,
        lpips_net="alex",
        lpips_vgg=1.0,  # texture, which LPIPS-alex's stride of four misses
        compose=0.5,
        measure=232,
    ),
    predictor=PredictorPhase(
        inputs=16_000,
        compose=0.5,
        of_train=0.75,
        steps=1600,
        batch_size=64,
        lr=3e-3,
        weight_decay=0.01,
        channels=16,
        hidden=0,
        squares=True,
        cells=0.3,  # 279 label maps are few, their places are many
        pool=4,  # what it costs comes off what it saves
    ),
    calibration=CalibrationPhase(block=5),
    logging=Logging(every=50, preview_every=500, checkpoint_every=500),
)
