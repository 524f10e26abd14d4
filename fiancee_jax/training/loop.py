"""The one training loop: steps, metrics, previews, checkpoints, resume, roll-back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from fiancee_jax.errors import Interrupted, NonFiniteError
from fiancee_jax.training.log import Metrics, average
from fiancee_jax.training.workspace import Workspace

State = dict[str, Any]
Step = Callable[[State, Any, jax.Array], tuple[State, Metrics]]


def fit(
    work: Workspace,
    phase: str,
    state: State,
    step_fn: Step,
    loader: Any,
    steps: int,
    *,
    model_of: Callable[[State], Any],
    preview: Callable[[Any, int], None] | None = None,
    extra_of: Callable[[Any], dict[str, Any]] | None = None,
    start: int = 0,
) -> Any:
    """Trains one phase up to `steps`, from its last checkpoint if there is one.

    Args:
        work: config, checkpoints, devices.
        phase: its name.
        state: fresh training state; donated to `step_fn`.
        step_fn: (state, host batch, key) -> (state, metrics).
        loader: a resumable iterator of host batches.
        steps: the step to stop at.
        model_of: the part of the state that is the model, as it is saved and drawn.
        preview: draws the model after so many steps.
        extra_of: what the finished phase says besides (JSON); called once, at the end.
        start: steps that the fresh state has had elsewhere.

    Returns:
        The finished model.

    Raises:
        NonFiniteError: a metric is not finite; names the phase, the step and the last checkpoint.
        Interrupted: a signal came; the step it came in has been saved.
    """
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    course = _Course(
        work, phase, step_fn, loader, steps, model_of, preview, extra_of, like, state, step=start
    )
    if work.store.latest(phase):
        course.restore()
        course.follow_loader()
        work.log.say(f"{phase}: continuing from step {course.step}")
    work.log.begin(phase, course.step, steps)
    if course.step >= steps:  # the config now asks for no more steps than there are
        course.model = model_of(course.state)
        course.save(last=True)
    with work.interruption.deferred():
        while course.step < steps:
            course.advance()
            signal = work.interruption.asked(course.step)
            if signal is not None:
                course.leave(signal)
    work.store.wait()
    work.log.end()
    return course.model


@dataclasses.dataclass
class _Course:
    """A phase on its way: the arguments of `fit`, and where it is.

    Attributes:
        like: shapes, dtypes and shardings of `state`.
        step: how many are done.
        rolled_back: how often a value was not finite: part of the random keys from then on.
        origin: what an imported model brought; stays in every checkpoint.
        history: metrics since they were last written.
        saved: the step of the last save.
        model: as it was last saved or drawn.
    """

    work: Workspace
    phase: str
    step_fn: Step
    loader: Any
    steps: int
    model_of: Callable[[State], Any]
    preview: Callable[[Any, int], None] | None
    extra_of: Callable[[Any], dict[str, Any]] | None
    like: Any
    state: State
    step: int = 0
    rolled_back: int = 0
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[Metrics] = dataclasses.field(default_factory=list)
    saved: int | None = None
    model: Any = None

    def restore(self) -> None:
        """State and step of the last checkpoint."""
        store = self.work.store
        self.step = self.saved = store.latest(self.phase) or 0
        self.state, extra = store.train(self.phase, self.like), store.extra(self.phase)
        self.origin = {"imported": extra["imported"]} if "imported" in extra else {}
        self.rolled_back = extra.get("rolled_back", 0)

    def follow_loader(self) -> None:
        """The place in the data of the last checkpoint; an imported model has seen none of it."""
        extra = self.work.store.extra(self.phase)
        if "loader" in extra:
            self.loader.set_state(extra["loader"])

    def advance(self) -> None:
        """One step, and what is due after it; back to the last checkpoint if that is allowed."""
        try:
            self._advance()
        except NonFiniteError as error:
            self._roll_back(error)

    def _advance(self) -> None:
        options, work = self.work.config.logging, self.work
        batch = work.put(work.log.waiting(self.loader))
        key = work.key(self.phase, self.step)
        key = jax.random.fold_in(key, self.rolled_back) if self.rolled_back else key
        self.state, metrics = self.step_fn(self.state, batch, key)
        self.history.append(metrics)
        self.step += 1
        work.log.advance(self.step)
        last = self.step == self.steps
        saving = last or self.step % options.checkpoint_every == 0
        if saving or self.step % options.every == 0:  # nothing is saved unchecked
            self._write()
        drawing = last or self.step % options.preview_every == 0
        if saving or (drawing and self.preview):
            self.model = self.model_of(self.state)
        if drawing and self.preview:
            self.preview(self.model, self.step)
        if saving:
            self.save(last)

    def _write(self) -> None:
        """Checks and records the metrics since the last time."""
        values, self.history = average(self.history), []
        self._check({name: math.isfinite(value) for name, value in values.items()})
        self.work.log.write(self.phase, self.step, self.steps, values)

    def save(self, last: bool) -> None:
        """Saves the model, the state and the place in the data."""
        self._check({"the model": _finite(self.model)})
        extra = {**self.origin, "finished": last, "loader": self.loader.get_state()}
        if self.rolled_back:
            extra["rolled_back"] = self.rolled_back
        if last and self.extra_of is not None:
            extra |= self.extra_of(self.model)
        save = self.work.store.save
        save(self.phase, self.step, model=self.model, train=self.state, extra=extra)
        self.saved = self.step

    def leave(self, signal: int) -> None:
        """Saves what has not been saved, then raises `Interrupted`."""
        if self.history:
            self._write()
        if self.saved != self.step:
            self.model = self.model_of(self.state)
            self.save(last=False)
        self.work.store.wait()
        self.work.log.end()
        raise Interrupted(
            signal, f" in phase {self.phase!r} after step {self.step}, which is saved"
        )

    def _roll_back(self, error: NonFiniteError) -> None:
        """The last checkpoint's state, with the data and the random keys that come after."""
        allowed = self.work.config.logging.roll_backs
        self.work.store.wait()
        if self.rolled_back >= allowed or self.work.store.latest(self.phase) is None:
            raise error
        before, self.history = self.rolled_back, []
        self.restore()
        self.rolled_back = before + 1
        self.work.log.forget(self.phase, self.step)
        self.work.log.say(
            f"{error.what} Rolled back to step {self.step} ({self.rolled_back} of {allowed}); the "
            "data and the random numbers from here on are others."
        )

    def _check(self, finite: dict[str, bool]) -> None:
        bad = [name for name, good in finite.items() if not good]
        if bad:
            saved = self.work.store.latest(self.phase)
            last = f"step {saved}" if saved else "none of this phase"
            what = (
                f"{', '.join(bad)} became non-finite in phase {self.phase!r} by step {self.step}."
            )
            raise NonFiniteError(
                what,
                f"The last good checkpoint ({last}) is untouched in {self.work.store.root}. Lower "
                "the learning rate, or change the seed, and run the same command again; or let it "
                "roll back by itself with --logging.roll-backs 3.",
            )


def _finite(tree: Any) -> bool:
    return bool(_all_finite(tree))


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    """Parts may lie on other hosts: the devices look, and all hosts learn of it."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all() if leaves else jnp.bool(True)
