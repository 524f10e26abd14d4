"""Winograd's convolution against a direct one in NumPy, and which kernels are transformed."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax import cost
from fiancee_jax.models import winograd
from fiancee_jax.models.layers import Conv

# Lavin and Gray (2016), eq. 7: G of F(2x2, 3x3)
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def layer(c, d, seed=0):
    rng = np.random.default_rng(seed)
    kernel = (rng.standard_normal((3, 3, c, d)) / np.sqrt(9 * c)).astype(np.float32)
    return {"kernel": kernel, "bias": rng.standard_normal(d).astype(np.float32)}


def features(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_transformed_kernel_by_hand():
    kernel = layer(2, 3)["kernel"]
    expected = np.einsum("ai,bj,ijcd->abcd", G, G, kernel)
    np.testing.assert_allclose(winograd.transformed(kernel), expected, atol=1e-6)


sides = st.integers(1, 5).map(lambda n: 2 * n)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 3), sides, sides, st.integers(1, 9), st.integers(1, 9))
def test_it_is_the_direct_convolution(b, h, w, c, d):
    params, x = layer(c, d), jnp.asarray(features(b, h, w, c))
    kernel = winograd.transformed(params["kernel"])
    found = jax.jit(winograd.convolve)(x, kernel, params["bias"])
    np.testing.assert_allclose(found, by_hand.conv(params, x), atol=1e-5)


@pytest.mark.parametrize("cells", [1, 10**9])
def test_one_batched_product_or_sixteen(monkeypatch, cells):
    monkeypatch.setattr(winograd, "BATCHED", cells)
    params, x = layer(40, 24), features(2, 8, 12, 40)
    kernel = winograd.transformed(params["kernel"])
    found = jax.jit(lambda *a: winograd.convolve(*a))(x, kernel, None)
    expected = by_hand.conv({"kernel": params["kernel"]}, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_needs_four_ninths_of_the_products():
    params, x = layer(6, 5), features(1, 8, 8, 6)
    kernel = winograd.transformed(params["kernel"])
    found = cost.gmacs(winograd.convolve, x, kernel, params["bias"])
    assert found == pytest.approx(8 * 8 * 9 * 6 * 5 / 1e9 * 4 / 9)


def test_it_can_be_differentiated():
    params, x = layer(4, 3), features(1, 4, 6, 4)
    kernel = winograd.transformed(params["kernel"])
    summed = lambda x: jnp.sum(winograd.convolve(x, kernel, None))  # noqa: E731
    grad = jax.jit(jax.grad(summed))(jnp.asarray(x))
    ones = np.ones((1, 4, 6, 3))  # the adjoint: the flipped kernel, channels exchanged
    flipped = {"kernel": params["kernel"][::-1, ::-1].transpose(0, 1, 3, 2)}
    np.testing.assert_allclose(grad, by_hand.conv(flipped, ones), atol=1e-5)


def test_only_kernels_that_pay_are_transformed():
    large, thin, point = layer(256, 128), layer(256, 8), {"kernel": np.ones((1, 1, 256, 256))}
    product = {"kernel": np.ones((3, 3))}  # of a dense layer
    params = {"a": {"wide": large, "thin": thin}, "b": {"point": point, "product": product}}
    found = winograd.kernels(params)
    assert jax.tree.map(jnp.shape, found) == {"a": {"wide": {"kernel": (4, 4, 256, 128)}}}
    assert not winograd.pays(128, 128)


@pytest.mark.parametrize(
    ("shape", "dtype", "used"),
    [((1, 4, 6, 3), "float32", True), ((1, 4, 5, 3), "float32", False),
     ((1, 3, 6, 3), "float32", False), ((1, 4, 6, 3), "bfloat16", False)],
)  # fmt: skip
def test_a_layer_uses_its_transformed_kernel_where_it_can(shape, dtype, used):
    params, x = layer(3, 5), jnp.asarray(features(*shape), dtype)
    made = {"params": params, "winograd": {"kernel": winograd.transformed(params["kernel"])}}
    module = Conv(5)
    text = jax.jit(module.apply).lower(made, x).as_text()
    assert ("stablehlo.convolution" not in text) == used
    expected = by_hand.conv(params, np.asarray(x, np.float64))
    tolerance = 1e-5 if dtype == "float32" else 0.1
    found = np.asarray(jax.jit(module.apply)(made, x), np.float64)
    np.testing.assert_allclose(found, expected, atol=tolerance)
