"""``train.py --compile-only TOPOLOGY``: training steps compiled for chips that are not there.

The steps are those that training runs (`backbone.make_step`, `branches.make_step`), at the config's
own batch size, precision, accumulation and rematerialisation. Nothing is read or written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax import accelerators, ahead_of_time
from fiancee_jax.accelerators import Topology, placed
from fiancee_jax.ahead_of_time import Program
from fiancee_jax.config import Config
from fiancee_jax.config_check import check_config
from fiancee_jax.data import Batch
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.models import lpips
from fiancee_jax.training import backbone, branches, checks, focus
from fiancee_jax.training.sharding import shardings, step_shardings

Placed = tuple[Any, tuple[Any, ...]]  # a jitted step, and the shapes of its arguments


def compile_only(config: Config, phases: Sequence[str], name: str) -> list[Program]:
    """Prints what the steps of the chosen phases need on every chip of a topology.

    Args:
        config: its classes may be unnamed; then the data set is asked for them.
        phases: those without a step of the generator's size are passed over.
        name: of the topology, ``v5e:2x2``.

    Raises:
        UserError: bad config or topology, no libtpu, or no phase that has such a step.
    """
    topology = accelerators.describe(name)
    return ahead_of_time.show("Training steps", topology, steps(config, phases, topology))


def steps(config: Config, phases: Sequence[str], topology: Topology) -> Iterator[Program]:
    """The steps of these phases; each is compiled when it is asked for, mistakes are found before.

    Raises:
        UserError: see `compile_only`.
    """
    chosen = [phase for phase in STEPS if phase in phases]
    if not chosen:
        raise UserError(
            f"of the chosen phases ({', '.join(phases)}) none has a training step of the "
            f"generator's size to compile. Choose from {', '.join(STEPS)}."
        )
    model = config.model
    if not getattr(model, "classes", True):
        config = dataclasses.replace(config, model=model.with_classes(config.data.classes()))
    check_config(config)
    checks.batches_split(config, chosen, topology.chips)
    return (_compiled(config, phase, topology) for phase in chosen)


def _compiled(config: Config, phase: str, topology: Topology) -> Program:
    settings = getattr(config, phase)
    step, args = STEPS[phase](config, topology)
    per_chip = settings.batch_size // topology.chips
    with jax.set_mesh(topology.mesh):  # as training does
        flops = ahead_of_time.counted(step, topology, *args)
        return ahead_of_time.program(described(phase, settings), per_chip, flops, step, *args)


def described(phase: str, settings: Any) -> str:
    """``backbone step, bfloat16, accumulate 2, remat``."""
    words = [f"{phase} step", settings.precision]
    parts = getattr(settings, "accumulate", 1)
    words += [f"accumulate {parts}"] * (parts > 1) + ["remat"] * getattr(settings, "remat", False)
    return ", ".join(words)


# --- shapes -------------------------------------------------------------------------------------
def backbone_step(config: Config, topology: Topology) -> Placed:
    """The step of phase 1: state, batch, key, LPIPS if it is used."""
    phase, model = config.backbone, MultiExit.of(config)
    state = _backbone_state(model, config)
    wanted = phase.own_latent > 0 or phase.reconstruction > 0
    net = _perceptual(phase.perceptual_net) if wanted else None
    key, net = topology.replicated((_key(), net))
    state = placed(state, shardings(state, topology.mesh, config))
    batch = topology.split(abstract_batch(model, phase.batch_size))
    step = backbone.make_step(model, phase, step_shardings(state, config))
    return step, (state, batch, key, net)


def branches_step(config: Config, topology: Topology) -> Placed:
    """The step of phase 3: state, frozen backbone and bank (and router), batch, key, LPIPS."""
    phase, model = config.branches, MultiExit.of(config)
    state = jax.eval_shape(lambda: branches.init_state(model, phase, np.random.default_rng(0)))
    if phase.adversarial > 0:
        trained = _backbone_state(model, config)
        state = jax.eval_shape(
            lambda s, t: branches.with_discriminator(phase, s, t), state, trained
        )
    router, frozen = focus.load_router(config), model._abstract[0]
    if router is not None:
        frozen = {**frozen, "router": jax.eval_shape(lambda: router.variables)}
    shared = (frozen, _key(), tuple(map(_perceptual, branches.perceptual(phase))))
    frozen, key, nets = topology.replicated(shared)
    state = placed(state, shardings(state, topology.mesh, config))
    batch = topology.split(abstract_batch(model, phase.batch_size))
    net = None if router is None else router.net
    step = branches.make_step(model, phase, step_shardings(state, config), net)
    return step, (state, frozen, batch, key, nets)


STEPS: dict[str, Callable[[Config, Topology], Placed]] = {
    "backbone": backbone_step,
    "branches": branches_step,
}


def abstract_batch(model: MultiExit, size: int) -> Batch:
    """Shapes of a batch as the loader makes it, the pictures' own latents included."""
    inputs = model.family.abstract_inputs(size)
    latent = inputs.pop("z")
    target = jax.ShapeDtypeStruct((size, *model.family.size, 3), jnp.float32)
    return Batch(inputs, target, latent)


def _backbone_state(model: MultiExit, config: Config) -> Any:
    """Shapes of the backbone's state, from the function that makes it."""
    rng = np.random.default_rng(0)
    return jax.eval_shape(lambda: backbone.init_state(model, config.backbone, rng))


def _perceptual(net: Any) -> Any:
    return jax.eval_shape(lambda: lpips.load(net))


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))
