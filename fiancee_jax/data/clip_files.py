"""Folders of clips: which identities a split has, and everything that is wrong with their frames.

Only the headers of the frames are read until a frame is asked for.
"""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from fiancee_jax.data import labels as label_files
from fiancee_jax.data.ground import over_ground
from fiancee_jax.data.splits import SPLITS
from fiancee_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
HINT = (
    "Expected ROOT/IDENTITY/CLIP/FRAME.png (or .jpg, .jpeg, .webp) with two frames or more of one "
    f"size in each clip; or that under ROOT/{', ROOT/'.join(SPLITS)}. Mend, move or remove these "
    "files; or change the data set's fields, such as --data.root."
)
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # Exif: the tag, and its turns by a quarter
Size = tuple[int, int]


class Clip(NamedTuple):
    """A clip: its identity, its name (of both folders, fit for a file), frames and their size."""

    identity: str
    name: str
    frames: tuple[pathlib.Path, ...]
    size: Size


# --- identities ---------------------------------------------------------------------------------
def find_identities(
    root: pathlib.Path, split: str, shares: Sequence[int], problems: list[str]
) -> list[pathlib.Path]:
    """The folders of a split's identities, by name.

    Args:
        root: holds identities; or the folders of the four splits, which hold them.
        split: which.
        shares: percent of the identities for each split, if root has no folders of splits.
        problems: gets what is wrong with these folders.
    """
    there = [name for name in SPLITS if (root / name).is_dir()]
    if there and len(there) < len(SPLITS):
        absent = ", ".join(name for name in SPLITS if name not in there)
        problems.append(
            f"{root}: found {', '.join(there)} but no {absent}; expected folders of all four "
            "splits or of none (rename an identity of such a name)"
        )
        return []
    folder = root / split if there else root
    identities = folders_in(folder)
    if not identities:
        problems.append(f"{folder}: no folder of an identity{_loose(folder, 'two levels')}")
    elif not there and len(identities) < len(SPLITS):
        names = ", ".join(path.name for path in identities)
        problems.append(
            f"{root}: too few identities to give each split one: found {len(identities)} "
            f"({names}); expected {len(SPLITS)} or more, or folders of the splits"
        )
    elif not there:
        return identities[blocks(len(identities), shares)[SPLITS.index(split)]]
    return identities


def blocks(count: int, shares: Sequence[int]) -> list[slice]:
    """Cuts `count` things, no fewer than shares, into contiguous blocks of one or more each.

    Args:
        count: of the things.
        shares: percent for each block, 100 in all.
    """
    cuts = [0]
    for k in range(1, len(shares)):
        wanted = round(count * sum(shares[:k]) / 100)
        cuts.append(min(max(wanted, cuts[-1] + 1), count - len(shares) + k))
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], count], strict=True)]


def folders_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder's visible folders, by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


def _loose(folder: pathlib.Path, levels: str) -> str:
    """Says how many images lie directly in a folder that should have none, "" if none."""
    files = label_files.images_in(folder, SUFFIXES)
    if not files:
        return ""
    images = "1 image lies" if len(files) == 1 else f"{len(files)} images lie"
    return f"; {images} directly in it ({files[0].name}), {levels} too high"


# --- clips --------------------------------------------------------------------------------------
def read_clips(identities: Sequence[pathlib.Path], problems: list[str]) -> tuple[Clip, ...]:
    """Finds the clips of some identities and checks the headers of all frames.

    Args:
        identities: their folders.
        problems: gets everything that is wrong with them.

    Returns:
        The clips of what can be read, by identity and name.
    """
    folders = {identity: folders_in(identity) for identity in identities}
    read = label_files.in_threads(_read_clip, list(itertools.chain(*folders.values())))
    clips = tuple(clip for clip, _ in read if clip is not None)
    if identities and not any(len(clip.frames) > 1 for clip in clips):
        problems.append(
            "no common identity for training pairs: found no clip of two readable frames "
            f"(identities: {len(identities)}, clips: {len(read)}); expected at least one, for "
            "source and driver are two frames of one clip"
        )
    problems += [
        f"{identity}: no folder of a clip{_loose(identity, 'one level')}"
        for identity, found in folders.items()
        if not found
    ]
    problems += [problem for _, wrong in read for problem in wrong]
    problems += _same_names(clips)
    return clips


