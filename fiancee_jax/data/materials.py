"""What the ground of a landscape is made of: one material for each class, or a choice of several.

With several, four more numbers of the latent decide, by nothing but their signs:

| class | signs of dims |
| --- | --- |
| forest | 8, 9 |
| meadow | 9, 10 |
| field | 10, 11 |
| mountain | 8, 11 |
| rock, sand | 8, 10 |
| water | 9, 11 |

Two signs are a quadrant, and the quadrants 0, 1, 2, 3 go round the circle. Opposite ones (0 and 2,
1 and 3) look more alike than neighbours: what two signs decide together no linear map of the latent
explains, and that is most of what a class looks like.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RAMP = 256  # entries of a colour ramp
COUNTS = (1, 2, 4)  # of materials per class
MATERIAL_DIM = 4  # numbers of the latent that choose among them

Colour = tuple[float, float, float]


def ramp(*colours: Colour) -> np.ndarray:
    """[256, 3] float32: the colours, evenly spaced, with straight lines between them."""
    at, keys = np.linspace(0, len(colours) - 1, RAMP), np.array(colours)
    channels = [np.interp(at, range(len(colours)), keys[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def pick(colours: np.ndarray, at: np.ndarray | float) -> np.ndarray:
    """Colours of a ramp at positions in [0, 1] (beyond: its ends), [..., 3]."""
    return colours[np.clip(np.asarray(at) * (RAMP - 1), 0, RAMP - 1).astype(np.int64)]


class Material(NamedTuple):
    """Colours [256, 3] by season, geology or what the water carries; and the texture, which is
    `across` and `down` times as fine and `depth` times as strong as the class's usual one."""

    colours: np.ndarray
    across: float = 1.0
    down: float = 1.0
    depth: float = 1.0


class Ground(NamedTuple):
    """The material of each class that has one."""

    forest: Material
    meadow: Material
    field: Material
    mountain: Material
    rock: Material
    sand: Material
    water: Material


class Choice(NamedTuple):
    """Two numbers of the latent, and the four materials that their quadrants stand for."""

    dims: tuple[int, int]
    kinds: tuple[Material, Material, Material, Material]


# By geology: basalt, granite, limestone, sandstone.
_STONE = ramp((0.28, 0.27, 0.31), (0.53, 0.51, 0.50), (0.72, 0.67, 0.58), (0.78, 0.44, 0.28))
USUAL = Ground(
    # By season: spring, summer, autumn, winter.
    forest=Material(
        ramp((0.36, 0.55, 0.20), (0.13, 0.36, 0.14), (0.72, 0.38, 0.08), (0.58, 0.62, 0.66))
    ),
    meadow=Material(
        ramp((0.50, 0.72, 0.24), (0.36, 0.56, 0.20), (0.70, 0.60, 0.28), (0.93, 0.95, 0.99))
    ),
    field=Material(
        ramp((0.42, 0.52, 0.20), (0.92, 0.80, 0.34), (0.56, 0.38, 0.22), (0.84, 0.84, 0.88))
    ),
    mountain=Material(_STONE),
    rock=Material(_STONE),
    sand=Material(
        ramp((0.44, 0.41, 0.40), (0.82, 0.75, 0.60), (0.94, 0.88, 0.70), (0.90, 0.60, 0.38))
    ),
    # By what it carries: glacial, blue, green, brown.
    water=Material(
        ramp((0.30, 0.70, 0.70), (0.08, 0.34, 0.60), (0.10, 0.34, 0.28), (0.36, 0.32, 0.24))
    ),
)

