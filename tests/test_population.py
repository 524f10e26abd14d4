"""Which candidates enter a bank."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax import population

POPULATIONS = ("random", "kmeans", "kcenter", "balanced")
RNG = np.random.default_rng(0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from(POPULATIONS))
def test_different_entries_that_exist(seed, size, name):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 3, (12, 2)).astype(float)  # many are equal
    share = rng.dirichlet(np.ones(4), 12)
    chosen = population.choose(name, keys, share, size)
    assert len(set(chosen.tolist())) == size
    assert set(chosen.tolist()) <= set(range(12))
    np.testing.assert_array_equal(chosen, population.choose(name, keys, share, size))


def test_random_takes_the_first():
    chosen = population.choose("random", RNG.normal(size=(9, 2)), RNG.uniform(size=(9, 3)), 4)
    np.testing.assert_array_equal(chosen, [0, 1, 2, 3])


def test_far_apart_by_hand():
    # mean 4.6: nearest is 5; farthest from 5 is 12, then 0, then 8 (3 from 5; 4 from 12)
    keys = np.array([[0.0], [1.0], [4.0], [5.0], [8.0], [12.0], [2.2]])
    np.testing.assert_array_equal(population.far_apart(keys, 4), [3, 5, 0, 4])


def test_k_center_covers_better_than_chance():
    keys = RNG.normal(size=(300, 2))

    def radius(chosen):
        return np.sqrt(((keys[:, None] - keys[chosen][None]) ** 2).sum(-1)).min(1).max()

    assert radius(population.far_apart(keys, 20)) < 0.7 * radius(np.arange(20))


def test_medoids_find_the_clusters():
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    keys = np.concatenate([c + 0.1 * RNG.normal(size=(20, 2)) for c in centres])
    keys = keys[RNG.permutation(60)]
    chosen = keys[population.medoids(keys, 3)]
    order = np.argsort(chosen @ [1.0, 2.0])
    np.testing.assert_allclose(chosen[order], centres, atol=0.1)


@pytest.mark.parametrize("size", [2, 4])
def test_balanced_takes_the_entries_that_show_rare_parts(size):
    share = np.full((20, 3), [0.6, 0.4, 0.0])
    share[[7, 13]] = [0.4, 0.2, 0.4]  # the only ones with the last part
    chosen = population.balanced(share, size)
    assert {7, 13} <= set(chosen.tolist())
