"""Phase 1: the backbone and its discriminator, by the losses of OASIS."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fiancee_jax import losses
from fiancee_jax.config import BackbonePhase
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit
from fiancee_jax.models import lpips
from fiancee_jax.models.layers import fold_spectral, initialise, power_iteration
from fiancee_jax.training import preview
from fiancee_jax.training.log import Metrics, mean
from fiancee_jax.training.loop import State, fit
from fiancee_jax.training.workspace import Workspace

MOMENTUM = 0.9  # of the running batch statistics


def optimizer(phase: Any, lr: float, b1: float, b2: float) -> optax.GradientTransformation:
    """Adam with a constant rate, or one that falls to 0 along a cosine."""
    rate = optax.cosine_decay_schedule(lr, phase.steps) if phase.schedule == "cosine" else lr
    return optax.adam(rate, b1=b1, b2=b2)


def optimizers(phase: BackbonePhase) -> tuple[Any, Any]:
    """Of generator and discriminator."""
    args = (phase.beta1, phase.beta2)
    return optimizer(phase, phase.lr_g, *args), optimizer(phase, phase.lr_d, *args)


def init_state(model: MultiExit, phase: BackbonePhase, rng: np.random.Generator) -> State:
    """Fresh weights, their average, and optimiser states.

    Spectral norms start converged, as torch's parametrization does: from random u and v the first
    sigmas would be far too small, and the first logits far too large.
    """
    height, width = model.family.size
    picture = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    critic = model.family.discriminator()
    d_shapes = jax.eval_shape(critic.init, jax.random.key(0), picture)
    g = initialise(model.backbone_shapes, rng, phase.init_gain)
    d = initialise(d_shapes, rng, phase.init_gain)
    adam_g, adam_d = optimizers(phase)
    return {
        **g,
        "spectral": converged(g["params"], g["spectral"]),
        "ema": jax.tree.map(jnp.array, g["params"]),  # a copy: both are donated
        "d_params": d["params"],
        "d_spectral": converged(d["params"], d["spectral"]),
        "opt_g": jax.jit(adam_g.init)(g["params"]),
        "opt_d": jax.jit(adam_d.init)(d["params"]),
    }


@jax.jit
def converged(params: Any, spectral: Any) -> Any:
    """The spectral state after 15 power iterations."""
    return jax.lax.fori_loop(0, 15, lambda _, s: power_iteration(params, s), spectral)


def make_step(model: MultiExit, phase: BackbonePhase) -> Any:
    """The jitted step (state, batch, key, perceptual) -> (state, metrics); the state is donated."""
    step = fused_step if phase.step == "fused" else published_step
    return jax.jit(functools.partial(step, model, phase), donate_argnums=0)


# --- pieces -------------------------------------------------------------------------------------
def draw_latents(model: MultiExit, phase: BackbonePhase, batch: Batch, key: Array) -> Array:
    """z ~ N(0, 1); or the pictures' own latents, where the pixel loss asks for them."""
    if phase.own_latent > 0:
        return jnp.asarray(batch.latent)
    size = jax.tree.leaves(batch.inputs)[0].shape[0]
    return jax.random.normal(key, (size, model.family.latent_dim))


def generate(model: MultiExit, params: Any, stats: Any, spectral: Any, inputs: Any) -> Any:
    """A training forward of G: pictures and the new running statistics."""
    variables = {"params": params, "batch_stats": stats, "spectral": spectral}
    (images, _), changed = model.backbone().apply(
        variables, model.family.condition(inputs), train=True, mutable=["batch_stats"]
    )  # pyright: ignore[reportGeneralTypeIssues]
    return images, changed["batch_stats"]


def discriminate(model: MultiExit, params: Any, spectral: list[Any]) -> Any:
    """pictures -> logits; call k uses the k-th spectral state, or the only one."""
    states = iter(spectral)
    net = model.family.discriminator()
    fixed = spectral[0] if len(spectral) == 1 else None

    def logits(images: Array) -> Array:
        state = fixed if fixed is not None else next(states)
        return net.apply({"params": params, "spectral": state}, images)  # pyright: ignore[reportReturnType]

    return logits


def iterations(params: Any, spectral: Any, count: int) -> list[Any]:
    """The spectral states after 1..count power iterations."""
    states = []
    for _ in range(count):
        spectral = power_iteration(params, spectral)
        states.append(spectral)
    return states


def generator_terms(
    model: MultiExit, phase: BackbonePhase, logits: Any, fake: Array, batch: Batch, net: Any
) -> tuple[Array, dict[str, Array]]:
    """The generator's loss and its terms."""
    terms = {"g_adv": model.family.generator_loss(logits, fake, batch.inputs)}
    if phase.own_latent > 0:
        pixels = jnp.mean(losses.l1(fake, batch.target)) + jnp.mean(  # pyright: ignore[reportArgumentType]
            lpips.distance(net, fake, batch.target)  # pyright: ignore[reportArgumentType]
        )
        terms["g_own_latent"] = phase.own_latent * pixels
    return sum(terms.values(), jnp.float32(0)), terms


def discriminator_terms(
    model: MultiExit, logits: Any, fake: Array, batch: Batch, key: Array
) -> tuple[Array, dict[str, Array]]:
    """The discriminator's loss and its terms."""
    fake = jax.lax.stop_gradient(fake)
    terms = model.family.discriminator_losses(logits, fake, batch.target, batch.inputs, key)  # pyright: ignore[reportArgumentType]
    return sum(terms.values(), jnp.float32(0)), terms


