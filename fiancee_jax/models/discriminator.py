"""OASIS's discriminator: a U-Net that labels every pixel as fake or as one of the classes."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.models.layers import Conv, average_pool, leaky_relu, upsample


class Down(nn.Module):
    """Residual block that halves the size; the first takes a picture, so it has no activation."""

    features: int
    first: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Returns [b, h/2, w/2, features]."""
        dx = x if self.first else leaky_relu(x)
        dx = Conv(self.features, spectral=True, name="conv1")(dx)
        dx = Conv(self.features, spectral=True, name="conv2")(leaky_relu(dx))
        shortcut = average_pool(x) if self.first else x
        if x.shape[-1] != self.features:
            shortcut = Conv(self.features, 1, spectral=True, name="conv_s")(shortcut)
        return average_pool(dx) + (shortcut if self.first else average_pool(shortcut))


class Up(nn.Module):
    """Residual block that doubles the size."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Returns [b, 2h, 2w, features]."""
        dx = Conv(self.features, spectral=True, name="conv1")(upsample(leaky_relu(x)))
        dx = Conv(self.features, spectral=True, name="conv2")(leaky_relu(dx))
        shortcut = upsample(x)
        if x.shape[-1] != self.features:
            shortcut = Conv(self.features, 1, spectral=True, name="conv_s")(shortcut)
        return shortcut + dx


class Discriminator(nn.Module):
    """U-Net with skips [encoder feature, x]; pools ``len(channels)`` times.

    Attributes:
        channels: features after each encoder block; published: 128, 128, 256, 256, 512, 512.
        last: features after the last decoder block; published: 64.
        num_classes: label classes; channel 0 of the output is "fake", channel c + 1 is class c.
        remat: the backward pass recomputes what lies inside each block; the variables are the same.
    """

    channels: tuple[int, ...]
    num_classes: int
    last: int = 64
    remat: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b h w n"]:
        """Logits [b, h, w, num_classes + 1] of pictures in [-1, 1]."""
        down, up = (nn.remat(Down), nn.remat(Up)) if self.remat else (Down, Up)
        x, skips = image, []
        for i, features in enumerate(self.channels):
            x = down(features, first=i == 0, name=f"down_{i}")(x)
            skips.append(x)
        x = skips.pop()
        for i, features in enumerate((*reversed(self.channels[:-1]), self.last)):
            inside = x if i == 0 else jnp.concatenate([skips.pop(), x], axis=-1)
            x = up(features, name=f"up_{i}")(inside)
        return Conv(self.num_classes + 1, 1, name="last")(x)
