"""Changes how a driver looks but hardly how it moves, so that only its motion is of any use.

Where source and driver are frames of one clip, the target is the driver's own frame: a model could
copy its colours and shapes from there. Random colours, zoom and a gentle warp take that away; the
ground (see `ground`) stays as it is.
"""

from __future__ import annotations

import numpy as np

from fiancee_jax.data.ground import GROUND

CONTRAST = (0.8, 1.25)
SATURATION = (0.6, 1.4)
BALANCE = (0.9, 1.1)  # gain of each channel
BRIGHTNESS = 24.0  # at most, of 255
SOFT = 48.0  # brightness acts fully on colours this far from the ground, less on closer ones
CROP = (0.94, 1.0)  # sides of the centre crop, of the picture's
WAVES = 3  # cosines along each axis, the constant among them
BEND = 0.012  # greatest amplitude of one of them, of the shorter side
LUMA = np.array([0.299, 0.587, 0.114])
MIDDLE = np.array([0.5])


def jitter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another look of the same motion: other colours, a slight centre crop, a gentle smooth warp.

    Args:
        image: [h, w, 3] uint8; not changed.
        rng: decides everything; the same state gives the same picture.

    Returns:
        [h, w, 3] uint8. Pixels of the ground stay exactly that, unless the warp puts others there.
    """
    rows, columns = coordinates((image.shape[0], image.shape[1]), rng)
    return recolour(bilinear(image, rows, columns), rng)


def recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other contrast, saturation, colour balance and brightness.

    Colours are changed as differences from the ground, which therefore stays, and soft edges to it
    stay soft.

    Args:
        image: [h, w, 3], values 0 to 255 of any type.
        rng: decides how.

    Returns:
        [h, w, 3] uint8.
    """
    saturation = rng.uniform(*SATURATION)
    mix = saturation * np.eye(3) + (1 - saturation) * LUMA[:, None]
    mix = (mix * rng.uniform(*BALANCE, 3)[None] * rng.uniform(*CONTRAST)).astype(np.float32)
    lift = np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    colour = image.astype(np.float32) - GROUND
    share = np.minimum(np.abs(colour).max(-1, keepdims=True) / np.float32(SOFT), 1)
    return np.clip(np.rint(colour @ mix + lift * share + GROUND), 0, 255).astype(np.uint8)


def coordinates(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the result is read: a centre crop, bent by low cosines.

    The map is one-to-one (nothing folds over), and the centre of the picture stays where it was:
    a shift would be motion.

    Args:
        size: (height, width), pixels.
        rng: decides how.

    Returns:
        Rows and columns in pixels of the picture, [h, w] each; they may lie outside it.
    """
    zoom = rng.uniform(*CROP)
    amplitudes = rng.uniform(-BEND, BEND, (2, WAVES, WAVES)) * min(size)
    y, x = ((np.arange(n) + 0.5) / n for n in size)
    bent = _cosines(y) @ amplitudes @ _cosines(x).T
    bent -= _cosines(MIDDLE) @ amplitudes @ _cosines(MIDDLE).T
    rows, columns = (
        (zoom * (at - 0.5) + 0.5) * n - 0.5 for at, n in zip((y, x), size, strict=True)
    )
    return rows[:, None] + bent[0], columns[None] + bent[1]


def _cosines(at: np.ndarray) -> np.ndarray:
    """[n, WAVES] of places [n] from 0 to 1; column k has k half periods over the picture."""
    return np.cos(np.pi * at[:, None] * np.arange(WAVES)[None])


def bilinear(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Reads a picture between its pixels; beyond the border the border's pixels go on.

    Args:
        image: [h, w, 3] uint8.
        rows: in pixels (0 is the centre of the first), any shape. columns: likewise.

    Returns:
        [*rows.shape, 3] float32, 0 to 255.
    """
    top, low, fy = _cell(rows, image.shape[0])
    left, right, fx = _cell(columns, image.shape[1])
    pixels = image.astype(np.float32)
    upper = pixels[top, left] * (1 - fx) + pixels[top, right] * fx
    lower = pixels[low, left] * (1 - fx) + pixels[low, right] * fx
    return upper * (1 - fy) + lower * fy


def _cell(at: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels before and after a place, and how far it is between them, [..., 1]."""
    at = np.clip(at, 0, n - 1)
    before = np.floor(at).astype(np.int64)
    return before, np.minimum(before + 1, n - 1), (at - before)[..., None].astype(np.float32)