def update_generator(phase: BackbonePhase, state: State, grad: Any, **changed: Any) -> State:
    """The state after G's Adam update and a step of the weight average."""
    step, opt = optimizers(phase)[0].update(grad, state["opt_g"])
    params = optax.apply_updates(state["params"], step)
    d = phase.ema_decay
    ema = jax.tree.map(lambda a, p: d * a + (1 - d) * p, state["ema"], params)
    return {**state, "params": params, "ema": ema, "opt_g": opt, **changed}


def update_discriminator(phase: BackbonePhase, state: State, grad: Any, spectral: Any) -> State:
    """The state after D's Adam update."""
    step, opt = optimizers(phase)[1].update(grad, state["opt_d"])
    params = optax.apply_updates(state["d_params"], step)
    return {**state, "d_params": params, "opt_d": opt, "d_spectral": spectral}


# --- steps --------------------------------------------------------------------------------------
def fused_step(
    model: MultiExit, phase: BackbonePhase, state: State, batch: Batch, key: Array, net: Any
) -> tuple[State, Metrics]:
    """G and D updated from one forward of G; as many power iterations as `published_step` runs."""
    k_z, k_mix = jax.random.split(key)
    inputs = {**batch.inputs, "z": draw_latents(model, phase, batch, k_z)}
    batch = batch._replace(inputs=inputs)
    spectral = iterations(state["params"], state["spectral"], 2)[-1]
    d_spectral = iterations(state["d_params"], state["d_spectral"], 4)[-1]

    def forward(params: Any) -> Any:
        return generate(model, params, state["batch_stats"], spectral, inputs)

    def g_loss(fake: Array) -> Any:
        logits = discriminate(model, state["d_params"], [d_spectral])
        return generator_terms(model, phase, logits, fake, batch, net)

    def d_loss(params: Any) -> Any:
        logits = discriminate(model, params, [d_spectral])
        return discriminator_terms(model, logits, fake, batch, k_mix)

    fake, pull_back, stats = jax.vjp(forward, state["params"], has_aux=True)
    (_, g_terms), grad_fake = jax.value_and_grad(g_loss, has_aux=True)(fake)
    (_, d_terms), grad_d = jax.value_and_grad(d_loss, has_aux=True)(state["d_params"])
    grad_g = pull_back(grad_fake)[0]
    state = update_generator(phase, state, grad_g, batch_stats=stats, spectral=spectral)
    state = update_discriminator(phase, state, grad_d, d_spectral)
    return state, {k: mean(v) for k, v in {**g_terms, **d_terms}.items()}


def published_step(
    model: MultiExit, phase: BackbonePhase, state: State, batch: Batch, key: Array, net: Any
) -> tuple[State, Metrics]:
    """As published: G's update, then a fresh z, a second forward of G, and D's update.

    G runs 2 power iterations and D 4, one before each of its forwards.
    """
    k_g, k_d, k_mix = jax.random.split(key, 3)
    spectral = iterations(state["params"], state["spectral"], 1)[0]
    d_first = power_iteration(state["d_params"], state["d_spectral"])

    def g_loss(params: Any) -> Any:
        inputs = {**batch.inputs, "z": draw_latents(model, phase, batch, k_g)}
        fake, stats = generate(model, params, state["batch_stats"], spectral, inputs)
        logits = discriminate(model, state["d_params"], [d_first])
        loss, terms = generator_terms(model, phase, logits, fake, batch, net)
        return loss, (terms, stats)

    (_, (g_terms, stats)), grad_g = jax.value_and_grad(g_loss, has_aux=True)(state["params"])
    state = update_generator(phase, state, grad_g)
    spectral = power_iteration(state["params"], spectral)
    inputs = {**batch.inputs, "z": draw_latents(model, phase, batch, k_d)}
    fake, stats = generate(model, state["params"], stats, spectral, inputs)
    d_states = iterations(state["d_params"], d_first, 3)

    def d_loss(d_params: Any) -> Any:
        logits = discriminate(model, d_params, d_states)
        return discriminator_terms(model, logits, fake, batch, k_mix)

    (_, d_terms), grad_d = jax.value_and_grad(d_loss, has_aux=True)(state["d_params"])
    state = update_discriminator(phase, state, grad_d, d_states[-1])
    state = {**state, "batch_stats": stats, "spectral": spectral}
    return state, {k: mean(v) for k, v in {**g_terms, **d_terms}.items()}


# --- the averaged model -------------------------------------------------------------------------
@functools.partial(jax.jit, static_argnames=("model",))
def batch_statistics(model: MultiExit, state: State, inputs: Any) -> Any:
    """Batch means and variances of the averaged weights on one batch."""
    zeros = jax.tree.map(jnp.zeros_like, state["batch_stats"])
    _, stats = generate(model, state["ema"], zeros, state["spectral"], inputs)
    return jax.tree.map(lambda s: s / (1 - MOMENTUM), stats)


def averaged(work: Workspace, state: State) -> Any:
    """The model: averaged weights with re-collected batch statistics, spectral norm folded in."""
    phase, total = work.config.backbone, None
    loader = work.loader("train", phase.batch_size, "backbone")
    kept = {name: state[name] for name in ("ema", "spectral", "batch_stats")}
    for i in range(phase.recollect):
        batch = work.put(next(loader))
        z = draw_latents(work.model, phase, batch, work.key("init", i))
        stats = batch_statistics(work.model, kept, {**batch.inputs, "z": z})
        total = stats if total is None else jax.tree.map(jnp.add, total, stats)
    stats = jax.tree.map(lambda s: s / phase.recollect, total)
    return {"params": fold_spectral(state["ema"], state["spectral"]), "batch_stats": stats}


def run(work: Workspace) -> None:
    """Trains the backbone."""
    phase, model = work.config.backbone, work.model
    state = jax.device_put(init_state(model, phase, work.rng("backbone")), work.replicated)
    step = make_step(model, phase)
    net = work.perceptual("alex") if phase.own_latent > 0 else None
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
