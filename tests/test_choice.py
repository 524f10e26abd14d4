"""Policies as the user names them: what a guarantee and a budget do, and what is refused."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_renderer

from fiancee_jax.choice import Choice
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer
from fiancee_jax.routing.calibration import BACKBONE, Calibration, budget_setting, chosen

BATCH, UNITS, LATENTS = 6, 40, 16


@pytest.fixture(scope="module")
def plain():
    return tiny_renderer()


@pytest.fixture(scope="module")
def inputs(plain):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, (BATCH, *plain.model.family.size))
    return labels, rng.standard_normal((BATCH, plain.model.family.latent_dim))


@pytest.fixture(scope="module")
def predicted(plain, inputs):
    return np.asarray(plain.predict(*inputs))


def with_calibration(plain, predicted, units=UNITS, scale=1.0):
    """A renderer whose calibration resembles its predictions; distances are them, roughly."""
    rng = np.random.default_rng(1)
    rows = predicted[rng.integers(0, BATCH, units * LATENTS), :-1]
    rows = rows * rng.uniform(0.8, 1.2, (len(rows), 1))
    distance = rows * scale * rng.uniform(0.5, 1.5, rows.shape)
    found = Calibration.from_measured(rows, distance, np.repeat(np.arange(units), LATENTS))
    return Renderer(plain.config, plain.model, plain.variables, [], found)


@pytest.fixture(scope="module")
def renderer(plain, predicted):
    return with_calibration(plain, predicted)


# --- guarantees ---------------------------------------------------------------------------------
def test_confidence_routes_by_the_calibrated_setting(renderer, inputs, predicted):
    limit = float(np.quantile(renderer.calibration.distance[:, 0], 0.5))
    for delta in (None, 0.1):
        setting = renderer.guarantee(limit, 0.9, delta)
        assert 0 < setting.tau < limit
        r = renderer(
            inputs[0], z=inputs[1], max_lpips=limit, confidence=0.9, risk_delta=delta, exact=True
        )
        np.testing.assert_array_equal(r.exits, chosen(predicted[:, :-1], setting.tau))


def test_promotion_only_makes_exits_dearer(renderer, inputs):
    limit = float(np.quantile(renderer.calibration.distance[:, 0], 0.6))
    asked = renderer(inputs[0], z=inputs[1], max_lpips=limit, confidence=0.8, exact=True).exits
    promoted = renderer(inputs[0], z=inputs[1], max_lpips=limit, confidence=0.8).exits
    assert (np.asarray(promoted) >= np.asarray(asked)).all()


def test_everything_may_be_allowed(renderer, inputs):
    r = renderer(inputs[0], z=inputs[1], max_lpips=99.0, confidence=0.9, exact=True)
    np.testing.assert_array_equal(r.exits, [1] * BATCH)
    assert renderer.guarantee(99.0, 0.9).text == (
        "every exit is allowed (broken on 0.0 % of 40 calibration units)"
    )


def test_too_few_units_take_the_backbone_and_say_so(plain, inputs, predicted):
    few = with_calibration(plain, predicted, units=8)
    setting = few.guarantee(0.1, 0.9)
    assert setting.tau == BACKBONE
    with pytest.warns(UserWarning, match="backbone for all: confidence 0.9 needs 9 .* has 8"):
        r = few(inputs[0], z=inputs[1], max_lpips=0.1, confidence=0.9)
    np.testing.assert_array_equal(r.exits, [3] * BATCH)


def test_nothing_is_promised_for_other_sizes(renderer):
    labels, z = np.zeros((2, 16, 32), int), np.zeros((2, 4))
    message = r"rests on inputs of 32x32, and these are 16x32: nothing can be promised"
    with pytest.raises(UserError, match=message):
        renderer(labels, z=z, max_lpips=0.1, confidence=0.9)


# --- budget -------------------------------------------------------------------------------------
def test_a_budget_over_the_population_routes_each_input_by_itself(renderer, inputs, predicted):
    table = np.asarray(renderer.table())
    budget = float((table[0] + table[2]) / 2)
    tau = budget_setting(renderer.calibration, table, budget)
    expected = chosen(predicted[:, :-1], tau)
    for rows in (np.arange(BATCH), np.arange(2)):
        r = renderer(
            inputs[0][rows], z=inputs[1][rows], budget_gmacs=budget, budget_over="population"
        )
        np.testing.assert_array_equal(r.exits, expected[rows])
    spent = table[chosen(renderer.calibration.predicted, tau) - 1].mean()
    assert table[0] < spent <= budget * (1 + 1e-6)


def test_a_budget_for_all_is_the_backbone(renderer, inputs):
    budget = float(renderer.table()[-1])
    r = renderer(inputs[0], z=inputs[1], budget_gmacs=budget, budget_over="population")
    np.testing.assert_array_equal(r.exits, [3] * BATCH)


# --- what is refused ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(max_lpips=0.1, confidence=1.0), "confidence is 1.0; .* between 0 and 1"),
        (Choice(max_lpips=0.1, confidence=0.0), "confidence is 0.0"),
        (Choice(max_lpips=0.1, confidence=90), "confidence is 90"),
        (Choice(max_lpips=0.1, confidence=True), "confidence is True"),
        (Choice(exit=1, confidence=0.9), "confidence goes with max_lpips"),
        (Choice(budget_gmacs=1.0, confidence=0.9), "confidence goes with max_lpips"),
        (Choice(confidence=0.9), "exactly one of .*confidence"),
        (Choice(max_lpips=0.1, risk_delta=0.1), "risk_delta goes with confidence"),
        (Choice(max_lpips=0.1, confidence=0.9, risk_delta=0.0), "risk_delta is 0.0"),
        (Choice(max_lpips=0.1, budget_over="population"), "budget_over goes with budget_gmacs"),
        (Choice(budget_gmacs=1.0, budget_over="all"), "budget_over is 'all'"),  # pyright: ignore
    ],
)
def test_choices_that_cannot_work(renderer, choice, message):
    with pytest.raises(UserError, match=message):
        choice.check(renderer.model, renderer.calibration)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(max_lpips=0.1, confidence=0.9),
        Choice(budget_gmacs=1.0, budget_over="population"),
    ],
)
def test_without_calibration_the_command_is_named(plain, choice):
    message = "needs a calibrated model.*train.py WORKDIR --phases calibration"
    with pytest.raises(UserError, match=message):
        choice.check(plain.model)


def test_numpy_numbers_are_confidences(renderer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a = renderer.guarantee(0.1, np.float32(0.9))
    assert a == renderer.guarantee(0.1, 0.9)


def test_the_predictor_alone_needs_no_calibration(plain, predicted):
    choice = Choice(max_lpips=0.1)
    choice.check(plain.model)
    exits = choice.exits(plain.model, jnp.asarray(predicted), plain.table(), None)
    np.testing.assert_array_equal(exits, chosen(predicted[:, :-1], 0.1))


# --- anybody's own policy -----------------------------------------------------------------------
def test_a_policy_of_ones_own_is_taken_at_its_word(plain, inputs, predicted):
    seen = []

    def policy(found, gmacs):
        seen.append((np.asarray(found), np.asarray(gmacs)))
        return np.arange(BATCH) % 3 + 1

    r = plain(inputs[0], z=inputs[1], policy=policy)
    np.testing.assert_array_equal(r.exits, np.arange(BATCH) % 3 + 1)
    ((found, gmacs),) = seen
    np.testing.assert_array_equal(found, predicted)
    np.testing.assert_allclose(gmacs, np.asarray(plain.table()))
    np.testing.assert_allclose(r.gmacs, gmacs[np.asarray(r.exits) - 1])


def test_the_routers_own_rule_as_a_policy(plain, inputs, predicted):
    limit = float(np.median(predicted[:, 0]))
    rule = lambda found, _: jnp.argmax(found <= limit, axis=1) + 1  # noqa: E731
    r = plain(inputs[0], z=inputs[1], policy=rule)
    again = plain(inputs[0], z=inputs[1], max_lpips=limit, exact=True)
    np.testing.assert_array_equal(r.exits, again.exits)
    np.testing.assert_array_equal(r.images, again.images)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.ones(BATCH), r"returned float64 of shape \[6\]; expected integers of shape \[6\]"),
        (np.ones((BATCH, 1), int), r"of shape \[6, 1\]; expected"),
        (np.zeros(BATCH, int), "exits from 0 to 0; this model has 1 to 3"),
        (np.full(BATCH, 4), "exits from 4 to 4"),
    ],
)
def test_other_things_from_a_policy_are_refused(plain, inputs, returned, message):
    with pytest.raises(UserError, match=message):
        plain(inputs[0], z=inputs[1], policy=lambda *_: returned)


def test_a_policy_must_be_a_function_and_the_only_choice(plain, inputs):
    with pytest.raises(UserError, match="policy is 3; it must be a function"):
        plain(inputs[0], z=inputs[1], policy=3)
    with pytest.raises(UserError, match="exactly one of max_lpips, exit, budget_gmacs, policy"):
        plain(inputs[0], z=inputs[1], policy=lambda *_: 1, max_lpips=0.1)
