"""DCGAN (Radford et al., 2016): z to picture, the smallest staged generator.

The example of docs/adding-a-generator.md. Departures from the paper: nearest x2 and a 3x3
convolution instead of a transposed one, a picture layer of its own, and a discriminator without
normalisation.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.errors import UserError
from fiancee_jax.models.layers import (
    Conv,
    average_pool,
    batch_norm,
    leaky_relu,
    to_picture,
    upsample,
)
from fiancee_jax.models.staged import Discriminate, Inputs, StagedGenerator


class Stem(nn.Module):
    """A linear map from z to a small picture of features, batch norm, ReLU."""

    height: int
    width: int
    features: int

    @nn.compact
    def __call__(self, condition: Inputs, *, train: bool = False) -> Float[Array, "b h w c"]:
        """Returns [b, height, width, features]."""
        pixels = self.height * self.width
        x = Conv(pixels * self.features, 1, name="project")(condition["z"][:, None, None, :])
        x = x.reshape(-1, self.height, self.width, self.features)
        return nn.relu(batch_norm(x, train, name="norm"))


class Stage(nn.Module):
    """Nearest x2, 3x3 convolution, batch norm, ReLU."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], condition: Inputs, *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """Returns [b, 2h, 2w, features]."""
        del condition  # z has had its say in the stem
        x = Conv(self.features, name="conv")(upsample(x))
        return nn.relu(batch_norm(x, train, name="norm"))


class Head(nn.Module):
    """3x3 convolution to RGB, tanh."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], base: Float[Array, "b h w 3"] | None = None
    ) -> Float[Array, "b h w 3"]:
        """Returns a picture in [-1, 1]."""
        return to_picture(Conv(3, name="conv")(x), base)


class Discriminator(nn.Module):
    """Convolutions that each halve the size, then one logit for each picture."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b"]:
        """Logits [b] of pictures in [-1, 1]: positive says real."""
        x = image
        for i, features in enumerate(self.channels):
            x = average_pool(leaky_relu(Conv(features, name=f"conv_{i}")(x)))
        x = x.reshape(len(x), 1, 1, -1)
        return Conv(1, 1, name="logit")(x)[:, 0, 0, 0]


@dataclasses.dataclass(frozen=True)
class Dcgan(StagedGenerator):
    """Hyper-parameters of a DCGAN and its discriminator.

    Attributes:
        size: (height, width) of the pictures, pixels; divisible by 2^stages.
        width: c, the channels after the last stage; each stage before it has twice as many.
        z_dim: length of z; published: 100.
        stages: how often the size is doubled; published: 4.
        min_channels: light stages are never thinner than this.
    """

    size: tuple[int, int] = (64, 64)
    width: int = 64
    z_dim: int = 100
    stages: int = 4
    min_channels: int = 8

    @property
    def num_stages(self) -> int:
        """One stage for each doubling."""
        return self.stages

    @property
    def latent_dim(self) -> int:
        """Length of z."""
        return self.z_dim

    # --- networks -------------------------------------------------------------------------
    def stem(self) -> nn.Module:
        """See `StagedGenerator.stem`."""
        factor = self.stage_factor(0)
        return Stem(self.size[0] // factor, self.size[1] // factor, self.features(0))

    def stage(self, index: int, *, width: float | None = None) -> nn.Module:
        """See `StagedGenerator.stage`."""
        return Stage(self.features(index, width or 1.0))

    def head(self) -> nn.Module:
        """See `StagedGenerator.head`."""
        return Head()

    def features(self, stage: int, width: float = 1.0) -> int:
        """Channels after `stage`: 16c, 8c, 4c, 2c, c for four stages, scaled by `width`."""
        full = self.width * 2 ** (self.stages - stage)
        return full if width == 1.0 else min(full, max(self.min_channels, round(full * width)))

    def stage_factor(self, stage: int) -> int:
        """Picture size over feature size after `stage`."""
        return 2 ** (self.stages - stage)

    # --- adversary ------------------------------------------------------------------------
    def discriminator(self) -> nn.Module:
        """As wide as the generator, in the opposite order."""
        return Discriminator(tuple(self.features(i) for i in range(self.stages, 0, -1)))

    def generator_loss(
        self, discriminate: Discriminate, fake: Array, inputs: Inputs
    ) -> Float[Array, ""]:
        """Non-saturating: ``-log sigmoid(D(fake))`` (Goodfellow et al., 2014, section 3)."""
        return jnp.mean(jax.nn.softplus(-discriminate(fake)))

    def discriminator_losses(
        self, discriminate: Discriminate, fake: Array, real: Array, inputs: Inputs, key: Array
    ) -> dict[str, Array]:
        """Binary cross-entropy: ``-log sigmoid(D(real)) - log(1 - sigmoid(D(fake)))``."""
        return {
            "d_fake": jnp.mean(jax.nn.softplus(discriminate(fake))),
            "d_real": jnp.mean(jax.nn.softplus(-discriminate(real))),
        }

    # --- host side ------------------------------------------------------------------------
    def check(self) -> None:
        """Raises UserError if sizes and numbers do not fit together."""
        for name in ("width", "z_dim", "min_channels"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be 1 or more.")
        divisor = self.stage_factor(0)
        if self.stages < 2 or any(side <= 0 or side % divisor for side in self.size):
            raise UserError(
                f"model.size is {list(self.size)} and model.stages {self.stages}; take 2 or more "
                f"stages and sides that are divisible by 2^stages."
            )
