"""How a rendered head moves: single motions and smooth clips, drawn from a numpy generator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fiancee_jax.data.head_identities import Identity, draw_identity

__all__ = ["Identity", "Motion", "draw_clip", "draw_identity", "draw_motion"]

Rng = np.random.Generator
POSE_DIM, EXPRESSION_DIM = 6, 8
MOTION_DIM = POSE_DIM + EXPRESSION_DIM
# yaw, pitch, roll, dx, dy, log scale; jaw, smile, brows, lids, gaze
LOW = np.array(
    [*np.radians([-70, -25, -20]), -0.12, -0.12, np.log(0.85), 0, -1, -1, -1, 0, 0, -1, -1],
    np.float32,
)
HIGH = np.array(
    [*np.radians([70, 25, 20]), 0.12, 0.12, np.log(1.1), 1, 1, 1, 1, 1, 1, 1, 1], np.float32
)
_SPREAD = np.array([*np.radians([22, 9, 7]), 0.05, 0.05, 0.06, 0.4, 0.5, 0.5, 0.5, 0, 0, 0.5, 0.4])
BLINK = 4.0  # frames from open to closed and back, about


class Motion(NamedTuple):
    """Pose and expression, of one frame or with leading axes.

    Attributes:
        pose: [..., 6] yaw, pitch, roll (radians), shift x and y (half picture sides), log scale.
        expression: [..., 8] jaw (0 to 1), smile, left and right brow (-1 to 1; left in the
            picture of a head that faces the viewer), left and right lid (1 is closed), gaze x, y.
    """

    pose: np.ndarray
    expression: np.ndarray

    @property
    def vector(self) -> np.ndarray:
        """[..., 14], pose first."""
        return np.concatenate([self.pose, self.expression], -1)

    @classmethod
    def of(cls, vector: np.ndarray) -> Motion:
        """The inverse of `vector`."""
        vector = np.asarray(vector, np.float32)
        return cls(vector[..., :POSE_DIM], vector[..., POSE_DIM:])


def draw_motion(rng: Rng) -> Motion:
    """Draws one frame's motion: mostly near the front, sometimes far to the side.

    Returns:
        A `Motion` without leading axes.
    """
    vector = rng.normal(0, _SPREAD)
    if rng.random() < 0.15:
        vector[0] = rng.uniform(LOW[0], HIGH[0])
    vector[6] = rng.uniform(0.2, 1) if rng.random() < 0.5 else 0.05 * abs(vector[6])
    vector[9] = vector[8] + 0.3 * vector[9]
    vector[10:12] = _lids(rng)
    return Motion.of(np.clip(vector, LOW, HIGH))


def _lids(rng: Rng) -> np.ndarray:
    """Left and right: open, half closed, shut, or one of them shut."""
    both = np.full(
        2, rng.choice([rng.uniform(0, 0.25), rng.uniform(0.2, 0.7), 1], p=[0.7, 0.15, 0.15])
    )
    if rng.random() < 0.06:
        both[rng.integers(2)] = 1
    return both


def draw_clip(rng: Rng, frames: int) -> Motion:
    """Draws a smooth clip, of about 25 frames a second: slow turns, speech and blinks.

    Args:
        rng: decides the clip; a longer clip of the same generator begins alike.
        frames: how many.

    Returns:
        A `Motion` with a leading axis of frames.
    """
    time = np.arange(frames)
    tracks = rng.normal(0, 0.4 * _SPREAD) + np.stack(
        [_slow(rng, time, spread, 0.004 if i < 6 else 0.012) for i, spread in enumerate(_SPREAD)],
        -1,
    )
    tracks[:, 6] = _speech(rng, time)
    tracks[:, 9] = 0.7 * tracks[:, 8] + 0.3 * tracks[:, 9]
    tracks[:, 10:12] = _blinks(rng, time)[:, None]
    return Motion.of(np.clip(tracks, LOW, HIGH))


def _slow(rng: Rng, time: np.ndarray, spread: float, rate: float) -> np.ndarray:
    """A sum of four sinusoids, at most 2.5 * rate periods a frame."""
    rates, phases = rate * rng.uniform(0.4, 2.5, 4), rng.uniform(0, 1, 4)
    waves = np.sin(2 * np.pi * (time[:, None] * rates[None] + phases[None]))
    return spread * (waves * rng.uniform(0.4, 1.0, 4)[None]).sum(-1)


def _speech(rng: Rng, time: np.ndarray) -> np.ndarray:
    """The jaw: syllables within phrases, closed in between."""
    phrase = _slow(rng, time, 1.0, 0.01) + 0.6
    syllables = 0.5 + 0.35 * _slow(rng, time, 1.0, 0.025)
    return np.clip(phrase, 0, 1) * syllables * rng.uniform(0.5, 1.0)


def _blinks(rng: Rng, time: np.ndarray) -> np.ndarray:
    """Lids shut for a moment every two to five seconds."""
    shut = np.zeros(len(time))
    at = rng.uniform(5, 60)
    while at < len(time):
        shut = np.maximum(shut, np.exp(-(((time - at) / (0.5 * BLINK)) ** 4)))
        at += rng.uniform(50, 130)
    return 0.1 + 0.9 * shut
