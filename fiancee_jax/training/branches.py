"""Phase 3: all branches at once against the frozen backbone's pictures (FIANCEE, section 3.1)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fiancee_jax import hosts, losses
from fiancee_jax.config import BranchesPhase, Exit
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.models import kernel_gradient, lpips
from fiancee_jax.models.branches import Guide, Taps
from fiancee_jax.models.layers import initialise, power_iteration
from fiancee_jax.models.staged import Inputs
from fiancee_jax.routing import menu
from fiancee_jax.training import backbone, focus, measure, preview
from fiancee_jax.training.adversarial import (
    discriminate,
    discriminator_terms,
    partly_composed,
    random_latents,
)
from fiancee_jax.training.log import Metrics, mean, norms
from fiancee_jax.training.loop import State, fit
from fiancee_jax.training.sharding import step_shardings
from fiancee_jax.training.workspace import Workspace

VGG_EVERY = 4  # pictures of a batch: LPIPS-vgg costs several times a thin branch
INIT_GAIN = 1.0  # branches have no spectral norm: at OASIS's 0.02 batch norm's epsilon would rule


def optimizer(phase: BranchesPhase) -> optax.GradientTransformation:
    """Adam (0, 0.999) of every branch; momentum 0.9 measured no better."""
    return backbone.optimizer(phase, phase.lr, 0.0, 0.999)


def init_state(
    model: MultiExit,
    phase: BranchesPhase,
    rng: np.random.Generator,
    backbone: Any = None,
    trained: Any = None,
) -> State:
    """Branches to begin with and optimiser states, by exit name.

    They are those that were trained before, if any are given. Else, of the backbone's variables, if
    these are given, branches inherit what they can.
    """
    if trained is None:
        first = _first_branches(model, rng, backbone)
    else:
        first = {e.name: jax.tree.map(np.array, trained[e.name]) for e in model.exits}
    adam = jax.jit(optimizer(phase).init)
    return {"branches": first, "opt": {k: adam(v["params"]) for k, v in first.items()}}


def _first_branches(model: MultiExit, rng: np.random.Generator, backbone: Any) -> dict[str, Any]:
    fresh = {e.name: init_branch(model, e, rng) for e in model.exits}
    if backbone is None:
        return fresh
    return {e.name: model.family.inherited(e, fresh[e.name], backbone) for e in model.exits}


def init_branch(model: MultiExit, exit: Exit, rng: np.random.Generator) -> Any:
    """A fresh branch that makes its guide's base picture or grey: head and learnt palette are 0."""
    fresh = initialise(model.branch_shapes(exit), rng, INIT_GAIN)
    params = dict(fresh["params"])
    for name in ("head", "palette"):
        if name in params:
            params[name] = jax.tree.map(np.zeros_like, params[name])
    return {**fresh, "params": params}


def with_discriminator(phase: BranchesPhase, state: State, trained: State) -> State:
    """The state with the backbone's discriminator to start from."""
    adam = optax.adam(phase.lr_d, 0.0, 0.999)
    opt = adam.init(trained["d_params"])
    d = {"d_params": trained["d_params"], "d_spectral": trained["d_spectral"], "opt_d": opt}
    return {**state, **d}


def perceptual(phase: BranchesPhase) -> tuple[str, ...]:
    """The networks of the LPIPS terms."""
    return (phase.lpips_net, "vgg") if phase.lpips_vgg > 0 else (phase.lpips_net,)


def make_step(
    model: MultiExit,
    phase: BranchesPhase,
    out_shardings: Any = None,
    router: nn.Module | None = None,
) -> Any:
    """The jitted step (state, frozen, batch, key, nets) -> (state, metrics); donates the state.

    `nets` are `perceptual`'s. With a `router` `frozen` holds its variables too, by that name.
    """
    model = dataclasses.replace(model, dtype=phase.precision)
    step = kernel_gradient.by_bands()(functools.partial(train_step, model, phase, router))
    return jax.jit(step, donate_argnums=0, out_shardings=out_shardings)


