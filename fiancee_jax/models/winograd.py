"""3x3 convolutions with 16 products in place of 36 for a 2x2 cell of pixels, for CPUs.

The algorithm F(2x2, 3x3) of Winograd (1980) as Lavin and Gray (2016, section 4.1) give it for
convolutions of many channels: cells of 4x4 pixels and the kernel are transformed by additions, so
that one product for each pair of channels is left at each of 16 places, and these are 16 matrix
products. Results are those of the direct convolution but for rounding (a few 1e-6 where they are of
the order of 1). The libraries behind XLA's GPU convolutions choose such algorithms themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PyTree = Any
Grid = Sequence[Sequence[Array]]

COLLECTION = "winograd"  # of variables: transformed kernels, in a tree like that of the params
LEAST = 80  # c d / (c + d) of the channels in and out, products for each value transformed
BATCHED = 512  # cells from which 16 products are faster than a batched one


def pays(fan_in: int, fan_out: int) -> bool:
    """Whether so many channels are worth the transforms (measured: docs/performance.md)."""
    return fan_in * fan_out >= LEAST * (fan_in + fan_out)


def suits(x: Float[Array, "b h w c"]) -> bool:
    """Whether x can be cut into cells, and is of the precision that this was made for."""
    return x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0 and x.dtype == jnp.float32


# --- kernels ------------------------------------------------------------------------------------
def kernels(params: PyTree) -> PyTree:
    """The collection `COLLECTION` of a module: transforms of those 3x3 kernels for which it pays.

    Args:
        params: its ``params``, spectral norm folded in.
    """
    found = {}
    for name, child in params.items():
        if isinstance(child, dict):
            inside = kernels(child)
            found |= {name: inside} if inside else {}
        elif name == "kernel" and _is_3x3(child.shape) and pays(*child.shape[2:]):
            found[name] = transformed(child)
    return found


def _is_3x3(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[:2] == (3, 3)


@jax.jit
def transformed(kernel: Float[Array, "3 3 c d"]) -> Float[Array, "4 4 c d"]:
    """``G g G^T``."""
    grid = _along_both(_of_kernel, [list(row) for row in kernel])
    return jnp.stack([jnp.stack(row) for row in grid])


# --- convolution --------------------------------------------------------------------------------
def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "4 4 c d"], bias: Float[Array, "d"] | None
) -> Float[Array, "b h w d"]:
    """The 'SAME' convolution of x, even sized, with the kernel that `transformed` was given."""
    b, h, w, _ = x.shape
    # A barrier, because XLA would compute what x is made of anew for every place that reads it.
    padded = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
    places = range(4)
    cells = [[padded[:, i : i + h - 1 : 2, j : j + w - 1 : 2] for j in places] for i in places]
    products = _products(_along_both(_of_input, cells), kernel)
    cell = _along_both(_of_product, products)
    y = jnp.stack([jnp.stack(row, axis=3) for row in cell], axis=2).reshape(b, h, w, -1)
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def _products(cells: Grid, kernel: Float[Array, "4 4 c d"]) -> Grid:
    """At each place the matrix product of all cells with the kernel."""
    shape, places = cells[0][0].shape, range(4)
    if shape[0] * shape[1] * shape[2] >= BATCHED:
        return [[cells[i][j] @ kernel[i, j] for j in places] for i in places]
    stacked = jnp.stack([jnp.stack(row) for row in cells]).reshape(4, 4, -1, shape[-1])
    found = (stacked @ kernel).reshape(4, 4, *shape[:-1], -1)
    return [list(row) for row in found]


# --- transforms ---------------------------------------------------------------------------------
def _along_both(transform: Callable[..., tuple[Array, ...]], grid: Grid) -> Grid:
    """A one-dimensional transform along the rows of a grid, then along its columns."""
    rows = [transform(*row) for row in grid]
    columns = [transform(*column) for column in zip(*rows, strict=True)]
    return list(zip(*columns, strict=True))


def _of_kernel(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_input(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a - c, b + c, c - b, b - d


def _of_product(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a + b + c, b - c - d
