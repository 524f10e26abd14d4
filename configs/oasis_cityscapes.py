"""Cityscapes (Cordts et al., 2016) with OASIS at full size: 256x512, 35 classes, 71.1 M parameters.

    python -m fiancee_jax arrange cityscapes CITYSCAPES --out data/cityscapes
    python train.py oasis_cityscapes --data.root data/cityscapes --workdir runs/cityscapes

Not trained here: hardware, time and results are unknown to us. For the backbone expect what the
paper reports (Sushko et al., 2021, table 1). docs/full-size.md has the cost of every exit.

The first command links the files of leftImg8bit and gtFine into a folder. The backbone's
hyper-parameters are the published ones: 200 epochs of 2,975 pictures, 148 whole batches of 20 each,
are 200 x 148 = 29,600 steps. Published training used all 2,975; here train, sorted by city, is cut
into blocks: 80 % for the backbone, its bank and the branches, 10 % for the predictor and 10 % for
calibration. Branches, bank and predictor are not published: those are starting points.

What is not said below is the default, which is the published value where OASIS has one.

TensorFlow Datasets has it too, after a registered download: docs/full-size.md has the file that
takes it.
"""

from fiancee_jax.classes import unnamed
from fiancee_jax.config import (
    BackbonePhase,
    BranchesPhase,
    CalibrationPhase,
    Config,
    Exit,
    Logging,
)
from fiancee_jax.data import Augment, Folder
from fiancee_jax.models.oasis import Oasis

config = Config(
    name="oasis_cityscapes",
    model=Oasis(size=(256, 512), classes=unnamed(35), lambda_labelmix=5.0),
    data=Folder(
        root="data/cityscapes",
        train="train[:80%]",
        predictor="train[80%:90%]",
        calibration="train[90%:]",
    ),
    augment=Augment(flip=True),
    exits=(Exit(1, 0.25), Exit(2, 0.25), Exit(3, 0.25), Exit(1, 0.5), Exit(3, 0.5)),
    backbone=BackbonePhase(
        steps=29_600,
        batch_size=20,
        lr_g=4e-4,
        ema_decay=0.999,
        recollect=50,
    ),
    branches=BranchesPhase(batch_size=20),
    calibration=CalibrationPhase(block=5),  # neighbours along a drive look alike
    logging=Logging(every=100, preview_every=2000, checkpoint_every=2000),
)