def train_step(
    model: MultiExit,
    phase: BranchesPhase,
    router: nn.Module | None,
    state: State,
    frozen: Variables,
    batch: Batch,
    key: Array,
    nets: tuple[lpips.LpipsParams, ...],
) -> tuple[State, Metrics]:
    """One update of the chosen branches; the trunk runs once, without gradients."""
    k_z, k_exits, k_mix = jax.random.split(key, 3)
    given = partly_composed(model, batch.inputs, k_z, phase.compose)
    inputs = model.encode(frozen, {**given, "z": random_latents(model, batch, k_z)})
    target, taps = model.full(frozen, inputs)
    context = (inputs, taps, model.guide(frozen, inputs, taps), target)
    weights = _weights(model, phase, router, frozen, inputs)
    chosen = choose(k_exits, len(model.exits), phase.exits_per_step)
    critic = _critic(model, state)
    metrics: Metrics = {}
    pictures = []
    new = {"branches": dict(state["branches"]), "opt": dict(state["opt"])}
    for i, exit in enumerate(model.exits):
        branch, opt = state["branches"][exit.name], state["opt"][exit.name]
        # One branch after the other: the next waits, so that no two hold their activations at once.
        context, new = jax.lax.optimization_barrier((context, new))
        weight = None if weights is None else weights[i]
        update = functools.partial(_update, model, phase, exit, context, weight, nets, critic)
        if phase.exits_per_step:
            terms = jax.eval_shape(update, branch, opt)[-1]
            skip = functools.partial(_skip, target, terms)
            results = jax.lax.cond(chosen[i], update, skip, branch, opt)
        else:
            results = update(branch, opt)
        new["branches"][exit.name], new["opt"][exit.name], picture, terms = results
        count = chosen[i].astype(jnp.float32)
        metrics |= {f"{exit.name}/{k}": (v * count, count) for k, v in terms.items()}
        pictures.append(picture)
    state = {**state, **new}
    if phase.adversarial > 0:
        # D sees the pictures of one trained exit at a time, each as often as the others.
        key = jax.random.fold_in(k_mix, 1)
        exit = jax.random.categorical(key, jnp.where(chosen, 0.0, -jnp.inf))
        fake = jnp.stack(pictures)[exit]
        state, d_metrics = _update_critic(model, phase, state, fake, batch, inputs, k_mix)
        metrics |= d_metrics
    return state, metrics


def choose(key: Array, exits: int, count: int) -> Array:
    """Which exits are trained in this step: `count` random ones, or all (count = 0)."""
    if count == 0:
        return jnp.ones(exits, bool)
    return jnp.zeros(exits, bool).at[jax.random.permutation(key, exits)[:count]].set(True)


def _weights(
    model: MultiExit,
    phase: BranchesPhase,
    router: nn.Module | None,
    frozen: Variables,
    inputs: Inputs,
) -> Array | None:
    """How much every input counts for every exit, [n, b]; None: all alike."""
    if router is None:
        return None
    seen = model.view(frozen, inputs)
    predicted = focus.predictions(router, frozen["router"], seen, phase.focus_sees)
    return focus.weights(predicted, phase.focus)


def _critic(model: MultiExit, state: State) -> Any:
    """The discriminator with its current weights, or None where it is not trained."""
    if "d_params" not in state:
        return None
    return discriminate(model, state["d_params"], [state["d_spectral"]])


def _update(
    model: MultiExit,
    phase: BranchesPhase,
    exit: Exit,
    context: tuple[Inputs, Taps, Guide, Array],
    weight: Array | None,
    nets: tuple[lpips.LpipsParams, ...],
    critic: Any,
    branch: Any,
    opt: Any,
) -> tuple[Any, Any, Array, dict[str, Array]]:
    """One Adam step of one branch: its variables, optimiser state, picture and loss terms.

    The terms are plain means, whatever the inputs' weights [b] in the loss are.
    """
    inputs, taps, guide, target = context

    def loss(params: Any) -> Any:
        picture, changed = model.branch(exit).apply(
            {**branch, "params": params},
            taps[exit.tap],
            model.condition(inputs),
            inputs,
            guide,
            train=not phase.running_statistics,
            mutable=["batch_stats"],
        )
        picture = picture.astype(jnp.float32)  # pyright: ignore[reportAttributeAccessIssue]
        each = {
            "l1": losses.l1(picture, target),  # pyright: ignore[reportArgumentType]
            "lpips": lpips.distance(nets[0], picture, target),  # pyright: ignore[reportArgumentType]
        }
        total = phase.l1 * weighted(each["l1"], weight) + phase.lpips * weighted(
            each["lpips"], weight
        )
        if phase.lpips_vgg > 0:
            some = slice(None, None, VGG_EVERY)
            each["lpips_vgg"] = lpips.distance(nets[1], picture[some], target[some])  # pyright: ignore[reportArgumentType]
            counts = None if weight is None else weight[some]
            total = total + phase.lpips_vgg * weighted(each["lpips_vgg"], counts)
        terms = {name: jnp.mean(values) for name, values in each.items()}
        if critic is not None:
            terms["adv"] = model.family.generator_loss(critic, picture, inputs)  # pyright: ignore[reportArgumentType]
            total = total + phase.adversarial * terms["adv"]
        return total, (picture, changed, terms)

    grad, (picture, changed, terms) = jax.grad(loss, has_aux=True)(branch["params"])
    step, opt = optimizer(phase).update(grad, opt)
    params, terms = optax.apply_updates(branch["params"], step), terms | norms("", grad, step)
    return {**branch, "params": params, **changed}, opt, picture, terms


