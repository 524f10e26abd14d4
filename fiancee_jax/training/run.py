"""`train`: all phases in order, each of which can be rerun or resumed alone."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shlex
from collections.abc import Iterator, Sequence

import jax

from fiancee_jax import checkpoint
from fiancee_jax.config import (
    PHASES,
    Config,
    difference,
    load_config,
    read_config,
    write_config,
)
from fiancee_jax.config_check import check_config
from fiancee_jax.errors import Interrupted, UserError
from fiancee_jax.hosts import is_first, meet
from fiancee_jax.training import (
    backbone,
    branches,
    calibration,
    checks,
    focus,
    guide_bank,
    predictor,
)
from fiancee_jax.training.lock import locked
from fiancee_jax.training.log import Log
from fiancee_jax.training.workspace import Workspace

RUN = {
    "backbone": backbone.run,
    "guides": guide_bank.run,
    "branches": branches.run,
    "predictor": predictor.run,
    "calibration": calibration.run,
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
        phases: which of backbone, guides, branches, predictor, calibration; they run in this
            order.
        rerun: train them anew; what they and later phases had is moved aside, not deleted.

    Returns:
        The workdir.

    Raises:
        UserError: bad config, data, workdir or router, or a predecessor that is missing.
        Interrupted: SIGTERM or SIGINT; what was done is saved.
    """
    checks.phases_exist(phases)
    config = resolve(load_config(config) if isinstance(config, str) else config)
    workdir = pathlib.Path(workdir).resolve()
    checks.is_no_box(workdir)
    old = read_config(workdir) if (workdir / "config.json").is_file() else None
    store = checkpoint.Store(
        workdir, keep=config.logging.keep, keep_every=config.logging.keep_every
    )
    chosen = [phase for phase in PHASES if phase in phases]
    due = chosen if rerun else _due(store, config, chosen)
    if old is not None:
        checks.fits_workdir(workdir, old, config, store, chosen if rerun else [])
    checks.has_predecessors(workdir, config, store, due)
    checks.keeps_import(workdir, config, store, due, rerun)
    checks.batches_split(config, due)
    checks.cells_join(config, due)
    if "branches" in due:
        focus.load_router(config, workdir)  # there, and of these networks
    checks.make_writable(workdir)
    sources = checks.open_data(config, due)
    with locked(workdir) if is_first() else contextlib.nullcontext():
        log = Log(workdir if is_first() else None, quiet=not is_first())
        if old is not None:
            _say_changes(log, old, config)
        if rerun:
            _set_aside(store, log, PHASES[PHASES.index(chosen[0]) :])
        meet("all have read the old config")
        if is_first():
            write_config(config, workdir)
        work = Workspace(config, workdir, store, log, sources=sources)
        try:
            with _told_how_to_continue(work, chosen), jax.set_mesh(work.mesh):
                for phase in chosen:
                    _run_phase(work, phase)
        finally:
            log.close()
            store.close()
    log.say(f"written to {workdir}: checkpoints/, samples/, metrics.jsonl, tensorboard/")
    return workdir


@contextlib.contextmanager
def _told_how_to_continue(work: Workspace, phases: Sequence[str]) -> Iterator[None]:
    """Stops in order at a signal, and says how to go on."""
    try:
        with work.interruption:
            yield
    except Interrupted as error:
        what = error.what or "; the phase it was in starts anew"
        line = shlex.join(["python", "train.py", str(work.workdir), "--phases", *phases])
        raise Interrupted(error.number, f"{what}. Continue with: {line}") from None
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or work.workdir}: {error.strerror or error}. What is in "
            f"{work.store.root} stays; make room, and run the same command again."
        ) from error


def resolve(config: Config) -> Config:
    """The config with the data set's classes filled in, checked."""
    model = config.model.with_classes(config.data.classes())
    config = dataclasses.replace(config, model=model)
    check_config(config)
    return config


def _run_phase(work: Workspace, phase: str) -> None:
    if _done(work.store, work.config, phase):
        imported = "imported" in work.store.extra(phase)
        hint = "imported" if imported else "finished already (--rerun trains it anew)"
        work.log.say(f"{phase}: {hint}")
        return
    # First, so that nobody ever finds later phases beside another model than they were made for.
    _set_aside(work.store, work.log, PHASES[PHASES.index(phase) + 1 :])
    RUN[phase](work)


def _done(store: checkpoint.Store, config: Config, phase: str) -> bool:
    steps: int = getattr(getattr(config, phase), "steps", 1)
    return store.finished(phase) and (store.latest(phase) or 0) >= steps


def _due(store: checkpoint.Store, config: Config, chosen: Sequence[str]) -> list[str]:
    """The chosen phases from the first that is not finished: it makes the later ones stale."""
    waiting = [i for i, phase in enumerate(chosen) if not _done(store, config, phase)]
    return list(chosen[waiting[0] :]) if waiting else []


def _say_changes(log: Log, old: Config, new: Config) -> None:
    lines = difference(old, new, tuple(field.name for field in dataclasses.fields(Config)))
    if lines:
        log.say("the config has changed since the last run here:\n  " + "\n  ".join(lines))


def _set_aside(store: checkpoint.Store, log: Log, phases: Sequence[str]) -> None:
    for phase in phases:
        aside = store.set_aside(phase)
        if aside:
            log.say(f"{phase}: its older checkpoints are now in {aside}")
