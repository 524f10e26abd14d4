"""What computes in which precision, and what is computed again in the backward pass."""

import dataclasses
import functools
from typing import Any

import by_hand
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import (
    PHASE,
    STEPS,
    after_one_step,
    assert_same_gradients,
    assert_same_metrics,
    batch_of,
    gradient,
    unconditional,
    with_phase,
)
from tiny import tiny_config

from fiancee_jax.config import BranchesPhase, Guides
from fiancee_jax.exits import MultiExit
from fiancee_jax.models import lpips
from fiancee_jax.models.discriminator import Discriminator
from fiancee_jax.models.layers import Conv
from fiancee_jax.training import adversarial, backbone, branches

MODEL = MultiExit.of(tiny_config())


# --- precision ----------------------------------------------------------------------------------
def convolutions(jaxpr):
    """(dtypes of inputs and result, precision) of every convolution, inner programs included."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            dtypes = {str(v.aval.dtype) for v in (*eqn.invars, *eqn.outvars)}
            found.append((dtypes, eqn.params["precision"]))
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=has_jaxpr):
            if has_jaxpr(inner):
                found += convolutions(getattr(inner, "jaxpr", inner))
    return found


def has_jaxpr(x):
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def check_convolutions(traced, precision):
    """LPIPS asks for the highest precision and stays float32; all others are of the networks."""
    found = convolutions(traced.jaxpr)
    highest = (jax.lax.Precision.HIGHEST,) * 2
    networks = [dtypes for dtypes, p in found if p != highest]
    distance = [dtypes for dtypes, p in found if p == highest]
    assert len(networks) > 20
    assert len(distance) >= 10
    assert all(dtypes == {precision} for dtypes in networks)
    assert all(dtypes == {"float32"} for dtypes in distance)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_compute_in_the_precision_asked_for_and_nothing_else_does(step, precision):
    model = MultiExit.of(tiny_config(z_dim=8))
    phase = with_phase(step=step, precision=precision, own_latent=1.0)
    state = backbone.init_state(model, phase, np.random.default_rng(0))
    step_fn = backbone.make_step(model, phase)
    args = (state, batch_of(size=32), jax.random.key(0), lpips.load("alex"))
    traced, shapes = jax.make_jaxpr(step_fn, return_shape=True)(*args)
    check_convolutions(traced, precision)
    assert jax.tree.map(lambda x: x.dtype, shapes[0]) == jax.tree.map(lambda x: x.dtype, state)
    assert {x.dtype for x in jax.tree.leaves(state)} <= {np.dtype("float32"), np.dtype("int32")}
    assert {jnp.result_type(x.dtype) for x in jax.tree.leaves(shapes[1])} == {np.dtype("float32")}


@pytest.mark.parametrize("form", ["palette", "image", "learnt", "none"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_branches_compute_in_the_precision_asked_for(form, precision):
    config = tiny_config(guides=Guides(form=form, size=8, neighbours=2))
    model = MultiExit.of(config)
    phase = BranchesPhase(precision=precision, lpips_net="alex")
    state = branches.init_state(model, phase, np.random.default_rng(0))
    frozen, _ = model._abstract
    step = branches.make_step(model, phase)
    args = (state, frozen, batch_of(size=32), jax.random.key(0), (lpips.load("alex"),))
    traced, shapes = jax.make_jaxpr(step, return_shape=True)(*args)
    check_convolutions(traced, precision)
    assert jax.tree.map(lambda x: x.dtype, shapes[0]) == jax.tree.map(lambda x: x.dtype, state)


def test_pictures_and_predictions_are_float32_in_any_precision():
    model = dataclasses.replace(MODEL, dtype="bfloat16")
    variables, inputs = model._abstract
    variables = {**variables, "branches": {e.name: model.branch_shapes(e) for e in model.exits}}
    variables["predictor"] = model.predictor_shapes
    made = jax.eval_shape(model.pictures, variables, inputs)
    assert {x.dtype for x in made} == {np.dtype("float32")}
    assert jax.eval_shape(model.predict, variables, inputs).dtype == np.float32
    parameters = jax.tree.leaves((variables, model.backbone_shapes))
    assert {x.dtype for x in parameters} == {np.dtype("float32")}
    taps = jax.eval_shape(model.full, variables, inputs)[1]
    assert {x.dtype for x in taps.values()} == {jnp.dtype("bfloat16")}


def test_a_bfloat16_step_is_near_the_float32_one():
    batch = unconditional()
    (_, exact, m), (_, rough, n) = (
        after_one_step(with_phase(precision=p), batch) for p in ("float32", "bfloat16")
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(rough))
    for name in m.keys() - {f"{net}_{norm}" for net in "gd" for norm in ("gradient", "update")}:
        assert float(n[name][0]) == pytest.approx(float(m[name][0]), rel=0.02, abs=0.01)
    for opt in ("opt_g", "opt_d"):
        a, b = gradient(exact, opt), gradient(rough, opt)
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99
        assert np.abs(a - b).max() > 0


# --- remat --------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", STEPS)
def test_remat_changes_no_gradient(step):
    batch = unconditional()
    (_, plain, m), (_, again, n) = (
        after_one_step(with_phase(step=step, remat=r), batch) for r in (False, True)
    )
    assert_same_gradients(again, plain)
    assert_same_metrics(n, m)


def test_remat_changes_no_variable():
    assert dataclasses.replace(MODEL, remat=True).backbone_shapes == MODEL.backbone_shapes


def test_remat_of_the_discriminator_changes_neither():
    net, x = Discriminator((3, 4), 2, last=4), np.ones((1, 8, 8, 3), np.float32)
    again = net.clone(remat=True)
    variables = by_hand.filled(net.init, x)
    assert jax.eval_shape(again.init, jax.random.key(0), x) == jax.tree.map(
        lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), variables
    )

    def gradients(net: Any):
        loss = jax.jit(jax.grad(lambda v: jnp.mean(net.apply(v, x) ** 2)))
        return jax.tree.leaves(loss(variables))

    for a, b in zip(gradients(net), gradients(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max() + 1e-6)


def kept_bytes(function, *args):
    """What differentiating `function` by its first argument keeps for the backward pass."""
    kept = jax.eval_shape(lambda *a: jax.vjp(lambda p: function(p, *a[1:]), a[0])[1], *args)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))


@pytest.mark.parametrize("network", ["generator", "discriminator", "any other discriminator"])
def test_remat_keeps_less_for_the_backward_pass(network, monkeypatch):
    model = MultiExit.of(tiny_config())
    state = backbone.init_state(model, PHASE, np.random.default_rng(0))
    batch = batch_of(8, 32)
    if network == "any other discriminator":  # one without a field `remat`
        other = nn.Sequential([Conv(8), nn.relu, Conv(8), nn.relu, Conv(8)])
        monkeypatch.setattr(type(model.family), "discriminator", lambda _: other)
        state = backbone.init_state(model, PHASE, np.random.default_rng(0))

    def run(model, params):
        if network == "generator":
            inputs = {**batch.inputs, "z": jnp.zeros((8, 4))}
            rest = (state["batch_stats"], state["spectral"], inputs)
            return backbone.generate(model, params, *rest)[0]
        return adversarial.discriminate(model, params, [state["d_spectral"]])(
            jnp.asarray(batch.target)
        )

    params = state["params" if network == "generator" else "d_params"]
    plain = kept_bytes(functools.partial(run, model), params)
    less = kept_bytes(functools.partial(run, dataclasses.replace(model, remat=True)), params)
    assert less < plain / 2
