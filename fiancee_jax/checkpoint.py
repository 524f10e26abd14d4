"""Checkpoints: one Orbax directory per phase of a workdir. The only file that touches Orbax."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pathlib
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fiancee_jax import digests
from fiancee_jax.config import PHASES
from fiancee_jax.errors import UserError
from fiancee_jax.hosts import is_first, meet

PyTree = Any
EMPTY = "empty"  # stands in for a pytree without leaves, which Orbax does not store
DAMAGED = "damaged"  # folder beside the phases'
DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EIO,
)
LOG = logging.getLogger(__name__)

logging.getLogger("absl").setLevel(logging.ERROR)


class Store:
    """The checkpoints of a workdir.

    Each phase has steps, and each step three items: ``model`` (what rendering needs), ``train``
    (what continuing needs besides) and ``extra`` (JSON: finished, loader state, menu, ...). A step
    appears when all of it is on disk; it is then sealed with digests (`digests`), and one that no
    longer agrees with them is passed over, with a warning, for the one before it.

    Args:
        workdir: where ``checkpoints/`` is or will be.
        keep: the last so many steps of each phase stay.
        keep_every: multiples of it stay too; 0: none do.
        trains: whether ``train`` will be read; if not, it is not checked either: it is most of a
            checkpoint, and rendering needs none of it.
    """

    def __init__(
        self, workdir: str | pathlib.Path, keep: int = 2, trains: bool = True, keep_every: int = 0
    ) -> None:
        # A relative path would fail later, in Orbax's background thread.
        self.root = pathlib.Path(workdir).resolve() / "checkpoints"
        self.keep, self.keep_every = keep, keep_every
        self.unread = "" if trains else "train"
        self._managers: dict[str, ocp.CheckpointManager] = {}
        self._unsealed: dict[str, int] = {}  # phase -> the step that is on its way to the disk
        self._good: dict[tuple[str, int], bool] = {}

    def _manager(self, phase: str) -> ocp.CheckpointManager:
        if phase not in self._managers:
            self._managers[phase] = ocp.CheckpointManager(
                self.root / phase,
                item_handlers={
                    "model": ocp.StandardCheckpointHandler(),
                    "train": ocp.StandardCheckpointHandler(),
                    "extra": ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self.keep, keep_period=self.keep_every or None
                ),
            )
        return self._managers[phase]

    # --- writing --------------------------------------------------------------------------
    def save(
        self, phase: str, step: int, *, model: PyTree, train: PyTree, extra: dict[str, Any]
    ) -> None:
        """Saves one step in the background; an older save of the same step is replaced.

        Raises:
            UserError: it cannot be written, or the step before could not be.
        """
        with self._saving(phase, step):
            self._seal(phase)
            self._set_damaged_aside(phase)
            manager = self._manager(phase)
            # Orbax's threads would wait for ten minutes for a folder that cannot be made.
            tempfile.TemporaryDirectory(prefix=".tried-", dir=self.root / phase).cleanup()
            if step in manager.all_steps():
                manager.delete(step)
                self._good.pop((phase, step), None)
            manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(_filled(model)),
                    train=ocp.args.StandardSave(_filled(train)),
                    extra=ocp.args.JsonSave(extra),
                ),
                force=True,
            )
            self._unsealed[phase] = step

    def wait(self) -> None:
        """Returns when all saves are on disk and sealed.

        Raises:
            UserError: one could not be written.
        """
        for phase in list(self._managers):
            with self._saving(phase, self._unsealed.get(phase)):
                self._seal(phase)

    def _seal(self, phase: str) -> None:
        """Waits for the save on its way, raises what went wrong, and writes its digests."""
        manager, step = self._manager(phase), self._unsealed.pop(phase, None)
        manager.wait_until_finished()
        manager.check_for_errors()
        if step is not None and is_first():
            digests.seal(self.root / phase / str(step))
        if step is not None:
            self._good[phase, step] = True

    @contextlib.contextmanager
    def _saving(self, phase: str, step: int | None) -> Iterator[None]:
        """Any failure becomes one clear message."""
        try:
            yield
        except Exception as error:
            self._unsealed.pop(phase, None)
            with contextlib.suppress(Exception):  # the same failure
                self._managers.pop(phase).close()  # a new one cleans up
            which = f"step {step} of " if step is not None else ""
            last = self.latest(phase)
            kept = "there is none before it" if last is None else f"step {last} is the last good"
            raise UserError(
                f"{which}the phase {phase!r} could not be saved in {self.root}: {_reason(error)} "
                f"({kept}). Make room or mend the folder's permissions, and run the same command "
                "again."
            ) from error

    def _set_damaged_aside(self, phase: str) -> None:
        """Moves steps that fail their check away: a later step must not seem older than they."""
        for step in [s for (p, s), good in self._good.items() if p == phase and not good]:
            self._managers.pop(phase).close()
            if is_first():
                (self.root / DAMAGED).mkdir(exist_ok=True)
                aside = _free(self.root / DAMAGED / f"{phase}-{step}")
                shutil.move(self.root / phase / str(step), aside)
            meet(f"{phase}-{step} set aside")
            del self._good[phase, step]

    def close(self) -> None:
        """Waits, then frees the background threads."""
        try:
            self.wait()
        finally:
            for manager in self._managers.values():
                manager.close()
            self._managers.clear()

    def set_aside(self, phase: str) -> pathlib.Path | None:
        """Moves a phase's checkpoints away, so that it starts anew; nothing is deleted."""
        if phase in self._managers:
            with self._saving(phase, self._unsealed.get(phase)):
                self._seal(phase)
            self._managers.pop(phase).close()
        path = self.root / phase
        if not path.is_dir():
            return None
        aside = _free(self.root / f"{phase}.old")
        meet(f"{phase} is to be set aside")
        if is_first():
            shutil.move(path, aside)
        meet(f"{phase} has been set aside")
        self._good = {key: good for key, good in self._good.items() if key[0] != phase}
        return aside

    # --- reading --------------------------------------------------------------------------
    def latest(self, phase: str) -> int | None:
        """The last step of a phase that is complete and undamaged, or None."""
        if not (self.root / phase).is_dir():
            return None
        steps = sorted(self._manager(phase).all_steps(), reverse=True)
        return next((step for step in steps if self._is_good(phase, step)), None)

    def _is_good(self, phase: str, step: int) -> bool:
        """Whether a step passes its check, which is made once; says so if it does not."""
        if (phase, step) not in self._good:
            wrong = digests.problem(self.root / phase / str(step), self.unread)
            self._good[phase, step] = not wrong
            if wrong:
                LOG.warning(
                    "%s: step %d of the phase %r is damaged (%s); the one before it is taken",
                    self.root,
                    step,
                    phase,
                    wrong,
                )
        return self._good[phase, step]

    def finished(self, phase: str) -> bool:
        """Whether the phase has run to its end."""
        return self.latest(phase) is not None and bool(self.extra(phase).get("finished"))

    def extra(self, phase: str) -> dict[str, Any]:
        """The JSON item of the last step."""
        return self._restore(phase, "extra", ocp.args.JsonRestore())

    def model(self, phase: str) -> PyTree:
        """The ``model`` item of the last step, on the default device."""
        step = self._last(phase)
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        with self._reading(phase, step):
            metadata = self._manager(phase).item_metadata(step)["model"]
            abstract = jax.tree.map(
                lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), metadata.tree
            )
        return _emptied(self._restore(phase, "model", ocp.args.StandardRestore(abstract)))

    def train(self, phase: str, like: PyTree) -> PyTree:
        """The ``train`` item of the last step, with the shapes and shardings of `like`.

        Raises:
            UserError: it is empty, as of a model that was imported.
        """
        step = self._last(phase)
        with self._reading(phase, step):
            kept = self._manager(phase).item_metadata(step)["train"].tree
        if like and set(kept) == {EMPTY}:
            raise UserError(
                f"step {step} of the phase {phase!r} in {self.root} keeps no training state: it "
                "was imported, or unpacked without the discriminator. It can be used as it is or, "
                "with --rerun, be trained anew; it cannot be trained on."
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _filled(like))
        return _emptied(self._restore(phase, "train", ocp.args.StandardRestore(abstract)))

    def _restore(self, phase: str, item: str, args: Any) -> Any:
        step = self._last(phase)
        with self._reading(phase, step):
            restored = self._manager(phase).restore(step, args=ocp.args.Composite(**{item: args}))
            return restored[item]

    @contextlib.contextmanager
    def _reading(self, phase: str, step: int) -> Iterator[None]:
        """Any failure becomes one clear message: a step without a seal may be damaged too."""
        try:
            yield
        except Exception as error:
            path = self.root / phase / str(step)
            raise UserError(
                f"step {step} of the phase {phase!r} in {self.root} cannot be read: "
                f"{_reason(error)}. It is damaged, or not of this program. Put back a good copy, "
                f"or move {path} away, so that the step before it is taken."
            ) from error

    def _last(self, phase: str) -> int:
        step = self.latest(phase)
        if step is None:
            raise UserError(missing(self.root.parent, phase))
        return step


def _reason(error: Exception) -> str:
    """The operating system's words, which TensorStore buries in its own; else the first line."""
    text = str(error)
    known = (os.strerror(number) for number in DISK_ERRORS)
    lines = text.splitlines() or [type(error).__name__]
    return next((words for words in known if words in text), lines[0][:300])


def _free(path: pathlib.Path) -> pathlib.Path:
    """The first of path-1, path-2, ... that is not there."""
    numbered = (path.with_name(f"{path.name}-{i}") for i in range(1, 10_000))
    return next(p for p in numbered if not p.exists())


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
