"""The averaged model: EMA weights with a spectral norm and batch statistics of their own."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from fiancee_jax.exits import MultiExit
from fiancee_jax.models.layers import MOMENTUM, fold_spectral, power_iteration
from fiancee_jax.training.adversarial import generate, with_latents
from fiancee_jax.training.loop import State
from fiancee_jax.training.workspace import Workspace


@jax.jit
def converged(params: Any, spectral: Any) -> Any:
    """The spectral state after 15 power iterations."""
    return jax.lax.fori_loop(0, 15, lambda _, s: power_iteration(params, s), spectral)


@functools.partial(jax.jit, static_argnames=("model",))
def batch_statistics(model: MultiExit, state: State, inputs: Any) -> Any:
    """Batch means and variances of the averaged weights on one batch."""
    zeros = jax.tree.map(jnp.zeros_like, state["batch_stats"])
    _, stats = generate(model, state["ema"], zeros, state["spectral"], inputs)
    return jax.tree.map(lambda s: s / (1 - MOMENTUM), stats)


def averaged(work: Workspace, state: State) -> Any:
    """The model: averaged weights with re-collected batch statistics, spectral norm folded in.

    sigma is that of the averaged weights, not of the trained ones, whose u and v are only where its
    power iteration starts. It is found first, so that the statistics belong to the very kernels
    that are saved; the published code runs one iteration with each batch of statistics instead.
    Batches are as large as those trained on: micro-batches, where gradients are accumulated.
    """
    phase, total = work.config.backbone, None
    spectral = converged(state["ema"], state["spectral"])
    folded = fold_spectral(state["ema"], spectral)
    if not state["batch_stats"]:
        return {"params": folded}
    loader = work.loader("train", phase.batch_size // phase.accumulate, "backbone")
    kept = {"ema": state["ema"], "spectral": spectral, "batch_stats": state["batch_stats"]}
    for i in range(phase.recollect):
        batch = with_latents(work.model, phase, work.put(next(loader)), work.key("init", i))
        stats = batch_statistics(work.model, kept, batch.inputs)
        total = stats if total is None else jax.tree.map(jnp.add, total, stats)
    return {"params": folded, "batch_stats": jax.tree.map(lambda s: s / phase.recollect, total)}
