"""The pieces of an adversarial step: latents, forwards of G and D, losses, micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from fiancee_jax import losses
from fiancee_jax.config import BackbonePhase
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit
from fiancee_jax.models import lpips
from fiancee_jax.models.layers import power_iteration
from fiancee_jax.models.staged import Discriminate, Inputs

PyTree = Any
Terms = dict[str, Array]  # of a loss, by name


# --- forwards -----------------------------------------------------------------------------------
def batch_size(batch: Batch) -> int:
    """Samples in a batch, by any of its arrays: an unconditional family's has no inputs."""
    return jax.tree.leaves(batch)[0].shape[0]


def with_latents(model: MultiExit, phase: BackbonePhase, batch: Batch, key: Array) -> Batch:
    """The batch with z among its inputs."""
    return batch._replace(inputs={**batch.inputs, "z": draw_latents(model, phase, batch, key)})


def draw_latents(model: MultiExit, phase: BackbonePhase, batch: Batch, key: Array) -> Array:
    """z ~ N(0, 1); or the pictures' own latents, where the pixel loss asks for them."""
    if phase.own_latent > 0:
        return jnp.asarray(batch.latent)
    return random_latents(model, batch, key)


def random_latents(model: MultiExit, batch: Batch, key: Array) -> Array:
    """z ~ N(0, 1), [batch, latent_dim], on the devices that have the batch's rows.

    Those of the mesh that is set (`jax.set_mesh`); without one wherever the compiler likes. A
    family without inputs depends on nothing but z: left alone, every device would make all of it.
    """
    z = jax.random.normal(key, (batch_size(batch), model.family.latent_dim))
    axes = jax.sharding.get_abstract_mesh().axis_names
    return jax.lax.with_sharding_constraint(z, P("data")) if "data" in axes else z


def partly_composed(model: MultiExit, inputs: Inputs, key: Array, share: float) -> Inputs:
    """A random `share` of the inputs made of two each (`StagedGenerator.composed`)."""
    if not share:
        return inputs
    k_which, k_how = jax.random.split(jax.random.fold_in(key, 2))
    both = model.family.composed(k_how, inputs)
    chosen = jax.random.bernoulli(k_which, share, (len(jax.tree.leaves(inputs)[0]),))
    return jax.tree.map(lambda a, b: jnp.where(_rows(chosen, a), a, b), both, inputs)


def _rows(chosen: Array, like: Array) -> Array:
    """[b] with ones behind it, as many as `like` has axes."""
    return chosen.reshape(-1, *[1] * (like.ndim - 1))


def generate(
    model: MultiExit, params: PyTree, stats: PyTree, spectral: PyTree, inputs: Any
) -> tuple[Array, PyTree]:
    """A training forward of G: float32 pictures and the new running statistics.

    Args:
        model: networks and precision.
        params: weights of G.
        stats: running batch statistics; {} for a family without any.
        spectral: spectral state; {} for a family without spectral norm.
        inputs: of the family, z among them.
    """
    variables = {"params": params, "batch_stats": stats, "spectral": spectral}
    (images, _), changed = model.backbone().apply(
        variables, model.condition(inputs), train=True, mutable=["batch_stats"]
    )  # pyright: ignore[reportGeneralTypeIssues]
    return images.astype(jnp.float32), changed.get("batch_stats", {})


def own_terms(
    model: MultiExit, params: PyTree, spectral: PyTree, images: Array, inputs: Any
) -> tuple[Array, Terms]:
    """The sum of the family's `own_losses`, and these."""
    net, variables = model.backbone(), {"params": params, "spectral": spectral}

    def run(method: Any, *args: Any) -> Any:
        cast = jax.tree.map(lambda x: jnp.asarray(x, model.dtype), args)
        found = net.apply(variables, *cast, method=method)
        return jax.tree.map(lambda x: x.astype(jnp.float32), found)

    terms = model.family.own_losses(run, images, inputs)
    return sum(terms.values(), jnp.float32(0)), terms


