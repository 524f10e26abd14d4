"""The predictor: from the input alone to each early exit's distance (FIANCEE, section 3.3)."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


def falling(logs: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """Distances that never rise with cost, of the logarithms of the steps between them."""
    steps = jnp.exp(jnp.clip(logs, -12.0, 3.0))
    return jnp.cumsum(steps[..., ::-1], axis=-1)[..., ::-1]


class Predictor(nn.Module):
    """A small CNN over the family's view of the input.

    Predicted distances never rise with cost, as their targets do not (the distance of an exit *or
    any dearer one*): the network gives the logarithms of non-negative steps, which are summed from
    the dear end. `offset` holds the logarithm of the mean steps, so that training starts at the
    mean.
    """

    num_exits: int  # early exits, without the backbone
    channels: int = 32  # of the convolutions; 0: none
    hidden: int = 64  # units; 0: log-linear in shares, vector and pooled convolutions
    sees: Literal["both", "grid", "vector"] = "both"
    squares: bool = False  # of the vector, beside it

    @nn.compact
    def __call__(
        self, grid: Float[Array, "b h w c"], vector: Float[Array, "b d"]
    ) -> Float[Array, "b n"]:
        """LPIPS of exits 1..num_exits, [b, num_exits], >= 0 and falling with cost."""
        offset = self.param("offset", nn.initializers.constant(-4.0), (self.num_exits,))
        grid = jnp.zeros_like(grid) if self.sees == "vector" else grid
        vector = jnp.zeros_like(vector) if self.sees == "grid" else vector
        shares = grid.mean((1, 2))
        parts = [jnp.sqrt(shares), vector]
        parts += [vector**2 - 1] if self.squares else []  # z is standard normal
        if self.channels:
            x = nn.relu(nn.Conv(self.channels, (3, 3), name="conv_0")(grid))
            x = nn.relu(nn.Conv(self.channels, (3, 3), (2, 2), name="conv_1")(x))
            parts = [x.mean((1, 2)), x.max((1, 2)), *parts]
        x = jnp.concatenate(parts, axis=-1)
        if self.hidden:
            gate = nn.Dense(self.hidden, name="gate")(vector)
            x = nn.gelu(nn.Dense(self.hidden, name="fc_0")(x) * (1 + gate))
            x = nn.gelu(nn.Dense(self.hidden, name="fc_1")(x))
        x = nn.Dense(self.num_exits, name="out", kernel_init=nn.initializers.zeros)(x)
        return falling(x + offset.reshape(1, -1))


class CellPredictor(nn.Module):
    """Distances as means over the grid's cells, each of which has been measured.

    LPIPS is a mean over places, so that one measured input teaches as many lessons as the grid has
    cells: what the networks make of a place depends on what is near it. The logarithm of a cell's
    part is that of two convolutions there, plus what the vector says of all cells alike.
    """

    num_exits: int  # early exits, without the backbone
    channels: int = 32  # of the two convolutions
    squares: bool = False  # of the vector, beside it
    pool: int = 1  # cells, each way, that are joined to one before anything looks at them

    @nn.compact
    def cells(
        self, grid: Float[Array, "b h w c"], vector: Float[Array, "b d"]
    ) -> Float[Array, "b h2 w2 n"]:
        """The parts of every cell, >= 0 and falling with cost, as `Predictor`'s distances do.

        h2 = h / pool, w2 = w / pool, rounded up: the last cells may be of fewer (`--size native`).
        """
        offset = self.param("offset", nn.initializers.constant(-4.0), (self.num_exits,))
        vector = jnp.concatenate([vector, vector**2 - 1], -1) if self.squares else vector
        side = (self.pool, self.pool)
        grid = nn.avg_pool(grid, side, side, "SAME", count_include_pad=False)
        x = nn.relu(nn.Conv(self.channels, (3, 3), name="conv_0")(grid))
        x = nn.relu(nn.Conv(self.channels, (3, 3), name="conv_1")(x))
        zeros = nn.initializers.zeros
        here = nn.Dense(self.num_exits, name="out", kernel_init=zeros)(x)
        all_alike = nn.Dense(self.num_exits, name="vector", use_bias=False, kernel_init=zeros)
        return falling(here + (all_alike(vector) + offset.reshape(1, -1))[:, None, None])

    def __call__(
        self, grid: Float[Array, "b h w c"], vector: Float[Array, "b d"]
    ) -> Float[Array, "b n"]:
        """As `Predictor`."""
        return self.cells(grid, vector).mean((1, 2))


class Predictors(nn.Module):
    """Several predictors that start differently; their geometric mean errs less than each."""

    members: int
    num_exits: int
    channels: int = 32
    hidden: int = 64
    sees: Literal["both", "grid", "vector"] = "both"
    squares: bool = False

    def setup(self) -> None:
        """One set of parameters for each member, stacked along the first axis."""
        kind = nn.vmap(
            Predictor,
            in_axes=None,  # pyright: ignore[reportArgumentType]
            axis_size=self.members,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        self.member = kind(self.num_exits, self.channels, self.hidden, self.sees, self.squares)

    def __call__(
        self, grid: Float[Array, "b h w c"], vector: Float[Array, "b d"]
    ) -> Float[Array, "b n"]:
        """As `Predictor`: means of what never rises do not rise either."""
        return jnp.exp(jnp.mean(jnp.log(self.each(grid, vector)), axis=0))

    def each(
        self, grid: Float[Array, "b h w c"], vector: Float[Array, "b d"]
    ) -> Float[Array, "m b n"]:
        """What every member says: each is trained by its own error."""
        return self.member(grid, vector)
