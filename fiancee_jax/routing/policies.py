"""Policies: from predicted distances to exit numbers 1..n. Pure functions, usable inside jit.

`predicted` is [b, n] with the last column (the backbone) 0, never rising with cost; `gmacs` is [n],
rising.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def threshold(predicted: Float[Array, "b n"], max_lpips: float | Array) -> Int[Array, "b"]:
    """The cheapest exit whose predicted distance is at most `max_lpips` (FIANCEE, section 3.3).

    The backbone always is within, whatever `max_lpips` may be: below 0 or not a number it takes
    the backbone for everyone (argmax over nothing would take the first exit).
    """
    within = jnp.asarray(predicted <= max_lpips).at[:, -1].set(True)
    return jnp.argmax(within, axis=1).astype(jnp.int32) + 1


def lagrangian(
    predicted: Float[Array, "b n"], gmacs: Float[Array, "n"], weight: float | Array
) -> Int[Array, "b"]:
    """The exit that minimises ``share of full + weight * predicted distance``."""
    score = (gmacs / gmacs[-1])[None, :] + weight * predicted
    return jnp.argmin(score, axis=1).astype(jnp.int32) + 1


def fixed(predicted: Float[Array, "b n"], exit: int | Array) -> Int[Array, "b"]:
    """The same exit for everyone."""
    return jnp.full(predicted.shape[:1], exit, jnp.int32)


def budget_weight(
    predicted: Float[Array, "b n"], gmacs: Float[Array, "n"], budget_gmacs: float | Array
) -> Float[Array, ""]:
    """The largest weight of `lagrangian` whose mean cost over the batch keeps the budget.

    Mean cost never falls as the weight grows, so bisection on its logarithm finds it. At weight 0
    everyone takes the cheapest exit; a budget under that cost cannot be kept (callers check).
    """

    def mean_cost(weight: Array) -> Array:
        return jnp.mean(gmacs[lagrangian(predicted, gmacs, weight) - 1])

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        keeps = mean_cost(jnp.exp(middle)) <= budget_gmacs
        return jnp.where(keeps, middle, low), jnp.where(keeps, high, middle)

    low, _ = jax.lax.fori_loop(0, 40, halve, (jnp.float32(-12.0), jnp.float32(16.0)))
    return jnp.where(mean_cost(jnp.exp(low)) <= budget_gmacs, jnp.exp(low), 0.0)


def running_max(distances: Float[Array, "b n"]) -> Float[Array, "b n"]:
    """The distance of an exit *or any dearer one*: the running maximum from the dear end.

    What predictors are trained on: it never rises with cost, so promotion to a dearer exit is safe.
    """
    return jax.lax.cummax(distances, axis=1, reverse=True)
