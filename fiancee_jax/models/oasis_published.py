"""State dicts of the published PyTorch OASIS, by name, as variables of our modules.

Every tensor we need follows from the shapes of our own trees: their names and their axes are
translated here, so that whatever is missing, left over or of another shape can be said in the
published names. Nothing here reads files.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax.errors import UserError
from fiancee_jax.models.branches import Backbone
from fiancee_jax.models.oasis import Oasis

Tensors = Mapping[str, np.ndarray]
PyTree = Any
FEW = 6  # names in one message
LONGEST = 80  # characters of a name that are shown


class Weight(NamedTuple):
    """One of our convolutions and the published ones stacked in it.

    Attributes:
        path: in our ``params``.
        names: published names; two for gamma and beta.
        kernel: shape of one published kernel, (out, in, h, w).
        bias: whether it has one.
        spectral: whether spectral norm applies.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    kernel: tuple[int, ...]
    bias: bool
    spectral: bool


# --- names --------------------------------------------------------------------------------------
def canonical(tensors: Tensors) -> dict[str, np.ndarray]:
    """The tensors under their plain published names.

    A prefix that all share (``module.`` of DataParallel) is dropped, torch's newer spectral-norm
    parametrisation takes the older names, and counters of batch norm are left out.

    Raises:
        UserError: two tensors come to one name.
    """
    names = {name: name for name in tensors}
    while names and len(firsts := {n.partition(".")[0] for n in names.values()}) == 1:
        prefix = f"{firsts.pop()}."
        if not all(n.startswith(prefix) for n in names.values()):
            break
        names = {name: n.removeprefix(prefix) for name, n in names.items()}
    found: dict[str, np.ndarray] = {}
    for name, short in names.items():
        short = short.replace(".parametrizations.weight.original", ".weight_orig")
        short = re.sub(r"\.parametrizations\.weight\.0\._([uv])$", r".weight_\1", short)
        if short in found:
            raise UserError(f"{_few([short])} is there twice, by its older and its newer name.")
        if not short.endswith("num_batches_tracked"):
            found[short] = tensors[name]
    return found


def is_discriminator(tensors: Tensors) -> bool:
    """Whether these are the names of an OASIS discriminator."""
    return any(name.startswith("body_down.") for name in tensors)


def is_generator(tensors: Tensors) -> bool:
    """Whether these are the names of an OASIS generator."""
    return "body.0.norm_0.mlp_shared.0.weight" in tensors


def generator_family(tensors: Tensors, base: Oasis) -> tuple[Oasis, int]:
    """`base` with the width, blocks and hidden channels of a generator; and classes + z_dim.

    Raises:
        UserError: it is no OASIS generator.
    """
    needed = ("fc.weight", "conv_img.weight", "body.0.norm_0.mlp_shared.0.weight")
    absent = [name for name in needed if name not in tensors]
    if not is_generator(tensors):
        raise UserError(
            f"found {_few(list(tensors))}: not the names of an OASIS generator ({needed[0]}, "
            f"body.0.conv_0.weight_orig, {needed[2]}, {needed[1]}, ...). Give its state dict alone."
        )
    if absent:
        raise UserError(f"not a whole OASIS generator; missing: {', '.join(absent)}.")
    for name in needed:
        if tensors[name].ndim != 4:
            shape = list(tensors[name].shape)
            raise UserError(f"{name} has shape {shape}; expected a kernel [out, in, h, w].")
    blocks = {n.split(".")[1] for n in tensors if re.match(r"body\.\d+\.", n)}
    if not 2 <= len(blocks) <= 6:
        raise UserError(f"found {len(blocks)} blocks (body.0, ...); an OASIS generator has 2 to 6.")
    width, hidden = tensors["conv_img.weight"].shape[1], tensors[needed[2]].shape[0]
    family = dataclasses.replace(base, width=width, hidden=hidden, blocks=len(blocks))
    return family, tensors["fc.weight"].shape[1]


def discriminator_shape(tensors: Tensors) -> tuple[tuple[int, ...], int, int]:
    """Channels after each encoder block, channels after the last decoder block, classes.

    Raises:
        UserError: it is no OASIS discriminator.
    """
    blocks = len({n.split(".")[1] for n in tensors if re.match(r"body_down\.\d+\.", n)})
    names = [f"body_down.{i}.{'conv1.0' if i == 0 else 'conv1.1'}.weight" for i in range(blocks)]
    kernels = [tensors.get(f"{name}_orig", tensors.get(name)) for name in names]
    last = tensors.get("layer_up_last.weight")
    if any(k is None or k.ndim != 4 for k in (last, *kernels)) or last is None or not blocks:
        raise UserError(
            f"found {_few(list(tensors))}: not the names of an OASIS discriminator "
            "(body_down.0.conv1.0.weight_orig, body_up.0.conv1.2.weight_orig, ..., "
            "layer_up_last.weight)."
        )
    channels = tuple(kernel.shape[0] for kernel in kernels if kernel is not None)
    return channels, last.shape[1], last.shape[0] - 1


