import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.config import Exit, Guides, PredictorPhase
from fiancee_jax.exits import MultiExit
from fiancee_jax.models import patterns, winograd
from fiancee_jax.models.layers import initialise
from fiancee_jax.models.oasis import Oasis
from fiancee_jax.models.spade import Spade
from fiancee_jax.models.sparse_spade import LabelMap

CLASSES = ("a", "b", "c", "d")
FAMILY = Oasis(size=(64, 64), classes=CLASSES, width=8, hidden=16, z_dim=3, blocks=3)


def street(batch=2, side=64, seed=0):
    """Label maps of large areas with small things in front of them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((batch, side, side), np.int32)
    for one in labels:
        one[rng.integers(side // 4, side // 2) :] = 1
        y, x = rng.integers(0, side - 12, 2)
        one[y : y + 9, x : x + 5] = 2
        one[-5:, : rng.integers(6, side)] = 3
    return labels


def noise(batch=2, side=64):
    return np.random.default_rng(0).integers(0, len(CLASSES), (batch, side, side)).astype(np.int32)


def multi(family=FAMILY, **kwargs):
    exits = (Exit(1, 0.5), Exit(2, 0.5))
    return MultiExit(family, exits, Guides(form="learnt"), PredictorPhase(), **kwargs)


@functools.cache
def variables(light_block="spade"):
    model = multi(dataclasses.replace(FAMILY, light_block=light_block))
    rng = np.random.default_rng(0)
    shapes = {k: v for k, v in model.backbone_shapes.items() if k != "spectral"}
    branches = {e.name: initialise(model.branch_shapes(e), rng, 1.0) for e in model.exits}
    made = {"backbone": initialise(shapes, rng, 1.0), "branches": branches}
    return jax.tree_util.tree_map_with_path(_statistics, made)


def _statistics(path, x):
    """Batch norms that do something, biases that are not 0, pictures that are not saturated."""
    name, wave = path[-1].key, np.sin(np.arange(x.size)).reshape(x.shape)
    if "conv_img" in jax.tree_util.keystr(path):
        return x * 0.2
    return x + wave * {"mean": 0.2, "var": 0.5, "bias": 0.3}.get(name, 0)


def inputs(labels, seed=0):
    z = np.random.default_rng(seed).standard_normal((len(labels), 3)).astype(np.float32)
    return {"labels": jnp.asarray(labels), "z": jnp.asarray(z)}


@functools.partial(jax.jit, static_argnames=("model", "number"))
def picture(model, variables, inputs, number):
    return model.picture(variables, inputs, number)


def logits(image):
    return np.arctanh(np.clip(np.asarray(image, np.float64), -1 + 1e-7, 1 - 1e-7))


@pytest.mark.parametrize("labels", [street(), noise()], ids=["street", "noise"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_pictures_are_those_of_the_dense_path(labels, number):
    given = inputs(labels)
    dense = picture(multi(), variables(), given, number)
    sparse = picture(multi(sparse=True), variables(), given, number)
    assert float(dense.std()) > 0.05
    assert float(jnp.abs(dense).max()) < 0.99
    np.testing.assert_allclose(sparse, dense, atol=2e-6)
    np.testing.assert_allclose(logits(sparse), logits(dense), atol=2e-5)


def test_street_maps_take_the_sparse_path_and_noise_does_not():
    for labels, usable in ((street(), True), (noise(), False)):
        smallest, *searched = FAMILY.sparse_condition(inputs(labels)).patterns or (None,)
        assert smallest is None  # 16x16: not worth a search
        assert [bool(p and p.usable) for p in searched] == [usable, usable]


@pytest.mark.parametrize("block", ["inception", "transformer"])
def test_other_light_blocks_take_label_maps_too(block):
    model, given = multi(dataclasses.replace(FAMILY, light_block=block)), inputs(street())
    made = variables(block)
    dense = picture(model, made, given, 1)
    sparse = picture(dataclasses.replace(model, sparse=True), made, given, 1)
    np.testing.assert_allclose(sparse, dense, atol=2e-6)


def test_a_layer_is_exact_for_every_pixel_of_a_searched_map():
    rng = np.random.default_rng(1)
    labels = jnp.asarray(street(side=32))
    z = jnp.asarray(rng.standard_normal((2, 3)), jnp.float32)
    x = jnp.asarray(rng.standard_normal((2, 32, 32, 6)), jnp.float32)
    onehot = jax.nn.one_hot(labels, 4)
    seg = jnp.concatenate([jnp.broadcast_to(z[:, None, None], (2, 32, 32, 3)), onehot], -1)
    layer = Spade(hidden=5)
    made = initialise(
        jax.eval_shape(lambda: layer.init(jax.random.key(0), x, seg, train=False)), rng, 1.0
    )
    found = patterns.find(labels, 4)
    assert found is not None
    assert bool(found.usable)
    for kept in (found, None):
        apart: Any = layer.apply(made, x, LabelMap(z, labels, 4, kept), train=False)
        whole: Any = layer.apply(made, x, seg, train=False)
        np.testing.assert_allclose(apart, whole, atol=3e-6)


def test_unproven_patterns_fall_back_to_the_dense_path(monkeypatch):
    monkeypatch.setattr(patterns, "_hash", lambda words, turn: jnp.zeros(len(words), jnp.uint32))
    given = inputs(street())
    found = FAMILY.sparse_condition(given).patterns or ()
    assert [p and bool(p.usable) for p in found] == [None, False, False]
    sparse = jax.jit(lambda v, i: multi(sparse=True).picture(v, i, 3))(variables(), given)
    np.testing.assert_allclose(sparse, picture(multi(), variables(), given, 3), atol=2e-6)


def test_bfloat16_stays_near_the_dense_path():
    given = inputs(street())
    dense = picture(multi(dtype="bfloat16"), variables(), given, 3)
    sparse = picture(multi(dtype="bfloat16", sparse=True), variables(), given, 3)
    exact = picture(multi(), variables(), given, 3)
    error = float(jnp.abs(dense - exact).mean())
    assert float(jnp.abs(sparse - exact).mean()) < 1.2 * error


def test_derivatives_and_vmap_are_those_of_the_dense_path():
    given = inputs(street(batch=1))

    def total(z, model):
        return (model.picture(variables(), {**given, "z": z}, 1) ** 2).sum()

    dense, sparse = (
        jax.jit(jax.value_and_grad(lambda z, m=m: total(z, m)))(given["z"])
        for m in (multi(), multi(sparse=True))
    )
    np.testing.assert_allclose(sparse[0], dense[0], rtol=1e-5)
    np.testing.assert_allclose(sparse[1], dense[1], rtol=1e-4)
    many = jnp.stack([given["z"], 2 * given["z"]])
    mapped = jax.jit(
        jax.vmap(lambda z: multi(sparse=True).picture(variables(), {**given, "z": z}, 1))
    )
    alone = picture(multi(), variables(), {**given, "z": many[1]}, 1)
    np.testing.assert_allclose(mapped(many)[1], alone, atol=2e-6)


def test_costs_are_counted_dense():
    assert multi(sparse=True).gmacs == multi().gmacs


@pytest.mark.parametrize("labels", [street(), noise()], ids=["street", "noise"])
@pytest.mark.parametrize("number", [1, 3])
def test_transformed_kernels_change_no_picture(monkeypatch, labels, number):
    monkeypatch.setattr(winograd, "LEAST", 1)
    model, given = multi(sparse=True), inputs(labels)
    made = model.prepared(variables())
    stage = made["backbone"][winograd.COLLECTION]["stages_2"]["block"]
    assert set(stage["norm_0"]) == {"shared", "gamma_beta"}
    assert stage["conv_0"]["kernel"].shape == (4, 4, 16, 8)
    sparse = picture(model, made, given, number)
    dense = picture(multi(), variables(), given, number)
    np.testing.assert_allclose(logits(sparse), logits(dense), atol=2e-5)
    text = picture.lower(model, made, given, number).as_text()
    assert text.count("stablehlo.convolution") < 3  # those of odd sizes or of few channels


def test_transformed_kernels_can_be_differentiated(monkeypatch):
    monkeypatch.setattr(winograd, "LEAST", 1)
    model, given = multi(sparse=True), inputs(street(1))
    made = model.prepared(variables())

    @functools.partial(jax.jit, static_argnames="model")
    @functools.partial(jax.grad, argnums=2)
    def gradient(model, variables, z):
        return jnp.mean(model.picture(variables, {**given, "z": z}, 2) ** 2)

    found = gradient(model, made, given["z"])
    expected = gradient(multi(), variables(), given["z"])
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-4)


def test_kernels_are_transformed_only_for_the_sparse_path_in_float32():
    for options in ({}, {"sparse": True, "dtype": "bfloat16"}):
        assert multi(**options).prepared(variables()) is variables()
    assert multi(sparse=True).prepared(variables())["backbone"] is variables()["backbone"]  # thin
