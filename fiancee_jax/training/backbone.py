"""Phase 1: the backbone and its discriminator, by the losses of the family."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fiancee_jax.config import BackbonePhase
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.models import kernel_gradient
from fiancee_jax.models.layers import initialise, power_iteration
from fiancee_jax.training import preview
from fiancee_jax.training.adversarial import (
    accumulate,
    discriminate,
    discriminator_terms,
    generate,
    generator_terms,
    iterations,
    own_terms,
    with_latents,
)
from fiancee_jax.training.averaged import averaged, converged
from fiancee_jax.training.log import Metrics, mean, norms
from fiancee_jax.training.loop import State, fit
from fiancee_jax.training.sharding import step_shardings
from fiancee_jax.training.workspace import Workspace


# --- state --------------------------------------------------------------------------------------
def optimizer(
    phase: Any, lr: float, b1: float, b2: float, decay: float = 0.0
) -> optax.GradientTransformation:
    """Adam with a constant rate, or one that falls to 0 along a cosine; AdamW if weights decay."""
    rate = optax.cosine_decay_schedule(lr, phase.steps) if phase.schedule == "cosine" else lr
    return optax.adamw(rate, b1, b2, weight_decay=decay) if decay else optax.adam(rate, b1, b2)


def optimizers(phase: BackbonePhase) -> tuple[Any, Any]:
    """Of generator and discriminator."""
    args = (phase.beta1, phase.beta2, phase.weight_decay)
    return optimizer(phase, phase.lr_g, *args), optimizer(phase, phase.lr_d, *args)


def init_state(model: MultiExit, phase: BackbonePhase, rng: np.random.Generator) -> State:
    """Fresh weights, their average, and optimiser states; all float32.

    ``batch_stats`` and the spectral states are {} for networks without any. Spectral norms start
    converged, as torch's parametrization does: from random u and v the first sigmas would be far
    too small, and the first logits far too large.
    """
    height, width = model.family.size
    picture = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    critic = model.family.discriminator()
    d_shapes = jax.eval_shape(critic.init, jax.random.key(0), picture)
    g = initialise(model.backbone_shapes, rng, phase.init_gain)
    d = initialise(d_shapes, rng, phase.init_gain)
    adam_g, adam_d = optimizers(phase)
    return {
        "params": g["params"],
        "batch_stats": g.get("batch_stats", {}),
        "spectral": converged(g["params"], g.get("spectral", {})),
        "ema": jax.tree.map(jnp.array, g["params"]),  # a copy: both are donated
        "d_params": d["params"],
        "d_spectral": converged(d["params"], d.get("spectral", {})),
        "opt_g": jax.jit(adam_g.init)(g["params"]),
        "opt_d": jax.jit(adam_d.init)(d["params"]),
    }


def restarted(
    model: MultiExit, phase: BackbonePhase, generator: Variables, discriminator: Variables
) -> State:
    """A state in which training goes on from these weights, with fresh optimisers.

    Where they have no ``spectral``, the spectral norms are found anew; folded kernels have norm 1.
    """
    state = init_state(model, phase, np.random.default_rng(0))
    state |= {"params": generator["params"], "ema": generator["params"]}
    state |= {"d_params": discriminator["params"]}
    state |= {"batch_stats": generator["batch_stats"]} if "batch_stats" in generator else {}
    for name, given, params in (
        ("spectral", generator, state["params"]),
        ("d_spectral", discriminator, state["d_params"]),
    ):
        state[name] = given.get("spectral") or converged(params, state[name])
    return state


def update_generator(
    phase: BackbonePhase, state: State, grad: Any
) -> tuple[State, dict[str, Array]]:
    """The state after G's Adam update and a step of the weight average; and the norms of both."""
    step, opt = optimizers(phase)[0].update(grad, state["opt_g"], state["params"])
    params = optax.apply_updates(state["params"], step)
    d = phase.ema_decay
    ema = jax.tree.map(lambda a, p: d * a + (1 - d) * p, state["ema"], params)
    return {**state, "params": params, "ema": ema, "opt_g": opt}, norms("g_", grad, step)


def update_discriminator(
    phase: BackbonePhase, state: State, grad: Any
) -> tuple[State, dict[str, Array]]:
    """The state after D's Adam update; and the norms of gradient and update."""
    step, opt = optimizers(phase)[1].update(grad, state["opt_d"], state["d_params"])
    params = optax.apply_updates(state["d_params"], step)
    return {**state, "d_params": params, "opt_d": opt}, norms("d_", grad, step)


# --- steps --------------------------------------------------------------------------------------
def make_step(model: MultiExit, phase: BackbonePhase, out_shardings: Any = None) -> Any:
    """The jitted step (state, batch, key, perceptual) -> (state, metrics); the state is donated."""
    step = fused_step if phase.step == "fused" else published_step
    model = dataclasses.replace(model, dtype=phase.precision, remat=phase.remat)
    step = kernel_gradient.by_bands()(functools.partial(step, model, phase))
    return jax.jit(step, donate_argnums=0, out_shardings=out_shardings)


