"""COCO-Stuff (Caesar et al., 2018) with OASIS at full size: 256x256, 183 classes, 75.2 M weights.

    python -m fiancee_jax arrange coco COCO --out data/coco
    python train.py oasis_coco --data.root data/coco --workdir runs/coco

Not trained here: hardware, time and results are unknown to us. For the backbone expect what the
paper reports (Sushko et al., 2021, table 1). docs/full-size.md has the cost of every exit.

The first command makes a folder of the unpacked archives train2017, val2017 and stuffthingmaps. The
backbone's hyper-parameters are the published ones: 100 epochs of 118,287 pictures, 3,696 whole
batches of 32 each, are 100 x 3,696 = 369,600 steps. Published training used all of them; here a
tenth is kept from the backbone for predictor and calibration. Pictures are cropped to the square,
not squeezed. Branches, bank and predictor are not published: those are starting points.

What is not said below is the default, which is the published value where OASIS has one.

TensorFlow Datasets has no COCO-Stuff. One that you prepared yourself goes into a file of your own,
see docs/full-size.md.
"""

from fiancee_jax.classes import unnamed
from fiancee_jax.config import BackbonePhase, Config, Exit, Logging
from fiancee_jax.data import Augment, Folder
from fiancee_jax.models.oasis import Oasis

config = Config(
    name="oasis_coco",
    model=Oasis(size=(256, 256), classes=unnamed(183)),
    data=Folder(root="data/coco"),
    augment=Augment(flip=True),
    exits=(Exit(1, 0.25), Exit(2, 0.25), Exit(3, 0.25), Exit(1, 0.5), Exit(3, 0.5)),
    backbone=BackbonePhase(steps=369_600, recollect=50),
    logging=Logging(every=100, preview_every=2000, checkpoint_every=2000),
)
