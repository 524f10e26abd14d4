"""COCO-Stuff (Caesar et al., 2018) with OASIS at full size: 256x256, 183 classes, 75.2 M weights.

    python -m fiancee_jax.data.published coco COCO data/coco
    python train.py oasis_coco --data.root data/coco --workdir runs/coco

Not trained here: hardware, time and results are unknown to us. For the backbone expect what the
paper reports (Sushko et al., 2021, table 1). docs/full-size.md has the cost of every exit.

The first command makes a folder of the unpacked archives train2017, val2017 and stuffthingmaps. The
backbone's hyper-parameters are the published ones: 100 epochs of 118,287 pictures, 3,696 whole
batches of 32 each, are 100 x 3,696 = 369,600 steps. Published training used all of them; here a
tenth is kept from the backbone for predictor and calibration. Pictures are cropped to the square,
not squeezed. Branches, bank and predictor are not published: those are starting points.

TensorFlow Datasets has no COCO-Stuff. One that you prepared yourself goes into a file of your own,
see docs/full-size.md.
"""

from fiancee_jax.classes import unnamed
from fiancee_jax.config import (
    BackbonePhase,
    BranchesPhase,
    Config,
    Exit,
    Guides,
    Logging,
    PredictorPhase,
)
from fiancee_jax.data import Augment, Folder
from fiancee_jax.models.oasis import Oasis

config = Config(
    name="oasis_coco",
    model=Oasis(size=(256, 256), classes=unnamed(183), lambda_labelmix=10.0),
    data=Folder(root="data/coco"),
    augment=Augment(flip=True),
    exits=(Exit(1, 0.25), Exit(2, 0.25), Exit(3, 0.25), Exit(1, 0.5), Exit(3, 0.5)),
    guides=Guides(form="palette", size=512),
    backbone=BackbonePhase(
        steps=369_600,
        batch_size=32,
        step="published",
        lr_g=1e-4,
        lr_d=4e-4,
        schedule="constant",
        beta1=0.0,
        beta2=0.999,
        init_gain=0.02,
        ema_decay=0.9999,
        recollect=50,
    ),
    branches=BranchesPhase(steps=20_000, batch_size=32, lpips_net="vgg"),
    predictor=PredictorPhase(inputs=10_000),
    logging=Logging(every=100, preview_every=2000, checkpoint_every=2000),
)