def _published_generator(path: tuple[str, ...]) -> tuple[str, ...]:
    if path[0] in ("stem", "head"):
        return path[1:]
    _, block, *rest = (path[0], f"body.{path[0].removeprefix('stages_')}", *path[2:])
    parts = {"shared": ("mlp_shared.0",), "gamma_beta": ("mlp_gamma", "mlp_beta")}
    last = parts.get(rest[-1], (rest[-1],))
    return tuple(".".join((block, *rest[:-1], name)) for name in last)


def _published_discriminator(path: tuple[str, ...]) -> tuple[str, ...]:
    if path == ("last",):
        return ("layer_up_last",)
    side, index = path[0].split("_")
    first = {"up": "conv1.2", "down": "conv1.0" if index == "0" else "conv1.1"}[side]
    layer = {"conv1": first, "conv2": "conv2.1", "conv_s": "conv_s"}[path[1]]
    return (f"body_{side}.{index}.{layer}",)


# --- trees --------------------------------------------------------------------------------------
def generator(tensors: Tensors, family: Oasis) -> PyTree:
    """Variables of `Backbone` {params, batch_stats, spectral}.

    Raises:
        UserError: tensors are missing, left over, of another shape, not finite, or degenerate.
    """
    condition = jax.eval_shape(family.condition, family.abstract_inputs(1))
    shapes = jax.eval_shape(Backbone(family).init, jax.random.key(0), condition)
    weights = list(_weights(shapes, _published_generator))
    norms = {
        (*path, part): f"{_published_generator(path[:-1])[0]}.first_norm.running_{part}"
        for path in _paths(shapes["batch_stats"], "mean")
        for part in ("mean", "var")
    }
    expected = _expected(weights, tensors)
    expected |= {n: _at(shapes["batch_stats"], path).shape for path, n in norms.items()}
    _check(tensors, expected)
    stats: PyTree = {}
    for path, name in norms.items():
        _put(stats, path, tensors[name].astype(np.float32))
    return {**_variables(weights, tensors), "batch_stats": stats}


def discriminator(tensors: Tensors, family: Oasis) -> PyTree:
    """Variables of the family's discriminator {params, spectral}.

    Raises:
        UserError: see `generator`.
    """
    picture = jax.ShapeDtypeStruct((1, *family.size, 3), jnp.float32)
    shapes = jax.eval_shape(family.discriminator().init, jax.random.key(0), picture)
    weights = list(_weights(shapes, _published_discriminator))
    _check(tensors, _expected(weights, tensors))
    return _variables(weights, tensors)


