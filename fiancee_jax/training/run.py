"""`train`: all phases in order, each of which can be rerun or resumed alone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from fiancee_jax import checkpoint
from fiancee_jax.config import (
    PHASES,
    Config,
    check_config,
    difference,
    load_config,
    read_config,
    write_config,
)
from fiancee_jax.errors import UserError
from fiancee_jax.training import backbone, branches, guide_bank, predictor
from fiancee_jax.training.log import Log
from fiancee_jax.training.workspace import Workspace

RUN = {
    "backbone": backbone.run,
    "guides": guide_bank.run,
    "branches": branches.run,
    "predictor": predictor.run,
}
SHAPED_BY = {  # the fields of a config that a phase's checkpoint depends on
    "backbone": ("model",),
    "guides": ("model", "guides"),
    "branches": ("model", "guides", "exits"),
    "predictor": ("model", "guides", "exits", "predictor.channels", "predictor.hidden"),
}


def train(
    config: Config | str,
    workdir: str | pathlib.Path,
    *,
    phases: Sequence[str] = PHASES,
    rerun: bool = False,
) -> pathlib.Path:
    """Trains the phases that are not finished, each from its last checkpoint.

    Args:
        config: a `Config`, or the name of one.
        workdir: where everything goes: config.json, checkpoints/, samples/, metrics.jsonl.
        phases: which of backbone, guides, branches, predictor; they run in this order.
        rerun: train them anew; what they and later phases had is moved aside, not deleted.

    Returns:
        The workdir.

    Raises:
        UserError: bad config, data or workdir, or a predecessor that is missing.
    """
    config = load_config(config) if isinstance(config, str) else config
    workdir = pathlib.Path(workdir).resolve()
    config = resolve(config)
    store = checkpoint.Store(workdir, keep=config.logging.keep)
    chosen = [phase for phase in PHASES if phase in phases]
    _check_phases(phases)
    _check_workdir(workdir, config, store, chosen if rerun else [])
    _check_predecessors(workdir, store, chosen)
    _make(workdir)
    log = Log(workdir)
    if rerun:
        _set_aside(store, log, PHASES[PHASES.index(chosen[0]) :])
    write_config(config, workdir)
    work = Workspace(config, workdir, store, log)
    try:
        for phase in chosen:
            _run_phase(work, phase)
    finally:
        log.close()
        store.close()
    log.say(f"written to {workdir}: checkpoints/, samples/, metrics.jsonl, tensorboard/")
    return workdir


def resolve(config: Config) -> Config:
    """The config with the data set's classes filled in, checked."""
    model = config.model.with_classes(config.data.classes())
    config = dataclasses.replace(config, model=model)
    check_config(config)
    return config


def _run_phase(work: Workspace, phase: str) -> None:
    steps: Any = getattr(getattr(work.config, phase), "steps", 1)
    if work.store.finished(phase) and (work.store.latest(phase) or 0) >= steps:
        work.log.say(f"{phase}: finished already (--rerun trains it anew)")
        return
    RUN[phase](work)
    _set_aside(work.store, work.log, PHASES[PHASES.index(phase) + 1 :])


def _set_aside(store: checkpoint.Store, log: Log, phases: Sequence[str]) -> None:
    for phase in phases:
        aside = store.set_aside(phase)
        if aside:
            log.say(f"{phase}: its older checkpoints are now in {aside}")


def _check_phases(phases: Sequence[str]) -> None:
    unknown = [phase for phase in phases if phase not in PHASES]
    if unknown or not phases:
        raise UserError(f"phases {list(phases)}: choose from {', '.join(PHASES)}.")


def _check_workdir(
    workdir: pathlib.Path, config: Config, store: checkpoint.Store, renewed: Sequence[str]
) -> None:
    """Checkpoints that stay must have been made with the same networks."""
    if not (workdir / "config.json").is_file():
        return
    old = read_config(workdir)
    first = PHASES.index(renewed[0]) if renewed else len(PHASES)
    for phase in PHASES[:first]:
        if store.latest(phase) is None:
            continue
        lines = difference(old, config, SHAPED_BY[phase])
        if lines:
            shown = "\n  ".join(lines[:8])
            raise UserError(
                f"{workdir} holds a {phase} checkpoint of another config:\n  {shown}\n"
                f"Take another --workdir, undo the change, or train from there anew with "
                f"--phases {' '.join(PHASES[PHASES.index(phase) :])} --rerun."
            )


def _check_predecessors(
    workdir: pathlib.Path, store: checkpoint.Store, chosen: Sequence[str]
) -> None:
    for phase in chosen:
        for before in PHASES[: PHASES.index(phase)]:
            if before not in chosen and not store.finished(before):
                raise UserError(
                    f"the phase {phase!r} needs {before!r}, which is not finished: "
                    + checkpoint.missing(workdir, before)
                )


def _make(workdir: pathlib.Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ".writable").touch()
        (workdir / ".writable").unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to the workdir {workdir}: {error.strerror}. Choose another --workdir."
        ) from None
