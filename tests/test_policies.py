"""Policies against brute force in NumPy."""

# NumPy arrays are given where JAX's are asked for:
# pyright: reportArgumentType=false

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.routing import policies

SETTINGS = settings(max_examples=50, deadline=None)
N = 5
threshold = jax.jit(policies.threshold)
lagrangian = jax.jit(policies.lagrangian)
budget_weight = jax.jit(policies.budget_weight)


def falling(rng, batch):
    """Predictions as the predictor makes them: falling with cost, last column 0."""
    steps = rng.exponential(0.05, (batch, N - 1))
    return np.pad(steps[:, ::-1].cumsum(1)[:, ::-1], ((0, 0), (0, 1))).astype(np.float32)


def costs(rng):
    return np.sort(rng.uniform(0.1, 2.0, N)).astype(np.float32)


cases = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@SETTINGS
@given(cases, st.floats(0, 0.25, width=32, allow_subnormal=False))
def test_threshold_is_the_cheapest_within(rng, max_lpips):
    predicted = falling(rng, 6)
    exits = threshold(predicted, max_lpips)
    expected = [
        1 + min(i for i in range(N) if row[i] <= np.float32(max_lpips)) for row in predicted
    ]
    np.testing.assert_array_equal(exits, expected)
    assert exits.dtype == np.int32


def test_threshold_by_hand():
    predicted = np.array([[0.3, 0.2, 0.0], [0.1, 0.05, 0.0]], np.float32)
    for max_lpips, expected in ((0.0, [3, 3]), (0.1, [3, 1]), (0.2, [2, 1]), (1.0, [1, 1])):
        np.testing.assert_array_equal(threshold(predicted, np.float32(max_lpips)), expected)


def test_threshold_takes_the_backbone_where_a_prediction_is_not_a_number():
    predicted = np.array([[np.nan, np.nan, 0.0]], np.float32)
    np.testing.assert_array_equal(threshold(predicted, 0.1), [3])


@SETTINGS
@given(cases, st.floats(0, 1e3, width=32, allow_subnormal=False))
def test_lagrangian_is_the_minimum(rng, weight):
    predicted, gmacs = falling(rng, 6), costs(rng)
    exits = np.asarray(lagrangian(predicted, gmacs, weight)) - 1
    score = gmacs / gmacs[-1] + np.float64(weight) * predicted
    chosen = score[np.arange(6), exits]
    np.testing.assert_allclose(chosen, score.min(1), rtol=1e-5)


def test_lagrangian_at_its_ends():
    rng = np.random.default_rng(0)
    predicted, gmacs = falling(rng, 6), costs(rng)
    np.testing.assert_array_equal(lagrangian(predicted, gmacs, 0.0), np.ones(6))
    np.testing.assert_array_equal(lagrangian(predicted, gmacs, 1e9), np.full(6, N))


def test_fixed_is_the_same_for_everyone():
    exits = policies.fixed(np.zeros((4, N), np.float32), 3)
    np.testing.assert_array_equal(exits, [3, 3, 3, 3])
    assert exits.dtype == np.int32


@SETTINGS
@given(cases, st.floats(0, 1.2))
def test_budget_is_kept_and_no_grid_of_weights_does_better(rng, share):
    predicted, gmacs = falling(rng, 6), costs(rng)
    budget = np.float32(gmacs[0] + share * (gmacs[-1] - gmacs[0]))
    rows = np.arange(6)

    def spent(weight):
        exits = np.asarray(lagrangian(predicted, gmacs, weight)) - 1
        return gmacs[exits].mean(), predicted[rows, exits].mean()

    cost, distance = spent(budget_weight(predicted, gmacs, budget))
    assert cost <= budget * (1 + 1e-6)
    for weight in np.geomspace(1e-4, 1e6, 41, dtype=np.float32):
        other_cost, other = spent(weight)
        # strictly within the budget, so that rounding cannot decide
        assert other_cost > budget * (1 - 1e-5) or other >= distance - 1e-6


@functools.cache
def one_case():
    rng = np.random.default_rng(3)
    return falling(rng, 64), costs(rng)


def test_a_larger_budget_buys_no_worse_pictures():
    predicted, gmacs = one_case()
    rows, distances = np.arange(64), []
    for budget in np.linspace(gmacs[0], 1.001 * gmacs[-1], 9, dtype=np.float32):
        exits = lagrangian(predicted, gmacs, budget_weight(predicted, gmacs, budget))
        distances.append(predicted[rows, np.asarray(exits) - 1].mean())
    assert distances[0] == pytest.approx(predicted[:, 0].mean())
    assert distances[-1] == 0
    assert np.all(np.diff(distances) <= 1e-7)


def test_a_budget_is_spent():
    # with 64 inputs one of them more or less is a small step
    predicted, gmacs = one_case()
    budget = np.float32(gmacs.mean())
    exits = lagrangian(predicted, gmacs, budget_weight(predicted, gmacs, budget))
    spent = gmacs[np.asarray(exits) - 1].mean()
    assert budget - (gmacs[-1] - gmacs[0]) / 64 <= spent <= budget


@SETTINGS
@given(cases)
def test_running_max_is_the_worst_of_an_exit_and_all_dearer_ones(rng):
    distances = rng.uniform(0, 1, (3, N)).astype(np.float32)
    expected = [[row[i:].max() for i in range(N)] for row in distances]
    result = policies.running_max(distances)
    np.testing.assert_array_equal(result, np.array(expected))
    assert np.all(np.diff(result, axis=1) <= 0)
