"""What `train` checks before anything is compiled or overwritten."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence

import jax

from fiancee_jax import box, checkpoint
from fiancee_jax.classes import is_unnamed
from fiancee_jax.config import PHASES, Config, config_names, difference
from fiancee_jax.data import Cached
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit

SPLITS = {  # that a phase reads
    "backbone": ("train", "report"),
    "guides": ("train",),
    "branches": ("train", "predictor", "report"),
    "predictor": ("predictor",),
    "calibration": ("calibration",),
}
_NET = ("channels", "hidden", "sees", "squares", "cells", "pool", "members")
_PREDICTOR = ("model", "guides", "exits", *(f"predictor.{field}" for field in _NET))
SHAPED_BY = {  # the fields of a config that a phase's checkpoint depends on
    "backbone": ("model",),
    "guides": ("model", "guides"),
    "branches": ("model", "guides", "exits", "branches.router"),  # whose steps they begin at
    "predictor": _PREDICTOR,
    "calibration": (*_PREDICTOR, "calibration"),
}


def phases_exist(phases: Sequence[str]) -> None:
    """At least one phase, and only phases there are."""
    unknown = [phase for phase in phases if phase not in PHASES]
    if unknown or not phases:
        raise UserError(f"phases {list(phases)}: choose from {', '.join(PHASES)}.")


def fits_workdir(
    workdir: pathlib.Path,
    old: Config,
    config: Config,
    store: checkpoint.Store,
    renewed: Sequence[str],
) -> None:
    """Checkpoints that stay must have been made with the same networks."""
    if is_unnamed(getattr(old.model, "classes", ())):  # they take the data set's names
        old = dataclasses.replace(old, model=old.model.with_classes(config.model.classes))
    first = PHASES.index(renewed[0]) if renewed else len(PHASES)
    for phase in PHASES[:first]:
        if store.latest(phase) is None:
            continue
        lines = changes(phase, old, config)
        if lines:
            shown = "\n  ".join(lines[:8])
            raise UserError(
                f"{workdir} holds a {phase} checkpoint of another config:\n  {shown}\n"
                f"Take another --workdir, undo the change, or train from there anew with "
                f"--phases {' '.join(PHASES[PHASES.index(phase) :])} --rerun."
            )


def changes(phase: str, old: Config, config: Config) -> list[str]:
    """What a phase's checkpoint depends on and has changed, as `config.difference` says it."""
    lines = difference(old, config, SHAPED_BY[phase])
    if phase != "backbone":
        return lines
    light = tuple(f"model.{field}: " for field in config.model.light_fields)
    return [line for line in lines if not line.startswith(light)]


def is_no_box(workdir: pathlib.Path) -> None:
    """A model in the box is not trained where it lies."""
    if box.is_box(workdir):
        raise UserError(
            f"{workdir} is a model in the box. Make a workdir of it first: python -m fiancee_jax "
            f"unpack {workdir} --workdir DIR"
        )


def has_predecessors(
    workdir: pathlib.Path, config: Config, store: checkpoint.Store, due: Sequence[str]
) -> None:
    """What the phases `due` need is finished already, or due too."""
    name = config.name if config.name in config_names() else "CONFIG"
    for phase in due:
        for before in PHASES[: PHASES.index(phase)]:
            if before in due:
                continue
            if PHASES.index(before) > PHASES.index(due[0]):
                raise UserError(
                    f"the phase {phase!r} needs {before!r}, which must be trained anew after "
                    f"{due[0]!r}. Give --phases {' '.join(PHASES[PHASES.index(due[0]) :])}."
                )
            if not store.finished(before):
                raise UserError(
                    f"the phase {phase!r} needs {before!r}, which is not finished in {workdir}. "
                    f"Run, with any other flags of yours: "
                    + checkpoint.command(workdir, before, name)
                )


def keeps_import(
    workdir: pathlib.Path,
    config: Config,
    store: checkpoint.Store,
    due: Sequence[str],
    rerun: bool,
) -> None:
    """An imported backbone is never trained anew, and adversarially only with a discriminator."""
    extra = {} if store.latest("backbone") is None else store.extra("backbone")
    if "imported" not in extra:
        return
    if rerun and "backbone" in due:
        raise UserError(
            f"the backbone in {workdir} was imported; --rerun would train an empty one in its "
            f"place. Leave it out (--phases {' '.join(PHASES[1:])} --rerun), or train it further "
            f"with --phases backbone --backbone.steps {store.latest('backbone')} + more."
        )
    weight = config.branches.adversarial if "branches" in due else 0
    if "discriminator" in extra["imported"] or not (weight or "backbone" in due):
        return
    cause = "the backbone cannot train on" if "backbone" in due else ""
    raise UserError(
        f"{cause or f'branches.adversarial is {weight:g}'}, but {workdir} was imported without a "
        "discriminator. Import it again with one: python -m fiancee_jax convert oasis G.pth "
        "--discriminator D.pth --out DIR"
    )


def batches_split(config: Config, due: Sequence[str], devices: int | None = None) -> None:
    """Batches, and the micro-batches of accumulated gradients, can be divided among the devices.

    Those are the devices that there are, unless another number is given.
    """
    devices, parts = devices or jax.device_count(), config.backbone.accumulate
    sizes = {"backbone": (config.backbone.batch_size, parts)}
    sizes |= {phase: (config.branches.batch_size, 1) for phase in PHASES[2:]}
    for phase, (size, parts) in sizes.items():
        if phase in due and size % (devices * parts):
            field = "backbone" if phase == "backbone" else "branches"
            micro = f" in {parts} micro-batches (backbone.accumulate)" if parts > 1 else ""
            raise UserError(
                f"{field}.batch_size is {size}, which cannot be split{micro} over {devices} "
                f"devices. Take a multiple of {devices * parts}."
            )


def cells_join(config: Config, due: Sequence[str]) -> None:
    """The cells of the family's view can be joined as `predictor.pool` says."""
    pool = config.predictor.pool
    if pool == 1 or "predictor" not in due:
        return
    _, rows, columns, _ = (
        MultiExit(config.model, (), config.guides, config.predictor).view_shapes[0].shape
    )
    if rows % pool or columns % pool:
        fits = [n for n in range(1, pool) if rows % n == columns % n == 0]
        raise UserError(
            f"predictor.pool is {pool}, and the view of this model has {rows} x {columns} cells, "
            f"which cannot be joined so. Take a divisor of both, such as {fits[-1]}."
        )


def make_writable(workdir: pathlib.Path) -> None:
    """Makes the workdir and tries it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):  # hosts may try at the same time
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to the workdir {workdir}: {error.strerror}. Choose another --workdir."
        ) from None


def open_data(config: Config, due: Sequence[str]) -> dict[str, Cached]:
    """All splits that will be read, checked now rather than hours later."""
    sources, problems = {}, []
    for split in dict.fromkeys(split for phase in due for split in SPLITS[phase]):
        try:
            sources[split] = Cached(config.data.open(split, config.model.size))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    if "backbone" in due and config.backbone.own_latent > 0:
        latent, length = sources["train"][0].get("latent"), config.model.latent_dim
        if latent is None or len(latent) != length:
            found = "no latents" if latent is None else f"latents of length {len(latent)}"
            raise UserError(
                f"backbone.own_latent is {config.backbone.own_latent:g}, but the data set has "
                f"{found}, and z has length {length}. Set backbone.own_latent to 0, or take data "
                "with latents of that length."
            )
    return sources
