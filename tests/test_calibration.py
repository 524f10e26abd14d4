"""Calibrated settings: by hand, against brute force, and as what they promise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.errors import UserError
from fiancee_jax.routing import policies
from fiancee_jax.routing.calibration import (
    BACKBONE,
    Calibration,
    budget_setting,
    chosen,
    conformal_setting,
    critical,
    hoeffding_bentkus,
    learn_then_test_setting,
    risk,
)

SETTINGS = settings(max_examples=60, deadline=None)
threshold = jax.jit(policies.threshold)
cases = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def one_exit(predicted, distance, unit=None):
    """A model with a single early exit; every picture is a unit unless `unit` says otherwise."""
    p, d = (np.asarray(x, np.float32)[:, None] for x in (predicted, distance))
    return Calibration.from_measured(p, d, np.arange(len(p)) if unit is None else np.array(unit))


def drawn(rng, units=12):
    """Units of 1 to 4 pictures by 3 exits; few different values, so that there are ties."""
    unit = np.repeat(np.arange(units), rng.integers(1, 5, units))
    values = rng.integers(1, 9, (2, len(unit), 3)) / 50
    return Calibration.from_measured(values[0], values[1], unit)


def brute_risk(calibration, tau, max_lpips):
    """By running the policy on every picture."""
    exits = chosen(calibration.predicted, tau)
    full = np.pad(calibration.distance.astype(np.float64), ((0, 0), (0, 1)))
    broken = full[np.arange(len(exits)), exits - 1] > max_lpips
    units = np.unique(calibration.unit)
    return np.mean([broken[calibration.unit == u].mean() for u in units])


def candidates(calibration):
    """Settings on both sides of every value at which something changes."""
    values = np.unique(calibration.predicted)
    return np.sort([*np.nextafter(values, np.float32(-1)), *values, np.float32(np.inf)])


# --- the policy and its risk --------------------------------------------------------------------
def test_the_running_maximum_comes_from_the_dear_end():
    c = Calibration.from_measured(np.zeros((1, 3)), np.array([[0.2, 0.1, 0.3]]), np.zeros(1, int))
    np.testing.assert_allclose(c.distance, [[0.3, 0.3, 0.3]], rtol=1e-6)


def test_critical_and_risk_by_hand():
    predicted = np.array([[0.30, 0.20], [0.10, 0.05], [0.40, 0.10]], np.float32)
    distance = np.array([[0.25, 0.05], [0.05, 0.04], [0.30, 0.20]], np.float32)
    c = Calibration.from_measured(predicted, distance, np.array([0, 0, 1]))
    # at 0.1: the first breaks by exit 1, the second never, the third by either
    np.testing.assert_array_equal(critical(c, 0.1), np.array([0.3, np.inf, 0.1], np.float32))
    for tau, expected in ((0.05, 0.0), (0.1, 0.5), (0.3, 0.75), (math.inf, 0.75)):
        assert risk(c, tau, 0.1) == pytest.approx(expected)


@SETTINGS
@given(cases, st.floats(0.01, 0.17))
def test_risk_is_that_of_the_policy_and_never_falls(rng, max_lpips):
    c = drawn(rng)
    risks = [risk(c, tau, max_lpips) for tau in candidates(c)]
    np.testing.assert_allclose(risks, [brute_risk(c, t, max_lpips) for t in candidates(c)])
    assert (np.diff(risks) >= 0).all()


@pytest.mark.parametrize("tau", [BACKBONE, 0.0, 0.06, 0.1, 1.0, math.inf])
def test_the_host_chooses_what_the_device_does(tau):
    predicted = drawn(np.random.default_rng(0)).predicted
    padded = jnp.pad(jnp.asarray(predicted), ((0, 0), (0, 1)))
    np.testing.assert_array_equal(chosen(predicted, tau), threshold(padded, jnp.float32(tau)))


@pytest.mark.parametrize("tau", [BACKBONE, -math.inf, math.nan])
def test_a_setting_below_everything_is_the_backbone(tau):
    predicted = jnp.array([[0.0, 0.0, 0.0], [0.2, 0.1, 0.0]])
    np.testing.assert_array_equal(threshold(predicted, jnp.float32(tau)), [3, 3])


def test_what_is_not_a_number_counts_as_broken():
    c = one_exit([0.1, 0.2, np.nan], [np.nan, 0.01, 0.9])
    np.testing.assert_array_equal(critical(c, 0.1), np.array([0.1, np.inf, np.inf], np.float32))


# --- conformal risk control ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("confidence", "needed"), [(0.9, 9), (0.95, 19), (0.8, 4), (0.99, 99), (0.5, 1), (0.7, 3)]
)
def test_so_many_units_are_needed_to_the_unit(confidence, needed):
    """ceil(c / (1 - c)), although 1 - 0.9 is less than 0.1 in floating point."""
    good = one_exit(np.full(needed, 0.1), np.full(needed, 0.01))
    setting = conformal_setting(good, 0.05, confidence)
    assert (setting.tau, setting.reason) == (math.inf, "")
    fewer = one_exit(np.full(needed - 1, 0.1), np.full(needed - 1, 0.01))
    if needed > 1:
        setting = conformal_setting(fewer, 0.05, confidence)
        assert setting.tau == BACKBONE
        assert f"needs {needed} calibration units or more, and this model has {needed - 1}" in (
            setting.text
        )


@pytest.mark.parametrize(
    ("n", "confidence", "allowed"),
    [(9, 0.9, 0), (18, 0.9, 0), (19, 0.9, 1), (28, 0.9, 1), (29, 0.9, 2), (99, 0.95, 4)],
)
def test_so_many_units_may_break_it(n, confidence, allowed):
    """floor((n + 1) (1 - c) - 1), and the setting lies just below the next prediction."""
    predicted = np.linspace(0.1, 0.2, n).astype(np.float32)
    setting = conformal_setting(one_exit(predicted, np.full(n, 0.9)), 0.5, confidence)
    if allowed:
        assert setting.tau == np.nextafter(predicted[allowed], np.float32(0))
        assert setting.risk == pytest.approx(allowed / n)
    else:
        assert setting.tau == BACKBONE
        assert "no early exit keeps max_lpips 0.5" in setting.reason


@SETTINGS
@given(cases, st.sampled_from([0.5, 0.6, 0.75, 0.9]), st.floats(0.01, 0.17))
def test_it_is_the_most_permissive_setting_that_keeps_the_bound(rng, confidence, max_lpips):
    c = drawn(rng)
    n, level = c.units, round(1 - confidence, 9)
    keeps = [
        tau
        for tau in candidates(c)
        if (n * brute_risk(c, tau, max_lpips) + 1) / (n + 1) <= level + 1e-9
    ]
    setting = conformal_setting(c, max_lpips, confidence)
    exits = chosen(c.predicted, setting.tau)
    np.testing.assert_array_equal(exits, chosen(c.predicted, max(keeps, default=BACKBONE)))
    assert setting.risk == pytest.approx(brute_risk(c, setting.tau, max_lpips))
    assert (setting.tau == BACKBONE) == bool(setting.reason)


@SETTINGS
@given(cases)
def test_more_confidence_and_smaller_thresholds_never_allow_more(rng):
    c = drawn(rng, units=30)
    for limit in (0.05, 0.1):
        taus = [conformal_setting(c, limit, x).tau for x in (0.5, 0.6, 0.7, 0.8, 0.9)]
        assert (np.diff([min(t, 10.0) for t in taus]) <= 0).all()
    taus = [conformal_setting(c, limit, 0.7).tau for limit in (0.02, 0.06, 0.1, 0.14, 0.2)]
    assert (np.diff([min(t, 10.0) for t in taus]) >= 0).all()


def test_a_prediction_of_nothing_that_is_broken_leaves_the_backbone():
    """Nothing lies between 0 and the smallest number that XLA tells from 0."""
    for lowest in (0.0, 1e-40):
        c = one_exit(np.full(20, lowest), np.full(20, 0.9))
        assert conformal_setting(c, 0.1, 0.9).tau == BACKBONE


# --- learn then test ----------------------------------------------------------------------------
def test_p_values_by_hand():
    n, level, total = 100, 0.1, np.array([0.0, 4.0, 10.0, 50.0])
    tail = sum(math.comb(n, k) * level**k * (1 - level) ** (n - k) for k in range(5))
    kl = 0.04 * math.log(0.04 / 0.1) + 0.96 * math.log(0.96 / 0.9)
    expected = [0.9**100, min(math.exp(-n * kl), math.e * tail), 1.0, 1.0]
    np.testing.assert_allclose(hoeffding_bentkus(total, n, level), expected, rtol=1e-10)


def test_p_values_never_fall():
    totals = np.linspace(0, 60, 500)
    assert (np.diff(hoeffding_bentkus(totals, 60, 0.2)) >= -1e-12).all()


@pytest.mark.parametrize(
    ("confidence", "delta", "needed"), [(0.9, 0.1, 22), (0.8, 0.1, 11), (0.95, 0.1, 45)]
)
def test_learning_then_testing_needs_more_units(confidence, delta, needed):
    """c^n <= delta: even without one broken picture fewer units prove nothing."""
    assert confidence**needed <= delta < confidence ** (needed - 1)
    enough = one_exit(np.full(needed, 0.1), np.full(needed, 0.01))
    assert learn_then_test_setting(enough, 0.05, confidence, delta).tau == math.inf
    fewer = one_exit(np.full(needed - 1, 0.1), np.full(needed - 1, 0.01))
    setting = learn_then_test_setting(fewer, 0.05, confidence, delta)
    assert setting.tau == BACKBONE
    assert f"risk-delta {delta} needs {needed} calibration units" in setting.reason


@SETTINGS
@given(cases)
def test_it_walks_up_to_the_first_setting_that_is_not_rejected(rng):
    c = drawn(rng, units=60)
    n, level, delta = c.units, 0.3, 0.1
    keeps = []
    for tau in candidates(c):
        total = np.array([n * brute_risk(c, tau, 0.1)])
        if hoeffding_bentkus(total, n, level)[0] > delta:
            break
        keeps.append(tau)
    setting = learn_then_test_setting(c, 0.1, 0.7, delta)
    expected = chosen(c.predicted, max(keeps, default=BACKBONE))
    np.testing.assert_array_equal(chosen(c.predicted, setting.tau), expected)
    assert setting.tau <= conformal_setting(c, 0.1, 0.7).tau


# --- as promises --------------------------------------------------------------------------------
K, DRAWS, N = 16, 4000, 21  # at n = 21 and level 0.1 pooled pairs are one whole unit too generous


def clustered(rng, n):
    """Maps whose K latents all fare alike; nothing about them can be predicted."""
    values = rng.uniform(0.01, 1, (n, 1, 1))
    return np.broadcast_to(values, (n, K, 1)).astype(np.float32)


def violations(setting_of, rng, n=N, confidence=0.9):
    """Violation of a new map at each draw's setting, by the setting's definition."""
    distance = np.full((n * K, 1), 0.9)
    found = []
    for _ in range(DRAWS):
        maps = clustered(rng, n + 1)
        predicted = maps[:n].reshape(-1, 1)
        tau = setting_of(predicted, distance, np.repeat(np.arange(n), K), confidence)
        found.append(float(maps[n, 0, 0] <= tau))
    return np.array(found)


def by_unit(predicted, distance, unit, confidence):
    return conformal_setting(
        Calibration.from_measured(predicted, distance, unit), 0.5, confidence
    ).tau


def pooled(predicted, distance, unit, confidence):
    """The mistake: every (map, z) pair taken for independent."""
    return by_unit(predicted, distance, np.arange(len(unit)), confidence)


def test_the_promise_holds_by_map_and_breaks_with_pooled_pairs():
    """Exactly, by ranks: 2 / 22 of the new maps are broken by map, 3 / 22 with pooled pairs."""
    for method, expected in ((by_unit, 2 / 22), (pooled, 3 / 22)):
        found = violations(method, np.random.default_rng(0))
        error = (expected * (1 - expected) / DRAWS) ** 0.5
        assert abs(found.mean() - expected) < 4 * error
        assert (found.mean() <= 0.1 + 3 * error) == (method is by_unit)


def test_learn_then_test_fails_for_few_calibration_sets():
    """True risk of a setting is known here: the share of maps predicted below it, tau itself."""
    rng, failures, sets, n = np.random.default_rng(1), 0, 1500, 60
    for _ in range(sets):
        predicted = rng.uniform(0, 1, (n, 1)).astype(np.float32)
        c = Calibration.from_measured(predicted, np.full((n, 1), 0.9), np.arange(n))
        failures += learn_then_test_setting(c, 0.5, 0.8, 0.1).tau > 0.2
    assert 0 < failures <= 0.1 * sets


# --- budget -------------------------------------------------------------------------------------
@SETTINGS
@given(cases, st.floats(0.0, 1.2))
def test_a_budget_takes_the_smallest_setting_that_keeps_it(rng, share):
    c, gmacs = drawn(rng), np.cumsum(rng.uniform(0.1, 1, 4))
    budget = float(gmacs[0] + share * (gmacs[-1] - gmacs[0]))
    tau = budget_setting(c, gmacs, budget)

    def mean(tau):
        return gmacs[chosen(c.predicted, tau) - 1].mean()

    assert mean(tau) <= budget * (1 + 1e-8)
    expected = min(t for t in [BACKBONE, *candidates(c)] if mean(t) <= budget * (1 + 1e-8))
    assert mean(tau) == pytest.approx(mean(expected))


def test_a_budget_under_the_cheapest_exit_is_refused():
    c = drawn(np.random.default_rng(0))
    with pytest.raises(UserError, match=r"budget_gmacs is 0.1, but the cheapest exit costs 0.2"):
        budget_setting(c, np.array([0.2, 0.3, 0.4, 0.5]), 0.1)