def weighted(values: Array, weight: Array | None) -> Array:
    """Mean of [b] values with these weights, or of all alike."""
    return jnp.mean(values if weight is None else weight * values)


def _skip(
    target: Array, terms: dict[str, Any], branch: Any, opt: Any
) -> tuple[Any, Any, Array, dict[str, Array]]:
    """What `_update` returns for a branch that this step leaves alone; it is not counted."""
    nothing = {name: jnp.zeros(term.shape, term.dtype) for name, term in terms.items()}
    return branch, opt, jnp.zeros_like(target), nothing


def _update_critic(
    model: MultiExit,
    phase: BranchesPhase,
    state: State,
    fake: Array,
    batch: Batch,
    inputs: Inputs,
    key: Array,
) -> tuple[State, Metrics]:
    spectral = power_iteration(state["d_params"], state["d_spectral"])

    def loss(params: Any) -> Any:
        logits = discriminate(model, params, [spectral])
        return discriminator_terms(model, logits, fake, batch._replace(inputs=inputs), key)

    grad, terms = jax.grad(loss, has_aux=True)(state["d_params"])
    step, opt = optax.adam(phase.lr_d, 0.0, 0.999).update(grad, state["opt_d"])
    params = optax.apply_updates(state["d_params"], step)
    state = {**state, "d_params": params, "opt_d": opt, "d_spectral": spectral}
    return state, {k: mean(v) for k, v in {**terms, **norms("d_", grad, step)}.items()}


# --- the phase ----------------------------------------------------------------------------------
def run(work: Workspace) -> None:
    """Trains the branches, measures them on unseen inputs and writes the menu."""
    phase, model = work.config.branches, work.model
    frozen = work.frozen("backbone", "guides")
    router, given = focus.load_router(work.config), frozen
    dense = hosts.gathered(frozen["backbone"]) if phase.inherit else None
    before, start = (None, 0) if router is None else (router.branches, router.steps)
    phase = dataclasses.replace(phase, steps=phase.steps - start)  # of this round, and its schedule
    state = init_state(model, phase, work.rng("branches"), dense, before)
    if phase.adversarial > 0:
        like = backbone.init_state(model, work.config.backbone, work.rng("backbone"))
        like = work.place(like)
        state = with_discriminator(phase, state, work.store.train("backbone", like))
    state = work.place(state)
    if router is not None:
        given = {**frozen, "router": jax.device_put(router.variables, work.replicated)}
    net = None if router is None else router.net
    step = make_step(model, phase, step_shardings(state, work.config), net)
    nets = tuple(map(work.perceptual, perceptual(phase)))
    fit(
        work,
        "branches",
        state,
        lambda s, batch, key: step(s, given, batch, key, nets),
        work.loader("train", phase.batch_size, "branches"),
        start + phase.steps,
        start=start,
        model_of=lambda s: s["branches"],
        preview=preview.branches(work, frozen),
        extra_of=lambda branches: {"menu": _menu(work, {**frozen, "branches": branches})},
    )


def _menu(work: Workspace, variables: Variables) -> list[dict[str, Any]]:
    """All exits as measured on the predictor's split, dominated ones marked and said."""
    phase, model = work.config.branches, work.model
    found = measure.records(work, "branches", variables, phase.measure, phase.batch_size)
    entries = [
        menu.measure(e, model.gmacs[i], found["lpips"][:, i], found["l1"][:, i])
        for i, e in enumerate(model.exits)
    ]
    entries = menu.drop_dominated(entries)
    for e in entries:
        share, reason = e.gmacs / model.gmacs[-1], f", dropped: {e.dropped}" if e.dropped else ""
        work.log.say(
            f"exit {e.exit.name}: {e.gmacs:.4g} GMACs ({share:.3f} of full), LPIPS-alex "
            f"{e.mean:.4f} ({e.p10:.4f}-{e.p90:.4f}), L1 {e.l1:.4f}{reason}"
        )
    return [dataclasses.asdict(e) for e in entries]