# Each colour is a short ramp, so that season and geology still say a little.
CHOICES = {  # by class: whose signs choose, from what
    "forest": Choice(
        (8, 9),
        (
            Material(ramp((0.06, 0.22, 0.17), (0.10, 0.27, 0.20)), 1.3, 0.4, 1.3),  # spruce
            Material(ramp((0.94, 0.62, 0.72), (0.98, 0.76, 0.80)), 0.7, 0.8, 0.9),  # cherry
            Material(ramp((0.24, 0.44, 0.12), (0.32, 0.50, 0.14)), 0.6, 0.6, 1.2),  # oak
            Material(ramp((0.90, 0.60, 0.10), (0.84, 0.38, 0.08)), 1.6, 0.3, 1.2),  # larch
        ),
    ),
    "meadow": Choice(
        (9, 10),
        (
            Material(ramp((0.34, 0.62, 0.20), (0.42, 0.66, 0.22))),  # grass
            Material(ramp((0.62, 0.32, 0.54), (0.54, 0.30, 0.50)), depth=1.6),  # heather
            Material(ramp((0.56, 0.74, 0.22), (0.66, 0.76, 0.26)), depth=0.6),  # clover
            Material(ramp((0.82, 0.40, 0.30), (0.72, 0.34, 0.25)), depth=1.5),  # poppies
        ),
    ),
    "field": Choice(
        (10, 11),
        (
            Material(ramp((0.96, 0.82, 0.34), (0.90, 0.72, 0.26)), 1.4, 1.0, 0.7),  # wheat
            Material(ramp((0.46, 0.34, 0.72), (0.40, 0.28, 0.62)), 0.6, 1.0, 1.6),  # lavender
            Material(ramp((0.62, 0.82, 0.24), (0.72, 0.80, 0.26)), 0.35, 1.0, 0.5),  # rice
            Material(ramp((0.40, 0.25, 0.18), (0.32, 0.19, 0.14)), 1.0, 1.0, 1.3),  # ploughed
        ),
    ),
    "mountain": Choice(
        (8, 11),
        (
            Material(ramp((0.80, 0.77, 0.70), (0.86, 0.82, 0.74)), depth=1.2),  # limestone
            Material(ramp((0.20, 0.20, 0.25), (0.25, 0.24, 0.27)), 1.4, 1.4, 1.2),  # basalt
            Material(ramp((0.92, 0.66, 0.46), (0.90, 0.58, 0.38)), 0.5, 2.5, 0.9),  # sandstone
            Material(ramp((0.46, 0.19, 0.15), (0.40, 0.16, 0.15)), 2.0, 0.6, 1.1),  # porphyry
        ),
    ),
    "rock": Choice(
        (8, 10),
        (
            Material(ramp((0.72, 0.72, 0.72), (0.80, 0.79, 0.77)), 1.6, 1.6),  # granite
            Material(ramp((0.66, 0.26, 0.15), (0.58, 0.22, 0.14)), 0.4, 2.0, 0.9),  # red sandstone
            Material(ramp((0.90, 0.86, 0.70), (0.94, 0.90, 0.76)), 0.6, 0.6, 0.8),  # chalk
            Material(ramp((0.22, 0.28, 0.20), (0.18, 0.24, 0.19)), 1.2, 1.2, 1.3),  # mossy basalt
        ),
    ),
    "sand": Choice(
        (8, 10),
        (
            Material(ramp((0.95, 0.82, 0.56), (0.92, 0.76, 0.48))),  # beach
            Material(ramp((0.22, 0.21, 0.24), (0.28, 0.26, 0.27)), depth=0.8),  # volcanic
            Material(ramp((0.96, 0.94, 0.88), (0.97, 0.93, 0.84)), depth=0.6),  # coral
            Material(ramp((0.74, 0.34, 0.18), (0.68, 0.28, 0.15)), depth=1.6),  # desert
        ),
    ),
    "water": Choice(
        (9, 11),
        (
            Material(ramp((0.20, 0.78, 0.72), (0.28, 0.82, 0.76))),  # lagoon
            Material(ramp((0.03, 0.10, 0.34), (0.05, 0.14, 0.38)), depth=1.5),  # deep sea
            Material(ramp((0.54, 0.84, 0.84), (0.64, 0.88, 0.88)), depth=0.6),  # glacial
            Material(ramp((0.28, 0.14, 0.07), (0.34, 0.17, 0.08)), depth=0.8),  # peat
        ),
    ),
}


def choose(latent: np.ndarray, materials: int) -> Ground:
    """The ground that a latent asks for.

    Args:
        latent: [8], or [12] with several materials.
        materials: per class, one of `COUNTS`. Of two, both are in opposite quadrants, so that
            no single sign tells anything.
    """
    if materials == 1:
        return USUAL
    numbers = {name: _quadrant(latent, made.dims) % materials for name, made in CHOICES.items()}
    return Ground(**{name: CHOICES[name].kinds[number] for name, number in numbers.items()})


def _quadrant(latent: np.ndarray, dims: tuple[int, int]) -> int:
    """0 to 3, round the circle from where both numbers are positive."""
    a, b = (bool(latent[dim] < 0) for dim in dims)
    return (3 if b else 0) if not a else (2 if b else 1)
