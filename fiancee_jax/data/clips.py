"""Clips of faces in folders, ``ROOT/IDENTITY/CLIP/FRAME.png``: two frames of a clip make a pair.

A pair is self-reenactment (MegaPortraits, section 3): the motion of one frame, the driver, on the
face of another, the source, is to give the driver's own frame.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fiancee_jax.data import driver_jitter
from fiancee_jax.data.clip_files import (
    HINT,
    Clip,
    Size,
    find_identities,
    pair_name,
    read_clips,
    read_frame,
)
from fiancee_jax.data.labels import raise_problems
from fiancee_jax.data.splits import SPLITS, check_split
from fiancee_jax.errors import UserError

APART = 4  # frames of a pair are at least this part of the clip apart
Frames = dict[tuple[str, Size], list[pathlib.Path]]


@dataclasses.dataclass(frozen=True)
class Clips:
    """A data set of clips, each of one face, as folders of frames.

    Frames of a clip are of one size, in the natural order of their names (2 before 10). Where they
    have an alpha channel it is the foreground's matte, and they are laid over the ground
    (`ground`).

    Attributes:
        root: folder with ``IDENTITY/CLIP/FRAME.png`` (or .jpg, .jpeg, .webp).
        pairs: different pairs of frames for each clip; fewer where a clip has not so many.
        seed: of the pairs, of `own` and of the jitter.
        own: further frames of the source's identity in each element.
        jitter: give the driver of the training split another look, see `driver_jitter`.
        shares: percent of the identities, sorted by name, for train, predictor, calibration and
            report, in contiguous blocks of one or more. Where root has folders of these four
            names, those are the splits instead: ``SPLIT/IDENTITY/CLIP/FRAME.png``.
    """

    root: str = ""
    pairs: int = 8
    seed: int = 0
    own: int = 0
    jitter: bool = True
    shares: tuple[int, int, int, int] = (70, 10, 10, 10)

    def classes(self) -> tuple[str, ...]:
        """None: clips have no label maps."""
        return ()

    def open(self, split: str, size: tuple[int, int]) -> ClipSource:
        """Checks the headers of all frames of the split; see `fiancee_jax.data.batch.Dataset.open`.

        Elements keep the size of their files; the loader brings them to `size`. Damage that
        headers do not show is found when the frame is read.
        """
        check_split(split)
        self._check_fields()
        root, problems = pathlib.Path(self.root).expanduser(), []
        if not root.is_dir():
            raise UserError(f"Found no folder {root}. {HINT}")
        clips = read_clips(find_identities(root, split, self.shares, problems), problems)
        frames = by_identity(clips)
        problems += _too_few(frames, self.own)
        if problems:
            raise_problems(f"split {split} of {root}", problems, HINT)
        pairs = _rounds(clips, self.pairs, (self.seed, SPLITS.index(split)))
        jitter = self.jitter and split == "train"
        return ClipSource(split, self.seed, clips, pairs, frames, self.own, jitter)

    def _check_fields(self) -> None:
        if not self.root:
            raise UserError(f"data.root is not given. {HINT}")
        for field, least in (("pairs", 1), ("seed", 0), ("own", 0)):
            value = getattr(self, field)
            if value < least:
                raise UserError(f"data.{field} is {value}; it must be {least} or more.")
        if len(self.shares) != len(SPLITS) or min(self.shares) < 1 or sum(self.shares) != 100:
            raise UserError(
                f"data.shares is {tuple(self.shares)}; expected whole percents of 1 or more for "
                f"{', '.join(SPLITS)} that add up to 100, like (70, 10, 10, 10)."
            )


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """The pairs of a split. See `fiancee_jax.data.batch.Source`.

    Attributes:
        split, seed, own, jitter: see `Clips`; here jitter is only true for the training split.
        clips: of the split's identities.
        pairs: (clip, source, driver) of each element: the first pair of every clip, then the
            second, and so on; source and driver are frames of that clip.
        frames: see `by_identity`.
    """

    split: str
    seed: int
    clips: tuple[Clip, ...]
    pairs: tuple[tuple[int, int, int], ...]
    frames: Frames
    own: int = 0
    jitter: bool = False

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def files(self) -> list[pathlib.Path]:
        """All frames of all clips."""
        return [path for clip in self.clips for path in clip.frames]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads pair `index`.

        Returns:
            name, source, driver and image (the driver's frame, never jittered) [h, w, 3] uint8;
            and own [k, h, w, 3] uint8 if there are k > 0: other frames of that size, from any
            clip of the identity.

        Raises:
            IndexError: index is not in [0, len).
            UserError: a file is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        number, source, driver = self.pairs[index]
        clip = self.clips[number]
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index, 1])
        own = self._own(clip, (clip.frames[source], clip.frames[driver]), rng)
        image = read_frame(clip.frames[driver])
        element = {
            "name": pair_name(clip, source, driver),
            "source": read_frame(clip.frames[source]),
            "driver": driver_jitter.jitter(image, rng) if self.jitter else image,
            "image": image,
        }
        return {**element, "own": np.stack([read_frame(path) for path in own])} if own else element

    def _own(
        self, clip: Clip, pair: tuple[pathlib.Path, ...], rng: np.random.Generator
    ) -> list[pathlib.Path]:
        if not self.own:
            return []
        frames = self.frames[clip.identity, clip.size]
        drawn = rng.choice(len(frames), self.own + len(pair), replace=False)
        return [frames[i] for i in drawn if frames[i] not in pair][: self.own]


def by_identity(clips: Sequence[Clip]) -> Frames:
    """All frames of an identity (by its name) that are of one (height, width)."""
    frames: Frames = {}
    for clip in clips:
        frames.setdefault((clip.identity, clip.size), []).extend(clip.frames)
    return frames


def _too_few(frames: Frames, own: int) -> list[str]:
    """Identities that have not `own` frames besides source and driver."""
    return [
        f"{identity}: {len(files)} frames of {w}x{h}; data.own = {own} needs {own + 2} of one size"
        for (identity, (h, w)), files in frames.items()
        if own and len(files) < own + 2
    ]


def draw_pairs(frames: int, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draws different pairs (source, driver) of a clip, all equally likely.

    Args:
        frames: of the clip, two or more.
        count: pairs wanted. With more of them the first stay the same.
        rng: decides which.

    Returns:
        `count` pairs, or all there are, of frames at least a quarter of the clip apart.
    """
    gap = -(-frames // APART)
    drawn: dict[tuple[int, int], None] = {}
    while len(drawn) < min(count, (frames - gap) * (frames - gap + 1)):
        source, driver = (int(i) for i in rng.integers(frames, size=2))
        if abs(source - driver) >= gap:
            drawn[source, driver] = None
    return list(drawn)


def _rounds(
    clips: Sequence[Clip], count: int, seed: tuple[int, int]
) -> tuple[tuple[int, int, int], ...]:
    """The first pair of every clip, then the second, and so on."""
    drawn = []
    for i, clip in enumerate(clips):
        pairs = draw_pairs(len(clip.frames), count, np.random.default_rng([*seed, i]))
        drawn.append([(i, *pair) for pair in pairs])
    return tuple(p for round_ in itertools.zip_longest(*drawn) for p in round_ if p is not None)
