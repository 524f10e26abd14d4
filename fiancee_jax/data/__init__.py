"""Data sets and batches: procedural landscapes and heads, folders, TensorFlow Datasets.

A config holds one of `Landscapes`, `Heads`, `Folder`, `Clips` or `Tfds`. Its ``open(split, size)``
checks the split and gives a source of elements; `batches` and `epoch` make batches of a source.
"""

from fiancee_jax.data.batch import Batch, Dataset, Source
from fiancee_jax.data.clips import Clips
from fiancee_jax.data.folders import Folder
from fiancee_jax.data.heads import Heads
from fiancee_jax.data.labels import LabelFile, fit_labels, read_label_folder, read_labels
from fiancee_jax.data.landscapes import Landscapes
from fiancee_jax.data.loader import Cached, batches, collate, epoch
from fiancee_jax.data.tfds import Tfds
from fiancee_jax.data.transforms import Augment

__all__ = [
    "Augment",
    "Batch",
    "Cached",
    "Clips",
    "Dataset",
    "Folder",
    "Heads",
    "LabelFile",
    "Landscapes",
    "Source",
    "Tfds",
    "batches",
    "collate",
    "epoch",
    "fit_labels",
    "read_label_folder",
    "read_labels",
]
