"""The gradient of a 3x3 convolution in its kernel, for training on CPUs.

XLA:CPU computes it as a convolution whose window is the whole picture: for 48 to 24 channels at
192x256, batch 8, 1.0 to 1.1 s, where the convolution itself takes 0.08. Here it is a sum over bands
of rows, each a matrix product that stays in the cache: 0.18 s (`benchmarks.kernel_gradient`).

Only reverse mode knows it, so that it is used inside `by_bands` alone, which training enters while
it traces a step; elsewhere convolutions have all their derivatives.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST_PIXELS = 64 * 96  # of a picture; below, XLA's own is as fast
LEAST_PRODUCTS = 512  # channels in times out
BAND = 2**20  # numbers in a band's patches, 4 MB
LAYOUT = ("NHWC", "HWIO", "NHWC")

_active = contextvars.ContextVar("by_bands", default=False)


@contextlib.contextmanager
def by_bands() -> Iterator[None]:
    """Convolutions traced inside have this gradient, on CPUs and where it `suits`."""
    token = _active.set(True)
    try:
        yield
    finally:
        _active.reset(token)


def suits(x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"]) -> bool:
    """Whether `by_bands` is entered and the convolution is one for which it is faster."""
    pixels, products = x.shape[1] * x.shape[2], kernel.shape[2] * kernel.shape[3]
    large = pixels >= LEAST_PIXELS and products >= LEAST_PRODUCTS
    return _active.get() and large and kernel.shape[:2] == (3, 3) and x.dtype == jnp.float32


def plain(x: Float[Array, "b h w c"], kernel: Float[Array, "k l c d"]) -> Float[Array, "b h w d"]:
    """A 'SAME' convolution with step 1."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


@jax.custom_vjp
def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b h w d"]:
    """The same of a 3x3 kernel, with the gradient by bands."""
    return plain(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return plain(x, kernel), (x, kernel)


def _backward(kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(dy)
    dk = jax.lax.platform_dependent(x, dy, cpu=summed_by_bands, default=by_xla)
    return dx, dk


convolve.defvjp(_forward, _backward)


def by_xla(x: Float[Array, "b h w c"], dy: Float[Array, "b h w d"]) -> Float[Array, "3 3 c d"]:
    """The gradient in the kernel as XLA derives it, from input and cotangent."""
    like = jax.ShapeDtypeStruct((3, 3, x.shape[-1], dy.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda k: plain(x, k), like)(dy)[0]


def summed_by_bands(
    x: Float[Array, "b h w c"], dy: Float[Array, "b h w d"]
) -> Float[Array, "3 3 c d"]:
    """The same, band by band."""
    batch, height, width, channels = x.shape
    rows = _rows(height, BAND // (9 * batch * width * channels))
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def add(band: Array, done: Array) -> Array:
        near = jax.lax.dynamic_slice_in_dim(padded, band * rows, rows + 2, 1)
        given = jax.lax.dynamic_slice_in_dim(dy, band * rows, rows, 1)
        places = [near[:, i : i + rows, j : j + width] for i in range(3) for j in range(3)]
        return done + jnp.einsum("bhwc,bhwd->cd", jnp.concatenate(places, axis=-1), given)

    start = jnp.zeros((9 * channels, dy.shape[-1]), x.dtype)
    total = jax.lax.fori_loop(0, height // rows, add, start)
    return total.reshape(3, 3, channels, -1)


def _rows(height: int, most: int) -> int:
    """The largest divisor of the height that is at most `most`, or 1."""
    return next(r for r in range(max(1, min(most, height)), 0, -1) if height % r == 0)
