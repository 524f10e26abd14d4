"""A clip to be rendered: one source picture, and a folder with the frames of a driver.

Everything is decoded once to be checked, and again when it is wanted: frames are not kept.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from fiancee_jax.data import labels as label_files
from fiancee_jax.data.clip_files import SUFFIXES, natural, read_frame
from fiancee_jax.data.ground import has_foreground
from fiancee_jax.data.transforms import Size, centre_box, resize_image
from fiancee_jax.errors import UserError

MAX_STRETCH = 2.0  # how much wider or taller than the model's pictures a picture may be
HINT = (
    "A driver is a folder with the frames of a clip, two or more of one size: NAME.png (or .jpg, "
    ".jpeg, .webp), in the natural order of their names (2 before 10). Each writes NAME.png."
)


class Frame(NamedTuple):
    """A frame of the driver: its name (the file's stem) and path."""

    name: str
    path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Clip:
    """A source and its driver, checked.

    Attributes:
        path: of the source.
        source: [h, w, 3] uint8, of the model's size.
        frames: of the driver, in order.
        size: the model's.
        note: what was cut off, in words; "" if nothing was.
        own: further pictures of the source's identity, [k, h, w, 3] uint8; None without.
    """

    path: pathlib.Path
    source: np.ndarray
    frames: tuple[Frame, ...]
    size: Size
    note: str = ""
    own: np.ndarray | None = None

    def read(self, index: int) -> np.ndarray:
        """Frame `index`, [h, w, 3] uint8, of the model's size."""
        return fit(read_frame(self.frames[index].path), self.size)


def read_clip(source: str | os.PathLike[str], driver: str | os.PathLike[str], size: Size) -> Clip:
    """Decodes and checks a source picture and all frames of a driver.

    Args:
        source: PNG, JPEG or WebP; where it has an alpha channel that is its matte, and it is laid
            over the ground (`ground`). So are frames.
        driver: folder of frames.
        size: (height, width) of the model's pictures.

    Raises:
        UserError: the source is no picture or shows nothing but ground; the driver is no folder of
            two or more frames of one size and of different names, or everything that is wrong with
            its files; one of them is more than twice as wide or tall as the model's pictures.
    """
    path = pathlib.Path(source).expanduser()
    picture = _read_source(path)
    shape = (picture.shape[0], picture.shape[1])
    _check_aspect(f"the source {path}", shape, size)
    fitted = fit(picture, size)
    if not has_foreground(fitted):
        raise UserError(
            f"{path}: found nothing but background; expected a source that shows a head, in the "
            "middle if it is cut to the model's aspect. The alpha channel, if there is one, is "
            "opaque where the head is."
        )
    frames, found = _read_driver(pathlib.Path(driver).expanduser())
    _check_aspect(f"the driver {driver}", found, size)
    return Clip(path, fitted, frames, size, _note(shape, found, size))


def read_own(
    folder: str | os.PathLike[str], count: int, size: Size
) -> UInt8[np.ndarray, "k h w 3"]:
    """Further pictures of a source: `count` of those in a folder, spread over their order.

    Raises:
        UserError: no such folder, fewer pictures, or one that is damaged or of another aspect.
    """
    path = pathlib.Path(folder).expanduser()
    files = label_files.images_in(path, SUFFIXES) if path.is_dir() else []
    if len(files) < count:
        raise UserError(
            f"found {len(files)} pictures in {path}; this model takes {count} further pictures of "
            "the source's identity: give --own a folder with as many, PNG, JPEG or WebP."
        )
    files = sorted(files, key=lambda p: (natural(p.stem), p.name))
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, count).astype(int)]
    pictures = label_files.in_threads(read_frame, chosen)
    for file, picture in zip(chosen, pictures, strict=True):
        _check_aspect(f"the picture {file}", (picture.shape[0], picture.shape[1]), size)
    return np.stack([fit(picture, size) for picture in pictures])


