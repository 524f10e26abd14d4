"""Procedural landscapes: label maps with pictures and their latents, in any number, at any size.

They need no download, cost about 3 ms each at 64x64, and know what real data sets do not: the
latent (light, season, weather, ...) that each picture was painted with.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from fiancee_jax.data.materials import COUNTS, MATERIAL_DIM
from fiancee_jax.data.painting import render
from fiancee_jax.data.palette import LATENT_DIM
from fiancee_jax.data.scenery import CLASSES, draw_labels
from fiancee_jax.data.splits import SPLITS, check_split
from fiancee_jax.errors import UserError

__all__ = ["CLASSES", "LATENT_DIM", "Landscapes", "draw_labels", "render"]


@dataclasses.dataclass(frozen=True)
class Landscapes:
    """Procedural landscapes.

    Scenes are deterministic in (seed, split, index); no scene is in two splits. The same index at
    another size of the same aspect is the same scene; a wider picture shows more of it sideways.

    Attributes:
        train: scenes of that split; likewise `predictor`, `calibration` and `report`.
        seed: which landscapes; the label maps are the same whatever `materials` is.
        materials: that each class chooses from: 1, 2 or 4. With 1 a class's colour is mostly
            linear in the latent, which has 8 numbers; with more (see `materials`) it is not, and
            there are 12.
    """

    procedural: ClassVar[bool] = True  # all splits are drawn in the same way

    train: int = 4000
    predictor: int = 4000
    calibration: int = 1000
    report: int = 600
    seed: int = 0
    materials: int = 1

    def classes(self) -> tuple[str, ...]:
        """The ten classes, by id."""
        return CLASSES

    def open(self, split: str, size: tuple[int, int]) -> LandscapeSource:
        """Opens a split; see `fiancee_jax.data.batch.Dataset.open`."""
        check_split(split)
        count = getattr(self, split)
        if count < 1 or min(size) < 8 or self.seed < 0:
            raise UserError(
                f"Found {count} scenes in split {split!r}, size {tuple(size)}, seed {self.seed}; "
                "expected at least 1 scene, 8 pixels on each side and a seed of 0 or more. Change "
                "the data set's fields or the model's size."
            )
        if self.materials not in COUNTS:
            raise UserError(
                f"data.materials is {self.materials}; each class can have 1, 2 or 4 to choose from."
            )
        shape = int(size[0]), int(size[1])
        return LandscapeSource(split, count, shape, self.seed, self.materials)


@dataclasses.dataclass(frozen=True)
class LandscapeSource:
    """One split of `Landscapes`. See `fiancee_jax.data.batch.Source`."""

    split: str
    count: int
    size: tuple[int, int]
    seed: int
    materials: int = 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draws and paints scene `index`.

        Returns:
            name, labels [h, w] uint8, image [h, w, 3] uint8, latent [8] (with several materials
            [12]) float32 ~ N(0, 1).

        Raises:
            IndexError: index is not in [0, len).
        """
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        latent = rng.standard_normal(LATENT_DIM).astype(np.float32)
        texture = int(rng.integers(2**31))
        labels = draw_labels(rng, self.size)
        if self.materials > 1:  # drawn last, so that all else is as it is with one
            latent = np.append(latent, rng.standard_normal(MATERIAL_DIM).astype(np.float32))
        return {
            "name": f"landscape_{self.split}_{index:06d}",
            "labels": labels,
            "image": render(labels, latent, texture, self.materials),
            "latent": latent,
        }
