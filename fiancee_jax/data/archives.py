"""Lays out the archives of ADE20K, COCO-Stuff and Cityscapes, as they are unpacked, for `Folder`.

    python -m fiancee_jax arrange ade20k ADEChallengeData2016 --out data/ade20k
    python -m fiancee_jax arrange coco COCO --out data/coco
    python -m fiancee_jax arrange cityscapes CITYSCAPES --out data/cityscapes

Files are linked, not copied, but for COCO-Stuff's label maps: there 255 is unlabelled, and OASIS
wants that as class 0. Classes get stand-in names, 0 is void; put real ones into classes.json if you
like, but keep "void".
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from fiancee_jax.classes import unnamed
from fiancee_jax.data.labels import read_labels
from fiancee_jax.errors import UserError


class Pair(NamedTuple):
    """A picture and its label map, the split they go to and the stem they get there."""

    split: str
    stem: str
    picture: pathlib.Path
    labels: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Archive:
    """How an unpacked archive looks.

    Attributes:
        classes: label classes, void included.
        train: its folders of pictures and of label maps.
        val: the same of its validation set.
        ends: what a picture's and a label map's name have after the common stem.
        cut: every 20th picture of train goes to `predictor`, and the next to `calibration`. Without
            it neighbours are frames of one drive: `Folder` cuts such a train into blocks.
        shift: added to label ids, modulo 256.
    """

    classes: int
    train: tuple[str, str]
    val: tuple[str, str]
    ends: tuple[str, str] = (".jpg", ".png")
    cut: bool = True
    shift: int = 0

    def pairs(self, source: pathlib.Path) -> Iterator[Pair]:
        """All pairs of an archive unpacked in `source`, sorted by path within each split."""
        for folders, split in ((self.train, "train"), (self.val, "val")):
            pictures, labels = (source / folder for folder in folders)
            for i, picture in enumerate(sorted(pictures.rglob(f"*{self.ends[0]}"))):
                stem = picture.name.removesuffix(self.ends[0])
                own = labels / picture.parent.relative_to(pictures) / (stem + self.ends[1])
                yield Pair(self._part(split, i), stem, picture, own)

    def _part(self, split: str, index: int) -> str:
        kept = ("predictor", "calibration")[index % 20] if index % 20 < 2 else split
        return kept if self.cut and split == "train" else split


ARCHIVES = {
    "ade20k": Archive(
        151,
        ("images/training", "annotations/training"),
        ("images/validation", "annotations/validation"),
    ),
    "coco": Archive(
        183,
        ("images/train2017", "annotations/train2017"),
        ("images/val2017", "annotations/val2017"),
        shift=1,
    ),
    "cityscapes": Archive(
        35,
        ("leftImg8bit/train", "gtFine/train"),
        ("leftImg8bit/val", "gtFine/val"),
        ends=("_leftImg8bit.png", "_gtFine_labelIds.png"),
        cut=False,
    ),
}
Name = Literal["ade20k", "coco", "cityscapes"]


def arrange(
    name: Name,
    source: pathlib.Path,
    target: pathlib.Path,
    on_pairs: Callable[[Sequence[Pair]], Iterable[Pair]] = lambda pairs: pairs,
) -> dict[str, int]:
    """Makes a `Folder` data set of an unpacked archive; all of it or nothing.

    Args:
        name: which one: ade20k, coco or cityscapes.
        source: where it is unpacked.
        target: a folder that does not exist yet.
        on_pairs: hands on the pairs one by one, to show progress.

    Returns:
        Pairs in each split.

    Raises:
        UserError: the archive is not as expected, there is something at `target`, or it cannot be
            written.
    """
    archive = ARCHIVES[name]
    if target.exists():
        raise UserError(f"Found something at {target}; remove it, or name another folder.")
    pairs = list(archive.pairs(source.resolve()))
    _check(archive, source, pairs)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            folder = pathlib.Path(temporary) / "data"
            for pair in on_pairs(pairs):
                _place(pair, folder, archive.shift)
            names = json.dumps(unnamed(archive.classes), indent=1)
            (folder / "classes.json").write_text(names + "\n")
            folder.replace(target)
    except OSError as error:
        raise UserError(f"Cannot write {target}: {error.strerror or error}.") from None
    return dict(Counter(pair.split for pair in pairs))


def _check(archive: Archive, source: pathlib.Path, pairs: list[Pair]) -> None:
    absent = [pair.labels for pair in pairs if not pair.labels.is_file()]
    if absent:
        raise UserError(
            f"Found no label map {absent[0]} ({len(absent)} of {len(pairs)} are missing). Unpack "
            "the archive of label maps beside the pictures."
        )
    if not {"train", "val"} <= {pair.split for pair in pairs}:
        expected = ", ".join((*archive.train, *archive.val))
        raise UserError(
            f"Found {len(pairs)} pictures in {source}; expected files *{archive.ends[0]} and "
            f"*{archive.ends[1]} in its folders {expected}."
        )


def _place(pair: Pair, folder: pathlib.Path, shift: int) -> None:
    images, labels = (folder / pair.split / kind for kind in ("images", "labels"))
    for place in (images, labels):
        place.mkdir(parents=True, exist_ok=True)
    (images / f"{pair.stem}{pair.picture.suffix}").symlink_to(pair.picture)
    own = labels / f"{pair.stem}.png"
    if not shift:
        own.symlink_to(pair.labels)
        return
    Image.fromarray(read_labels(pair.labels) + np.uint8(shift)).save(own)  # 255 becomes 0