def discriminate(model: MultiExit, params: PyTree, spectral: list[PyTree]) -> Discriminate:
    """Pictures -> float32 logits; call k uses the k-th spectral state, or the only one."""
    states = iter(spectral)
    apply = discriminator_apply(model)
    fixed = spectral[0] if len(spectral) == 1 else None

    def logits(images: Array) -> Any:
        state = fixed if fixed is not None else next(states)
        found = apply({"params": params, "spectral": state}, images.astype(model.dtype))
        return jax.tree.map(lambda x: x.astype(jnp.float32), found)

    return logits


def discriminator_apply(model: MultiExit) -> Callable[[PyTree, Array], Array]:
    """D as a function of its variables and pictures.

    With ``model.remat`` its blocks are recomputed in the backward pass if the module has a field
    `remat` of its own, and all of it otherwise.
    """
    net: nn.Module = model.family.discriminator()
    if model.remat and hasattr(net, "remat"):
        return net.clone(remat=True).apply  # pyright: ignore[reportReturnType]
    return jax.checkpoint(net.apply) if model.remat else net.apply  # pyright: ignore[reportReturnType]


def iterations(params: PyTree, spectral: PyTree, count: int) -> list[PyTree]:
    """The spectral states after 1..count power iterations."""
    states = []
    for _ in range(count):
        spectral = power_iteration(params, spectral)
        states.append(spectral)
    return states


# --- losses -------------------------------------------------------------------------------------
def generator_terms(
    model: MultiExit,
    phase: BackbonePhase,
    logits: Discriminate,
    fake: Array,
    batch: Batch,
    net: Any,
) -> tuple[Array, Terms]:
    """The generator's loss and its terms."""
    terms = {"g_adv": model.family.generator_loss(logits, fake, batch.inputs)}
    weight = phase.own_latent + phase.reconstruction
    if weight > 0:
        pixels = jnp.mean(losses.l1(fake, batch.target))  # pyright: ignore[reportArgumentType]
        features = jnp.mean(lpips.distance(net, fake, batch.target))  # pyright: ignore[reportArgumentType]
        terms["g_l1"], terms["g_lpips"] = weight * phase.l1 * pixels, weight * features
    if batch.target is not None:
        terms |= model.family.target_losses(logits, fake, batch.target, batch.inputs)
    return sum(terms.values(), jnp.float32(0)), terms


def discriminator_terms(
    model: MultiExit, logits: Discriminate, fake: Array, batch: Batch, key: Array
) -> tuple[Array, Terms]:
    """The discriminator's loss and its terms."""
    fake = jax.lax.stop_gradient(fake)
    terms = model.family.discriminator_losses(logits, fake, batch.target, batch.inputs, key)  # pyright: ignore[reportArgumentType]
    return sum(terms.values(), jnp.float32(0)), terms


# --- micro-batches ------------------------------------------------------------------------------
def split(batch: PyTree, count: int) -> PyTree:
    """Every array [b, ...] as [count, b / count, ...]; part i holds samples i, i + count, ...

    Strided, because contiguous blocks of a batch that lies on several devices would each lie on
    some of them only.
    """

    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0)

    return jax.tree.map(cut, batch)


def accumulate(
    body: Callable[[PyTree, Batch], tuple[PyTree, PyTree]], carry: PyTree, batch: Batch, count: int
) -> tuple[PyTree, PyTree]:
    """Runs ``body(carry, micro_batch) -> (carry, results)`` over the micro-batches, one by one.

    Args:
        body: computes gradients and loss terms, say; its results are float32.
        carry: goes from one micro-batch to the next.
        batch: what is split.
        count: of micro-batches; 1 calls `body` once with the batch itself.

    Returns:
        The last carry and the mean of the results.
    """
    if count == 1:
        return body(carry, batch)
    micro = split(batch, count)
    like = jax.eval_shape(body, carry, jax.tree.map(lambda x: x[0], micro))[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)

    def add(loop: Any, part: Batch) -> tuple[Any, None]:
        carry, results = body(loop[0], part)
        return (carry, jax.tree.map(jnp.add, loop[1], results)), None

    (carry, total), _ = jax.lax.scan(add, (carry, zeros), micro)
    return carry, jax.tree.map(lambda x: x / count, total)
