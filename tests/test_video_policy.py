"""Exits over time: hysteresis against the threshold, budgets per second, blocks of any size."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.errors import UserError
from fiancee_jax.routing import policies
from fiancee_jax.routing.video import (
    Bucket,
    Held,
    Hysteresis,
    Policy,
    Rate,
    check_fps,
    hysteresis,
    lowest_threshold,
    switches,
    within_rate,
)

SETTINGS = settings(max_examples=100, deadline=None)
N = 4
BEGIN = Held(0, np.zeros(N - 1, np.int64))
PLAIN = Hysteresis(0.0, 1)
cases = st.integers(0, 2**32 - 1).map(np.random.default_rng)
limits = st.floats(0, 0.5, width=32, allow_subnormal=False)
options = st.builds(Hysteresis, st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.integers(1, 7))


def clip(rng, frames=60):
    """Predictions that drift: falling with cost, last column 0."""
    steps = np.exp(rng.normal(-3, 0.5, (1, N - 1)) + rng.normal(0, 0.3, (frames, N - 1)).cumsum(0))
    return np.pad(steps[:, ::-1].cumsum(1)[:, ::-1], ((0, 0), (0, 1))).astype(np.float32)


def held(predicted, max_lpips, options=PLAIN):
    return hysteresis(BEGIN, predicted, max_lpips, options)[0]


def by_hand(predicted, max_lpips, options):
    """The rule, frame by frame and exit by exit."""
    exits, exit = [], None
    for t, row in enumerate(predicted):
        within = [i for i in range(N) if row[i] <= np.float32(max_lpips) or i == N - 1]
        if exit is None or exit not in within:
            exit = within[0]
        last = predicted[max(0, t + 1 - options.hold) : t + 1]
        low = last <= np.float32((1 - options.margin) * max_lpips)
        settled = [i for i in range(exit) if len(last) == options.hold and low[:, i].all()]
        exit = settled[0] if settled else exit
        exits.append(exit + 1)
    return exits


# --- quality ------------------------------------------------------------------------------------
@SETTINGS
@given(cases, limits, options)
def test_it_is_the_rule(rng, max_lpips, options):
    predicted = clip(rng)
    assert held(predicted, max_lpips, options).tolist() == by_hand(predicted, max_lpips, options)


@SETTINGS
@given(cases, limits)
def test_without_margin_and_hold_it_is_the_threshold(rng, max_lpips):
    predicted = clip(rng)
    expected = policies.threshold(predicted, np.float32(max_lpips))  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(held(predicted, max_lpips), expected)


@SETTINGS
@given(cases, limits, options)
def test_quality_is_never_below_the_threshold(rng, max_lpips, options):
    predicted = clip(rng)
    exits = held(predicted, max_lpips, options)
    assert (predicted[np.arange(len(exits)), exits - 1] <= np.float32(max_lpips)).all()
    plain = held(predicted, max_lpips)
    assert (exits >= plain).all()
    assert np.abs(np.diff(exits)).sum() <= np.abs(np.diff(plain)).sum()


def test_an_exit_is_left_at_once_upwards_and_late_downwards():
    row = np.array([0.2, 0.1, 0.05, 0], np.float32)
    predicted = np.stack([0.38 * row] * 2 + [row] + [0.44 * row] * 2 + [0.38 * row] * 4)
    exits = held(predicted, 0.1, Hysteresis(0.1, 3))
    assert exits.tolist() == [1, 1, 2, 2, 2, 1, 1, 1, 1]
    assert held(predicted, 0.1, Hysteresis(0.2, 3)).tolist() == [1, 1, 2, 2, 2, 2, 2, 1, 1]
    assert switches(exits) == 2


def test_a_prediction_that_is_not_a_number_takes_the_backbone():
    row = np.array([0.02, 0.01, 0.005, 0], np.float32)
    predicted = np.stack([row, np.full(N, np.nan), row, row])
    assert held(predicted, 0.1, Hysteresis(0.1, 2)).tolist() == [1, N, N, 1]


@SETTINGS
@given(cases, options)
def test_settings_of_a_calibration_are_thresholds_too(rng, options):
    predicted = clip(rng)
    assert (held(predicted, np.inf, options) == 1).all()
    assert (held(predicted, -1.0, options) == N).all()


@SETTINGS
@given(cases, st.floats(0, 1), options)
def test_the_lowest_threshold_keeps_a_mean_budget(rng, share, options):
    predicted, costs = clip(rng, 30), np.sort(rng.uniform(0.1, 2.0, N))
    budget = costs[0] + share * (costs[-1] - costs[0])
    limit = lowest_threshold(predicted, costs, budget, options)
    assert costs[held(predicted, limit, options) - 1].mean() <= budget * (1 + 1e-8)
    if limit > 0:
        below = float(np.nextafter(np.float32(limit), np.float32(0)))
        assert costs[held(predicted, below, options) - 1].mean() > budget


# --- budget -------------------------------------------------------------------------------------
@st.composite
def rates(draw):
    """Whole GMACs, so that sums are exact, and a budget that pays exit 1 for every frame."""
    costs = np.array(sorted(draw(st.sets(st.integers(1, 60), min_size=N, max_size=N))), float)
    fps = draw(st.sampled_from([1, 4, 10]))
    return costs, Rate(fps * float(draw(st.integers(int(costs[0]), 70))), fps)


@SETTINGS
@given(rates(), cases, st.integers(1, 6))
def test_no_window_costs_more_than_the_bucket_allows(rate, rng, hold):
    costs, rate = rate
    wanted = rng.integers(1, N + 1, 60)
    exits, bucket = within_rate(Bucket(), wanted, costs, rate, hold)
    spent = np.concatenate([[0], costs[exits - 1].cumsum()])
    assert (exits <= wanted).all()
    for k in range(1, 61):
        windows = spent[k:] - spent[:-k]
        assert windows[0] <= k * rate.per_frame
        assert windows.max() <= rate.per_second + (k - 1) * rate.per_frame
    assert 0 <= bucket.level <= rate.per_second


@SETTINGS
@given(rates(), st.integers(1, 6))
def test_what_the_budget_forces_lasts(rate, hold):
    costs, rate = rate
    exits, _ = within_rate(Bucket(), np.full(200, N), costs, rate, hold)
    changes = np.flatnonzero(np.diff(exits)) + 1
    down = [t for t in changes if exits[t] < exits[t - 1]]
    for t in down:
        assert (changes[changes < t] <= t - hold).all()
    assert (exits == N).all() or rate.per_frame < costs[-1]


def test_the_dearest_that_can_be_paid_without_hold():
    costs, rate = np.array([1.0, 3.0, 6.0]), Rate(20.0, 10.0)
    exits, bucket = within_rate(Bucket(), np.full(8, 3), costs, rate)
    assert exits.tolist() == [1, 2, 1, 2, 1, 2, 1, 2]
    assert bucket == Bucket(0.0, 2)
    exits, _ = within_rate(Bucket(), np.array([1, 1, 1, 1, 3, 3, 3]), costs, rate)
    assert exits.tolist() == [1, 1, 1, 1, 3, 1, 2]


def test_unspent_budget_is_kept_for_a_second_at_most():
    exits, bucket = within_rate(Bucket(), np.ones(100, int), np.array([1.0, 6.0]), Rate(20, 10))
    assert bucket.level == 19.0
    exits, _ = within_rate(bucket, np.full(9, 2), np.array([1.0, 6.0]), Rate(20, 10))
    assert exits.tolist() == [2, 2, 2, 2, 1, 1, 2, 1, 1]


def test_budgets_that_cannot_be_kept():
    costs = np.array([1.0, 3.0, 6.0])
    Rate(25.0, 25.0).check(costs)
    with pytest.raises(UserError, match=r"at 25 frames.* cheapest exit costs 25 .*backbone 150"):
        Rate(24.9, 25.0).check(costs)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(UserError, match="must be a number that is 0 or more"):
            Rate(wrong, 25.0)


# --- both, in blocks ----------------------------------------------------------------------------
@SETTINGS
@given(cases, rates(), limits, options, st.lists(st.integers(0, 60), max_size=8))
def test_blocks_of_any_size_get_the_same_exits(rng, rate, max_lpips, options, cuts):
    predicted, (costs, rate) = clip(rng), rate
    whole = Policy(None, max_lpips, rate, options)
    for policy in (
        whole,
        dataclasses.replace(whole, rate=None),
        dataclasses.replace(whole, max_lpips=None),
    ):
        expected, end = policy.route(policy.start(N), predicted, costs)
        state, parts = policy.start(N), []
        for block in np.split(predicted, sorted(cuts)):
            exits, state = policy.route(state, block, costs)
            parts.append(exits)
        np.testing.assert_array_equal(np.concatenate(parts), expected)
        assert state.bucket == end.bucket
        assert state.held.exit == end.held.exit
        np.testing.assert_array_equal(state.held.streak, end.held.streak)


def test_a_fixed_exit_stays():
    predicted = clip(np.random.default_rng(0))
    assert (Policy(exit=2).route(Policy().start(N), predicted, np.arange(4.0))[0] == 2).all()
    assert (Policy().route(Policy().start(N), predicted, np.arange(4.0))[0] == N).all()


def test_impossible_options():
    for options, message in (
        (Hysteresis(margin=1.0), r"margin is 1; .* \[0, 1\)"),
        (Hysteresis(margin=-0.1), "margin is -0.1"),
        (Hysteresis(margin=np.nan), "margin is nan"),
        (Hysteresis(hold=0), "hold is 0"),
    ):
        with pytest.raises(UserError, match=message):
            options.check()
    for fps in (0.0, 0.5, 241.0, np.nan):
        with pytest.raises(UserError, match="from 1 to 240"):
            check_fps(fps)
        with pytest.raises(UserError, match="from 1 to 240"):
            Rate(100.0, fps)
    Hysteresis().check()
    check_fps(23.976)
