"""Paints a label map as a landscape under the light, season and weather that a latent asks for.

A picture is a function of (label map, latent, texture seed); `palette` says what the latent means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from fiancee_jax.data import noise, palette, scenery
from fiancee_jax.data.materials import pick
from fiancee_jax.data.palette import Mood, lit, mood


class Pixels(NamedTuple):
    """The pixels of one class, as vectors of length n, and what is needed to paint them.

    x, y and the ground's coordinates are those of `scenery.Grid`; below is the distance to the
    upper edge of the region, in heights of the picture; offset [2] and pixel (heights of the
    picture) place the textures.
    """

    x: np.ndarray
    y: np.ndarray
    ground_x: np.ndarray
    ground_z: np.ndarray
    below: np.ndarray
    offset: np.ndarray
    pixel: float

    def noise(self, tile: noise.Pyramid, across: float, down: float) -> np.ndarray:
        """A texture upright in the picture; across and down in texels per height, [n]."""
        u, v = self.x * across + self.offset[0], self.y * down + self.offset[1]
        return noise.sample(tile, u, v, min(across, down) * self.pixel)

    def floor(self, tile: noise.Pyramid, scale: float) -> np.ndarray:
        """A texture that lies on the ground; scale in texels per ground unit, [n]."""
        u, v = self.ground_x * scale + self.offset[0], self.ground_z * scale + self.offset[1]
        return noise.sample(tile, u, v, 2 * scale * self.pixel)


def render(labels: np.ndarray, latent: np.ndarray, seed: int = 0, materials: int = 1) -> np.ndarray:
    """Paints a label map.

    Args:
        labels: [h, w], indices into `scenery.CLASSES`.
        latent: [8], or [12] with several materials; see `palette`.
        seed: of the textures; light, season and weather do not depend on it.
        materials: per class, 1, 2 or 4; see `materials`.

    Returns:
        [h, w, 3] uint8.
    """
    m, view = mood(latent, materials), _look(labels, seed)
    picture = _sky(view, m)
    for label in range(scenery.CLOUD, len(scenery.CLASSES)):
        row, column = np.nonzero(labels == label)
        if not row.size or label == scenery.WATER:
            continue
        p = _pixels(view, row, column)
        if label == scenery.CLOUD:
            behind = picture[row, column]
            solid = _softness(labels)[row, column, None]
            picture[row, column] = behind + solid * (_cloud(p, m) - behind)
        else:
            picture[row, column] = _haze(PAINTERS[label](p, m), p, m, view.horizon, label)
    _paint_water(picture, labels, view, m)
    u, v = view.grid.x * 300 + view.offset[0], view.grid.y * 300 + view.offset[1]
    grain = noise.sample(noise.fractal(7, 0.6), u, v, 300 / len(labels))
    picture = picture * m.tint * (1 + 0.03 * grain[..., None])
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


class View(NamedTuple):
    """What painting needs to know of a label map; below: see `_below`."""

    grid: scenery.Grid
    horizon: float
    below: np.ndarray
    offset: np.ndarray


def _look(labels: np.ndarray, seed: int) -> View:
    horizon = _horizon(labels)
    grid = scenery.grid((labels.shape[0], labels.shape[1]), horizon)
    offset = np.random.default_rng(seed).uniform(0, noise.TEXELS, 2)
    return View(grid, horizon, _below(labels), offset)


def _pixels(view: View, row: np.ndarray, column: np.ndarray) -> Pixels:
    g, pixel = view.grid, 1 / len(view.grid.y)
    return Pixels(
        g.x[0, column],
        g.y[row, 0],
        g.ground_x[row, column],
        g.ground_z[row, 0],
        view.below[row, column] * pixel,
        view.offset,
        pixel,
    )


def _horizon(labels: np.ndarray) -> float:
    """Where flat ground begins, as y; kept between 0.25 and 0.7."""
    flat = (labels >= scenery.MEADOW) & (labels <= scenery.SAND)
    share = np.cumsum(flat.mean(1))
    first = np.searchsorted(share, 0.02 * max(share[-1], 1e-6)) / len(labels)
    return float(np.clip(first, 0.25, 0.7))


def _below(labels: np.ndarray) -> np.ndarray:
    """For every pixel, how many rows of its own class lie above it without a break, [h, w]."""
    rows = np.arange(len(labels))[:, None]
    new = np.zeros(labels.shape, np.int64)
    new[1:] = np.where(labels[1:] != labels[:-1], rows[1:], 0)
    return rows - np.maximum.accumulate(new, axis=0)


def _softness(labels: np.ndarray) -> np.ndarray:
    """How solid each pixel of a cloud is, [h, w] in [0, 1]: thin at the rim."""
    mask = Image.fromarray((labels == scenery.CLOUD).astype(np.uint8) * 255)
    soft = np.asarray(mask.filter(ImageFilter.BoxBlur(len(labels) / 48)), np.float32) / 255
    return np.clip(1.6 * soft - 0.45, 0.15, 1)


def _sky(view: View, m: Mood) -> np.ndarray:
    """The sky's gradient with the sun's glow, over the whole picture, [h, w, 3]."""
    g, horizon, offset = view.grid, view.horizon, view.offset
    low = np.clip(g.y / (horizon + 0.1), 0, 1)[..., None].astype(np.float32) ** 1.3
    aspect = g.x.shape[1] / len(g.y)
    far = (g.x - 0.45 * aspect * m.side) ** 2 + (0.9 * (g.y - 0.7 * horizon)) ** 2
    glow = (0.4 * np.exp(-far / 0.05) + 0.5 * np.exp(-far / 0.002)) * (1 - m.overcast)
    wisp = noise.sample(noise.fractal(1, 1.75), g.x * 50 + offset[0], g.y * 200 + offset[1])
    veil = 0.05 * wisp[..., None]
    return m.zenith + (m.horizon - m.zenith) * low + veil + glow[..., None].astype("f4") * m.sun


def _haze(colour: np.ndarray, p: Pixels, m: Mood, horizon: float, label: int) -> np.ndarray:
    """Distance fades towards the colour of the sky at the horizon."""
    weight = {scenery.MOUNTAIN: 1.0, scenery.SNOW: 0.75}.get(label, 0.8)
    far = np.exp(-5 * np.abs(p.y - horizon - 0.02)).astype(np.float32) * (weight * m.haze)
    return colour + (m.horizon * np.float32(0.92) - colour) * far[:, None]


def _cloud(p: Pixels, m: Mood) -> np.ndarray:
    puff = p.noise(noise.fractal(1, 1.75), 110, 220)
    white = 0.95 - 0.42 * m.overcast
    shade = 0.1 * puff + 0.16 - 2.2 * np.minimum(p.below, 0.12) * (0.5 + m.overcast)
    return white * (0.35 * m.horizon + 0.65 * lit(m, shade))


def _slope(p: Pixels, m: Mood, scale: float) -> np.ndarray:
    """How far a rugged surface leans towards the sun, [n], about -1 to 1."""
    right, down = noise.relief(11)
    return 0.5 * (m.side * p.noise(right, scale, scale) - 0.6 * p.noise(down, scale, scale))


def _mountain(p: Pixels, m: Mood) -> np.ndarray:
    made = m.ground.mountain
    rough = p.noise(noise.fractal(2, 1.4), 160 * made.across, 160 * made.down)
    stone = pick(made.colours, m.stone + 0.04 * rough) * (1 + 0.1 * made.depth * rough[:, None])
    woods = np.clip(4 * p.below - 0.45 + 0.12 * rough, 0, 0.6)[:, None].astype(np.float32)
    cover = stone + (0.8 * pick(m.ground.forest.colours, m.season) - stone) * woods
    return cover * lit(m, 0.55 * _slope(p, m, 130) + 0.1 - np.minimum(p.below, 0.15))


def _snow(p: Pixels, m: Mood) -> np.ndarray:
    blue = np.array([0.93, 0.96, 1.02], np.float32)
    return blue * lit(m, 0.4 * _slope(p, m, 130) + 0.12)


def _forest(p: Pixels, m: Mood) -> np.ndarray:
    made = m.ground.forest
    crowns, stands = (
        p.noise(noise.fractal(6, 0.9), 420 * made.across, 260 * made.down),
        p.noise(noise.fractal(4, 2.4), 90, 90),
    )
    colour = pick(made.colours, m.season + 0.05 * crowns + 0.06 * stands)
    top = 0.3 * np.exp(-p.below / 0.02) - 1.5 * np.minimum(p.below, 0.15)
    return 0.9 * colour * lit(m, 0.3 * made.depth * crowns + top + 0.1 * m.side * stands)


def _meadow(p: Pixels, m: Mood) -> np.ndarray:
    made = m.ground.meadow
    waves, blades = p.floor(noise.fractal(5, 2.2), 40), p.noise(noise.fractal(6, 0.9), 200, 400)
    grain = 1 + 0.06 * made.depth * blades[:, None]
    colour = pick(made.colours, m.season + 0.04 * waves) * grain
    flowers = (blades > 1.6) & (m.season < 0.35)
    colour = np.where(flowers[:, None], palette.BLOSSOM, colour)
    return 0.9 * colour * lit(m, 0.14 * made.depth * waves)


def _field(p: Pixels, m: Mood) -> np.ndarray:
    """Rows of crops that run towards the horizon, on strips of different ripeness."""
    made = m.ground.field
    waves = p.floor(noise.fractal(5, 2.2), 30)
    strips = np.sign(np.sin(3.1 * p.ground_x + 0.9 * p.ground_z + waves))
    rows = np.sin(34 * made.across * p.ground_x + 2 * waves) * np.exp(-0.45 * p.ground_z)
    colour = pick(made.colours, m.season + 0.05 * strips + 0.03 * waves)
    return 0.85 * colour * lit(m, 0.35 * made.depth * rows + 0.08 * waves)


def _sand(p: Pixels, m: Mood) -> np.ndarray:
    made = m.ground.sand
    dunes = p.floor(noise.fractal(5, 2.2), 50)
    ripples = np.sin(22 * p.ground_z + 6 * dunes) * np.exp(-0.5 * p.ground_z)
    shade = 0.12 * made.depth * dunes + 0.12 * made.depth * ripples
    return pick(made.colours, m.stone + 0.03 * dunes) * lit(m, shade)


def _rock(p: Pixels, m: Mood) -> np.ndarray:
    made = m.ground.rock
    cracks = p.noise(noise.fractal(6, 0.9), 150 * made.across, 150 * made.down)
    top = 0.35 * np.exp(-p.below / 0.03) - 2 * np.minimum(p.below, 0.15)
    colour = 0.9 * pick(made.colours, m.stone) * (1 + 0.12 * made.depth * cracks[:, None])
    return colour * lit(m, 0.5 * _slope(p, m, 220) + top)


PAINTERS = {
    scenery.MOUNTAIN: _mountain,
    scenery.SNOW: _snow,
    scenery.FOREST: _forest,
    scenery.MEADOW: _meadow,
    scenery.FIELD: _field,
    scenery.SAND: _sand,
    scenery.ROCK: _rock,
}


def _paint_water(picture: np.ndarray, labels: np.ndarray, view: View, m: Mood) -> None:
    """Mirrors what stands above the water in it, with ripples and the sun's glints."""
    row, column = np.nonzero(labels == scenery.WATER)
    if not row.size:
        return
    (h, w), g, offset = labels.shape, view.grid, view.offset
    u, v = g.x[0, column] * 60 + offset[0], g.y[row, 0] * 500 + offset[1]
    ripple = noise.sample(noise.fractal(6, 1.2), u, v, 200 / h)
    depth = view.below[row, column]
    mirror = row - 2 * depth - 1 + np.round(ripple * depth * 0.15).astype(np.int64)
    mirrored = picture[np.clip(mirror, 0, h - 1), column]
    near = g.near[row, 0].astype(np.float32)
    made = m.ground.water
    own = pick(made.colours, m.water) * lit(m, 0.12 * made.depth * ripple)
    share = (0.72 - 0.45 * near)[:, None]
    colour = own + (mirrored - own) * share
    path = np.exp(-(((g.x[0, column] - 0.45 * w / h * m.side) / 0.16) ** 2))
    glint = np.clip(ripple - 0.7, 0, 1) * (0.25 + path) * (1 - m.overcast) * (0.4 + near)
    picture[row, column] = colour + m.sun * glint[:, None].astype(np.float32)
