"""Line charts with Pillow: a few curves over a common axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fiancee_jax.pictures import FAINT, INK, PAPER

COLORS = ((31, 119, 180), (214, 96, 20), (44, 140, 60), (150, 60, 160))
SIZE, LEFT, RIGHT, TOP, BOTTOM = (400, 260), 56, 12, 26, 28  # pixels; the margins hold the words


def chart(
    title: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], unit: str = "step"
) -> np.ndarray:
    """A panel with one line for each curve.

    Args:
        title: above it.
        curves: (x, y) by name; x rises. Values that are not finite are left out.
        unit: of x.

    Returns:
        [260, 400, 3] uint8.
    """
    panel = Image.new("RGB", SIZE, PAPER)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=12)
    points = {name: _finite(*xy) for name, xy in curves.items()}
    every = np.concatenate(list(points.values()))
    low, high = every.min(0), every.max(0)
    span = np.where(high > low, high - low, 1.0)
    area = np.array([SIZE[0] - LEFT - RIGHT, SIZE[1] - TOP - BOTTOM])
    draw.text((LEFT, 5), title, INK, font)
    right = SIZE[0] - RIGHT
    for i, (name, xy) in enumerate(points.items()):
        pixels = (xy - low) / span * area
        line = [(LEFT + x, TOP + area[1] - y) for x, y in pixels]
        draw.line(line, COLORS[i % len(COLORS)], width=2)
        draw.text((right, 5), name, COLORS[i % len(COLORS)], font, anchor="ra")
        right -= int(draw.textlength(name, font)) + 10
    _axes(draw, font, (low, high), unit)
    return np.asarray(panel)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Means over the last `window` values (fewer at the start)."""
    sums = np.cumsum([0.0, *values])
    starts = np.maximum(np.arange(1, len(sums)) - window, 0)
    ends = np.arange(1, len(sums))
    return list((sums[ends] - sums[starts]) / (ends - starts))


def _finite(x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    xy = np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)
    return xy[np.isfinite(xy).all(1)]


def _axes(draw: ImageDraw.ImageDraw, font: Any, limits: tuple, unit: str) -> None:
    (x0, y0), (x1, y1) = limits
    bottom = SIZE[1] - BOTTOM
    draw.line([(LEFT, TOP), (LEFT, bottom), (SIZE[0] - RIGHT, bottom)], FAINT)
    draw.text((LEFT - 4, TOP), f"{y1:.3g}", FAINT, font, anchor="rt")
    draw.text((LEFT - 4, bottom), f"{y0:.3g}", FAINT, font, anchor="rb")
    draw.text((LEFT, bottom + 4), f"{x0:g}", FAINT, font, anchor="la")
    draw.text((SIZE[0] - RIGHT, bottom + 4), f"{unit} {x1:g}", FAINT, font, anchor="ra")
