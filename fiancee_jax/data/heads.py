"""Rendered heads: pairs of a source and a driver with the true target, also across identities.

They need no download, cost about 12 ms a pair at 64x64, and know what no recorded data set does:
how the source's identity looks in the motion of somebody else.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from fiancee_jax.data.driver_jitter import recolour
from fiancee_jax.data.ground import GROUND
from fiancee_jax.data.head_identities import Identity, draw_identity
from fiancee_jax.data.head_parameters import MOTION_DIM, Motion, draw_clip, draw_motion
from fiancee_jax.data.head_renderer import render
from fiancee_jax.data.splits import SPLITS, check_split
from fiancee_jax.errors import UserError

__all__ = ["GROUND", "MOTION_DIM", "HeadSource", "Heads", "clip", "identity", "render_identity"]
_IDENTITIES, _PAIRS, _CLIPS, _JITTER = range(4)  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class Heads:
    """Rendered heads.

    Pairs are deterministic in (seed, split, index); no identity is in two splits.

    Attributes:
        train: pairs of that split; likewise `predictor`, `calibration` and `report`.
        identities: of each split; they take turns as sources.
        seed: which heads.
        cross: share of pairs whose driver is another identity; the target is always the source's.
        own: further frames of the source's identity in each element, in motions of their own.
        jitter: in split train, changes the driver's colours, so that models take its motion and not
            its looks (MegaPortraits, section 3). Its outline stays, unlike that of `Clips`: the
            poses are exact, and drivers of other identities give no shape away.
    """

    procedural: ClassVar[bool] = True  # all splits are drawn in the same way

    train: int = 12000
    predictor: int = 3000
    calibration: int = 600
    report: int = 300
    identities: int = 1000
    seed: int = 0
    cross: float = 0.5
    own: int = 0
    jitter: bool = True

    def classes(self) -> tuple[str, ...]:
        """(): there are no label maps."""
        return ()

    def open(self, split: str, size: tuple[int, int]) -> HeadSource:
        """Opens a split; see `fiancee_jax.data.batch.Dataset.open`."""
        check_split(split)
        count = getattr(self, split)
        if count < 1 or min(size) < 16 or self.seed < 0:
            raise UserError(
                f"Found {count} pairs in split {split!r}, size {tuple(size)}, seed {self.seed}; "
                "expected at least 1 pair, 16 pixels on each side and a seed of 0 or more. Change "
                "the data set's fields or the model's size."
            )
        if self.identities < 2 or not 0 <= self.cross <= 1 or self.own < 0:
            raise UserError(
                f"Found data.identities {self.identities}, data.cross {self.cross} and data.own "
                f"{self.own}; expected at least 2 identities, a share from 0 to 1, and 0 or more "
                "further frames."
            )
        return HeadSource(self, split, (int(size[0]), int(size[1])))


@dataclasses.dataclass(frozen=True)
class HeadSource:
    """One split of `Heads`. See `fiancee_jax.data.batch.Source`."""

    data: Heads
    split: str
    size: tuple[int, int]

    def __len__(self) -> int:
        return getattr(self.data, self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draws and renders pair `index`.

        Returns:
            name, source, driver and image [h, w, 3] uint8 (foreground on `GROUND`), mask [h, w]
            uint8 (1 where image shows foreground), source_pose and driver_pose [6] float32,
            motion [14] float32 (the driver's, pose first); own [k, h, w, 3] uint8 with own = k > 0.

        Raises:
            IndexError: index is not in [0, len).
        """
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        rng = _stream(self.data.seed, self.split, _PAIRS, index)
        source, driver = self._pair(index, rng)
        at, to, *more = (draw_motion(rng) for _ in range(2 + self.data.own))
        shown = [(source, at), (source, to), (driver, to), *((source, motion) for motion in more)]
        who, how = (_stack(items) for items in zip(*shown, strict=True))
        images, masks = render(who, how, self.size)
        driven = images[2]
        if self.data.jitter and self.split == "train":
            driven = recolour(driven, _stream(self.data.seed, self.split, _JITTER, index))
        element = {
            "name": f"heads_{self.split}_{index:06d}",
            "source": images[0],
            "driver": driven,
            "image": images[1],
            "mask": masks[1],
            "source_pose": at.pose,
            "driver_pose": to.pose,
            "motion": to.vector,
        }
        return element | ({"own": images[3:]} if self.data.own else {})

    def _pair(self, index: int, rng: np.random.Generator) -> tuple[Identity, Identity]:
        """The source's identity, and the driver's: the same or another.

        Sources take turns, so that pairs of a split are of different people as long as they last.
        """
        count = self.data.identities
        source, other = index % count, rng.integers(1, count)
        driver = (source + other) % count if rng.random() < self.data.cross else source
        return (
            identity(self.data.seed, self.split, int(source)),
            identity(self.data.seed, self.split, int(driver)),
        )


@functools.lru_cache(4096)
def identity(seed: int, split: str, index: int) -> Identity:
    """Identity `index` of a split, any number from 0: each is another person."""
    return draw_identity(_stream(seed, split, _IDENTITIES, index))


def clip(
    seed: int, identity_index: int, split: str, frames: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Renders a smooth clip of an identity.

    Args:
        seed, split: as of `Heads`.
        identity_index: which of the split's identities.
        frames: how many, of about 25 a second.
        size: (height, width), pixels.

    Returns:
        Pictures [t, h, w, 3] uint8 on `GROUND`, masks [t, h, w] uint8, motions [t, 14] float32.

    Raises:
        UserError: no such split or identity, or no frames.
    """
    check_split(split)
    if frames < 1 or min(seed, identity_index) < 0:
        raise UserError(
            f"Found {frames} frames, seed {seed} and identity {identity_index}; expected at least "
            "1 frame, and numbers of 0 or more."
        )
    motions = draw_clip(_stream(seed, split, _CLIPS, identity_index), frames).vector
    return *render_identity(seed, split, identity_index, motions, size), motions


def render_identity(
    seed: int, split: str, identity_index: int, motions: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Renders one identity in given motions.

    Args:
        seed, split: as of `Heads`.
        identity_index: which of the split's identities.
        motions: [t, 14], pose first.
        size: (height, width), pixels.

    Returns:
        Pictures [t, h, w, 3] uint8 on `GROUND` and masks [t, h, w] uint8.
    """
    check_split(split)
    who = identity(seed, split, identity_index)
    return render(_stack([who] * len(motions)), Motion.of(motions), size)


def _stream(seed: int, split: str, purpose: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), purpose, index])


def _stack(items: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *values: np.stack(values), *items)
