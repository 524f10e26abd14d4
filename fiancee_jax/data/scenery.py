"""Draws the label maps of procedural landscapes: who stands where, at any resolution.

Coordinates: y runs from 0 (top) to 1 (bottom), x from -aspect/2 to aspect/2, both in heights of the
picture. A label is a function of (x, y) alone, so the same scene can be drawn at any size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fiancee_jax.data import noise

CLASSES = (
    "sky",
    "cloud",
    "mountain",
    "snow",
    "forest",
    "meadow",
    "field",
    "water",
    "sand",
    "rock",
)
SKY, CLOUD, MOUNTAIN, SNOW, FOREST, MEADOW, FIELD, WATER, SAND, ROCK = range(len(CLASSES))
Rng = np.random.Generator
Wetness = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (x, y) -> below 0 in the water


class Grid(NamedTuple):
    """Centres of the pixels and, below the horizon, where they lie on the ground.

    Attributes:
        x: [1, w], in heights of the picture, 0 in the middle.
        y: [h, 1], 0 at the top, 1 at the bottom.
        near: [h, 1], 0 at the horizon (and above it), 1 at the lower edge.
        ground_x: [h, w], sideways position on the ground.
        ground_z: [h, 1], distance on the ground, 0.9 (near) to 8.3 (horizon).
    """

    x: np.ndarray
    y: np.ndarray
    near: np.ndarray
    ground_x: np.ndarray
    ground_z: np.ndarray


def grid(size: tuple[int, int], horizon: float) -> Grid:
    """The pixel centres of a picture of size (height, width) with its horizon at y = horizon."""
    h, w = size
    y = ((np.arange(h) + 0.5) / h)[:, None]
    x = ((np.arange(w) + 0.5 - w / 2) / h)[None, :]
    near = np.clip((y - horizon) / (1 - horizon), 0, 1)
    ground_z = 1 / (near + 0.12)
    return Grid(x, y, near, x * ground_z, ground_z)


def draw_labels(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """Draws one scene, from nearly empty to crowded.

    Args:
        rng: decides the scene; the same number of draws is taken at every size.
        size: (height, width), pixels.

    Returns:
        [h, w] uint8, indices into `CLASSES`.
    """
    crowd, horizon = rng.uniform(), rng.uniform(0.36, 0.6)
    g = grid(size, horizon)
    labels = np.full(size, SKY, np.uint8)
    _clouds(labels, rng, g, crowd)
    for k in range(rng.integers(0, 2 + round(2.4 * crowd))):
        _range(labels, rng, g, horizon + 0.02 * k)
    for k in range(rng.integers(0, 2 + round(1.5 * crowd))):
        _hill(labels, rng, g, horizon + 0.02 + 0.02 * k)
    _ground(labels, rng, g, horizon, crowd)
    wetness = _water(rng, horizon)
    _flood(labels, rng, g, horizon, wetness)
    for _ in range(rng.integers(0, 1 + round(5 * crowd))):
        _boulder(labels, rng, g, horizon)
    for _ in range(rng.integers(0, 2 + round(7 * crowd))):
        _tree(labels, rng, g, horizon, wetness)
    return labels


def _offset(rng: Rng) -> float:
    return rng.uniform(0, noise.TEXELS)


def _line(rng: Rng, x: np.ndarray, scale: float, slope: float) -> np.ndarray:
    """A rough line over x ([1, w]), standard deviation about 1; scale in texels per height."""
    return noise.sample(noise.fractal(3, slope), x * scale + _offset(rng), _offset(rng))


def _clouds(labels: np.ndarray, rng: Rng, g: Grid, crowd: float) -> None:
    cover = rng.uniform(-2.2, 0.1 + 0.5 * crowd)
    stretch = rng.uniform(40, 90)
    u, v = g.x * stretch + _offset(rng), g.y * stretch * rng.uniform(2, 3.5) + _offset(rng)
    labels[noise.sample(noise.fractal(1, 1.75), u, v) + cover > 0] = CLOUD


def _range(labels: np.ndarray, rng: Rng, g: Grid, foot: float) -> None:
    """A chain of mountains, with snow above a ragged line if it is high."""
    amp = rng.uniform(0.03, 0.14)
    peaks = _line(rng, g.x, rng.uniform(60, 160), 2.0) - 0.7 * np.abs(_line(rng, g.x, 90, 1.7))
    ridge = foot - amp * (1.5 + peaks)
    labels[g.y > ridge] = MOUNTAIN
    if rng.uniform() < 0.65:
        line = foot - amp * rng.uniform(1.0, 2.6)
        ragged = noise.sample(noise.fractal(2, 1.4), g.x * 300 + _offset(rng), g.y * 120)
        labels[(g.y > ridge) & (g.y < line + 0.025 * ragged)] = SNOW


def _hill(labels: np.ndarray, rng: Rng, g: Grid, foot: float) -> None:
    kind = rng.choice([FOREST, FOREST, MEADOW, ROCK], p=[0.35, 0.3, 0.25, 0.1])
    ridge = foot - rng.uniform(0.01, 0.06) * (1 + _line(rng, g.x, rng.uniform(30, 80), 2.4))
    jag = 0.008 * _line(rng, g.x, 400, 1.0) if kind == FOREST else 0
    labels[g.y > ridge + jag] = kind


def _ground(labels: np.ndarray, rng: Rng, g: Grid, horizon: float, crowd: float) -> None:
    """The plain, and a patchwork of fields, meadows and woods on it."""
    base = rng.choice([MEADOW, FIELD, SAND, SNOW], p=[0.5, 0.3, 0.12, 0.08])
    edge = horizon + 0.02 + 0.012 * _line(rng, g.x, 40, 2.4)
    patches = rng.choice([base, MEADOW, FIELD, FOREST], size=(8, 8), p=_mixture(crowd))
    bend = 0.5 * noise.sample(
        noise.fractal(4, 2.4), g.ground_x * 12 + _offset(rng), g.ground_z * 12
    )
    turn, width = rng.uniform(-0.7, 0.7), rng.uniform(0.5, 1.6)
    row = np.floor((g.ground_z + turn * g.ground_x + bend) / width * 0.9).astype(int) & 7
    column = np.floor((g.ground_x - turn * g.ground_z + bend) / width).astype(int) & 7
    labels[:] = np.where(g.y > edge, patches[row, column], labels)


def _mixture(crowd: float) -> list[float]:
    """Shares of (the base, meadow, field, forest) among the patches."""
    other = 0.75 * crowd
    return [1 - other, 0.3 * other, 0.4 * other, 0.3 * other]


def _water(rng: Rng, horizon: float) -> Wetness:
    """None, a lake, the sea or a river."""
    kind = rng.choice(4, p=[0.38, 0.27, 0.2, 0.15])
    side, wide, far, tilt = rng.uniform(-0.5, 0.5), *rng.uniform(size=2), rng.normal()
    u0, v0 = _offset(rng), _offset(rng)
    middle_y = horizon + (1 - horizon) * (0.25 + 0.4 * far)
    coast_y = horizon + (1 - horizon) * (0.35 + 0.6 * far)

    def wetness(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        wave = noise.sample(noise.fractal(5, 2.2), x * 60 + u0, y * 150 + v0)
        near = np.clip((y - horizon) / (1 - horizon), 0, 1)
        if kind == 1:
            across, down = (x - side) / (0.25 + 0.6 * wide), (y - middle_y) / (0.06 + 0.1 * wide)
            return across**2 + down**2 - 1 + 0.25 * wave
        if kind == 2:
            return (y - coast_y - 0.12 * tilt * x) / 0.25 + 0.12 * wave
        if kind == 3:
            bends = 0.25 * np.sin(2.2 / (near + 0.12) + 9 * wide)
            off = np.abs(x - side - near * (0.7 * tilt + bends))
            return (off - (0.05 + 0.15 * wide) * (near + 0.05)) / 0.25 + 0.04 * wave
        return np.ones_like(x + y)

    return wetness


def _flood(labels: np.ndarray, rng: Rng, g: Grid, horizon: float, wetness: Wetness) -> None:
    """Fills in the water, mostly with a sandy shore."""
    out, shore = wetness(g.x, g.y), rng.choice([0.0, 0.12, 0.3])
    ground = g.y > horizon + 0.025
    labels[ground & (out < shore * (0.3 + g.near)) & (out < 1)] = SAND
    labels[ground & (out < 0)] = WATER


def _boulder(labels: np.ndarray, rng: Rng, g: Grid, horizon: float) -> None:
    """A rounded rock with a flat foot."""
    near, x0 = rng.uniform(0.25, 1.0), rng.uniform(-1.0, 1.0)
    y0, size = horizon + (1 - horizon) * near, (0.03 + 0.1 * near) * rng.uniform(0.6, 1.5)
    rough = noise.sample(noise.fractal(5, 1.6), g.x * 250 + _offset(rng), g.y * 250)
    r = np.hypot((g.x - x0) / size, (g.y - y0) / (0.8 * size))
    labels[(r + 0.12 * rough < 1) & (g.y < y0 + 0.15 * size)] = ROCK


def _tree(labels: np.ndarray, rng: Rng, g: Grid, horizon: float, wetness: Wetness) -> None:
    """A single fir or a round crown; none where its foot would be in the water."""
    near, x0, fir = rng.uniform(0.1, 0.9) ** 1.5, rng.uniform(-1.0, 1.0), rng.uniform() < 0.6
    foot, tall = horizon + (1 - horizon) * near, (0.06 + 0.4 * near) * rng.uniform(0.7, 1.3)
    up = (foot - g.y) / tall
    if fir:
        wide = 0.22 * (1 - up) * (0.75 + 0.5 * np.mod(-up * 6, 1))
        inside = (up > 0) & (np.abs(g.x - x0) < wide * tall)
    else:
        rough = noise.sample(noise.fractal(5, 1.6), g.x * 200 + _offset(rng), g.y * 200)
        inside = np.hypot((g.x - x0) / (0.38 * tall), (up - 0.62) / 0.42) + 0.1 * rough < 1
        inside |= (up > 0) & (up < 0.4) & (np.abs(g.x - x0) < 0.04 * tall)
    if wetness(np.array(x0), np.array(foot)) > 0.02:
        labels[inside] = FOREST
