"""The predictor: from the input alone to each early exit's distance (FIANCEE, section 3.3)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Predictor(nn.Module):
    """A small CNN over the family's view of the input.

    Predicted distances never rise with cost, as their targets do not (the distance of an exit *or
    any dearer one*): the network gives the logarithms of non-negative steps, which are summed from
    the dear end. `offset` holds the logarithm of the mean steps, so that training starts at the
    mean.
    """

    num_exits: int  # early exits, without the backbone
    channels: int = 32
    hidden: int = 64

    @nn.compact
    def __call__(
        self, grid: Float[Array, "b h w c"], vector: Float[Array, "b d"]
    ) -> Float[Array, "b n"]:
        """LPIPS of exits 1..num_exits, [b, num_exits], >= 0 and falling with cost."""
        offset = self.param("offset", nn.initializers.constant(-4.0), (self.num_exits,))
        shares = grid.mean((1, 2))
        x = nn.relu(nn.Conv(self.channels, (3, 3), name="conv_0")(grid))
        x = nn.relu(nn.Conv(self.channels, (3, 3), (2, 2), name="conv_1")(x))
        x = jnp.concatenate([x.mean((1, 2)), x.max((1, 2)), jnp.sqrt(shares), vector], axis=-1)
        gate = nn.Dense(self.hidden, name="gate")(vector)
        x = nn.gelu(nn.Dense(self.hidden, name="fc_0")(x) * (1 + gate))
        x = nn.gelu(nn.Dense(self.hidden, name="fc_1")(x))
        x = nn.Dense(self.num_exits, name="out", kernel_init=nn.initializers.zeros)(x)
        steps = jnp.exp(jnp.clip(x + offset.reshape(1, -1), -12.0, 3.0))
        return jnp.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
