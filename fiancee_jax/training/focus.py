"""Exits that learn most from the inputs which a router sends them.

An early exit is small: what it learns of inputs that never reach it, it lacks for those that do.
Han et al. (Learning to Weight Samples for Dynamic Early-exiting Networks, ECCV 2022) therefore give
each exit of a classifier other weights of the samples. Here a trained predictor says which exit an
input is for (FIANCEE, section 3.3), so that it knows what the exits become good at: a second round
of training, which goes on from the branches that the predictor was trained for.
"""

from __future__ import annotations

import pathlib
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax import inference
from fiancee_jax.config import Config, difference
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit, Variables

OTHERS = 8  # grids that a vector's prediction is averaged over


class Router(NamedTuple):
    """A trained predictor: its network and its variables; and the branches that it knows.

    Attributes:
        steps: of training which these branches have had.
    """

    net: nn.Module
    variables: Variables
    branches: Variables
    steps: int


def load_router(config: Config, workdir: pathlib.Path | None = None) -> Router | None:
    """The predictor of `branches.router`; None where there is none.

    Raises:
        UserError: no trained model there, one without a predictor, or one of other networks; no
            steps are left to train; or it is `workdir`, whose branches are to be trained.
    """
    name = config.branches.router
    if not name:
        return None
    if workdir is not None and pathlib.Path(name).resolve() == workdir.resolve():
        raise UserError(
            f"branches.router is {name}, the workdir itself, whose branches make way for new ones. "
            f"Train in a copy: cp -r {name} DIR, then python train.py DIR --phases branches "
            f"predictor --rerun --branches.router {name} --branches.steps "
            f"{config.branches.steps} + more"
        )
    renderer = inference.load(name, sparse=False)
    if not renderer.has_predictor:
        raise UserError(
            f"branches.router is {name}, a model without a predictor, which is what knows the exit "
            f"of an input. Train it first: python train.py {name} --phases predictor"
        )
    lines = difference(renderer.config, config, ("model", "guides"))
    exits = renderer.model.exits, MultiExit.of(config).exits
    if exits[0] != exits[1]:
        there, here = (" ".join(e.name for e in x) for x in exits)
        lines.append(f"exits: {there} -> {here}")
    if lines:
        raise UserError(
            f"branches.router is {name}, which has other networks than this config:\n  "
            + "\n  ".join(lines[:8])
            + "\nIts predictor knows its own exits alone: take a model of the same family, sizes "
            "and exits, or leave branches.router empty."
        )
    found, steps = renderer.variables, renderer.config.branches.steps
    if config.branches.steps <= steps:
        raise UserError(
            f"branches.steps is {config.branches.steps}, and the branches of branches.router {name}"
            f" have had {steps}, from where training goes on. Give more, all rounds together."
        )
    return Router(renderer.model.predictor_net(), found["predictor"], found["branches"], steps)


def predictions(
    net: nn.Module,
    variables: Variables,
    seen: tuple[Float[Array, "b h w c"], Float[Array, "b d"]],
    sees: Literal["both", "vector"],
) -> Float[Array, "b n"]:
    """Predicted distances of a batch's inputs, by which they are put in order.

    Args:
        seen: the predictor's view of them, grid and vector.
        sees: ``vector``: what an input's vector (OASIS: z) says by itself, as the mean over the
            grids of `OTHERS` inputs of the batch.
    """
    grid, vector = seen
    shifts = range(OTHERS if sees == "vector" else 1)
    each: Any = [net.apply(variables, jnp.roll(grid, i, 0), vector) for i in shifts]
    return jnp.mean(jnp.stack(each), 0)


def weights(predicted: Float[Array, "b n"], focus: float) -> Float[Array, "n b"]:
    """Weights of a batch's inputs in the losses of exits 1..n, of mean 1 for each exit.

    The inputs are put in order of what the dearest early exit gains over the cheapest, as predicted
    (with one exit, of its distance). The cheapest exit's weights fall along that order from the
    first to the last, the dearest one's rise, and those between have their peaks between.

    Args:
        predicted: distances of the early exits, falling with cost.
        focus: from 0, where all weights are 1, to 1, where an input counts nothing for exits that
            are not next to its place in the order. An exit that no input of a small batch is near
            to counts all of them alike.
    """
    count, exits = predicted.shape
    gain = predicted[:, 0] - (predicted[:, -1] if exits > 1 else 0.0)
    place = jnp.argsort(jnp.argsort(gain)) / max(count - 1, 1)
    peaks = jnp.linspace(0.0, 1.0, max(exits, 2))[:exits, None]
    near = jnp.maximum(1 - jnp.abs(place[None] - peaks) * max(exits - 1, 1), 0.0)
    mean = near.mean(1, keepdims=True)
    own = jnp.where(mean > 0, near / jnp.where(mean > 0, mean, 1.0), 1.0)
    return 1 - focus + focus * own
