"""Workdirs derived from another: the same frozen backbone, something after it changed.

Baselines of an evaluation live in ``WORKDIR/baselines/NAME``:

    students      static generators of reduced width (exits of tap 0), distilled from the backbone
                  with the losses, steps and guide of the branches
    no_guides     the same exits, branches without a guide; with a predictor of their own
    zero_guides   zeros concatenated in the place of a guide (the control of equal cost), likewise
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Sequence

import jax
import numpy as np

from fiancee_jax import checkpoint
from fiancee_jax.config import Config, Exit, difference, read_config
from fiancee_jax.errors import UserError
from fiancee_jax.training.run import train

BASELINES = ("students", "no_guides", "zero_guides")
WIDTHS = (0.4, 0.5, 0.6)
FORMS = {"no_guides": "none", "zero_guides": "zeros"}
DEPENDS_ON = ("model", "data", "augment", "exits", "guides", "branches", "seed")  # of a config


def derive(
    workdir: pathlib.Path, out: pathlib.Path, config: Config, phases: Sequence[str]
) -> pathlib.Path:
    """Trains `phases` of `config` in `out` upon a copy of what `workdir` has before them.

    What is finished in `out` is not trained again.

    Args:
        workdir: holds the backbone (and the guides, if `phases` starts after them).
        out: the derived workdir.
        config: what is trained there.
        phases: consecutive phases.

    Raises:
        UserError: `workdir` has not finished what comes before, or has another one than `out`.
    """
    before = ("backbone",) if phases[0] == "guides" else ("backbone", "guides")
    for phase in before:
        _copy(workdir, out, phase)
    return train(config, out, phases=phases)


def _copy(workdir: pathlib.Path, out: pathlib.Path, phase: str) -> None:
    """Gives `out` the checkpoint of a phase; one that is there must be the same."""
    source, copy = (folder / "checkpoints" / phase for folder in (workdir, out))
    with contextlib.closing(checkpoint.Store(workdir)) as store:
        if not store.finished(phase):
            raise UserError(
                f"baselines start from the phase {phase!r}, which is not finished in {workdir}. "
                f"Run: {checkpoint.command(workdir, phase)}"
            )
    if not copy.is_dir():
        unfinished = copy.with_name(f"{phase}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        unfinished.rename(copy)
    elif not _same(workdir, out, phase):
        raise UserError(
            f"{out} was derived from another {phase} than {workdir} has now, so the two cannot be "
            "compared. Move it away and run this again (`baselines --rerun` does)."
        )


def _same(one: pathlib.Path, other: pathlib.Path, phase: str) -> bool:
    """Whether two workdirs hold the same arrays of a phase."""
    leaves = []
    for workdir in (one, other):
        with contextlib.closing(checkpoint.Store(workdir)) as store:
            leaves.append(jax.tree.leaves(store.model(phase)))
    return len(leaves[0]) == len(leaves[1]) and all(map(np.array_equal, *leaves))


def baseline_config(config: Config, name: str, widths: Sequence[float] = WIDTHS) -> Config:
    """The config of one of `BASELINES`: all inputs alike, as no router knows these exits.

    They have in one round as many steps as the workdir's branches had in all.
    """
    config = dataclasses.replace(config, branches=dataclasses.replace(config.branches, router=""))
    if name == "students":
        exits = tuple(Exit(0, width) for width in widths)
        return dataclasses.replace(config, name=name, exits=exits)
    guides = dataclasses.replace(config.guides, form=FORMS[name])
    return dataclasses.replace(config, name=name, guides=guides)


def stale(config: Config, trained: Config, name: str) -> list[str]:
    """Settings with which a baseline would be trained otherwise now, ``field: old -> new``.

    Args:
        config: of the workdir now.
        trained: of the baseline. Its students' widths are its own choice.
        name: of `BASELINES`.
    """
    now = baseline_config(config, name, [e.width for e in trained.exits])
    fields = DEPENDS_ON if name == "students" else (*DEPENDS_ON, "predictor")
    lines = difference(trained, now, fields)
    return [line for line in lines if not line.startswith("model.classes: ")]  # their names alone


def train_baselines(
    workdir: pathlib.Path,
    names: Sequence[str] = BASELINES,
    widths: Sequence[float] = WIDTHS,
    rerun: bool = False,
) -> list[pathlib.Path]:
    """Trains the baselines of a workdir; finished ones are left as they are.

    Args:
        workdir: has the backbone, and for students the guides.
        names: which of `BASELINES`.
        widths: of the students.
        rerun: train them anew; what is there is moved aside, not deleted.

    Raises:
        UserError: an unknown name, a width that is no share, one that is there was trained with
            other settings, or see `derive`.
    """
    _check(names, widths)
    config, written = read_config(workdir), []
    for name in names:
        out = workdir / "baselines" / name
        if rerun:
            _set_aside(out)
        else:
            _check_settings(config, out, name)
        phases = ("branches",) if name == "students" else ("guides", "branches", "predictor")
        written.append(derive(workdir, out, baseline_config(config, name, widths), phases))
    return written


def _check(names: Sequence[str], widths: Sequence[float]) -> None:
    unknown = [name for name in names if name not in BASELINES]
    if unknown or not names:
        raise UserError(f"baselines {list(names)}: choose from {', '.join(BASELINES)}.")
    if not widths or not all(0 < width < 1 for width in widths):
        raise UserError(f"student-widths are {list(widths)}; give shares between 0 and 1.")


def _check_settings(config: Config, out: pathlib.Path, name: str) -> None:
    """Otherwise a finished baseline would stay, and its config.json would say it was trained so."""
    changed = stale(config, read_config(out), name) if (out / "config.json").is_file() else []
    if changed:
        raise UserError(
            f"{out} was trained with other settings than its model has now:\n  "
            + "\n  ".join(changed[:8])
            + f"\nTrain it anew with --names {name} --rerun (what is there is moved aside)."
        )


def _set_aside(out: pathlib.Path) -> None:
    if out.is_dir():
        others = (out.with_name(f"{out.name}.old-{i}") for i in range(1, 10_000))
        out.rename(next(path for path in others if not path.exists()))
