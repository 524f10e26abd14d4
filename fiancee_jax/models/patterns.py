"""Distinct label patterns of a map: what label-sparse SPADE computes once instead of per pixel.

SPADE's gamma and beta at a pixel depend on z and on the labels of the 5x5 pixels around it, nothing
else. Label maps are piecewise constant, so a map has far fewer distinct neighbourhoods than pixels.
They are found by hashing, and what hashing finds is proven: every pixel's labels are compared with
those of the pixel that stands for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

ROUNDS = 8  # of hashing; two are usual
TABLE = 4  # places of the hash table for each pixel
SMALLEST = 1024  # pixels; smaller maps are not worth a search


class Distinct(NamedTuple):
    """Which of n items are equal.

    Attributes:
        index: number of each item's kind, [n], counted from 0 in order of appearance.
        first: the first item of each kind, [capacity].
        count: how many kinds there are; may exceed the capacity.
        proven: whether every item equals the first of its kind.
    """

    index: Int[Array, "n"]
    first: Int[Array, "c"]
    count: Int[Array, ""]
    proven: Bool[Array, ""]


class Patterns(NamedTuple):
    """The distinct neighbourhoods in label maps [b, h, w] of k classes.

    A place outside the map has label k, and its 3x3 pattern is number `c3`, the capacity.

    Attributes:
        usable: everything fitted and was proven; else nothing below may be used.
        index: the 5x5 pattern around each pixel, [b, h, w].
        parts: the 3x3 patterns around the nine places of each 5x5 pattern, [9, c5].
        count: distinct 5x5 patterns.
        labels: rows of a table [b * 9 * (k + 1)] of labels by sample and place, for the nine places
            of each 3x3 pattern, [9, c3].
        part_count: distinct 3x3 patterns.
    """

    usable: Bool[Array, ""]
    index: Int[Array, "b h w"]
    parts: Int[Array, "9 c5"]
    count: Int[Array, ""]
    labels: Int[Array, "9 c3"]
    part_count: Int[Array, ""]


def capacities(batch: int, height: int, width: int, stride: int = 1) -> tuple[int, int]:
    """Most 5x5 and 3x3 patterns worth having: their number grows with the length of borders.

    A scene of any size has borders of some widths and heights of the map, and a pixel of a larger
    map that shows more has as many borders around it: room for about twice what street scenes have.
    """
    pixels = batch * height * width
    share = min(0.7, max(64 / (height * width) ** 0.5, 0.17 * stride))
    step = chunk(pixels)
    five, three = (math.ceil(x * pixels / step) * step for x in (share, share / 2))
    return five, three


def chunk(pixels: int) -> int:
    """Patterns computed at a time."""
    return 2 ** round(math.log2(min(1024, max(64, pixels / 16))))


def find(labels: Int[Array, "b h w"], num_classes: int, stride: int = 1) -> Patterns | None:
    """The patterns of label maps; None where a search cannot pay.

    Args:
        labels: ids 0..num_classes - 1.
        num_classes: k.
        stride: pixels of the picture along a side of one of these.
    """
    batch, height, width = labels.shape
    if height * width < SMALLEST:
        return None
    outer, inner = capacities(batch, height, width, stride)
    five = distinct(_words(labels, 2, num_classes), outer)
    three = distinct(_words(labels, 1, num_classes), inner)
    numbers = three.index.reshape(labels.shape)
    parts = jnp.stack([x.reshape(-1)[five.first] for x in shifted(numbers, 1, inner)])
    sample = jnp.arange(batch).reshape(-1, 1, 1)
    places = enumerate(shifted(labels, 1, num_classes))
    rows = [(sample * 9 + t) * (num_classes + 1) + x for t, x in places]
    usable = (five.count <= outer) & (three.count <= inner) & five.proven & three.proven
    return Patterns(
        usable,
        five.index.reshape(labels.shape),
        parts,
        five.count,
        jnp.stack([x.reshape(-1)[three.first] for x in rows]),
        three.count,
    )


def distinct(words: UInt32[Array, "n w"], capacity: int) -> Distinct:
    """Numbers equal rows alike."""
    n = len(words)
    items = jnp.arange(n, dtype=jnp.int32)
    places = TABLE * 2 ** math.ceil(math.log2(n))

    def seek(state: tuple[Array, Array]) -> tuple[Array, Array]:
        found, turn = state
        slot = jnp.where(found < n, places, (_hash(words, turn) % places).astype(jnp.int32))
        table = jnp.full(places, n, jnp.int32).at[slot].min(items, mode="drop")
        candidate = table.at[slot].get(mode="fill", fill_value=0)
        same = jnp.all(words[candidate] == words, axis=1)
        return jnp.where((found == n) & same, candidate, found), turn + 1

    def going(state: tuple[Array, Array]) -> Array:
        return (state[0] == n).any() & (state[1] < ROUNDS)

    found, _ = jax.lax.while_loop(going, seek, (jnp.full(n, n, jnp.int32), jnp.int32(0)))
    leads = found == items
    numbers = jnp.cumsum(leads) - 1
    first = jnp.nonzero(leads, size=capacity, fill_value=0)[0]
    return Distinct(numbers[jnp.minimum(found, n - 1)], first, numbers[-1] + 1, (found < n).all())


def _hash(words: UInt32[Array, "n w"], turn: Int[Array, ""]) -> UInt32[Array, "n"]:
    """Mixes each row into one word (multiply, then fold the high bits down), another each turn."""
    mixed = jnp.full(len(words), 0x9E3779B9, jnp.uint32) * (2 * turn.astype(jnp.uint32) + 1)
    for column in words.T:
        mixed = (mixed ^ column) * jnp.uint32(0x85EBCA6B)
        mixed = mixed ^ (mixed >> 15)
    mixed = mixed * jnp.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> 16)


def _words(labels: Int[Array, "b h w"], radius: int, num_classes: int) -> UInt32[Array, "n w"]:
    """Sample and labels around each pixel, packed without loss: equal rows, equal patterns."""
    base = num_classes + 1
    each = max(1, int(32 / math.log2(base + 1e-9)))
    sample = jnp.broadcast_to(jnp.arange(len(labels)).reshape(-1, 1, 1), labels.shape)
    words = [sample.astype(jnp.uint32)] if len(labels) > 1 else []
    window = shifted(labels, radius, num_classes)
    for start in range(0, len(window), each):
        word = jnp.zeros(labels.shape, jnp.uint32)
        for column in window[start : start + each]:
            word = word * base + column.astype(jnp.uint32)
        words.append(word)
    return jnp.stack(words, axis=-1).reshape(labels.size, -1)


def shifted(x: Int[Array, "b h w"], radius: int, outside: int) -> list[Int[Array, "b h w"]]:
    """x at the (2 radius + 1)^2 places around every pixel, row by row."""
    height, width = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (radius, radius), (radius, radius)), constant_values=outside)
    reach = range(2 * radius + 1)
    return [padded[:, i : i + height, j : j + width] for i in reach for j in reach]
