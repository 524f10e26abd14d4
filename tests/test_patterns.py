import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.models import patterns
from fiancee_jax.models.oasis import Oasis

CLASSES = 5


def windows(labels, radius, classes=CLASSES):
    """Sample and labels around every pixel, [n, 1 + (2r + 1)^2], by plain slicing."""
    b, h, w = labels.shape
    padded = np.pad(labels, ((0, 0), (radius, radius), (radius, radius)), constant_values=classes)
    reach = range(2 * radius + 1)
    columns = [padded[:, i : i + h, j : j + w] for i in reach for j in reach]
    sample = np.broadcast_to(np.arange(b).reshape(-1, 1, 1), labels.shape)
    return np.stack([sample, *columns], -1).reshape(labels.size, -1)


def blocks(rng, batch=2, side=32, cell=8, classes=CLASSES):
    coarse = rng.integers(0, classes, (batch, side // cell, side // cell))
    return coarse.repeat(cell, 1).repeat(cell, 2).astype(np.int32)


@functools.partial(jax.jit, static_argnames="classes")
def found(labels, classes=CLASSES):
    return patterns.find(labels, classes)


@given(seed=st.integers(0, 10**6), cell=st.sampled_from([1, 4, 8, 16, 32]))
@settings(max_examples=20, deadline=None)
def test_pixels_share_a_number_exactly_when_their_neighbourhoods_are_equal(seed, cell):
    labels = blocks(np.random.default_rng(seed), cell=cell)
    found_ = found(labels)
    kinds = np.unique(windows(labels, 2), axis=0, return_inverse=True)[1].ravel()
    assert int(found_.count) == kinds.max() + 1
    assert int(found_.part_count) == len(np.unique(windows(labels, 1), axis=0))
    outer, inner = patterns.capacities(*labels.shape)
    fits = int(found_.count) <= outer and int(found_.part_count) <= inner
    assert bool(found_.usable) == fits
    pairs = np.unique(np.stack([kinds, np.asarray(found_.index).ravel()]), axis=1)
    assert pairs.shape[1] == kinds.max() + 1  # a one-to-one map of kinds to numbers


@pytest.mark.parametrize("classes", [2, 35, 255, 3000])
def test_parts_and_labels_lead_back_to_the_map(classes):
    rng = np.random.default_rng(0)
    labels = blocks(rng, classes=classes)
    p = jax.tree.map(np.asarray, found(labels, classes=classes))
    assert p.usable
    five = windows(labels, 2, classes).reshape(*labels.shape, 26)
    inner = p.labels.shape[1]
    for s, y, x in [(0, 0, 0), (0, 31, 31), (1, 8, 7), (1, 16, 16), (0, 1, 30)]:
        parts = p.parts[:, p.index[s, y, x]].reshape(3, 3)
        for i in range(3):
            for j in range(3):
                inside = 0 <= y + i - 1 < 32 and 0 <= x + j - 1 < 32
                if not inside:
                    assert parts[i, j] == inner
                    continue
                rows = p.labels[:, parts[i, j]]
                want = five[s, y, x, 1:].reshape(5, 5)[i : i + 3, j : j + 3].ravel()
                np.testing.assert_array_equal(rows % (classes + 1), want)
                np.testing.assert_array_equal(rows // (classes + 1), s * 9 + np.arange(9))


def test_small_maps_are_not_searched():
    assert patterns.find(jnp.zeros((4, 16, 32), jnp.int32), 3) is None


def test_equal_rows_are_found_whatever_the_hash_collides_with(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 3, (500, 2)).astype(np.uint32)
    few = rows[rows[:, 1] == 0]  # three kinds: with one place in the table, one is found per round
    monkeypatch.setattr(patterns, "_hash", lambda words, turn: jnp.zeros(len(words), jnp.uint32))
    same = patterns.distinct(jnp.asarray(few), 16)
    assert bool(same.proven)
    assert int(same.count) == 3
    np.testing.assert_array_equal(few[np.asarray(same.first)[np.asarray(same.index)]], few)
    many = patterns.distinct(jnp.asarray(rows), 16)  # nine kinds, eight rounds
    assert not bool(many.proven)


def test_too_many_kinds_are_counted_but_not_listed():
    rows = jnp.arange(100, dtype=jnp.uint32).reshape(-1, 1)
    found_ = patterns.distinct(rows, 10)
    assert int(found_.count) == 100
    assert bool(found_.proven)
    np.testing.assert_array_equal(found_.first, np.arange(10))


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 256, 512), (16, 96, 128)])
def test_capacities_are_whole_chunks_and_fewer_than_pixels(shape):
    five, three = patterns.capacities(*shape)
    step = patterns.chunk(np.prod(shape))
    assert five % step == three % step == 0
    assert 0 < three <= five < np.prod(shape) + step


def test_a_larger_map_that_shows_more_has_as_much_room_for_each_pixel():
    family = Oasis(size=(1024, 1024), classes=("a", "b"), blocks=5)
    condition = jax.eval_shape(family.sparse_condition, family.abstract_inputs(1))
    shares = [p.parts.shape[1] / np.prod(p.index.shape) for p in condition.patterns]
    np.testing.assert_allclose(shares, [0.75, 0.75, 0.6875, 0.34375, 0.1709], rtol=1e-3)
    assert patterns.capacities(1, 32, 32)[0] >= 0.7 * 32 * 32  # few pixels, all of them borders
