"""Residual blocks: standardised weights, group norm and volumes against NumPy."""

from typing import Any

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiancee_jax.models import residual
from fiancee_jax.models.layers import initialise

RNG = np.random.default_rng(0)


def drawn(module, *args):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
    return initialise(shapes, np.random.default_rng(1), 1.0)


def run(module, params, *args) -> Any:
    return module.apply({"params": params}, *args)


def features(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


@given(st.integers(1, 1024))
def test_groups_divide_the_channels_and_are_no_instance_norm(channels):
    count = residual.groups(channels)
    assert channels % count == 0
    assert 1 <= count <= 32
    assert count == 1 or channels // count >= 8


def test_the_published_widths_have_32_groups():
    assert [residual.groups(c) for c in (512, 256, 1536, 96, 24)] == [32, 32, 32, 12, 3]


def test_standardised_weights_have_mean_0_and_length_1():
    kernel = features(3, 3, 5, 7) * 3 + 1
    found = np.asarray(residual.standardised(jnp.asarray(kernel)))
    np.testing.assert_allclose(found.sum((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose((found**2).sum((0, 1, 2)), 1, rtol=1e-4)
    scaled = np.asarray(residual.standardised(jnp.asarray(5 * kernel + 2)))
    np.testing.assert_allclose(scaled, found, atol=1e-5)


def group_norm(x, count, scale, bias):
    x = np.asarray(x)
    b, h, w, c = x.shape
    cells = x.reshape(b, h * w, count, c // count).astype(np.float64)
    mean, var = cells.mean((1, 3), keepdims=True), cells.var((1, 3), keepdims=True)
    return ((cells - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * scale + bias


def by_numpy(x, layer):
    x = np.asarray(x)
    scale = np.asarray(layer["gain" if "gain" in layer else "scale"])
    kernel = np.asarray(residual.standardised(layer["kernel"])) * scale
    return by_hand.conv({"kernel": kernel, "bias": layer["bias"]}, x)


def test_a_block_by_hand():
    x, block = features(2, 4, 6, 16), residual.ResBlock(8)
    params = drawn(block, x)["params"]
    params["conv_0"]["scale"] = 1 + 0.1 * features(8)
    params["conv_1"]["gain"] = 1 - 0.1 * features(8)
    dx = group_norm(x, 2, 1, 0)
    dx = by_numpy(np.maximum(dx, 0), params["conv_0"])
    dx = by_numpy(np.maximum(group_norm(dx, 1, 1, 0), 0), params["conv_1"])
    expected = dx + by_numpy(x, params["skip"])
    np.testing.assert_allclose(run(block, params, x), expected, atol=2e-4)


def test_a_fresh_block_is_its_skip():
    x, block = features(1, 4, 4, 8), residual.ResBlock(8)
    params = drawn(block, x)["params"]
    assert "skip" not in params
    np.testing.assert_array_equal(run(block, params, x), x)
    volume = features(1, 2, 4, 4, 8)
    same, wider = residual.ResBlock3D(8), residual.ResBlock3D(16, still=True)
    np.testing.assert_array_equal(run(same, drawn(same, volume)["params"], volume), volume)
    assert not np.any(run(wider, drawn(wider, volume)["params"], volume))


def test_a_fresh_block_learns_at_once():
    x, block = features(1, 4, 4, 8), residual.ResBlock(8)
    params = drawn(block, x)["params"]
    gradient = jax.grad(lambda p: jnp.sum(run(block, p, x) ** 2))(params)
    assert np.abs(gradient["conv_1"]["gain"]).min() > 0


@pytest.mark.parametrize("size", [1, 3])
def test_a_convolution_of_volumes_is_xlas_own(size):
    x, conv = features(2, 4, 6, 5, 3), residual.StandardConv3D(7, size)
    variables = drawn(conv, x)
    layer = variables["params"]["planes"]
    kernel = np.asarray(residual.standardised(layer["kernel"]))
    depth = kernel.reshape(size, size, -1, 3, 7).transpose(2, 0, 1, 3, 4)  # [depth, h, w, c, d]
    layout = ("NDHWC", "DHWIO", "NDHWC")
    expected = jax.lax.conv_general_dilated(
        x, jnp.asarray(depth), (1, 1, 1), "SAME", dimension_numbers=layout
    )
    np.testing.assert_allclose(run(conv, variables["params"], x), expected, atol=1e-4)


def test_a_code_scales_and_shifts_the_norms():
    x, code, block = features(1, 2, 4, 4, 8), features(1, 5), residual.ResBlock3D(8)
    params = drawn(block, x, code)["params"]
    params["conv_1"]["planes"]["gain"] = np.ones(8, np.float32)
    plain = {k: v for k, v in params.items() if not k.endswith("_code")}
    silent = {
        k: jax.tree.map(np.zeros_like, v) if k.endswith("_code") else v for k, v in params.items()
    }
    same = run(block, plain, x)
    np.testing.assert_allclose(run(block, silent, x, code), same, atol=1e-6)
    assert np.abs(run(block, params, x, code) - same).max() > 0.01


@pytest.mark.parametrize("depth", [1, 2])
def test_growing_is_undone_by_pooling(depth):
    x = features(2, 4, 3, 5, 2)
    grown = residual.grow_volume(x, depth)
    assert grown.shape == (2, 4 * depth, 6, 10, 2)
    np.testing.assert_allclose(residual.pool_volume(grown, depth), x, atol=1e-6)


def test_bfloat16_stays_bfloat16():
    x = jnp.zeros((1, 2, 4, 4, 8), jnp.bfloat16)
    block = residual.ResBlock3D(16)
    code = jnp.zeros((1, 3), jnp.bfloat16)
    assert jax.eval_shape(block.apply, drawn(block, x, code), x, code).dtype == jnp.bfloat16
