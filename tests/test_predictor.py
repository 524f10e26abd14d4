"""The predictor: its order, its start and its cost."""

import dataclasses
from typing import Any

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.config import Exit, Guides, PredictorPhase, load_config
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.oasis import Oasis
from fiancee_jax.models.predictor import CellPredictor, Predictor, Predictors
from fiancee_jax.training import checks
from fiancee_jax.training import predictor as phase

NET = Predictor(4, channels=3, hidden=5)
RNG = np.random.default_rng(0)
GRID = RNG.uniform(0, 1, (6, 4, 8, 3)).astype(np.float32)
VECTOR = RNG.standard_normal((6, 2)).astype(np.float32)


@jax.jit
def predict(variables, grid, vector):
    return NET.apply(variables, grid, vector)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 30.0]))
def test_predictions_are_positive_and_never_rise_with_cost(seed, scale):
    variables = by_hand.filled(NET.init, GRID, VECTOR, seed=seed, scale=scale)
    predicted = np.asarray(predict(variables, GRID, VECTOR))
    assert predicted.shape == (6, 4)
    assert np.isfinite(predicted).all()
    assert (predicted > 0).all()
    assert (np.diff(predicted, axis=1) <= 0).all()


def test_a_fresh_predictor_says_the_mean_steps_for_every_input():
    variables = jax.jit(NET.init)(jax.random.key(0), GRID, VECTOR)
    offset = np.log(np.array([0.04, 0.01, 0.02, 0.03], np.float32))
    variables["params"]["offset"] = offset
    predicted = predict(variables, GRID, VECTOR)
    expected = np.tile([0.10, 0.06, 0.05, 0.03], (6, 1))
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)


@pytest.mark.parametrize("what", ["grid", "vector"])
def test_it_sees_the_map_and_z(what):
    variables = by_hand.filled(NET.init, GRID, VECTOR)
    a = predict(variables, GRID, VECTOR)
    grid = GRID[::-1] if what == "grid" else GRID
    vector = VECTOR[::-1] if what == "vector" else VECTOR
    b = predict(variables, grid, vector)
    assert np.abs(np.asarray(a) / np.asarray(b) - 1).max(1).min() > 1e-3


@pytest.mark.parametrize("sees", ["grid", "vector"])
def test_what_it_may_not_see_does_not_matter(sees):
    net = Predictor(4, channels=3, hidden=5, sees=sees)
    variables = by_hand.filled(net.init, GRID, VECTOR)
    a, b, c = (np.asarray(net.apply(variables, *x)) for x in ((GRID, VECTOR), (GRID[::-1], VECTOR),
                                                  (GRID, VECTOR[::-1])))  # fmt: skip
    same, other = (c, b) if sees == "grid" else (b, c)
    np.testing.assert_array_equal(a, same)
    assert np.abs(np.asarray(a) / np.asarray(other) - 1).max() > 1e-3


def test_squares_are_seen_beside_the_vector():
    net = Predictor(4, channels=3, hidden=5, squares=True)
    variables = jax.tree.map(np.array, by_hand.filled(net.init, GRID, VECTOR))
    params = variables["params"]
    assert params["fc_0"]["kernel"].shape[0] == 3 + 3 + 3 + 2 + 2  # pooled twice, shares, z, z^2
    params["gate"] = jax.tree.map(np.zeros_like, params["gate"])
    params["fc_0"]["kernel"][-4:-2] = 0  # z itself
    a, b = (np.asarray(net.apply(variables, GRID, v)) for v in (VECTOR, -VECTOR))
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("members", [2, 3])
def test_members_are_predictors_and_their_geometric_mean_is_taken(members):
    nets = Predictors(members, 4, channels=3, hidden=5)
    variables = by_hand.filled(nets.init, GRID, VECTOR)
    stacked = variables["params"]["member"]
    each: Any = [
        NET.apply({"params": jax.tree.map(lambda x, i=i: x[i], stacked)}, GRID, VECTOR)
        for i in range(members)
    ]
    assert np.abs(np.log(np.asarray(each[0]) / np.asarray(each[1]))).max() > 0.01
    found: Any = jax.jit(nets.apply)(variables, GRID, VECTOR)
    np.testing.assert_allclose(found, np.exp(np.mean(np.log(each), axis=0)), rtol=1e-4)
    assert (np.diff(found, axis=1) <= 0).all()
    apart: Any = nets.apply(variables, GRID, VECTOR, method="each")
    np.testing.assert_allclose(apart, each, rtol=1e-4)