def _read_clip(folder: pathlib.Path) -> tuple[Clip | None, list[str]]:
    """A clip of the frames that can be read, None if there are none; and what is wrong with it."""
    paths = sorted(label_files.images_in(folder, SUFFIXES), key=lambda path: natural(path.stem))
    problems = _wrong_number(folder, paths)
    sizes: dict[pathlib.Path, Size] = {}
    for path in paths:
        try:
            sizes[path] = read_size(path)
        except UserError as error:
            problems.append(str(error))
    if not sizes:
        return None, problems
    problems += _mixed(folder, sizes)
    identity = folder.parent.name
    name = _fit_for_a_file(f"{identity}_{folder.name}")
    return Clip(identity, name, tuple(sizes), next(iter(sizes.values()))), problems


def _wrong_number(folder: pathlib.Path, paths: Sequence[pathlib.Path]) -> list[str]:
    if not paths:
        deeper = any(label_files.images_in(below, SUFFIXES) for below in folders_in(folder))
        return [f"{folder}: no frames{'; images in its folders lie one level too low' * deeper}"]
    if len(paths) == 1:
        return [f"{folder}: a single frame, {paths[0].name}; expected two or more"]
    return [
        f"{path}: same name as {last.name} but for the ending; keep one of them"
        for last, path in itertools.pairwise(paths)
        if last.stem == path.stem
    ]


def _mixed(folder: pathlib.Path, sizes: Mapping[pathlib.Path, Size]) -> list[str]:
    first: dict[Size, str] = {}
    for path, size in sizes.items():
        first.setdefault(size, path.name)
    found = ", ".join(f"{w}x{h} (first {name})" for (h, w), name in first.items())
    return [f"{folder}: frames of mixed size, {found}; expected one size"] * (len(first) > 1)


def natural(name: str) -> list[str | int]:
    """Sorts 2 before 10: words and numbers of a name, in turn."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def pair_name(clip: Clip, source: int, driver: int) -> str:
    """``IDENTITY_CLIP_SOURCE-DRIVER``, with ``_`` for what is not fit for the name of a file."""
    frames = clip.frames[source].stem, clip.frames[driver].stem
    return f"{clip.name}_{_fit_for_a_file('-'.join(frames))}"


def _fit_for_a_file(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _same_names(clips: Sequence[Clip]) -> list[str]:
    """Clips whose pairs would be called alike."""
    first: dict[str, Clip] = {}
    return [
        f"{clip.frames[0].parent}: its pairs would be called {clip.name}_..., like those of "
        f"{other.frames[0].parent}; rename one"
        for clip in clips
        if (other := first.setdefault(clip.name, clip)) is not clip
    ]


# --- frames -------------------------------------------------------------------------------------
def read_size(path: pathlib.Path) -> Size:
    """(height, width) of a frame as `read_frame` gives it, from its header.

    Raises:
        UserError: the file is no image, damaged as far as can be told without decoding it, too
            large or has more than 8 bits per channel.
    """
    with label_files.open_image(path) as image:
        _check_mode(image, path)
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))  # image.getexif() would decode a PNG
        turned = exif.get(ORIENTATION, 1) in SIDEWAYS
        try:
            image.verify()
        except label_files.UNREADABLE as error:
            raise UserError(f"{path}: damaged or cut short ({error}); copy it anew") from None
        return (image.width, image.height) if turned else (image.height, image.width)


def read_frame(path: pathlib.Path) -> np.ndarray:
    """Decodes a picture, upright whichever way the camera was held.

    Returns:
        [h, w, 3] uint8; where the file has an alpha channel, laid over the ground.

    Raises:
        UserError: the file is absent, damaged, too large or has more than 8 bits per channel.
    """
    with label_files.open_image(path) as image:
        _check_mode(image, path)
        label_files.decoded(image, path)
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            return over_ground(np.asarray(upright.convert("RGBA")))
        return np.array(upright.convert("RGB"))


def _check_mode(image: Image.Image, path: pathlib.Path) -> None:
    if image.mode[0] in "IF":
        raise UserError(f"{path}: found mode {image.mode}; expected 8 bits per channel")
