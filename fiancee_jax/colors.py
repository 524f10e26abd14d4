"""Colours to draw label maps with: natural for names we know, far apart for the others."""

from __future__ import annotations

import colorsys

import numpy as np

KNOWN = {
    "sky": (135, 190, 235), "cloud": (225, 232, 240), "mountain": (120, 110, 125),
    "snow": (250, 250, 255), "forest": (30, 90, 45), "meadow": (125, 180, 80),
    "field": (215, 190, 95), "water": (45, 105, 175), "sand": (235, 215, 165),
    "rock": (95, 90, 85), "building": (150, 80, 60), "pole": (200, 200, 130),
    "road": (105, 85, 120), "pavement": (195, 130, 190), "tree": (70, 130, 40),
    "signsymbol": (220, 130, 40), "fence": (130, 115, 80), "car": (35, 50, 150),
    "pedestrian": (205, 40, 50), "bicyclist": (0, 160, 160), "void": (0, 0, 0),
}  # fmt: skip


def class_colors(classes: tuple[str, ...]) -> np.ndarray:
    """One RGB colour for each class name, [classes, 3] uint8.

    Known names look the same in every list; the others' colours go by their place in this one.
    """
    unknown = [name for name in classes if name not in KNOWN]
    hues = {name: i * 0.618034 % 1.0 for i, name in enumerate(unknown)}  # golden-ratio steps
    spare = {
        name: tuple(round(255 * x) for x in colorsys.hsv_to_rgb(hue, 0.55, 0.8))
        for name, hue in hues.items()
    }
    colors = [KNOWN.get(name) or spare[name] for name in classes]
    return np.array(colors, np.uint8).reshape(-1, 3)
