"""Who a rendered head is: proportions, hair, glasses, paint, light and backdrop.

All are drawn from a `numpy.random.Generator`. Numbers are float32, in the units of
`fiancee_jax.data.head_surfaces`; lengths called "factors" are about 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from fiancee_jax.data.head_hair import FAR, Hair, draw_hair

Rng = np.random.Generator
_SPREAD = np.array(
    [0.05, 0.04, 0.06, 0.14, 0.07, 0.5, 0.5, 0.13, 0.17, 0.22, 0.06, 0.1, 0.1, 0.3, 0.15, 0.1]
)
_SKINS = np.array(
    [
        [0.82, 0.55, 0.43],
        [0.72, 0.43, 0.3],
        [0.5, 0.27, 0.16],
        [0.26, 0.12, 0.07],
        [0.1, 0.05, 0.03],
    ]
)
_IRISES = np.array([[0.05, 0.025, 0.01], [0.16, 0.08, 0.03], [0.1, 0.17, 0.06], [0.08, 0.2, 0.4]])
_HAIRS = np.array(
    [
        [0.012, 0.01, 0.01],
        [0.05, 0.025, 0.012],
        [0.14, 0.065, 0.03],
        [0.45, 0.28, 0.11],
        [0.36, 0.09, 0.025],
        [0.5, 0.49, 0.48],
        [0.3, 0.05, 0.2],
    ]
)
_HAIR_SHARES = np.array([0.24, 0.22, 0.18, 0.14, 0.1, 0.09, 0.03])


class Shape(NamedTuple):
    """Factors of the head's proportions."""

    width: Any
    depth: Any
    face: Any
    jaw: Any
    chin: Any
    cheeks: Any
    brow: Any
    nose_length: Any
    nose_width: Any
    nose_size: Any
    eye_gap: Any
    eye_size: Any
    mouth: Any
    lips: Any
    ears: Any
    neck: Any


class Glasses(NamedTuple):
    """Frames: half thickness (negative for none), half width and height, rounding of corners."""

    thickness: Any
    width: Any
    height: Any
    rounding: Any


class Paint(NamedTuple):
    """Linear colours [3] in 0..1, and weights of what is painted on."""

    skin: Any
    iris: Any
    hair: Any
    clothes: Any
    pattern: Any
    rims: Any
    stripes: Any
    redness: Any
    freckles: Any
    beard: Any
    brows: Any
    phase: Any


class Light(NamedTuple):
    """Unit direction to the light, its linear colour, and that of light from everywhere; [3]."""

    direction: Any
    colour: Any
    ambient: Any


class Backdrop(NamedTuple):
    """Two linear colours [3], the direction [2] of their gradient, and a pattern's weight."""

    near: Any
    far: Any
    direction: Any
    pattern: Any


class Identity(NamedTuple):
    """Everything about a picture that motion leaves as it is."""

    shape: Shape
    hair: Hair
    glasses: Glasses
    paint: Paint
    light: Light
    backdrop: Backdrop


def draw_identity(rng: Rng) -> Identity:
    """Draws a person; a generator in the same state draws the same one."""
    shape = Shape(*rng.normal(1, _SPREAD).clip(1 - 2 * _SPREAD, 1 + 2 * _SPREAD))
    identity = Identity(
        shape, draw_hair(rng), _glasses(rng), _paint(rng), _light(rng), _backdrop(rng)
    )
    return jax.tree.map(lambda value: np.asarray(value, np.float32), identity)


def _glasses(rng: Rng) -> Glasses:
    worn = rng.random() < 0.3
    thickness = rng.uniform(0.009, 0.017) if worn else -FAR
    rounding = rng.uniform(0.03, 0.09)
    width, height = rng.uniform(0.11, 0.135) - rounding, rng.uniform(0.09, 0.11) - rounding
    return Glasses(thickness, width, max(height, 0.0), rounding)


def _paint(rng: Rng) -> Paint:
    skin = _between(rng, _SKINS) * rng.uniform(0.9, 1.1, 3) ** 0.5
    beard = rng.uniform(0.3, 0.9) if rng.random() < 0.25 else 0.0
    return Paint(
        skin=skin,
        iris=_IRISES[rng.integers(len(_IRISES))],
        hair=_HAIRS[rng.choice(len(_HAIRS), p=_HAIR_SHARES)] * rng.uniform(0.8, 1.25),
        clothes=_colour(rng),
        pattern=_colour(rng),
        rims=_colour(rng) * rng.choice([0.1, 1.0]),
        stripes=rng.choice([0.0, 1.0], p=[0.6, 0.4]) * rng.uniform(4, 12),
        redness=rng.uniform(0.0, 0.6),
        freckles=rng.uniform(0.2, 0.8) if rng.random() < 0.3 else 0.0,
        beard=beard,
        brows=rng.uniform(0.5, 1.0),
        phase=rng.uniform(0, 9, 3),
    )


def _light(rng: Rng) -> Light:
    """From above, in front; warm or cold."""
    direction = np.array([rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.1), rng.uniform(0.5, 1.0)])
    warm = rng.uniform(-1, 1)
    colour = rng.uniform(0.75, 1.05) * np.array([1 + 0.12 * warm, 1.0, 1 - 0.15 * warm])
    ambient = rng.uniform(0.22, 0.42) * np.array([1 - 0.1 * warm, 1.0, 1 + 0.12 * warm])
    return Light(direction / np.linalg.norm(direction), colour, ambient)


def _backdrop(rng: Rng) -> Backdrop:
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    return Backdrop(_colour(rng), _colour(rng), direction, rng.uniform(0, 0.3))


def _colour(rng: Rng) -> np.ndarray:
    return rng.uniform(0.03, 0.75) * rng.uniform(0.3, 1.0, 3)


def _between(rng: Rng, colours: np.ndarray) -> np.ndarray:
    """A colour on the line through several."""
    at = rng.uniform(0, len(colours) - 1)
    low = min(int(at), len(colours) - 2)
    return colours[low] + (at - low) * (colours[low + 1] - colours[low])
