"""Image and label folders: ``SPLIT/images/*.jpg|png`` beside ``SPLIT/labels/*.png``, same stems.

``classes.json`` at the root lists the names of the classes by id; one may be ``"void"``.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from typing import Any

from fiancee_jax.data import labels as label_files
from fiancee_jax.data.splits import check_split
from fiancee_jax.errors import UserError

MAX_CLASSES = 256  # ids are 8-bit
HINT = (
    "Expected SPLIT/images/NAME.jpg (or .png) with SPLIT/labels/NAME.png of the same size, and "
    "classes.json beside the splits. " + label_files.LABEL_HINT + " Mend, replace or remove these "
    "files; or change the data set's fields, such as --data.root."
)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A data set in a folder; the fields besides root say what each split is.

    A split is the name of a folder, ``NAME``, or a contiguous block of its sorted files,
    ``NAME[a%:b%]``, so that neighbouring frames of a film stay together: where there is only
    ``train``, write for example ``train[:60%]``, ``train[60%:80%]``, ``train[80%:90%]`` and
    ``train[90%:]``.
    """

    root: str
    train: str = "train"
    predictor: str = "predictor"
    calibration: str = "calibration"
    report: str = "val"

    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by id.

        Raises:
            UserError: there is no such folder, or its classes.json is absent or not a list of
                distinct names.
        """
        return read_classes(self._root() / "classes.json")

    def _root(self) -> pathlib.Path:
        root = pathlib.Path(self.root).expanduser()
        if not root.is_dir():
            raise UserError(f"Found no folder {root}. {HINT}")
        return root

    def open(self, split: str, size: tuple[int, int]) -> FolderSource:
        """Decodes and checks every file of the split; see `fiancee_jax.data.batch.Dataset.open`.

        Elements keep the size of their files; the loader brings them to `size`.
        """
        check_split(split)
        root, expression, problems = self._root(), getattr(self, split), []
        names: tuple[str, ...] = ()
        try:
            names = self.classes()
        except UserError as error:
            problems.append(str(error))
        count = len(names) or MAX_CLASSES
        pairs = _pairs(root, expression, problems)
        found = label_files.in_threads(lambda pair: _check_pair(pair, count), pairs)
        problems += [problem for item in found for problem in item]
        if problems:
            unknown = names and any("holds class ids" in problem for problem in problems)
            hint = f"classes.json says {label_files.listed(names)}. {HINT}" if unknown else HINT
            label_files.raise_problems(f"split {split} ({expression}) of {root}", problems, hint)
        return FolderSource(tuple(pairs))


Pair = tuple[pathlib.Path, pathlib.Path]


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The (image, labels) files of a split. See `fiancee_jax.data.batch.Source`."""

    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a pair: name (the stem), labels [h, w] uint8, image [h, w, 3] uint8."""
        image, labels = self.pairs[index]
        return {
            "name": image.stem,
            "labels": label_files.read_labels(labels),
            "image": label_files.read_image(image),
        }


def at_root(data: Any, root: pathlib.Path | None) -> Any:
    """A data set with its folder elsewhere (None: as it is); of another kind: a `Folder` there."""
    if root is None:
        return data
    return dataclasses.replace(data if isinstance(data, Folder) else Folder(""), root=str(root))


def read_classes(path: pathlib.Path) -> tuple[str, ...]:
    """Reads a list of class names.

    Raises:
        UserError: the file is absent or not a JSON list of 1 to 256 distinct names.
    """
    expected = 'expected a JSON list of class names by id, like ["sky", "road", "void"]'
    try:
        names = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {expected}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: unreadable ({error}); {expected}") from None
    if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
        raise UserError(f"{path}: found {json.dumps(names)[:60]}; {expected}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not 1 <= len(names) <= MAX_CLASSES:
        again = f", {', '.join(twice)} more than once" if twice else ""
        raise UserError(f"{path}: found {len(names)} names{again}; {expected}, 1 to 256, distinct")
    return tuple(names)


def parse_split(expression: str) -> tuple[str, int, int]:
    """``NAME`` or ``NAME[a%:b%]`` as (name, a, b), a and b in percent.

    Raises:
        UserError: the expression has another form, or an empty block.
    """
    found = re.fullmatch(r"([^\[\]/\\]+)(?:\[(?:(\d+)%)?:(?:(\d+)%)?\])?", expression.strip())
    name, low, high = found.groups() if found else ("", None, None)
    start, stop = int(low or 0), int(high or 100)
    if not found or name in (".", "..") or not 0 <= start < stop <= 100:
        raise UserError(
            f"Found split expression {expression!r}; expected NAME or NAME[a%:b%] with whole "
            "percents and a < b, for example train[:60%]."
        )
    return name, start, stop


def _pairs(root: pathlib.Path, expression: str, problems: list[str]) -> list[Pair]:
    """The complete pairs of a split's block; what is missing is added to `problems`."""
    name, start, stop = parse_split(expression)
    folder = root / name
    absent = [p for p in (folder / "images", folder / "labels") if not p.is_dir()]
    if absent:
        there = sorted(p.name for p in root.iterdir() if p.is_dir())
        problems += [f"{path}: no such folder (found in {root}: {there})" for path in absent]
        return []
    images = _by_stem(folder / "images", (".jpg", ".jpeg", ".png"), problems)
    labels = _by_stem(folder / "labels", (".png",), problems)
    stems = sorted(images.keys() | labels.keys())
    block = stems[round(len(stems) * start / 100) : round(len(stems) * stop / 100)]
    if not block:
        problems.append(f"{folder}: no pairs in {expression} ({len(stems)} files in all)")
    problems += [f"{images[s]}: no labels {s}.png" for s in block if s not in labels]
    problems += [f"{labels[s]}: no image {s}.jpg or .png" for s in block if s not in images]
    return [(images[s], labels[s]) for s in block if s in images and s in labels]


def _by_stem(
    folder: pathlib.Path, suffixes: tuple[str, ...], problems: list[str]
) -> dict[str, pathlib.Path]:
    files: dict[str, pathlib.Path] = {}
    for path in label_files.images_in(folder, suffixes):
        if path.stem in files:
            problems.append(f"{path}: same stem as {files[path.stem].name}; keep one of them")
        files[path.stem] = path
    return files


def _check_pair(pair: Pair, count: int) -> list[str]:
    """What is wrong with one pair; decodes both files."""
    problems, shapes = [], []
    readers = (label_files.read_image, label_files.read_labels)
    for path, read in zip(pair, readers, strict=True):
        try:
            array = read(path)
        except UserError as error:
            problems.append(str(error))
            continue
        shapes.append(array.shape[:2])
        wrong = label_files.bad_ids(array, count) if array.ndim == 2 else ""
        problems += [f"{path}: {wrong}"] if wrong else []
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        (h, w), (lh, lw) = shapes
        problems.append(f"{pair[0]}: {w}x{h} pixels, but {pair[1].name} has {lw}x{lh}")
    return problems
