"""ADE20K (Zhou et al., 2017) with OASIS at full size: 256x256, 151 classes, 74.3 M parameters.

    python -m fiancee_jax arrange ade20k ADEChallengeData2016 --out data/ade20k
    python train.py oasis_ade20k --data.root data/ade20k --workdir runs/ade20k

Not trained here: hardware, time and results are unknown to us. For the backbone expect what the
paper reports (Sushko et al., 2021, table 1). docs/full-size.md has the cost of every exit.

The first command links the unpacked archive's files into a folder. The backbone's hyper-parameters
are the published ones: 200 epochs of 20,210 pictures, 631 whole batches of 32 each, are
200 x 631 = 126,200 steps. Published training used all 20,210; here a tenth is kept from the
backbone for predictor and calibration. Pictures are cropped to the square, not squeezed. Branches,
bank and predictor are not published: those are starting points.

What is not said below is the default, which is the published value where OASIS has one.

`scene_parse150` of TensorFlow Datasets is no substitute: its annotations are the instance maps (100
classes in the red channel, instances in the green one). A data set of TFDS that does have 151
classes goes into a file of your own, see docs/full-size.md.
"""

from fiancee_jax.classes import unnamed
from fiancee_jax.config import BackbonePhase, Config, Exit, Logging
from fiancee_jax.data import Augment, Folder
from fiancee_jax.models.oasis import Oasis

config = Config(
    name="oasis_ade20k",
    model=Oasis(size=(256, 256), classes=unnamed(151)),
    data=Folder(root="data/ade20k"),
    augment=Augment(flip=True),
    exits=(Exit(1, 0.25), Exit(2, 0.25), Exit(3, 0.25), Exit(1, 0.5), Exit(3, 0.5)),
    backbone=BackbonePhase(steps=126_200, recollect=50),
    logging=Logging(every=100, preview_every=2000, checkpoint_every=2000),
)
