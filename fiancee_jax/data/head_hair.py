"""Hair of rendered heads: styles from bald to long curls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Rng = np.random.Generator
FAR = 9.0  # a radius or thickness of minus this: there is none


class Hair(NamedTuple):
    """The hair's volume, outline and texture.

    Attributes:
        volume: thickness; negative for a bald head.
        length: y down to which it falls.
        slant: how much higher the cut is in front than behind.
        curtain: 1 where it falls beside the face, else 0.
        flare: how much wider it gets on the way down.
        hairline: y of the upper edge of the face's round window.
        window: half width of that window.
        part, parted: x of the parting; 1 where there is one.
        curl, curl_rate: height of curls, and how many fit in 1.
        flow: strands run sideways from the middle (0) or backwards (1).
        extra_start, extra_end, extra_radius: a bun or tail; [3], [3], negative for none.
    """

    volume: Any
    length: Any
    slant: Any
    curtain: Any
    flare: Any
    hairline: Any
    window: Any
    part: Any
    parted: Any
    curl: Any
    curl_rate: Any
    flow: Any
    extra_start: Any
    extra_end: Any
    extra_radius: Any


def draw_hair(rng: Rng) -> Hair:
    """Draws one of the styles: bald, short, parted, bob, long, curly, tied back."""
    style = rng.choice(list(_STYLES), p=[0.08, 0.2, 0.16, 0.14, 0.14, 0.14, 0.14])
    part = rng.uniform(-0.2, 0.2)
    plain = dict(
        volume=rng.uniform(0.03, 0.06),
        length=rng.uniform(0.05, 0.16),
        slant=1.0,
        curtain=0.0,
        flare=0.0,
        hairline=rng.uniform(-0.22, -0.08),
        window=rng.uniform(0.36, 0.4),
        part=part,
        parted=0.0,
        curl=rng.uniform(0.0, 0.006),
        curl_rate=rng.uniform(4.0, 7.0),
        flow=0.0,
        extra_start=np.zeros(3),
        extra_end=np.array([0.0, 0.1, 0.0]),
        extra_radius=-FAR,
    )
    return Hair(**(plain | _STYLES[style](rng)))


def _long(rng: Rng, low: float, high: float) -> dict[str, Any]:
    """Hair that falls beside the face."""
    return dict(
        curtain=1.0,
        slant=0.0,
        length=rng.uniform(low, high),
        volume=rng.uniform(0.05, 0.1),
        flare=rng.uniform(0.0, 0.12),
        window=rng.uniform(0.3, 0.36),
        parted=float(rng.random() < 0.6),
        curl=rng.uniform(0.0, 0.018),
    )


def _curly(rng: Rng) -> dict[str, Any]:
    volume = rng.uniform(0.08, 0.18)
    fields = dict(
        volume=volume,
        curl=rng.uniform(0.02, 0.032),
        curl_rate=rng.uniform(3.5, 6.0),
        slant=0.0,
        length=rng.uniform(0.1, 0.3),
        window=rng.uniform(0.33, 0.38),
    )
    return fields | (dict(curtain=1.0, length=rng.uniform(0.3, 0.7)) if rng.random() < 0.5 else {})


def _tied(rng: Rng) -> dict[str, Any]:
    """Combed back into a bun or a tail."""
    back = dict(volume=rng.uniform(0.03, 0.05), flow=1.0, slant=1.5, length=0.2)
    if rng.random() < 0.5:
        up = rng.uniform(0.2, 1.2)
        spot = np.array([0.0, -0.18 - 0.53 * np.sin(up), -0.1 - 0.6 * np.cos(up)])
        end = spot + np.array([0.0, -0.02, -0.02])
        return back | dict(extra_start=spot, extra_end=end, extra_radius=rng.uniform(0.12, 0.19))
    side, low = rng.uniform(-0.25, 0.25), rng.uniform(0.3, 0.7)
    start, end = np.array([0.0, -0.3, -0.6]), np.array([side, low, -0.66])
    return back | dict(extra_start=start, extra_end=end, extra_radius=rng.uniform(0.07, 0.12))


_STYLES: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "bald": lambda rng: dict(volume=-0.1),
    "short": lambda rng: dict(),
    "parted": lambda rng: dict(parted=1.0, volume=rng.uniform(0.05, 0.09)),
    "bob": lambda rng: _long(rng, 0.35, 0.6),
    "long": lambda rng: _long(rng, 0.8, 1.3),
    "curly": _curly,
    "tied": _tied,
}
