"""SPADE's modulation from the distinct patterns of a label map: equal results, far fewer MACs.

The label convolution is a sum of table rows, one for each of nine labels, with z folded in. Its
output for a distinct 3x3 pattern is multiplied by all nine taps of the gamma/beta kernel at once; a
distinct 5x5 pattern then adds nine of these products, and every pixel looks its own up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fiancee_jax.models import winograd
from fiancee_jax.models.layers import PyTree, convolve
from fiancee_jax.models.patterns import Patterns, chunk, shifted

Apply = Callable[[Array, Array], Array]  # gamma, beta [b, h, w, c] -> features


class LabelMap(NamedTuple):
    """A label map in place of its one-hot encoding.

    Attributes:
        z: [b, d].
        labels: ids [b, h, w].
        num_classes: k.
        patterns: of the labels, or None to look labels up pixel by pixel.
    """

    z: Float[Array, "b d"]
    labels: Int[Array, "b h w"]
    num_classes: int
    patterns: Patterns | None


class _Layer(NamedTuple):
    """A SPADE layer over one map.

    Attributes:
        table: rows of the label convolution by sample, place and label, z included; 0 outside.
        hidden_bias: [hidden].
        kernel: of gamma and beta, [9, hidden, 2c].
        bias: [2c].
    """

    table: Float[Array, "r hidden"]
    hidden_bias: Float[Array, "hidden"]
    kernel: Float[Array, "9 hidden c2"]
    bias: Float[Array, "c2"]

    def hidden(self, rows: list[Array]) -> Array:
        """The label convolution's output where the nine places hold these rows of the table."""
        return jax.nn.relu(_add([_take(self.table, r) for r in rows], self.hidden_bias))


def modulation(variables: PyTree, seg: LabelMap, apply: Apply) -> Float[Array, "b h w c"]:
    """``apply(gamma, beta)`` of a SPADE layer.

    Args:
        variables: of `spade.Spade`; with a transformed kernel of gamma and beta, or without.
        seg: the map.
        apply: elementwise; it is called where gamma and beta are looked up, so that neither is ever
            written out.
    """
    layer = _layer(variables["params"], seg)
    transform = variables.get(winograd.COLLECTION, {}).get("gamma_beta", {}).get("kernel")
    dense = functools.partial(_by_pixel, layer, seg, apply, transform)
    if seg.patterns is None:
        return dense()
    return jax.lax.cond(
        seg.patterns.usable, functools.partial(_by_pattern, layer, seg, apply), dense
    )


def nine_rows(
    table: Float[Array, "r c2"], seg: LabelMap, apply: Apply, dense: Callable[[], Array]
) -> Float[Array, "b h w c"]:
    """``apply(gamma, beta)`` where both are a sum of nine rows, one for each label around a pixel.

    Args:
        table: rows by sample, place and label, as `Patterns.labels` counts them.
        seg: the map, with patterns.
        apply: elementwise.
        dense: the same pixel by pixel, for maps whose patterns cannot be used.
    """
    patterns = seg.patterns
    assert patterns is not None
    step, room = chunk(seg.labels.size), (patterns.labels.shape[1], table.shape[1])

    def sums(start: Array, done: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(patterns.labels, start, step, 1)
        zero = jnp.zeros(table.shape[1], table.dtype)
        return _put(done, _add([_take(table, r) for r in rows], zero), start)

    def found() -> Array:
        rows = _chunks(sums, patterns.part_count, step, jax.lax.empty(room, table.dtype))
        gamma, beta = jnp.split(rows, 2, axis=-1)
        index = _take(patterns.parts[4], patterns.index)  # the 3x3 pattern around the pixel itself
        return apply(_take(gamma, index), _take(beta, index))

    return jax.lax.cond(patterns.usable, found, dense)


def _layer(params: PyTree, seg: LabelMap) -> _Layer:
    dtype, depth = seg.z.dtype, seg.z.shape[1]
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    shared, last = params["shared"], params["gamma_beta"]
    kernel = shared["kernel"].reshape(9, -1, shared["bias"].size)
    z = jnp.einsum("bz,tzo->bto", seg.z, kernel[:, :depth])
    rows = kernel[None, :, depth:] + z[:, :, None]
    table = jnp.pad(rows, ((0, 0), (0, 0), (0, 1), (0, 0))).reshape(-1, shared["bias"].size)
    kernel = last["kernel"].reshape(9, -1, last["bias"].size)
    return _Layer(table, shared["bias"], kernel, last["bias"])


def _by_pixel(layer: _Layer, seg: LabelMap, apply: Apply, transform: Array | None) -> Array:
    """Look-ups instead of the label convolution, then the gamma/beta convolution itself."""
    sample = jnp.arange(len(seg.labels)).reshape(-1, 1, 1)
    around = enumerate(shifted(seg.labels, 1, seg.num_classes))
    hidden = layer.hidden([(sample * 9 + t) * (seg.num_classes + 1) + x for t, x in around])
    kernel = layer.kernel.reshape(3, 3, *layer.kernel.shape[1:])
    gamma, beta = jnp.split(convolve(hidden, kernel, layer.bias, transform), 2, axis=-1)
    return apply(gamma, beta)


def _by_pattern(layer: _Layer, seg: LabelMap, apply: Apply) -> Array:
    patterns, dtype = seg.patterns, layer.table.dtype
    assert patterns is not None
    step, width = chunk(seg.labels.size), layer.bias.size
    inner, outer = patterns.labels.shape[1], patterns.parts.shape[1]
    kernel = layer.kernel.transpose(1, 0, 2).reshape(-1, 9 * width)

    def products(start: Array, done: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(patterns.labels, start, step, 1)
        return _put(done, layer.hidden(list(rows)) @ kernel, start)

    def sums(start: Array, done: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(patterns.parts, start, step, 1)
        places = [_take(by_place, 9 * row + t) for t, row in enumerate(rows)]
        return _put(done, _add(places, layer.bias), start)

    outside = jnp.zeros((1, 9 * width), dtype)
    room = _put(jax.lax.empty((inner + 1, 9 * width), dtype), outside, inner)
    by_place = _chunks(products, patterns.part_count, step, room).reshape(-1, width)
    found = _chunks(sums, patterns.count, step, jax.lax.empty((outer, width), dtype))
    gamma, beta = jnp.split(found, 2, axis=-1)
    return apply(_take(gamma, patterns.index), _take(beta, patterns.index))


def _chunks(body: Callable[[Array, Array], Array], count: Array, step: int, start: Array) -> Array:
    """body(0), body(step), ... until `count` rows are done: no more work than the input needs."""
    turns = (count + step - 1) // step
    return jax.lax.fori_loop(0, turns, lambda i, done: body(i * step, done), start)


def _put(done: Array, new: Array, start: Array | int) -> Array:
    new = jax.lax.optimization_barrier(new)  # else XLA computes it element by element in place
    return jax.lax.dynamic_update_slice_in_dim(done, new, start, 0, allow_negative_indices=False)


def _take(table: Array, rows: Array) -> Array:
    return table.at[rows].get(mode="promise_in_bounds")


def _add(terms: list[Array], bias: Float[Array, "c"]) -> Array:
    total = bias.reshape(*(1,) * (terms[0].ndim - 1), -1)
    for term in terms:  # one by one: as an axis to reduce, XLA on CPU takes twenty times as long
        total = total + term
    return total
