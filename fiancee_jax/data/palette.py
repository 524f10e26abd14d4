"""What a landscape's latent means: the colours and the light that it asks for.

The latent's eight numbers, each N(0, 1):

| dim | what it does |
| --- | --- |
| 0 | height of the sun: dusk, golden hour, day, noon |
| 1 | colour temperature of everything |
| 2 | season: spring, summer, autumn, winter (forest, meadow, field; each its own colours) |
| 3 | haze, thicker with distance |
| 4 | side the sun stands on: slopes, glow in the sky, glints on water |
| 5 | water: glacial, blue, green, brown |
| 6 | geology: basalt, granite, limestone, sandstone (mountain, rock, sand) |
| 7 | weather: clear to overcast; white or stormy clouds |

With several materials per class the latent has twelve; `materials` says what the last four do, and
2, 5 and 6 shift the colours of each material a little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fiancee_jax.data.materials import RAMP, Ground, choose, ramp

LATENT_DIM = 8

# By the height of the sun: dusk, golden hour, day, noon.
ZENITH = ramp((0.14, 0.15, 0.34), (0.33, 0.42, 0.68), (0.25, 0.50, 0.86), (0.16, 0.44, 0.88))
HORIZON = ramp((0.86, 0.42, 0.32), (0.99, 0.74, 0.46), (0.78, 0.87, 0.95), (0.74, 0.87, 0.98))
SUN = ramp((0.62, 0.34, 0.30), (1.10, 0.74, 0.42), (1.00, 0.93, 0.82), (1.04, 1.02, 0.95))
AMBIENT = ramp((0.24, 0.23, 0.38), (0.35, 0.34, 0.43), (0.38, 0.42, 0.50), (0.42, 0.46, 0.53))
BLOSSOM = np.array([0.95, 0.85, 0.45], np.float32)


class Mood(NamedTuple):
    """What a latent means. Colours are [3] float32, numbers are in [0, 1] or [-1, 1]."""

    zenith: np.ndarray
    horizon: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray
    tint: np.ndarray
    season: float
    haze: float
    side: float
    water: float
    stone: float
    overcast: float
    ground: Ground


def mood(latent: np.ndarray, materials: int = 1) -> Mood:
    """Reads a latent; each number is squashed smoothly, so that any N(0, 1) draw is usable.

    Args:
        latent: [8], or [12] with several materials.
        materials: per class, see `materials`.
    """
    z = np.asarray(latent, np.float64)
    share = 1 / (1 + np.exp(-1.7 * z))  # about uniform in (0, 1) for z from N(0, 1)
    over, at = 0.9 * share[7] ** 2, int(share[0] ** 0.75 * (RAMP - 1))
    grey = np.float32(AMBIENT[at].mean() * 1.5)
    dull = lambda colour, amount: colour + (grey - colour) * np.float32(amount)  # noqa: E731
    return Mood(
        zenith=dull(ZENITH[at], 0.8 * over),
        horizon=dull(HORIZON[at], 0.75 * over),
        sun=SUN[at] * np.float32(1 - 0.6 * over),
        ambient=AMBIENT[at] * np.float32(1 + 0.3 * over),
        tint=(1 + np.tanh(0.7 * z[1]) * np.array([0.13, 0.01, -0.16])).astype(np.float32),
        season=share[2],
        haze=0.08 + 0.8 * share[3] ** 2,
        side=float(np.tanh(z[4])),
        water=share[5],
        stone=share[6],
        overcast=over,
        ground=choose(z, materials),
    )


def lit(m: Mood, shade: np.ndarray) -> np.ndarray:
    """Light on a surface, [n, 3]; shade [n] is about 0 on average, positive towards the sun."""
    return m.ambient + m.sun * np.clip(0.65 + shade, 0, 1.5)[:, None].astype(np.float32)
