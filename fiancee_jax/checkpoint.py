"""Checkpoints: one Orbax directory per phase of a workdir. The only file that touches Orbax."""

from __future__ import annotations

import logging
import pathlib
import shlex
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fiancee_jax.config import PHASES
from fiancee_jax.errors import UserError

PyTree = Any
EMPTY = "empty"  # stands in for a pytree without leaves, which Orbax does not store

logging.getLogger("absl").setLevel(logging.ERROR)


class Store:
    """The checkpoints of a workdir.

    Each phase has steps, and each step three items: ``model`` (what rendering needs), ``train``
    (what continuing needs besides) and ``extra`` (JSON: finished, loader state, menu, ...).
    """

    def __init__(self, workdir: str | pathlib.Path, keep: int = 2) -> None:
        # A relative path would fail later, in Orbax's background thread.
        self.root = pathlib.Path(workdir).resolve() / "checkpoints"
        self.keep = keep
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def _manager(self, phase: str) -> ocp.CheckpointManager:
        if phase not in self._managers:
            self._managers[phase] = ocp.CheckpointManager(
                self.root / phase,
                item_handlers={
                    "model": ocp.StandardCheckpointHandler(),
                    "train": ocp.StandardCheckpointHandler(),
                    "extra": ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(max_to_keep=self.keep),
            )
        return self._managers[phase]

    # --- writing --------------------------------------------------------------------------
    def save(
        self, phase: str, step: int, *, model: PyTree, train: PyTree, extra: dict[str, Any]
    ) -> None:
        """Saves one step; an older save of the same step is replaced."""
        manager = self._manager(phase)
        if step in manager.all_steps():
            manager.wait_until_finished()  # it may still be on its way to the disk
            manager.delete(step)
        manager.save(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardSave(_filled(model)),
                train=ocp.args.StandardSave(_filled(train)),
                extra=ocp.args.JsonSave(extra),
            ),
            force=True,
        )

    def wait(self) -> None:
        """Returns when all saves are on disk; raises what went wrong in the background."""
        for manager in self._managers.values():
            manager.wait_until_finished()
            manager.check_for_errors()

    def close(self) -> None:
        """Waits, then frees the background threads."""
        self.wait()
        for manager in self._managers.values():
            manager.close()
        self._managers.clear()

    def set_aside(self, phase: str) -> pathlib.Path | None:
        """Moves a phase's checkpoints away, so that it starts anew; nothing is deleted."""
        if phase in self._managers:
            self._managers.pop(phase).close()
        path = self.root / phase
        if not path.is_dir():
            return None
        aside = next(
            p for i in range(1, 10_000) if not (p := self.root / f"{phase}.old-{i}").exists()
        )
        shutil.move(path, aside)
        return aside

    # --- reading --------------------------------------------------------------------------
    def latest(self, phase: str) -> int | None:
        """The last complete step of a phase, or None."""
        if not (self.root / phase).is_dir():
            return None
        return self._manager(phase).latest_step()

    def finished(self, phase: str) -> bool:
        """Whether the phase has run to its end."""
        return self.latest(phase) is not None and bool(self.extra(phase).get("finished"))

    def extra(self, phase: str) -> dict[str, Any]:
        """The JSON item of the last step."""
        return self._restore(phase, "extra", ocp.args.JsonRestore())

    def model(self, phase: str) -> PyTree:
        """The ``model`` item of the last step, on the default device."""
        step = self._last(phase)
        metadata = self._manager(phase).item_metadata(step)["model"]
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(
            lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), metadata.tree
        )
        return _emptied(self._restore(phase, "model", ocp.args.StandardRestore(abstract)))

    def train(self, phase: str, like: PyTree) -> PyTree:
        """The ``train`` item of the last step, with the shapes and shardings of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _filled(like))
        return _emptied(self._restore(phase, "train", ocp.args.StandardRestore(abstract)))

    def _restore(self, phase: str, item: str, args: Any) -> Any:
        step = self._last(phase)
        restored = self._manager(phase).restore(step, args=ocp.args.Composite(**{item: args}))
        return restored[item]

    def _last(self, phase: str) -> int:
        step = self.latest(phase)
        if step is None:
            raise UserError(missing(self.root.parent, phase))
        return step


def missing(workdir: pathlib.Path, phase: str) -> str:
    """The message for a phase that has not been trained."""
    return f"{workdir} holds no checkpoint of the phase {phase!r}. Run: {command(workdir, phase)}"


def command(workdir: pathlib.Path, phase: str, config: str = "CONFIG") -> str:
    """What to type to train all phases up to `phase`; a new workdir needs the name of a config."""
    known = (workdir / "config.json").is_file()
    source = [str(workdir)] if known else [config, "--workdir", str(workdir)]
    phases = PHASES[: PHASES.index(phase) + 1]
    return shlex.join(["python", "train.py", *source, "--phases", *phases])


def _filled(tree: PyTree) -> PyTree:
    if isinstance(tree, dict) and not tree:
        return {EMPTY: np.zeros(1, np.float32)}
    if isinstance(tree, dict):
        return {k: _filled(v) for k, v in tree.items()}
    return tree


def _emptied(tree: PyTree) -> PyTree:
    if isinstance(tree, dict):
        return {k: _emptied(v) for k, v in tree.items() if k != EMPTY}
    return tree
