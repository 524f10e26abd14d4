"""SPADE and its residual block (Park et al., 2019), as OASIS uses them (OASIS, section 3.3)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.models.layers import Conv, batch_norm, leaky_relu
from fiancee_jax.models.sparse_spade import LabelMap, modulation


class Spade(nn.Module):
    """Spatially adaptive normalisation: ``n * (1 + gamma(seg)) + beta(seg)``.

    n is the batch norm of x without affine.
    """

    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], seg: Float[Array, "b h w s"] | LabelMap, *, train: bool
    ) -> Float[Array, "b h w c"]:
        """Normalises x and modulates it by the map `seg` of the same height and width."""
        n = batch_norm(x, train, affine=False, name="norm")
        if isinstance(seg, LabelMap):
            return modulation(self.variables, seg, lambda g, b: n * (1 + g) + b)
        a = nn.relu(Conv(self.hidden, name="shared")(seg))
        gamma, beta = jnp.split(Conv(2 * x.shape[-1], parts=2, name="gamma_beta")(a), 2, axis=-1)
        return n * (1 + gamma) + beta


class SpadeBlock(nn.Module):
    """Residual block: two SPADE + convolution pairs, a third on the shortcut if widths differ."""

    features: int
    hidden: int
    spectral: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], seg: Float[Array, "b h w s"] | LabelMap, *, train: bool
    ) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        mid = min(x.shape[-1], self.features)
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = Spade(self.hidden, name="norm_s")(x, seg, train=train)
            shortcut = Conv(
                self.features, 1, use_bias=False, spectral=self.spectral, name="conv_s"
            )(shortcut)
        dx = leaky_relu(Spade(self.hidden, name="norm_0")(x, seg, train=train))
        dx = Conv(mid, spectral=self.spectral, name="conv_0")(dx)
        dx = leaky_relu(Spade(self.hidden, name="norm_1")(dx, seg, train=train))
        return shortcut + Conv(self.features, spectral=self.spectral, name="conv_1")(dx)