def fused_step(
    model: MultiExit, phase: BackbonePhase, state: State, batch: Batch, key: Array, net: Any
) -> tuple[State, Metrics]:
    """G and D updated from one forward of G; as many power iterations as `published_step` runs."""
    k_z, k_mix = jax.random.split(key)
    spectral = iterations(state["params"], state["spectral"], 2)[-1]
    d_spectral = iterations(state["d_params"], state["d_spectral"], 4)[-1]

    def gradients(stats: Any, part: Batch) -> Any:
        def forward(params: Any) -> Any:
            fake, new = generate(model, params, stats, spectral, part.inputs)
            own, terms = own_terms(model, params, spectral, fake, part.inputs)
            return (fake, own), (new, terms)

        def g_loss(fake: Array) -> Any:
            logits = discriminate(model, state["d_params"], [d_spectral])
            return generator_terms(model, phase, logits, fake, part, net)

        def d_loss(params: Any) -> Any:
            logits = discriminate(model, params, [d_spectral])
            return discriminator_terms(model, logits, fake, part, k_mix)

        (fake, _), pull_back, (stats, own) = jax.vjp(forward, state["params"], has_aux=True)
        grad_fake, g_terms = jax.grad(g_loss, has_aux=True)(fake)
        grad_d, d_terms = jax.grad(d_loss, has_aux=True)(state["d_params"])
        grad_g = pull_back((grad_fake, jnp.float32(1)))[0]
        return stats, (grad_g, grad_d, {**g_terms, **own, **d_terms})

    batch = with_latents(model, phase, batch, k_z)
    results = accumulate(gradients, state["batch_stats"], batch, phase.accumulate)
    stats, (grad_g, grad_d, terms) = results
    state, g_norms = update_generator(phase, state, grad_g)
    state, d_norms = update_discriminator(phase, state, grad_d)
    state = {**state, "batch_stats": stats, "spectral": spectral, "d_spectral": d_spectral}
    return state, {k: mean(v) for k, v in {**terms, **g_norms, **d_norms}.items()}


def published_step(
    model: MultiExit, phase: BackbonePhase, state: State, batch: Batch, key: Array, net: Any
) -> tuple[State, Metrics]:
    """As published: G's update, then a fresh z, a second forward of G, and D's update.

    G runs 2 power iterations and D 4, one before each of its forwards.
    """
    k_g, k_d, k_mix = jax.random.split(key, 3)
    state, g_terms = generator_update(model, phase, state, batch, k_g, net)
    state, d_terms = discriminator_update(model, phase, state, batch, (k_d, k_mix))
    return state, {k: mean(v) for k, v in {**g_terms, **d_terms}.items()}


def generator_update(
    model: MultiExit, phase: BackbonePhase, state: State, batch: Batch, key: Array, net: Any
) -> tuple[State, dict[str, Array]]:
    """The first half of `published_step`: one power iteration of each network, G's update."""
    spectral = power_iteration(state["params"], state["spectral"])
    d_spectral = power_iteration(state["d_params"], state["d_spectral"])

    def gradients(stats: Any, part: Batch) -> Any:
        def loss(params: Any) -> Any:
            fake, new = generate(model, params, stats, spectral, part.inputs)
            logits = discriminate(model, state["d_params"], [d_spectral])
            total, terms = generator_terms(model, phase, logits, fake, part, net)
            own, more = own_terms(model, params, spectral, fake, part.inputs)
            return total + own, (new, {**terms, **more})

        grad, (new, terms) = jax.grad(loss, has_aux=True)(state["params"])
        return new, (grad, terms)

    batch = with_latents(model, phase, batch, key)
    results = accumulate(gradients, state["batch_stats"], batch, phase.accumulate)
    stats, (grad, terms) = results
    state, found = update_generator(phase, state, grad)
    state = {**state, "batch_stats": stats, "spectral": spectral, "d_spectral": d_spectral}
    return state, {**terms, **found}


def discriminator_update(
    model: MultiExit, phase: BackbonePhase, state: State, batch: Batch, keys: tuple[Array, Array]
) -> tuple[State, dict[str, Array]]:
    """The second half: one more power iteration of G, three of D, D's update.

    Of the two keys one is z's, the other LabelMix's: its coins are those of the whole batch.
    """
    spectral = power_iteration(state["params"], state["spectral"])
    d_states = iterations(state["d_params"], state["d_spectral"], 3)

    def gradients(stats: Any, part: Batch) -> Any:
        fake, stats = generate(model, state["params"], stats, spectral, part.inputs)

        def loss(params: Any) -> Any:
            logits = discriminate(model, params, d_states)
            return discriminator_terms(model, logits, fake, part, keys[1])

        return stats, jax.grad(loss, has_aux=True)(state["d_params"])

    batch = with_latents(model, phase, batch, keys[0])
    results = accumulate(gradients, state["batch_stats"], batch, phase.accumulate)
    stats, (grad, terms) = results
    state, found = update_discriminator(phase, state, grad)
    state = {**state, "batch_stats": stats, "spectral": spectral, "d_spectral": d_states[-1]}
    return state, {**terms, **found}


# --- the phase ----------------------------------------------------------------------------------
def run(work: Workspace) -> None:
    """Trains the backbone."""
    phase, model = work.config.backbone, work.model
    state = work.place(init_state(model, phase, work.rng("backbone")))
    step = make_step(model, phase, step_shardings(state, work.config))
    wanted = phase.own_latent > 0 or phase.reconstruction > 0
    net = work.perceptual(phase.perceptual_net) if wanted else None
    fit(
        work,
        "backbone",
        state,
        lambda s, batch, key: step(s, batch, key, net),
        work.loader("train", phase.batch_size, "backbone"),
        phase.steps,
        model_of=functools.partial(averaged, work),
        preview=preview.backbone(work),
    )
