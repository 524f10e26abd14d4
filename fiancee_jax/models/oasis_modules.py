"""The modules of OASIS's generator (Sushko et al., 2021, section 3.3): stem, stages, head."""

from __future__ import annotations

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.models.class_blocks import ClassBlock
from fiancee_jax.models.layers import Conv, leaky_relu, to_picture, upsample
from fiancee_jax.models.light_blocks import InceptionBlock, TransformerBlock
from fiancee_jax.models.patterns import Patterns
from fiancee_jax.models.spade import SpadeBlock
from fiancee_jax.models.sparse_spade import LabelMap

LightBlock = Literal["spade", "inception", "transformer", "class"]


class Condition(NamedTuple):
    """z [b, d] and the label map at the size of each stage, [b, h_i, w_i], smallest first."""

    z: Array
    labels: tuple[Array, ...]
    patterns: tuple[Patterns | None, ...] | None = None


class Stem(nn.Module):
    """A 3x3 convolution over the smallest map, without spectral norm."""

    features: int
    num_classes: int

    @nn.compact
    def __call__(self, condition: Condition, *, train: bool = False) -> Float[Array, "b h w c"]:
        """Returns [b, h_0, w_0, features]."""
        del train
        return Conv(self.features, name="fc")(_segmap(condition, 0, self.num_classes))


class Stage(nn.Module):
    """Nearest x2 (but for the first stage), then one SPADE block."""

    index: int
    features: int
    hidden: int
    num_classes: int
    spectral: bool
    block: LightBlock = "spade"
    middle: int = 0  # of a class block

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], condition: Condition, *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """Returns [b, h_i, w_i, features]."""
        if self.index > 1:
            x = upsample(x)
        level = self.index - 1
        patterns = condition.patterns[level] if condition.patterns is not None else None
        if self.block == "class" or condition.patterns is not None:
            seg = LabelMap(condition.z, condition.labels[level], self.num_classes, patterns)
        else:
            seg = _segmap(condition, level, self.num_classes)
        return self._block()(x, seg, train=train)

    def _block(self) -> nn.Module:
        if self.block == "inception":
            return InceptionBlock(self.features, self.hidden, name="block")
        if self.block == "transformer":
            return TransformerBlock(self.features, self.hidden, name="block")
        if self.block == "class":
            return ClassBlock(self.features, self.hidden, self.middle, name="block")
        return SpadeBlock(self.features, self.hidden, self.spectral, name="block")


class Head(nn.Module):
    """Leaky ReLU, 3x3 convolution to RGB, tanh; without spectral norm."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], base: Float[Array, "b h w 3"] | None = None
    ) -> Float[Array, "b h w 3"]:
        """Returns a picture in [-1, 1]; a zero convolution returns `base` itself."""
        return to_picture(Conv(3, name="conv_img")(leaky_relu(x)), base)


def _segmap(condition: Condition, level: int, num_classes: int) -> Float[Array, "b h w s"]:
    """[z, one-hot labels] at the size of one stage; z comes first, constant over space."""
    labels = condition.labels[level]
    z = condition.z[:, None, None, :]
    z = jnp.broadcast_to(z, (*labels.shape, z.shape[-1]))
    return jnp.concatenate([z, jax.nn.one_hot(labels, num_classes, dtype=z.dtype)], axis=-1)
