"""The backbone with its taps, and the light branches that leave it (FIANCEE, section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.config import Exit, Guides
from fiancee_jax.models.layers import Conv
from fiancee_jax.models.staged import Inputs, PyTree, StagedGenerator

Taps = dict[int, Array]  # features after each stage, by stage number; 0 is the stem


class Guide(NamedTuple):
    """What the bank gives a branch.

    Attributes:
        base: a picture [b, h, w, 3] in [-1, 1], added before the last activation; or None.
        features: [b, h', w', c] of any size, resized and concatenated; or None.
    """

    base: Array | None = None
    features: Array | None = None


class Backbone(nn.Module):
    """A staged generator: ``G = head . l_N . ... . l_1 . stem`` (FIANCEE, section 3).

    Attributes:
        family: the generator family.
        remat: the backward pass recomputes what lies inside each stage; the variables are the same.
    """

    family: StagedGenerator
    remat: bool = False

    def setup(self) -> None:
        """Builds the family's modules at full width."""
        self.stem = self.family.stem()
        self.stages = [self.family.stage(i) for i in range(1, self.family.num_stages + 1)]
        self.head = self.family.head()

    def __call__(
        self, condition: PyTree, *, train: bool = False
    ) -> tuple[Float[Array, "b h w 3"], Taps]:
        """The full picture and the features after every stage."""
        taps = self.trunk(condition, self.family.num_stages, train=train)
        return self.head(taps[self.family.num_stages]), taps

    def encode(self, condition: PyTree) -> dict[str, Array]:
        """What the stem of a family that `encodes` computes for all exits."""
        return self.stem.encode(condition)  # pyright: ignore[reportAttributeAccessIssue]

    def trunk(self, condition: PyTree, last: int, *, train: bool = False) -> Taps:
        """Features after the stem and the stages 1..last; nothing beyond `last` is computed."""

        def run(module: nn.Module, *args: PyTree) -> Array:
            return module(*args, train=train)

        run = nn.remat(run) if self.remat else run
        x = run(self.stem, condition)
        taps = {0: x}
        for index, stage in enumerate(self.stages[:last], start=1):
            x = taps[index] = run(stage, x, condition)
        return taps


class Branch(nn.Module):
    """The stages after the tap, built light: ``stages[tap:]`` at ``exit.width``, then a head.

    A 1x1 convolution first brings the tap down to the light width, unless it has that already or a
    single stage is left: there it would starve the full-resolution stage.
    """

    family: StagedGenerator
    exit: Exit
    guides: Guides

    def setup(self) -> None:
        """Builds the adapter, the light stages and the head."""
        tap, width, last = self.exit.tap, self.exit.width, self.family.num_stages
        thin = self.family.features(tap, width)
        thins = last - tap > 1 and thin < self.family.features(tap)
        self.adapter = Conv(thin, 1) if thins else None
        self.stages = [self.family.stage(i, width=width) for i in range(tap + 1, last + 1)]
        self.head = self.family.head()
        if self.guides.form == "learnt":
            parts, channels = self.family.palette_shape
            self.palette_hidden = nn.Dense(self.guides.hidden) if self.guides.hidden else None
            self.palette = nn.Dense(parts * channels)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        condition: PyTree,
        inputs: Inputs,
        guide: Guide,
        *,
        train: bool = False,
    ) -> Float[Array, "b h w 3"]:
        """The exit's picture from the trunk's features at the tap."""
        x = _join(x, guide.features)
        if self.adapter is not None:
            x = self.adapter(x)
        for i, stage in enumerate(self.stages):
            if i > 0 and self.guides.inject == "every":
                x = _join(x, guide.features)
            x = stage(x, condition, train=train)
        base = self._learnt(inputs) if self.guides.form == "learnt" else guide.base
        return self.head(x, base)

    def _learnt(self, inputs: Inputs) -> Array:
        x = self.family.view(inputs)[1]
        if self.palette_hidden is not None:
            x = jnp.concatenate([x, nn.gelu(self.palette_hidden(x))], axis=-1)
        palette = jnp.tanh(self.palette(x))
        return self.family.paint(palette.reshape(-1, *self.family.palette_shape), inputs)


def _join(x: Array, features: Array | None) -> Array:
    if features is None:
        return x
    shape = (*x.shape[:3], features.shape[-1])
    resized = jax.image.resize(features, shape, "linear")
    return jnp.concatenate([x, resized.astype(x.dtype)], axis=-1)
