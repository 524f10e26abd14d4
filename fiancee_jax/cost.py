"""Counts multiply-accumulates (MACs) and parameters of a function, without running it.

The count comes from the jaxpr: every convolution and every matrix product, at the shapes they are
called with. 1 MAC = 2 FLOPs. Sums, activations, normalisation and resizing are not counted, as
is usual in tables of such networks.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import numpy as np
from jax.core import ShapedArray
from jax.extend import core


def gmacs(fn: Callable[..., Any], *args: Any, dense: bool = True) -> float:
    """10^9 multiply-accumulates of one call `fn(*args)`; multiply by 2 for GFLOPs.

    Args:
      fn: a function of pytrees of arrays. Nothing is computed: shapes are enough.
      *args: arrays or `jax.ShapeDtypeStruct`s; the batch is part of the shape, so a batch of one
        gives the cost of one picture.
      dense: count a transposed (input-dilated) convolution as if the zeros put between its pixels
        were multiplied too, which is what most hardware does; False leaves those zeros out.

    Raises:
      ValueError: `fn` chooses between branches of different cost, or loops an unknown number of
        times over something that costs: one number would not be true of any call.
    """
    return sum(by_scope(fn, *args, dense=dense).values()) / 1e9


def by_scope(fn: Callable[..., Any], *args: Any, dense: bool = True) -> dict[str, int]:
    """MACs of one call by where in the program they are spent.

    A scope is the path of linen modules and `jax.named_scope`s around a convolution or product,
    ``Backbone/head/conv_img``; "" is outside of all. Where a choice between branches of one cost is
    counted, the scopes are those of the first.

    Args:
      fn, *args, dense: see `gmacs`.

    Returns:
      Scope -> multiply-accumulates (not 10^9), in the order of the program; their sum is `gmacs`.

    Raises:
      ValueError: see `gmacs`.
    """
    jaxpr = jax.make_jaxpr(fn)(*args).jaxpr
    return dict(_macs(jaxpr, dense, ""))


def parameters(tree: Any) -> int:
    """Number of values in all arrays of a pytree (arrays or ShapeDtypeStructs)."""
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))


def _macs(jaxpr: core.Jaxpr, zeros: bool, scope: str) -> Counter[str]:
    """MACs of a jaxpr called in `scope`, by scope; only scopes that cost something.

    `zeros` says whether those put between the pixels of dilated inputs count.
    """
    total = Counter[str]()
    for eqn in jaxpr.eqns:
        total.update(_equation(eqn, zeros, _joined(scope, str(eqn.source_info.name_stack))))
    return total


def _equation(eqn: core.JaxprEqn, zeros: bool, scope: str) -> Counter[str]:
    """MACs of one equation, including the jaxprs it calls (jit, remat, custom derivatives)."""
    name = eqn.primitive.name
    if name == "conv_general_dilated":
        return Counter({scope: _convolution(eqn, zeros)})
    if name == "dot_general":
        return Counter({scope: _product(eqn)})
    inner = [_macs(jaxpr, zeros, scope) for jaxpr in _called(eqn)]
    if name == "cond":
        return _same(inner)
    total = Counter[str]()
    for part in inner:
        total.update(part)
    if name == "scan":
        return Counter({key: eqn.params["length"] * macs for key, macs in total.items()})
    if name == "while" and total.total():
        raise ValueError(
            "a while loop over convolutions or products has no fixed cost: its number of turns is "
            "known only when it runs. Cost its body alone, or loop with lax.scan."
        )
    return total


def _joined(outer: str, stack: str) -> str:
    """The scope of an equation: a called jaxpr's stacks begin at the call.

    What a transformation puts around names, ``jvp(head)``, is taken off.
    """
    names = re.sub(r"\w+\(|\)", "", stack).split("/")
    return "/".join(name for name in (outer, *names) if name)


def _convolution(eqn: core.JaxprEqn, zeros: bool) -> int:
    """Output values times what each sums over: kernel pixels x input channels of its group.

    The kernel's own shape says the latter (its input axis is already divided by
    feature_group_count), and batch groups only shrink the output.
    """
    kernel, output = _shape(eqn.invars[1]), _shape(eqn.outvars[0])
    outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    macs = math.prod(output) * math.prod(kernel) // max(outputs, 1)
    return macs if zeros else macs // math.prod(eqn.params["lhs_dilation"])


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


def _same(branches: list[Counter[str]]) -> Counter[str]:
    """The one cost of all branches; any other answer would be wrong for some input."""
    if len({branch.total() for branch in branches}) > 1:
        each = ", ".join(f"{branch.total() / 1e9:.6g}" for branch in branches)
        raise ValueError(
            f"lax.cond or lax.switch chooses between branches of {each} GMACs; a maximum or a mean "
            "would be true of no call. Cost each branch alone (exit by exit)."
        )
    return branches[0]