def _weights(shapes: PyTree, published: Any) -> Iterator[Weight]:
    for path in _paths(shapes["params"], "kernel"):
        leaf, names = _at(shapes["params"], path), published(path)
        h, w, fan_in, fan_out = leaf["kernel"].shape
        kernel = (fan_out // len(names), fan_in, h, w)
        spectral = _at(shapes["spectral"], path) is not None
        yield Weight(path, names, kernel, "bias" in leaf, spectral)


def _expected(weights: list[Weight], tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """Published names and shapes; spectral norm may be folded into a plain ``weight``."""
    expected: dict[str, tuple[int, ...]] = {}
    for weight in weights:
        out, inside = weight.kernel[0], math.prod(weight.kernel[1:])
        for name in weight.names:
            if weight.spectral and f"{name}.weight" not in tensors:
                expected[f"{name}.weight_orig"] = weight.kernel
                expected |= {f"{name}.weight_u": (out,), f"{name}.weight_v": (inside,)}
            else:
                expected[f"{name}.weight"] = weight.kernel
            if weight.bias:
                expected[f"{name}.bias"] = (out,)
    return expected


def _variables(weights: list[Weight], tensors: Tensors) -> PyTree:
    params: PyTree = {}
    spectral: PyTree = {}
    for weight in weights:
        kernels = [_kernel(tensors, name) for name in weight.names]
        leaf = {"kernel": np.concatenate([k.transpose(2, 3, 1, 0) for k in kernels], -1)}
        if weight.bias:
            leaf["bias"] = np.concatenate([_float(tensors[f"{n}.bias"]) for n in weight.names])
        _put(params, weight.path, leaf)
        if weight.spectral:
            directions = _directions(tensors, weight.names[0], kernels[0])
            _check_sigma(weight.names[0], leaf["kernel"], directions)
            _put(spectral, weight.path, directions)
    return {"params": params, "spectral": spectral}


def _kernel(tensors: Tensors, name: str) -> np.ndarray:
    return _float(tensors.get(f"{name}.weight_orig", tensors.get(f"{name}.weight")))


def _directions(tensors: Tensors, name: str, kernel: np.ndarray) -> dict[str, np.ndarray]:
    """u and v as the file has them; torch's v runs over (in, h, w), ours over (h, w, in).

    Where spectral norm was folded into the kernel, they are found anew, with v of such a length
    that sigma is 1: the kernel stays what it is until training goes on.
    """
    if f"{name}.weight_u" in tensors:
        v = tensors[f"{name}.weight_v"].reshape(kernel.shape[1:]).transpose(1, 2, 0)
        return {"u": _float(tensors[f"{name}.weight_u"]), "v": _float(v.reshape(-1))}
    matrix = kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1)
    u = np.random.default_rng(0).standard_normal(len(kernel)).astype(np.float32)
    for _ in range(20):
        v = matrix.T @ u
        v /= np.linalg.norm(v) + 1e-12
        u = matrix @ v
        u /= np.linalg.norm(u) + 1e-12
    sigma = u @ matrix @ v
    return {"u": u, "v": v / sigma if sigma else v}


def _float(array: Any) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


# --- checks -------------------------------------------------------------------------------------
def _check(tensors: Tensors, expected: dict[str, tuple[int, ...]]) -> None:
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    problems = []
    if missing:
        problems.append(f"missing: {_nearest(missing, extra)}")
    if extra:
        problems.append(f"not known: {_few(extra)}")
    wrong = {n: s for n, s in expected.items() if n in tensors and tensors[n].shape != s}
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, expected {list(shape)}"
        for name, shape in list(wrong.items())[:FEW]
    ]
    here = [n for n in expected if n in tensors]
    odd = [n for n in here if not np.issubdtype(tensors[n].dtype, np.floating)]
    if odd:
        problems.append(f"not floating point: {_few(odd)}")
    bad = [n for n in here if n not in odd and not _is_finite(tensors[n])]
    if bad:
        problems.append(f"values that are not finite in float32 (NaN or infinite): {_few(bad)}")
    negative = [n for n in here if n.endswith("running_var") and (tensors[n] < 0).any()]
    if negative:
        problems.append(f"variances below 0: {_few(negative)}")
    if problems:
        raise UserError("this is not a sound OASIS checkpoint:\n  " + "\n  ".join(problems))


def _is_finite(tensor: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(tensor.astype(np.float32)).all())


def _check_sigma(name: str, kernel: np.ndarray, directions: dict[str, np.ndarray]) -> None:
    """Spectral norm divides by it."""
    sigma = directions["v"] @ kernel.reshape(-1, kernel.shape[-1]) @ directions["u"]
    if not np.isfinite(sigma) or abs(sigma) < 1e-20:
        raise UserError(
            f"the spectral norm of {name} (u^T W v) is {sigma:g}, so it cannot be divided by: its "
            "weight, u or v is 0 or damaged. Save the checkpoint again."
        )


def _nearest(missing: list[str], extra: list[str]) -> str:
    hints = []
    for name in missing[:FEW]:
        close = difflib.get_close_matches(name, [n[:LONGEST] for n in extra], n=1, cutoff=0.8)
        hints.append(f"{name} (nearest: {_few(close)})" if close else name)
    return ", ".join(hints) + (f" and {len(missing) - FEW} more" if len(missing) > FEW else "")


def _few(names: list[str]) -> str:
    shown = ", ".join(ascii(n[:LONGEST])[1:-1] for n in names[:FEW]) or "no tensors"
    return shown + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


# --- nested dicts -------------------------------------------------------------------------------
def _paths(tree: PyTree, leaf: str, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the dicts that hold `leaf`."""
    if leaf in tree:
        yield prefix
        return
    for name, child in tree.items():
        yield from _paths(child, leaf, (*prefix, name))


def _at(tree: PyTree, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if tree is not None else None
    return tree


def _put(tree: PyTree, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
