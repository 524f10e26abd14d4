"""Pre-activation residual blocks with group norm and standardised weights, in two and three dims.

The blocks of MegaPortraits (Drobyshev et al., 2022, supplement): group norm (Wu & He, 2018), ReLU,
convolution, twice, plus a skip that is a 1x1 convolution where the number of channels changes.
Kernels are standardised (Qiao et al., 2019) and divided by the root of their fan-in, with a learnt
scale for each output (Brock et al., 2021): without it a block's output would grow with its width.
A block begins as its skip (De & Smith, 2020): what a source shows reaches the picture from the
first step on, through thirty blocks.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.models.layers import STARTS, average_pool, convolve, upsample, xavier_normal

GROUPS = 32  # at most
IN_GROUP = 8  # channels, at least: groups of one would be instance norm, which forgets colours


def groups(channels: int) -> int:
    """Groups of a norm: the most that divide the channels, up to 32, of 8 channels or more."""
    most = max(1, min(GROUPS, channels // IN_GROUP))
    return next(n for n in range(most, 0, -1) if channels % n == 0)


def group_norm(x: Array, *, affine: bool = True, name: str | None = None) -> Array:
    """Group norm of [b, ..., c], inside a compact module; keeps the dtype of x."""
    options = {"use_bias": affine, "use_scale": affine, "dtype": x.dtype, "name": name}
    return nn.GroupNorm(num_groups=groups(x.shape[-1]), epsilon=1e-5, **options)(x)


class StandardConv(nn.Module):
    """A 'SAME' convolution of standardised weights, with a bias.

    Attributes:
        features: channels of the result.
        size: of the kernel, odd.
        still: it begins as 0, by a scale that is called gain then.
    """

    features: int
    size: int = 3
    still: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", xavier_normal(), shape)
        name = "gain" if self.still else "scale"
        scale = self.param(name, nn.initializers.constant(STARTS[name]), (self.features,))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve(x, standardised(kernel) * scale.reshape(1, 1, 1, -1), bias)


def standardised(kernel: Float[Array, "k l c d"]) -> Float[Array, "k l c d"]:
    """Each output's weights with mean 0 and sum of squares 1."""
    kernel = kernel - kernel.mean((0, 1, 2), keepdims=True)
    fan_in = math.prod(kernel.shape[:3])
    return kernel / jnp.sqrt(fan_in * jnp.mean(kernel**2, (0, 1, 2), keepdims=True) + 1e-8)


class ResBlock(nn.Module):
    """Norm, ReLU, 3x3, norm, ReLU, 3x3, plus the skip."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        dx = StandardConv(self.features, name="conv_0")(nn.relu(group_norm(x, name="norm_0")))
        last = StandardConv(self.features, still=True, name="conv_1")
        dx = last(nn.relu(group_norm(dx, name="norm_1")))
        if x.shape[-1] != self.features:
            x = StandardConv(self.features, 1, name="skip")(x)
        return x + dx


# --- three dimensions -----------------------------------------------------------------------------
class StandardConv3D(nn.Module):
    """A 3x3x3 (or 1x1x1) `StandardConv` of a volume.

    It is the plane convolution of three neighbouring slices side by side: the same sum, and on CPUs
    several times as fast as XLA's own in three dimensions.
    """

    features: int
    size: int = 3
    still: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w e"]:
        """Returns [b, d, h, w, features]; slices outside are 0."""
        b, d, h, w, _ = x.shape
        if self.size == 3:
            padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
            x = jnp.concatenate([padded[:, i : i + d] for i in range(3)], axis=-1)
        planes = x.reshape(b * d, h, w, x.shape[-1])
        convolution = StandardConv(self.features, self.size, self.still, name="planes")
        return convolution(planes).reshape(b, d, h, w, -1)


class ResBlock3D(nn.Module):
    """`ResBlock` of a volume; with `code` its norms are scaled and shifted by it (adaptive).

    With `still` its skip begins as 0 too, if it has one that is a convolution.
    """

    features: int
    still: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b d h w c"], code: Float[Array, "b k"] | None = None
    ) -> Float[Array, "b d h w e"]:
        """Returns [b, d, h, w, features]."""
        dx = StandardConv3D(self.features, name="conv_0")(nn.relu(_norm(x, code, "norm_0")))
        last = StandardConv3D(self.features, still=True, name="conv_1")
        dx = last(nn.relu(_norm(dx, code, "norm_1")))
        if x.shape[-1] != self.features:
            x = StandardConv3D(self.features, 1, self.still, name="skip")(x)
        return x + dx


def _norm(x: Array, code: Array | None, name: str) -> Array:
    """Group norm; adaptive if there is a code (inside a compact module)."""
    x = group_norm(x, name=name)
    if code is None:
        return x
    change = nn.Dense(2 * x.shape[-1], dtype=x.dtype, name=f"{name}_code")(code)
    scale, shift = jnp.split(change[:, None, None, None, :], 2, axis=-1)
    return x * (1 + scale) + shift


def pool_volume(x: Float[Array, "b d h w c"], depth: int = 2) -> Float[Array, "b d2 h2 w2 c"]:
    """Means of cells of 2 x 2 pixels and `depth` slices."""
    b, d, h, w, c = x.shape
    x = x.reshape(b, d // depth, depth, h, w, c).mean(2)
    return average_pool(x.reshape(-1, h, w, c)).reshape(b, d // depth, h // 2, w // 2, c)


def grow_volume(x: Float[Array, "b d h w c"], depth: int = 2) -> Float[Array, "b d2 h2 w2 c"]:
    """Nearest enlargement, twice across and `depth` times in depth."""
    b, d, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None], (b, d, depth, h, w, c)).reshape(-1, h, w, c)
    return upsample(x).reshape(b, d * depth, 2 * h, 2 * w, c)