def test_a_fresh_ensemble_starts_at_the_mean_and_learns():
    model = small(PredictorPhase(members=2, channels=4, hidden=8, steps=40, lr=1e-2))
    rng = np.random.default_rng(0)
    grid = rng.uniform(size=(64, 8, 8, 10)).astype(np.float32)
    vector = rng.standard_normal((64, 8)).astype(np.float32)
    target = np.exp(-3 + 0.5 * vector[:, :1] - np.array([[0.0, 0.3]])).astype(np.float32)
    state = phase.init_state(model, model.predictor, jnp.asarray(target), jax.random.key(0))
    kernels = np.asarray(state["params"]["member"]["fc_0"]["kernel"])
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01  # they start differently
    first: Any = model.predictor_net().apply({"params": state["params"]}, grid, vector)
    np.testing.assert_allclose(first, np.tile(target.mean(0), (64, 1)), rtol=1e-4)
    losses = []
    for _ in range(40):
        state, metrics = phase.train_step(model, model.predictor, state, (grid, vector, target))
        losses.append(float(metrics["loss"][0]))
    assert losses[-1] < 0.3 * losses[0]


def test_members_multiply_the_cost():
    one, three = (small(PredictorPhase(members=m)).predictor_gmacs() for m in (1, 3))
    assert three == pytest.approx(3 * one)


def test_gradients_are_finite_where_a_class_is_absent():
    # the root of a share has an infinite slope at 0, but the input is not trained
    variables = by_hand.filled(NET.init, GRID, VECTOR)
    grid = GRID * np.array([1.0, 1.0, 0.0], np.float32)
    loss = jax.jit(jax.grad(lambda v: jnp.log(predict(v, grid, VECTOR)).sum()))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(loss(variables)))


def small(predictor):
    family = Oasis(
        size=(64, 64),
        classes=tuple(f"c{i}" for i in range(10)),
        width=12,
        hidden=24,
        z_dim=8,
        blocks=5,
        discriminator_channels=(16, 32),
    )
    return MultiExit(family, (Exit(1, 0.25), Exit(3, 0.25)), Guides(), predictor)


def test_it_costs_at_most_two_percent_of_a_small_backbone():
    model = small(PredictorPhase())
    assert model.predictor_gmacs() < 0.02 * model.gmacs[-1]


def test_its_cost_is_that_of_its_layers():
    model = small(PredictorPhase(channels=6, hidden=7))
    # 64x64 in cells of 8: conv_0 on 8x8, conv_1 with stride 2 on 4x4; pooled twice, shares, z
    convs = 64 * 9 * 10 * 6 + 16 * 9 * 6 * 6
    dense = 8 * 7 + (6 + 6 + 10 + 8) * 7 + 7 * 7 + 7 * 2
    assert model.predictor_gmacs() == pytest.approx((convs + dense) / 1e9)


def test_without_convolutions_and_layers_it_is_log_linear_in_shares_and_vector():
    net = Predictor(3, channels=0, hidden=0, squares=True)
    variables = by_hand.filled(net.init, GRID, VECTOR, scale=0.3)
    params: Any = variables["params"]
    assert set(params) == {"offset", "out"}
    z = VECTOR.astype(np.float64)
    seen = np.concatenate([np.sqrt(GRID.mean((1, 2))), z, z**2 - 1], axis=1)
    logs = seen @ np.asarray(params["out"]["kernel"]) + params["out"]["bias"][None]
    steps = np.exp(logs + np.asarray(params["offset"])[None])
    expected = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    found = jax.jit(net.apply)(variables, GRID, VECTOR)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_without_layers_convolutions_are_still_seen():
    params: Any = Predictor(3, channels=4, hidden=0).init(jax.random.key(0), GRID, VECTOR)["params"]
    assert set(params) == {"conv_0", "conv_1", "offset", "out"}
    assert params["out"]["kernel"].shape == (4 + 4 + 3 + 2, 3)


# --- cell by cell -------------------------------------------------------------------------------
CELLS = CellPredictor(3, channels=4, squares=True)


