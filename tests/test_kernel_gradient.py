"""The kernel's gradient by bands of rows: equal to XLA's own, in training alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fiancee_jax.models import kernel_gradient
from fiancee_jax.models.kernel_gradient import by_bands, suits
from fiancee_jax.models.layers import convolve

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def gradients(x, kernel, seen):
    """Of a convolution weighed by `seen`, in its input and in its kernel."""
    return jax.grad(lambda x, k: jnp.sum(seen * convolve(x, k, None)), (0, 1))(x, kernel)


def by_hand(x, dy):
    """The sum over all pixels of what lies at each place, times the pixel's cotangent."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float64)
    places = [
        [np.einsum("bhwc,bhwd->cd", padded[:, i : i + height, j : j + width], dy) for j in range(3)]
        for i in range(3)
    ]
    return np.array(places)


@settings(deadline=None, max_examples=12)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    band=st.integers(1, 400),
)
def test_any_shape_and_band_by_hand(shape, channels, band):
    x, dy = normal(*shape, channels[0]), normal(*shape, channels[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_gradient, "BAND", band)
        found = kernel_gradient.summed_by_bands(jnp.asarray(x), jnp.asarray(dy))
    np.testing.assert_allclose(found, by_hand(x, dy), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("height", "most", "rows"), [(12, 5, 4), (13, 5, 1), (8, 0, 1), (8, 99, 8)]
)
def test_bands_divide_the_height(height, most, rows):
    assert kernel_gradient._rows(height, most) == rows


def whole(*shape):
    """Small whole numbers: float32 adds thousands of their products exactly, in any order."""
    return jnp.asarray(RNG.integers(-4, 5, shape), jnp.float32)


X, KERNEL, SEEN = whole(2, 64, 96, 24), whole(3, 3, 24, 22), whole(2, 64, 96, 22)


def test_both_gradients_are_those_without_it():
    plain = jax.jit(gradients)(X, KERNEL, SEEN)
    banded = jax.jit(by_bands()(gradients))(X, KERNEL, SEEN)
    for one, other in zip(plain, banded, strict=True):
        assert float(jnp.abs(one).max()) > 100
        np.testing.assert_array_equal(one, other)


def test_it_is_used_where_it_suits():
    text = lambda f, *a: str(jax.make_jaxpr(f)(*a))  # noqa: E731
    assert "custom_vjp" not in text(lambda x, k: convolve(x, k, None), X, KERNEL)
    banded = by_bands()(lambda x, k: convolve(x, k, None))
    assert "custom_vjp" in text(banded, X, KERNEL)
    for x, kernel in (
        (X[:, :63], KERNEL),  # too small a picture
        (X, KERNEL[..., :21]),  # too few products
        (X, KERNEL[:1, :1]),
        (X.astype(jnp.bfloat16), KERNEL),
    ):
        assert "custom_vjp" not in text(banded, x, kernel)


def test_it_is_left_behind_even_after_an_error():
    def fails():
        assert suits(X, KERNEL)
        raise KeyError

    assert not suits(X, KERNEL)
    with pytest.raises(KeyError):
        by_bands()(fails)()
    assert not suits(X, KERNEL)


def test_forward_mode_is_there_outside():
    along = functools.partial(convolve, kernel=KERNEL, bias=None)
    _, moved = jax.jvp(along, (X,), (X,))
    np.testing.assert_allclose(moved, along(X), rtol=1e-5, atol=1e-5)


def test_on_several_devices():
    """The batch may be split over devices: each sums its own, then they are added."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    x, seen = jax.device_put((X, SEEN), split)
    one = jax.jit(by_bands()(gradients))(X, KERNEL, SEEN)
    two = jax.jit(by_bands()(gradients))(x, KERNEL, seen)
    assert two[0].sharding.is_equivalent_to(split, 4)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    text = jax.jit(by_bands()(gradients)).lower(x, KERNEL, seen).compile().as_text()
    assert "all-gather" not in str(text)
