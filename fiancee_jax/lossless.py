"""What is left of an exit's cost where equal work is done once (`MultiExit.sparse`).

`MultiExit.gmacs` is the cost of the dense path, the same for every input. The sparse path makes the
same picture for less, and how much less depends on the label map: see `models.sparse_spade`.
Savings of early exits come on top and are counted apart.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from fiancee_jax.exits import MultiExit
from fiancee_jax.models.patterns import chunk
from fiancee_jax.models.staged import Inputs, StagedGenerator

LAYERS = "shared|gamma_beta|seen|looked_up"  # of SPADE and of class blocks
PLACE = re.compile(rf"(Backbone|Branch)\b.*/stages_(\d+)/.*\b({LAYERS})(/[^/]*)?")


class Level(NamedTuple):
    """One picture's label map at the size of one stage.

    Attributes:
        size: (height, width), pixels.
        three: distinct 3x3 label patterns; None where the map is too small to be searched.
        five: distinct 5x5 label patterns.
        rows: vectors that the gamma/beta kernel is multiplied by: the 3x3 patterns, rounded up to
            whole chunks, or all pixels where patterns are not used.
    """

    size: tuple[int, int]
    three: int | None
    five: int | None
    rows: int

    @property
    def pixels(self) -> int:
        """Of the map."""
        return self.size[0] * self.size[1]


def gmacs(model: MultiExit, inputs: Inputs, number: int) -> Float[np.ndarray, "b"]:
    """GMACs of exit `number` for each picture, rendered alone, on the sparse path.

    Counted as in `MultiExit.gmacs` (retrieval included, predictor not; looking up and adding is
    free), so a family that saves nothing gets that number. In a batch a picture may cost a chunk
    more or less, as chunks go across pictures. Runs on the host, not under jit.

    Args:
        model: its networks, sparse or not.
        inputs: checked inputs of the family, of any size that it takes; z is not needed.
        number: the exit, 1..num_exits.
    """
    family: Any = model.family.with_size(model.family.picture_size(inputs))
    exit = (*model.exits, None)[number - 1]
    macs = dataclasses.replace(model, family=family).exit_macs(exit)
    tap = exit.tap if exit else 0
    found = levels(family, inputs)
    count = len(next(iter(inputs.values())))
    if not found:
        return np.full(count, sum(macs.values()) / 1e9)
    labels = family.num_classes + family.latent_dim
    shares = [[_shares(level, family.latent_dim / labels) for level in one] for one in found]
    return np.array([sum(_left(macs, tap, one)) / 1e9 for one in shares])


def levels(family: StagedGenerator, inputs: Inputs) -> list[list[Level]]:
    """For each picture its map at the size of every stage; [] for a family without label maps."""
    shapes = {**family.abstract_inputs(1), **inputs}
    if not hasattr(jax.eval_shape(family.sparse_condition, shapes), "patterns"):
        return []
    z = np.zeros((1, family.latent_dim), np.float32)
    ones = ({"labels": one[None], "z": z} for one in np.asarray(inputs["labels"]))
    return [[_level(*pair) for pair in _searched(family, one)] for one in ones]


def _searched(family: StagedGenerator, one: Inputs) -> list[tuple[tuple[int, int], Any]]:
    condition = jax.eval_shape(family.condition, one)
    sizes = [x.shape[1:] for x in condition.labels]
    return list(zip(sizes, jax.device_get(_patterns(family, one)), strict=True))


@functools.partial(jax.jit, static_argnames=("family",))
def _patterns(family: Any, one: Inputs) -> Any:
    """What is counted of the patterns at each stage's size, or None."""
    found = family.sparse_condition(one).patterns
    return tuple(p and {"usable": p.usable, "3": p.part_count, "5": p.count} for p in found)


def _level(size: tuple[int, int], found: Any) -> Level:
    pixels = math.prod(size)
    if found is None:
        return Level(size, None, None, pixels)
    three, five, step = int(found["3"]), int(found["5"]), chunk(pixels)
    return Level(size, three, five, -(-three // step) * step if found["usable"] else pixels)


def _shares(level: Level, latent: float) -> dict[str, float]:
    """What is left of SPADE's convolutions: z's part of one pixel's labels, and gamma and beta.

    Class blocks add up nine rows of a table for each pattern, which is free as look-ups are.
    """
    by_pixel = float(level.rows == level.pixels)
    spade = {"shared": latent / level.pixels, "gamma_beta": level.rows / level.pixels}
    return {**spade, "seen": by_pixel, "looked_up": by_pixel}


def _left(macs: Any, tap: int, shares: list[dict[str, float]]) -> list[float]:
    """MACs by scope; stages of a branch are counted from its tap."""
    left = []
    for scope, count in macs.items():
        if place := PLACE.fullmatch(scope):
            network, stage, layer, _ = place.groups()
            count *= shares[int(stage) + (tap if network == "Branch" else 0)][layer]
        left.append(count)
    return left
