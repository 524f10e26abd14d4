"""Counts multiply-accumulates (MACs) and parameters of a function, without running it.

The count comes from the jaxpr: every convolution and every matrix product, at the shapes they are
called with. 1 MAC = 2 FLOPs. Sums, activations, normalisation and resizing are not counted, as
is usual in tables of such networks.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, cast

import jax
import numpy as np
from jax.core import ShapedArray
from jax.extend import core


def gmacs(
    fn: Callable[..., Any], *args: Any, dense: bool = True, only: Literal["conv"] | None = None
) -> float:
    """10^9 multiply-accumulates of one call `fn(*args)`; multiply by 2 for GFLOPs.

    Args:
      fn: a function of pytrees of arrays. Nothing is computed: shapes are enough.
      *args: arrays or `jax.ShapeDtypeStruct`s; the batch is part of the shape, so a batch of one
        gives the cost of one picture.
      dense: count a transposed (input-dilated) convolution as if the zeros put between its pixels
        were multiplied too, which is what most hardware does; False leaves those zeros out.
      only: "conv" leaves out matrix products, for comparison with tables of convolutions alone.

    Raises:
      ValueError: `fn` chooses between branches of different cost, or loops an unknown number of
        times over something that costs: one number would not be true of any call.
    """
    if only not in (None, "conv"):
        raise ValueError(f"only={only!r}; expected None (everything) or 'conv'.")
    jaxpr = jax.make_jaxpr(fn)(*args).jaxpr
    return _macs(jaxpr, _Rules(dense, only != "conv")) / 1e9


def parameters(tree: Any) -> int:
    """Number of values in all arrays of a pytree (arrays or ShapeDtypeStructs)."""
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))


class _Rules(NamedTuple):
    """What counts: the zeros put into dilated inputs, and matrix products."""

    zeros: bool
    products: bool


def _macs(jaxpr: core.Jaxpr, rules: _Rules) -> int:
    return sum(_equation(eqn, rules) for eqn in jaxpr.eqns)


def _equation(eqn: core.JaxprEqn, rules: _Rules) -> int:
    """MACs of one equation, including the jaxprs it calls (jit, remat, custom derivatives)."""
    name = eqn.primitive.name
    if name == "conv_general_dilated":
        return _convolution(eqn, rules)
    if name == "dot_general":
        return _product(eqn) if rules.products else 0
    inner = [_macs(jaxpr, rules) for jaxpr in _called(eqn)]
    if name == "scan":
        return eqn.params["length"] * sum(inner)
    if name == "cond":
        return _same(inner)
    if name == "while" and sum(inner):
        raise ValueError(
            "a while loop over convolutions or products has no fixed cost: its number of turns is "
            "known only when it runs. Cost its body alone, or loop with lax.scan."
        )
    return sum(inner)


def _convolution(eqn: core.JaxprEqn, rules: _Rules) -> int:
    """Output values times what each sums over: kernel pixels x input channels of its group.

    The kernel's own shape says the latter (its input axis is already divided by
    feature_group_count), and batch groups only shrink the output.
    """
    kernel, output = _shape(eqn.invars[1]), _shape(eqn.outvars[0])
    outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    macs = math.prod(output) * math.prod(kernel) // max(outputs, 1)
    return macs if rules.zeros else macs // math.prod(eqn.params["lhs_dilation"])


def _product(eqn: core.JaxprEqn) -> int:
    """Output values times the contracted sizes."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left, output = _shape(eqn.invars[0]), _shape(eqn.outvars[0])
    return math.prod(output) * math.prod(left[axis] for axis in contracted)


def _shape(variable: core.Var | core.Literal) -> tuple[int, ...]:
    return cast(ShapedArray, variable.aval).shape


def _called(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """Every jaxpr among the parameters of an equation."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _same(branches: list[int]) -> int:
    """The one cost of all branches; any other answer would be wrong for some input."""
    if len(set(branches)) > 1:
        each = ", ".join(f"{macs / 1e9:.6g}" for macs in branches)
        raise ValueError(
            f"lax.cond or lax.switch chooses between branches of {each} GMACs; a maximum or a mean "
            "would be true of no call. Cost each branch alone (exit by exit)."
        )
    return branches[0]