# --- pictures -----------------------------------------------------------------------------------
def _read_source(path: pathlib.Path) -> np.ndarray:
    try:
        return label_files.in_threads(read_frame, [path])[0]
    except UserError as error:
        hint = "Give a source picture: PNG, JPEG or WebP."
        raise UserError(f"{error}. {hint}") from None


def fit(picture: np.ndarray, size: Size) -> np.ndarray:
    """Cuts the centre to the aspect of `size` and resizes (Lanczos): [*size, 3] uint8."""
    if picture.shape[:2] == tuple(size):
        return picture
    return resize_image(picture, centre_box((picture.shape[0], picture.shape[1]), size), size)


def _check_aspect(what: str, found: Size, size: Size) -> None:
    """Raises UserError where a cut to the model's aspect would leave less than half."""
    stretch = found[1] / found[0] * size[0] / size[1]
    if 1 / MAX_STRETCH <= stretch <= MAX_STRETCH:
        return
    raise UserError(
        f"{what} is {found[0]}x{found[1]} (height x width), more than twice as "
        f"{'wide' if stretch > 1 else 'tall'} as the model's {size[0]}x{size[1]}: the cut would "
        "leave less than half of it. Crop it around the head."
    )


def _note(source: Size, driver: Size, size: Size) -> str:
    """Which of the two are cut to the model's aspect."""
    pairs = (("the source", source), ("the driver's frames", driver))
    cut = [f"{name} ({h}x{w})" for name, (h, w) in pairs if centre_box((h, w), size)[2:] != (h, w)]
    if not cut:
        return ""
    return f"{' and '.join(cut)} cut to the centre of the model's aspect, {size[0]}x{size[1]}."


# --- driver -------------------------------------------------------------------------------------
def _read_driver(folder: pathlib.Path) -> tuple[tuple[Frame, ...], Size]:
    """The frames, checked, and their (height, width)."""
    if not folder.is_dir():
        raise UserError(f"Found no folder {folder}. {HINT}")
    files = label_files.images_in(folder, SUFFIXES)
    frames = [Frame(p.stem, p) for p in sorted(files, key=lambda p: (natural(p.stem), p.name))]
    if not frames:
        raise UserError(f"Found no frames in {folder}. {HINT}")
    if len(frames) == 1:
        raise UserError(
            f"Found a single frame in {folder}, {frames[0].path.name}: a clip of one frame has no "
            f"motion to follow. {HINT}"
        )
    found = label_files.in_threads(_shape, [frame.path for frame in frames])
    shapes = Counter(item for item in found if not isinstance(item, str))
    usual = shapes.most_common(1)[0][0] if shapes else (0, 0)
    problems = [
        item if isinstance(item, str) else _other_size(frame.path, item, usual)
        for frame, item in zip(frames, found, strict=True)
        if item != usual
    ]
    problems += _names(frames)
    if problems:
        label_files.raise_problems(f"{len(frames)} frames of {folder}", problems, HINT)
    return tuple(frames), usual


def _shape(path: pathlib.Path) -> Size | str:
    """(height, width) of a frame, or what is wrong with it."""
    try:
        picture = read_frame(path)
    except UserError as error:
        return str(error)
    return picture.shape[0], picture.shape[1]


def _other_size(path: pathlib.Path, found: Size, usual: Size) -> str:
    return f"{path}: is {found[0]}x{found[1]}, most frames are {usual[0]}x{usual[1]}"


def _names(frames: Sequence[Frame]) -> list[str]:
    """Frames whose names cannot be those of written files."""
    problems, first = [], {}
    for name, path in frames:
        if name in first:
            problems.append(f"{path}: same name as {first[name]} but for the ending")
        first.setdefault(name, path.name)
        try:
            name.encode()
        except UnicodeEncodeError:
            problems.append(f"{str(path)!r}: the name is not valid UTF-8")
    return problems
