"""Data sets prepared by TensorFlow Datasets, read without TensorFlow and never downloaded silently.

``python -m fiancee_jax prepare NAME --data-dir DIR`` downloads and prepares one, once; afterwards
it is opened in the array_record format, which gives random access.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fiancee_jax.data.folders import read_classes
from fiancee_jax.data.labels import bad_ids
from fiancee_jax.data.splits import check_split
from fiancee_jax.errors import UserError

FORMAT = "array_record"


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A TFDS data set with pictures and label maps.

    Attributes:
        name: as TFDS knows it, ``NAME`` or ``NAME/CONFIG:VERSION``.
        image_key: feature with the picture, [h, w, 3].
        label_key: feature with the label map, [h, w], [h, w, 1], or [h, w, 3] with equal channels.
        class_names: names by id; or leave it empty and give classes_json.
        classes_json: path of a JSON list of names.
        data_dir: where it was prepared; "" is TFDS's own default.
        train, predictor, calibration, report: splits in TFDS's syntax, ``train[:60%]`` for example.
    """

    name: str
    image_key: str = "image"
    label_key: str = "annotation"
    class_names: tuple[str, ...] = ()
    classes_json: str = ""
    data_dir: str = ""
    train: str = "train[:80%]"
    predictor: str = "train[80%:90%]"
    calibration: str = "train[90%:]"
    report: str = "validation"

    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by id.

        Raises:
            UserError: neither or both of class_names and classes_json are given, or the file is
                unreadable.
        """
        if bool(self.class_names) == bool(self.classes_json):
            found = "both" if self.class_names else "neither"
            raise UserError(
                f"Found {found} of class_names and classes_json for data set {self.name}; expected "
                "one: the names of the label classes by id, or the path of a JSON list of them."
            )
        if self.classes_json:
            return read_classes(pathlib.Path(self.classes_json).expanduser())
        return self.class_names

    def open(self, split: str, size: tuple[int, int]) -> TfdsSource:
        """Opens a split; label ids are checked element by element, when they are read.

        See `fiancee_jax.data.batch.Dataset.open`. Elements keep their own size; the loader brings
        them to `size`.
        """
        check_split(split)
        count, builder = len(self.classes()), _prepared(self.name, self.data_dir)
        absent = [k for k in (self.image_key, self.label_key) if k not in builder.info.features]
        if absent:
            raise UserError(
                f"Found no feature {' or '.join(absent)} in data set {self.name}; it has "
                f"{', '.join(builder.info.features)}. Set image_key and label_key to two of them."
            )
        data = _data_source(builder, self.name, getattr(self, split))
        stem = f"{self.name.replace('/', '-').replace(':', '-')}_{split}"
        return TfdsSource(data, stem, self.image_key, self.label_key, count)


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """One split. See `fiancee_jax.data.batch.Source`."""

    data: Sequence[dict[str, Any]]
    stem: str
    image_key: str
    label_key: str
    count: int

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads element `index`: name, labels [h, w] uint8 or int32, image [h, w, 3] uint8.

        Raises:
            IndexError: index is not in [0, len).
            UserError: its labels are no index map, hold an unknown id or differ in size.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"element {index} of {len(self)}")
        element = self.data[index]
        image, found = np.asarray(element[self.image_key]), np.asarray(element[self.label_key])
        name = f"{self.stem}_{index:06d}"
        labels = _one_channel(found)
        problem = "" if labels is not None else f"has label channels that differ, {found.shape}"
        if labels is not None:
            problem = bad_ids(labels, self.count)
            if not problem and image.shape != (*labels.shape, 3):
                problem = f"has a picture {image.shape} for labels {labels.shape}"
        if labels is None or problem:
            raise UserError(
                f"Element {index} of {self.stem} {problem}. Expected a picture [h, w, 3] and class "
                f"ids [h, w] in {self.label_key!r}, all channels equal; check image_key, label_key "
                "and the list of classes."
            )
        return {"name": name, "labels": labels, "image": image}


def _one_channel(labels: np.ndarray) -> np.ndarray | None:
    """[h, w] from [h, w] or [h, w, c] with equal channels; else None."""
    if labels.ndim == 3:
        if not (labels == labels[..., :1]).all():
            return None
        labels = labels[..., 0]
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        return None
    return labels if labels.dtype == np.uint8 else labels.astype(np.int32)


def prepare(name: str, data_dir: str = "") -> pathlib.Path:
    """Downloads a data set and prepares it in the array_record format. Needs a network.

    Args:
        name: as TFDS knows it.
        data_dir: where to; "" is TFDS's own default.

    Returns:
        The folder that holds the prepared files.

    Raises:
        UserError: TFDS does not know the name, or preparing it needs a package that is absent.
    """
    builder = _builder(name, data_dir)
    try:
        builder.download_and_prepare(file_format=FORMAT)
    except ImportError as error:
        raise UserError(
            f"Preparing {name} failed: {str(error).splitlines()[-1]}. Install the missing package, "
            f"or prepare the data set elsewhere with file_format={FORMAT!r} and copy it to "
            f"{builder.data_path}."
        ) from error
    return pathlib.Path(builder.data_path)


def _builder(name: str, data_dir: str) -> Any:
    """The TFDS builder of a name. TFDS is imported only here: it is slow, and rarely needed."""
    import tensorflow_datasets as tfds

    folder = str(pathlib.Path(data_dir).expanduser()) if data_dir else None
    try:
        return tfds.builder(name, data_dir=folder)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"TFDS cannot find the data set {name!r} ({reason}). Expected a name of its catalogue, "
            f"NAME or NAME/CONFIG, or one prepared in {data_dir or 'its default folder'}."
        ) from None


def _prepared(name: str, data_dir: str) -> Any:
    """The builder of a data set that can be read at random."""
    builder = _builder(name, data_dir)
    formats = {item.value for item in builder.info.available_file_formats()}
    if builder.is_prepared() and formats & {FORMAT, "parquet"}:
        return builder
    where = data_dir or str(builder.data_path.parents[len(builder.info.full_name.split("/")) - 1])
    state, afterwards = "not prepared", "."
    if builder.is_prepared():
        state = f"prepared as {', '.join(sorted(formats))}"
        afterwards = " after removing its old files there, or name another folder."
    raise UserError(
        f"The data set {name} is {state} in {where}; expected it prepared as {FORMAT}, which can "
        "be read at random without TensorFlow. Nothing is downloaded unasked. To download and "
        f"prepare it, run `python -m fiancee_jax prepare {name} --data-dir {where}`{afterwards}"
    )


def _data_source(builder: Any, name: str, expression: str) -> Sequence[dict[str, Any]]:
    try:
        data = builder.as_data_source(split=expression)
    except (ValueError, KeyError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"Found split {expression!r} for data set {name}, which TFDS refuses "
            f"({reason}); it has {', '.join(builder.info.splits)}. Write one of them, or "
            "a part like train[:60%]."
        ) from None
    if not len(data):
        raise UserError(f"Split {expression!r} of data set {name} is empty; widen it.")
    return data
