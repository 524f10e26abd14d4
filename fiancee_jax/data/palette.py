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
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LATENT_DIM = 8
RAMP = 256  # entries of a colour ramp


def _ramp(*colours: tuple[float, float, float]) -> np.ndarray:
    """[256, 3] float32: the colours, evenly spaced, with straight lines between them."""
    at, keys = np.linspace(0, len(colours) - 1, RAMP), np.array(colours)
    channels = [np.interp(at, range(len(colours)), keys[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.float32)


# By the height of the sun: dusk, golden hour, day, noon.
ZENITH = _ramp((0.14, 0.15, 0.34), (0.33, 0.42, 0.68), (0.25, 0.50, 0.86), (0.16, 0.44, 0.88))
HORIZON = _ramp((0.86, 0.42, 0.32), (0.99, 0.74, 0.46), (0.78, 0.87, 0.95), (0.74, 0.87, 0.98))
SUN = _ramp((0.62, 0.34, 0.30), (1.10, 0.74, 0.42), (1.00, 0.93, 0.82), (1.04, 1.02, 0.95))
AMBIENT = _ramp((0.24, 0.23, 0.38), (0.35, 0.34, 0.43), (0.38, 0.42, 0.50), (0.42, 0.46, 0.53))
# By season: spring, summer, autumn, winter.
TREES = _ramp((0.36, 0.55, 0.20), (0.13, 0.36, 0.14), (0.72, 0.38, 0.08), (0.58, 0.62, 0.66))
GRASS = _ramp((0.50, 0.72, 0.24), (0.36, 0.56, 0.20), (0.70, 0.60, 0.28), (0.93, 0.95, 0.99))
CROPS = _ramp((0.42, 0.52, 0.20), (0.92, 0.80, 0.34), (0.56, 0.38, 0.22), (0.84, 0.84, 0.88))
# By geology: basalt, granite, limestone, sandstone.
STONE = _ramp((0.28, 0.27, 0.31), (0.53, 0.51, 0.50), (0.72, 0.67, 0.58), (0.78, 0.44, 0.28))
GRAINS = _ramp((0.44, 0.41, 0.40), (0.82, 0.75, 0.60), (0.94, 0.88, 0.70), (0.90, 0.60, 0.38))
# By what the water carries: glacial, blue, green, brown.
WATERS = _ramp((0.30, 0.70, 0.70), (0.08, 0.34, 0.60), (0.10, 0.34, 0.28), (0.36, 0.32, 0.24))
BLOSSOM = np.array([0.95, 0.85, 0.45], np.float32)


class Mood(NamedTuple):
    """What a latent means. Colours are [3] float32, the rest floats in [0, 1] or [-1, 1]."""

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


def mood(latent: np.ndarray) -> Mood:
    """Reads a latent [8]; each number is squashed smoothly, so that any N(0, 1) draw is usable."""
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
    )


def lit(m: Mood, shade: np.ndarray) -> np.ndarray:
    """Light on a surface, [n, 3]; shade [n] is about 0 on average, positive towards the sun."""
    return m.ambient + m.sun * np.clip(0.65 + shade, 0, 1.5)[:, None].astype(np.float32)


def pick(ramp: np.ndarray, at: np.ndarray | float) -> np.ndarray:
    """Colours of a ramp at positions in [0, 1] (beyond: its ends), [..., 3]."""
    return ramp[np.clip(np.asarray(at) * (RAMP - 1), 0, RAMP - 1).astype(np.int64)]