def test_cells_by_hand():
    variables = by_hand.filled(CELLS.init, GRID, VECTOR)
    p = jax.tree.map(np.asarray, variables["params"])
    x = np.maximum(by_hand.conv(p["conv_0"], GRID), 0)
    x = np.maximum(by_hand.conv(p["conv_1"], x), 0) @ p["out"]["kernel"] + p["out"]["bias"]
    seen = np.concatenate([VECTOR, VECTOR**2 - 1], 1) @ p["vector"]["kernel"] + p["offset"]
    steps = np.exp(x + seen[:, None, None])
    expected = np.cumsum(steps[..., ::-1], -1)[..., ::-1]
    found: Any = CELLS.apply(variables, GRID, VECTOR, method="cells")
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    whole: Any = jax.jit(CELLS.apply)(variables, GRID, VECTOR)
    np.testing.assert_allclose(whole, expected.mean((1, 2)), rtol=1e-4)
    assert (np.diff(whole, axis=1) <= 0).all()


def test_joined_cells_are_those_of_a_coarser_grid():
    joined = CellPredictor(3, channels=4, squares=True, pool=2)
    variables = by_hand.filled(CELLS.init, GRID, VECTOR)
    coarse = GRID.reshape(6, 2, 2, 4, 2, 3).mean((2, 4))
    expected: Any = CELLS.apply(variables, coarse, VECTOR, method="cells")
    found: Any = joined.apply(variables, GRID, VECTOR, method="cells")
    assert found.shape == (6, 2, 4, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cells_at_a_ragged_edge_are_joined_to_fewer():
    joined = CellPredictor(3, channels=4, squares=True, pool=3)  # of 4 x 8
    variables = by_hand.filled(CELLS.init, GRID, VECTOR)
    found: Any = joined.apply(variables, GRID, VECTOR, method="cells")
    assert found.shape == (6, 2, 3, 3)
    rows, columns = ((0, 2), (2, 4)), ((0, 3), (3, 6), (6, 8))
    means = [[GRID[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows]
    coarse = np.moveaxis(np.array(means), 2, 0)
    expected: Any = CELLS.apply(variables, coarse, VECTOR, method="cells")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cells_that_cannot_be_joined_are_not_trained():
    """At a training size the measured cells are joined too, and none may be left over."""
    phase = PredictorPhase(channels=4, hidden=0, cells=0.3, pool=3)
    config = dataclasses.replace(load_config("quickstart"), predictor=phase)
    with pytest.raises(UserError, match=r"pool is 3, .* has 8 x 8 cells.*such as 2"):
        checks.cells_join(config, ["predictor"])
    checks.cells_join(config, ["branches"])


@pytest.mark.parametrize("pool", [1, 2])
def test_cells_teach_where_an_error_is(pool):
    """Of 64 inputs, whose wholes are all alike: only their cells tell which class is hard."""
    sizes: Any = {"channels": 4, "hidden": 0, "cells": 1.0, "pool": pool}
    model = small(PredictorPhase(**sizes, steps=60, lr=2e-2))
    assert isinstance(model.predictor_net(), CellPredictor)
    rng = np.random.default_rng(0)
    hard = rng.permuted(np.tile(np.arange(64) < 16, (64, 1)), axis=1).reshape(64, 8, 8)
    grid = np.eye(10, dtype=np.float32)[np.where(hard, 3, rng.integers(4, 10, hard.shape))]
    vector = rng.standard_normal((64, 8)).astype(np.float32)
    cells = np.where(hard, 0.2, 0.02)[:, None] * np.array([1.0, 0.5]).reshape(1, 2, 1, 1)
    target = cells.mean((2, 3)).astype(np.float32)
    state = phase.init_state(model, model.predictor, jnp.asarray(target), jax.random.key(0))
    first: Any = model.predictor_net().apply({"params": state["params"]}, grid, vector)
    np.testing.assert_allclose(first, target, rtol=1e-4)
    for _ in range(60):
        batch = (grid, vector, target, cells.astype(np.float16))
        state, metrics = phase.train_step(model, model.predictor, state, batch)
    assert np.isfinite(metrics["loss"][0])
    all_hard = np.broadcast_to(np.eye(10, dtype=np.float32)[3], grid.shape)
    net = jax.jit(model.predictor_net().apply)
    found: Any = net({"params": state["params"]}, all_hard, vector)
    assert found.mean() > 2 * target.mean()  # a map of that class alone, seen nowhere
    again: Any = net({"params": state["params"]}, grid, vector)
    np.testing.assert_allclose(again.mean(0), target.mean(0), rtol=0.15)
