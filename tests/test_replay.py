import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import GMACS, made_records

from fiancee_jax.evaluation import replay

LPIPS = np.array(
    [[0.30, 0.20, 0.10, 0.0], [0.05, 0.04, 0.03, 0.0], [0.20, 0.08, 0.09, 0.0], [0.5, 0.4, 0.3, 0]]
)


def exits(policy):
    assert np.allclose(policy.sum(1), 1)
    return (policy.argmax(1) + 1).tolist()


def test_threshold_takes_the_cheapest_exit_within():
    assert exits(replay.threshold(LPIPS, 0.1)) == [3, 1, 2, 4]
    assert exits(replay.threshold(LPIPS, 0.0)) == [4] * 4
    assert exits(replay.threshold(LPIPS, -1.0)) == [4] * 4  # nothing is within: the backbone
    assert exits(replay.threshold(LPIPS, np.inf)) == [1] * 4


def test_lagrangian_weighs_compute_against_distance():
    assert exits(replay.lagrangian(LPIPS, GMACS, 0.0)) == [1] * 4
    assert exits(replay.lagrangian(LPIPS, GMACS, 1e6)) == [4] * 4
    scores = GMACS / 8 + 3 * LPIPS
    assert exits(replay.lagrangian(LPIPS, GMACS, 3.0)) == (scores.argmin(1) + 1).tolist()


def test_means_by_hand():
    policy = replay.one_hot(np.array([3, 1, 2, 4]), 4)
    assert replay.mean_cost(policy, GMACS) == pytest.approx((4 + 1 + 2 + 8) / 4)
    assert replay.mean_of(policy, LPIPS) == pytest.approx((0.1 + 0.05 + 0.08 + 0) / 4)
    assert np.allclose(replay.random_router(policy), 0.25)


# --- oracles ------------------------------------------------------------------------------------
def test_oracle_needs_no_monotone_distances():
    assert exits(replay.oracle(LPIPS, 0.085)) == [4, 1, 2, 4]


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.625, 1.0])
def test_oracle_that_may_break_the_threshold_is_the_cheapest_one(rate):
    policy = replay.oracle_at_violation(LPIPS, GMACS, 0.1, rate)
    broken = (policy * (LPIPS > 0.1)).sum(1).mean()
    assert broken <= rate + 1e-12
    whole = [  # all pure policies that break it for at most `rate`
        GMACS[list(choice)].mean()
        for choice in itertools.product(range(4), repeat=4)
        if np.mean([LPIPS[i, e] > 0.1 for i, e in enumerate(choice)]) <= rate
    ]
    assert replay.mean_cost(policy, GMACS) <= min(whole) + 1e-12
    if rate * 4 == int(rate * 4):
        assert replay.mean_cost(policy, GMACS) == pytest.approx(min(whole))


# --- frontiers ----------------------------------------------------------------------------------
def test_frontier_by_hand():
    hull = replay.frontier(np.array([1.0, 2, 4, 8, 3]), np.array([0.4, 0.39, 0.1, 0.0, 0.5]))
    assert hull.cost.tolist() == [1, 4, 8]  # 2 lies above the line from 1 to 4, 3 is worse
    assert hull.cost_at(0.25) == pytest.approx(2.5)
    assert hull.distance_at(6) == pytest.approx(0.05)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_no_point_lies_under_the_frontier(points):
    cost, distance = np.array(points, float).T
    hull = replay.frontier(cost, distance)
    assert np.all(np.diff(hull.cost) > 0)
    assert np.all(np.diff(hull.distance) < 0)
    for c, d in points:
        assert d >= hull.distance_at(c) - 1e-9


def test_blind_mixture_costs_what_it_should_and_ignores_the_input():
    lpips = made_records().lpips
    for cost in (1.0, 1.7, 5.0, 8.0):
        policy = replay.blind_at(lpips, GMACS, cost)
        assert np.allclose(policy, policy[0])
        assert replay.mean_cost(policy, GMACS) == pytest.approx(cost)
        nearest = replay.blind_frontier(lpips, GMACS).distance_at(cost)
        assert replay.mean_of(policy, lpips) == pytest.approx(nearest)
    assert replay.mean_cost(replay.blind_at(lpips, GMACS, 0.1), GMACS) == pytest.approx(1.0)


def test_lagrangian_points_cover_both_ends():
    records = made_records()
    cost, distance = replay.lagrangian_points(records.lpips, records.lpips, GMACS)
    assert cost.shape == distance.shape == (len(replay.WEIGHTS), len(records.names))
    assert np.all(cost[0] == 1)
    assert np.all(cost[-1] == 8)


# --- settings -----------------------------------------------------------------------------------
def test_settings_meet_a_cost():
    records = made_records(inputs=400)
    for cost in (1.5, 3.0, 6.0):
        tau = replay.threshold_at_cost(records.predicted, GMACS, cost)
        found = replay.mean_cost(replay.threshold(records.predicted, tau), GMACS)
        assert found == pytest.approx(cost, abs=0.03)
        weight = replay.weight_at_cost(records.predicted, GMACS, cost)
        found = replay.mean_cost(replay.lagrangian(records.predicted, GMACS, weight), GMACS)
        assert cost - 0.03 <= found <= cost
    assert replay.weight_at_cost(records.predicted, GMACS, 0.5) == 0  # nothing is that cheap


def test_a_weight_keeps_its_cost_with_float32_estimates():
    # the search ends at a tie of two exits, which products in float32 would decide otherwise
    for seed in range(20):
        records = made_records(inputs=30, seed=seed)
        predicted = records.predicted.astype(np.float32)
        for cost in (1.5, 3.0, 6.0):
            weight = replay.weight_at_cost(predicted, GMACS, cost)
            assert replay.mean_cost(replay.lagrangian(predicted, GMACS, weight), GMACS) <= cost


def test_the_mixture_as_near_as_an_exit_is_that_exit_alone():
    lpips = made_records(inputs=200).lpips
    for e in range(4):
        near = replay.blind_frontier(lpips, GMACS).cost_at(lpips[:, e].mean())
        assert replay.blind_at(lpips, GMACS, near)[0].tolist() == np.eye(4)[e].tolist()
