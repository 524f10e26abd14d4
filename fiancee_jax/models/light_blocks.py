"""Other blocks for OASIS's light stages, to compare with the SPADE block itself.

Each takes what `spade.SpadeBlock` takes, costs about as much and has no spectral norm.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.models.layers import Conv, leaky_relu
from fiancee_jax.models.spade import Spade

HEADS = 4  # of attention


class InceptionConv(nn.Module):
    """Paths of 1x1, 3x3 and two 3x3 side by side (Szegedy et al., 2016, figure 5)."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]: a quarter, a half and a quarter of them by path."""
        quarter = max(1, self.features // 4)
        far = Conv(quarter, name="far_0")(x)
        paths = [
            Conv(quarter, 1, name="point")(x),
            Conv(self.features - 2 * quarter, name="near")(x),
            Conv(quarter, name="far_1")(leaky_relu(far)),
        ]
        return jnp.concatenate(paths, axis=-1)


class InceptionBlock(nn.Module):
    """A SPADE block whose two 3x3 convolutions are `InceptionConv`s."""

    features: int
    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], seg: Float[Array, "b h w s"], *, train: bool
    ) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        mid = min(x.shape[-1], self.features)
        dx = leaky_relu(Spade(self.hidden, name="norm_0")(x, seg, train=train))
        dx = InceptionConv(mid, name="conv_0")(dx)
        dx = leaky_relu(Spade(self.hidden, name="norm_1")(dx, seg, train=train))
        dx = InceptionConv(self.features, name="conv_1")(dx)
        return _shortcut(self.features, self.hidden, x, seg, train) + dx


class TransformerBlock(nn.Module):
    """Self-attention over all places, then a small MLP; SPADE in the place of layer norm.

    Its cost grows with the square of the number of places: for stages of low resolution.
    """

    features: int
    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], seg: Float[Array, "b h w s"], *, train: bool
    ) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        a = Spade(self.hidden, name="norm_0")(x, seg, train=train)
        # A 3x3 window first: without it no place would know where it is.
        query, key, value = jnp.split(Conv(3 * self.features, name="conv_0")(a), 3, axis=-1)
        a = Conv(self.features, 1, name="attended")(_attend(query, key, value))
        x = _shortcut(self.features, self.hidden, x, seg, train) + a
        m = Spade(self.hidden, name="norm_1")(x, seg, train=train)
        m = Conv(2 * self.features, 1, name="mlp_0")(m)
        return x + Conv(self.features, 1, name="mlp_1")(nn.gelu(m))


def _attend(query: Array, key: Array, value: Array) -> Float[Array, "b h w c"]:
    """Multi-head attention between all places, all [b, h, w, c]; softmax in float32."""
    b, h, w, c = query.shape
    heads = next(n for n in range(min(HEADS, c), 0, -1) if c % n == 0)
    q, k, v = (x.reshape(b, h * w, heads, c // heads) for x in (query, key, value))
    scores = jnp.einsum("bqnc,bknc->bnqk", q, k) / (c // heads) ** 0.5
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(v.dtype)
    return jnp.einsum("bnqk,bknc->bqnc", weights, v).reshape(b, h, w, c)


def _shortcut(features: int, hidden: int, x: Array, seg: Array, train: bool) -> Array:
    """x itself, or through SPADE and a 1x1 convolution if widths differ; inside a compact call."""
    if x.shape[-1] == features:
        return x
    normed = Spade(hidden, name="norm_s")(x, seg, train=train)
    return Conv(features, 1, use_bias=False, name="conv_s")(normed)
