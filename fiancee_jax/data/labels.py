"""Label maps on disk: reads them, and checks a whole folder of them before anything is computed.

A label map is an index image: an 8-bit PNG with one channel whose pixels are class ids. The ids are
checked here, on the host, because `jax.nn.one_hot` turns a bad id silently into zeros.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from fiancee_jax.data.transforms import centre_box, resize_labels
from fiancee_jax.errors import UserError

A = TypeVar("A")
R = TypeVar("R")
MAX_LINES = 20  # of a list of problems
LABEL_HINT = (
    "A label map is an 8-bit PNG with one channel (greyscale or palette), pixel = class id."
)
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class LabelFile(NamedTuple):
    """A label map that has been checked: its name (the file's stem), path and (height, width)."""

    name: str
    path: pathlib.Path
    size: tuple[int, int]

    def read(self) -> np.ndarray:
        """The labels, [h, w] uint8."""
        return read_labels(self.path)


def read_label_folder(folder: str | os.PathLike[str], classes: Sequence[str]) -> list[LabelFile]:
    """Checks all label maps of a folder (``*.png``), sorted by name; reads them again when asked.

    Args:
        folder: holds the label maps; other files in it are ignored.
        classes: names of the classes, by id.

    Raises:
        UserError: the folder is absent or has no PNG, or everything that is wrong with its files.
    """
    return check_label_files(label_paths(folder), classes)


def label_paths(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """The label maps of a folder, ``*.png``, sorted by name; nothing is opened.

    Raises:
        UserError: the folder is absent or has no PNG.
    """
    path = pathlib.Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"Found no folder {path}; expected one with label maps, NAME.png each.")
    files = images_in(path, (".png",))
    if not files:
        raise UserError(f"Found no PNG in {path}; expected label maps, NAME.png each. {LABEL_HINT}")
    return files


def check_label_files(
    paths: Iterable[str | os.PathLike[str]], classes: Sequence[str]
) -> list[LabelFile]:
    """Decodes every file and checks its ids.

    Args:
        paths: label maps.
        classes: names of the classes, by id.

    Returns:
        One `LabelFile` per path, in their order.

    Raises:
        UserError: everything that is wrong, at most 20 lines of it.
    """
    paths = [pathlib.Path(path) for path in paths]
    files, bad = survey(paths, len(classes))
    if bad:
        raise_problems(f"{len(paths)} label maps", list(bad.values()), LABEL_HINT)
    return files


def survey(
    paths: Sequence[pathlib.Path], count: int
) -> tuple[list[LabelFile], dict[pathlib.Path, str]]:
    """Decodes label maps of `count` classes: the good ones, and what is wrong with the others."""
    found = in_threads(lambda path: _check_one(path, count), paths)
    bad = {p: item for p, item in zip(paths, found, strict=True) if isinstance(item, str)}
    return [item for item in found if isinstance(item, LabelFile)], bad


def _check_one(path: pathlib.Path, count: int) -> LabelFile | str:
    try:
        labels = read_labels(path)
    except UserError as error:
        return str(error)
    wrong = bad_ids(labels, count)
    if wrong:
        return f"{path}: {wrong}"
    return LabelFile(path.stem, path, (labels.shape[0], labels.shape[1]))


def bad_ids(labels: np.ndarray, count: int) -> str:
    """Says which ids of `labels` are not in [0, count), "" if none."""
    if not labels.size or (labels.max() < count and labels.min() >= 0):
        return ""
    ids = np.unique(labels)
    wrong = [int(i) for i in ids[(ids >= count) | (ids < 0)]]
    shown = ", ".join(map(str, wrong[:8])) + (f" and {len(wrong) - 8} more" if wrong[8:] else "")
    return f"holds class ids {shown}; expected 0 to {count - 1} (there are {count} classes)"


def listed(classes: Sequence[str]) -> str:
    """``0 = sky, 1 = road``: the classes by id, for messages."""
    return ", ".join(f"{i} = {name}" for i, name in enumerate(classes))


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a label map.

    Returns:
        [h, w] uint8, class ids (not checked against any classes).

    Raises:
        UserError: the file is absent, damaged, too large or no index image.
    """
    with open_image(path) as image:
        stored = _stored_mode(image)
        if image.mode not in ("L", "P") or (image.mode == "L" and stored != "L"):
            raise UserError(
                f"{path}: found an image of mode {image.mode} (stored as {stored}); expected an "
                "index image, 8 bits and one channel (mode L or P)"
            )
        return decoded(image, path)


def _stored_mode(image: Image.Image) -> str:
    """The mode in the file: Pillow stretches greys of 2 and 4 bits to 8, which changes the ids."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else image.mode
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a picture.

    Returns:
        [h, w, 3] uint8; transparency is dropped.

    Raises:
        UserError: the file is absent, damaged, too large or has more than 8 bits per channel.
    """
    with open_image(path) as image:
        if image.mode[0] in "IF":
            raise UserError(f"{path}: found mode {image.mode}; expected 8 bits per channel")
        decoded(image, path)
        through = image.convert("RGBA") if "transparency" in image.info else image
        return np.asarray(through.convert("RGB"))


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Opens an image file without decoding it; mistakes become `UserError`."""
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except _BOMB:
        raise UserError(_too_large(path)) from None
    except UNREADABLE:
        raise UserError(f"{path}: not an image, or damaged; expected a readable file") from None
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
        image.close()
        raise UserError(_too_large(path))
    return image


def _too_large(path: str | os.PathLike[str]) -> str:
    return (
        f"{path}: too large to be decoded safely; expected at most {Image.MAX_IMAGE_PIXELS} pixels"
    )


def decoded(image: Image.Image, path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels of an opened image; raises UserError where the file is damaged or cut short."""
    try:
        image.load()
    except UNREADABLE as error:
        raise UserError(f"{path}: damaged or cut short ({error}); copy it anew") from None
    return np.array(image)


def fit_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cuts the centre to the aspect of `size` and resizes by nearest.

    Args:
        labels: [h, w], any integer type.
        size: (height, width) wanted.

    Returns:
        [*size]; within the cut, row i is row floor((i + 0.5) * rows / size[0]), likewise columns.
    """
    if labels.shape == tuple(size):
        return labels
    return resize_labels(labels, centre_box((labels.shape[0], labels.shape[1]), size), size)


def images_in(folder: pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
    """The folder's visible files with one of the suffixes (lower case), sorted by stem."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "."]
    return sorted(files, key=lambda path: (path.stem, path.name))


def in_threads(check: Callable[[A], R], items: Sequence[A]) -> list[R]:
    """Runs a check on all items, several at once; oversized images raise instead of warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(check, items))


def raise_problems(what: str, problems: Sequence[str], hint: str) -> None:
    """Raises one `UserError` that lists the problems found in `what`, then says how to mend."""
    lines = [f"  {problem}" for problem in problems[:MAX_LINES]]
    if len(problems) > MAX_LINES:
        lines.append(f"  and {len(problems) - MAX_LINES} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise UserError("\n".join([f"Found {count} in {what}:", *lines, hint]))
