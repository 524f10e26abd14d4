"""Tiles of fractal noise, made once, from which the procedural landscapes take every texture."""

from __future__ import annotations

import functools

import numpy as np

TEXELS = 512  # side of a tile; a power of two, so that it wraps with a bit mask
Pyramid = tuple[np.ndarray, ...]


@functools.cache
def fractal(seed: int, slope: float) -> Pyramid:
    """A periodic tile with the spectrum 1/f**slope, mean 0 and standard deviation 1.

    Args:
        seed: which tile.
        slope: amplitude falls with frequency to this power; 1 is rough, 2.5 is smooth.

    Returns:
        Levels [512, 512], [256, 256], ... [1, 1] float32, each the mean of 2x2 of the last.
    """
    white = np.random.default_rng(seed).standard_normal((TEXELS, TEXELS))
    f = np.hypot(np.fft.fftfreq(TEXELS)[:, None], np.fft.rfftfreq(TEXELS))
    f[0, 0] = np.inf
    tile = np.fft.irfft2(np.fft.rfft2(white) * f**-slope, s=(TEXELS, TEXELS))
    return _pyramid(tile / tile.std())


@functools.cache
def relief(seed: int) -> tuple[Pyramid, Pyramid]:
    """Slopes of a ridged height field: how a mountain side leans right, and down.

    Returns:
        Two pyramids as in `fractal`, each of standard deviation 1.
    """
    height = -np.abs(fractal(seed, 1.9)[0].astype(np.float64)) + 0.3 * fractal(seed + 1, 1.9)[0]
    right, down = (np.roll(height, -1, axis) - np.roll(height, 1, axis) for axis in (1, 0))
    return _pyramid(right / right.std()), _pyramid(down / down.std())


def _pyramid(tile: np.ndarray) -> Pyramid:
    levels = [tile]
    while len(levels[-1]) > 1:
        n = len(levels[-1]) // 2
        levels.append(levels[-1].reshape(n, 2, n, 2).mean((1, 3)))
    return tuple(level.astype(np.float32) for level in levels)


def sample(
    pyramid: Pyramid, u: np.ndarray | float, v: np.ndarray | float, step: float = 1.0
) -> np.ndarray:
    """Reads a tile bilinearly; it repeats for ever.

    Args:
        pyramid: from `fractal` or `relief`.
        u: columns, in texels of the finest level; any shape that broadcasts with v.
        v: rows, likewise.
        step: texels from one pixel to the next; the level whose texels are that large is read,
            so that a small picture is the mean of a large one. 1 reads the finest.

    Returns:
        float32 of the broadcast shape of u and v.
    """
    level = min(max(round(float(np.log2(max(step, 1.0)))), 0), len(pyramid) - 1)
    side = len(pyramid[level])
    texels = pyramid[level].reshape(-1)
    fu, left, right = _cell(u, level, side)
    fv, upper, lower = _cell(v, level, side)
    upper, lower = upper * side, lower * side
    top, bottom = texels.take(upper + left), texels.take(lower + left)
    top += (texels.take(upper + right) - top) * fu
    bottom += (texels.take(lower + right) - bottom) * fu
    bottom -= top
    return top + bottom * fv


def _cell(
    at: np.ndarray | float, level: int, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fraction between two neighbouring texels' centres, and their indices."""
    at = np.asarray(at, np.float64) * 0.5**level - 0.5
    low = np.floor(at)
    index = low.astype(np.int64)
    return (at - low).astype(np.float32), index & (side - 1), (index + 1) & (side - 1)
