"""Label maps to time networks on: mosaics of real street scenes, and noise.

How much label-sparse SPADE saves depends on the maps. Resampled maps have rougher borders than
real ones of their size, so that nothing here is resampled: CamVid's maps (Brostow et al., 2009) are
360x480, and four crops side by side make a larger one.
"""

from __future__ import annotations

import pathlib

import numpy as np
from jaxtyping import Int

from fiancee_jax.data.labels import images_in, read_labels
from fiancee_jax.errors import UserError

LABELS = "train/labels"  # below the root of a folder data set


def mosaics(
    root: pathlib.Path, count: int, size: tuple[int, int], seed: int = 0, tiles: int = 2
) -> Int[np.ndarray, "n h w"]:
    """2x2 mosaics of unresampled training maps cut to size.

    Each of the four is a random crop, half as high and half as wide, of another random map.

    Args:
        root: a folder data set (see `fiancee_jax.data.Folder`).
        count: n, mosaics.
        size: (height, width) of each, pixels.
        seed: of the choice of maps and crops.
        tiles: crops along a side, more than 2 for sizes that two maps do not fill.

    Returns:
        Class ids as int32, as they are in the files.

    Raises:
        UserError: there are no four maps (tiles x tiles), or one is smaller than a crop.
    """
    files, rng = _files(root, tiles**2), np.random.default_rng(seed)
    return np.stack([_mosaic(files, size, rng, tiles) for _ in range(count)])


def noise(classes: int, size: tuple[int, int], seed: int = 0) -> Int[np.ndarray, "1 h w"]:
    """A map of independent, equally likely classes: no two neighbourhoods are alike."""
    return np.random.default_rng(seed).integers(0, classes, (1, *size), dtype=np.int32)


def _files(root: pathlib.Path, least: int) -> list[pathlib.Path]:
    folder = root.expanduser() / LABELS
    files = images_in(folder, (".png",)) if folder.is_dir() else []
    if len(files) < least:
        found = f"{len(files)} label maps in {folder}" if folder.is_dir() else f"no folder {folder}"
        raise UserError(
            f"Found {found}; expected {least} or more *.png there. Give the folder data set that "
            f"has them with --data: it holds {LABELS}/NAME.png and classes.json."
        )
    return files


def _mosaic(
    files: list[pathlib.Path], size: tuple[int, int], rng: np.random.Generator, tiles: int
) -> Int[np.ndarray, "h w"]:
    part = (-(-size[0] // tiles), -(-size[1] // tiles))
    chosen = rng.choice(len(files), tiles**2, replace=False)
    crops = [_crop(files[i], part, rng) for i in chosen]
    rows = [crops[start : start + tiles] for start in range(0, len(crops), tiles)]
    return np.block(rows)[: size[0], : size[1]]


def _crop(
    file: pathlib.Path, size: tuple[int, int], rng: np.random.Generator
) -> Int[np.ndarray, "h w"]:
    labels = read_labels(file).astype(np.int32)
    room = (labels.shape[0] - size[0], labels.shape[1] - size[1])
    if min(room) < 0:
        raise UserError(
            f"{file} is {labels.shape[0]}x{labels.shape[1]}, smaller than a crop of "
            f"{size[0]}x{size[1]}; maps are not enlarged. Take a smaller --size or larger maps."
        )
    top, left = (int(rng.integers(0, free + 1)) for free in room)
    return labels[top : top + size[0], left : left + size[1]]
