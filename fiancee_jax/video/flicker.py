"""Flicker: how much the frames of a rendered video differ from one to the next (temporal LPIPS).

A face that moves differs from frame to frame however it is rendered, so the measure is the LPIPS-
alex between consecutive frames beside the same of the backbone's own video; and, because routed
videos can flicker where the exit changes, what it is more there than where the exit stays.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from fiancee_jax.models.lpips import lpips


@dataclasses.dataclass(frozen=True)
class Flicker:
    """Means over a clip of t frames, t - 1 steps from one to the next; all in LPIPS-alex.

    Attributes:
        distance: of the frames to the backbone's.
        rendered: of the frames to those before them.
        backbone: the same of the backbone's video.
        switches: steps where the exit changes.
        at_switches: `rendered` minus `backbone` over these steps alone; None if there are none.
        elsewhere: the same over all other steps; None if there are none.
    """

    distance: float
    rendered: float
    backbone: float
    switches: int
    at_switches: float | None
    elsewhere: float | None

    @property
    def added(self) -> float:
        """By how much more the rendered frames differ than the backbone's."""
        return self.rendered - self.backbone

    @property
    def ratio(self) -> float | None:
        """How many times as much they differ; None where the backbone's video stands still."""
        return self.rendered / self.backbone if self.backbone > 0 else None


def steps(frames: Float[ArrayLike, "t h w 3"]) -> Float[np.ndarray, "s"]:
    """LPIPS-alex of every frame to the one before it, s = t - 1; frames in [-1, 1], 31 x 31 up."""
    frames = np.asarray(frames)
    return np.asarray(lpips(frames[:-1], frames[1:]))


def measure(
    frames: Float[ArrayLike, "t h w 3"],
    full: Float[ArrayLike, "t h w 3"],
    exits: Int[ArrayLike, "t"],
) -> Flicker:
    """The flicker of a whole clip.

    Args:
        frames: the rendered video, in [-1, 1], two frames or more.
        full: the backbone's video of the same inputs.
        exits: of the rendered frames.
    """
    meter = Meter()
    meter.add(frames, full, exits)
    return meter.flicker


class Meter:
    """`measure` of a clip that comes in blocks: only the last frame of each is kept."""

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._exits: list[int] = []
        self._found: list[np.ndarray] = []  # [3, t]: to the backbone, step, step of the backbone

    def add(
        self,
        frames: Float[ArrayLike, "b h w 3"],
        full: Float[ArrayLike, "b h w 3"],
        exits: Int[ArrayLike, "t"],
    ) -> Float[np.ndarray, "t"]:
        """Takes the next t frames of the clip.

        Args:
            frames: rendered, in [-1, 1]; those after the t-th are padding. Blocks of one size b
                are measured by one program.
            full: the backbone's.
            exits: of the frames without padding; one or more.

        Returns:
            LPIPS-alex to the backbone's frames.
        """
        frames, full, exits = np.asarray(frames), np.asarray(full), np.asarray(exits)
        last = self._last or (frames[0], full[0])
        count = len(exits)
        block = [lpips(frames, full)]
        for old, new in zip(last, (frames, full), strict=True):
            block.append(lpips(np.concatenate([old[None], new[:-1]]), new))
        self._found.append(np.stack(block)[:, :count])
        self._exits += exits.tolist()
        self._last = frames[count - 1].copy(), full[count - 1].copy()
        return self._found[-1][0]

    @property
    def flicker(self) -> Flicker:
        """Of all frames so far, two or more."""
        distance, rendered, backbone = np.concatenate(self._found, axis=1, dtype=np.float64)
        rendered, backbone = rendered[1:], backbone[1:]
        switched = np.diff(self._exits) != 0
        return Flicker(
            float(distance.mean()),
            float(rendered.mean()),
            float(backbone.mean()),
            int(switched.sum()),
            _mean((rendered - backbone)[switched]),
            _mean((rendered - backbone)[~switched]),
        )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
