"""Progress for people, JSONL and TensorBoard for machines."""

from __future__ import annotations

import json
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
import optax
from jaxtyping import Array
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fiancee_jax.files import write_atomically

SILENCE = 60.0  # seconds

T = TypeVar("T")
Metrics = dict[str, tuple[Any, Any]]  # name -> (sum, count)


def mean(value: Any) -> tuple[Any, float]:
    """A metric that was measured once in this step."""
    return value, 1.0


def norms(prefix: str, gradient: Any, update: Any) -> dict[str, Array]:
    """Euclidean norms over all parameters; they show trouble before the losses do."""
    found = {"gradient": gradient, "update": update}
    return {f"{prefix}{name}": optax.tree.norm(tree) for name, tree in found.items()}


def average(history: list[Metrics]) -> dict[str, float]:
    """Means over steps by sums and counts; metrics that were never measured are left out."""
    history = jax.device_get(history)
    names = sorted({name for metrics in history for name in metrics})
    sums = {
        n: np.sum([np.asarray(m.get(n, (0, 0)), np.float64) for m in history], 0) for n in names
    }
    return {n: float(s / c) for n, (s, c) in sums.items() if c > 0 or not math.isfinite(s)}


def _stays(line: str, phase: str, step: int) -> bool:
    try:
        record = json.loads(line)
        return line.endswith("\n") and (record["phase"] != phase or record["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


class Log:
    """Writes ``metrics.jsonl`` and TensorBoard events into a workdir, and speaks to a person.

    On a terminal there is a bar; in a log file there are plain lines; `quiet` says nothing.
    """

    def __init__(self, workdir: pathlib.Path | None, quiet: bool = False) -> None:
        from tensorboardX import SummaryWriter

        self.console = Console(soft_wrap=True, highlight=False, quiet=quiet)
        self._path = workdir / "metrics.jsonl" if workdir else None
        self._lines = self._path.open("a") if self._path else None
        self._board = SummaryWriter(str(workdir / "tensorboard")) if workdir else None
        self._progress: Progress | None = None
        self._start = (0, 0.0)
        self._waited = 0.0
        self._phase, self._said = ("", 0), 0.0

    def say(self, text: str) -> None:
        """One plain line."""
        self.console.print(text, markup=False)

    def begin(self, phase: str, step: int, steps: int) -> None:
        """Starts the progress of a phase; records of steps that are run again are taken out."""
        self.forget(phase, step)
        self._start, self._waited = (step, time.perf_counter()), 0.0
        self._phase, self._said = (phase, steps), time.perf_counter()
        if self.console.is_terminal:
            columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            text = TextColumn(
                "{task.description} {task.completed}/{task.total} {task.fields[note]}"
            )
            self._progress = Progress(text, *columns, console=self.console)
            self._progress.add_task(phase, total=steps, completed=step, note="compiling (once)")
            self._progress.start()
        else:
            self.say(f"{phase}: step {step} of {steps}, compiling (once)")

    def forget(self, phase: str, step: int) -> None:
        """Leaves out what a phase recorded after a step, and a line that a kill cut short."""
        if self._path is None or self._lines is None:
            return
        lines = self._path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if _stays(line, phase, step)]
        if kept != lines:
            self._lines.close()
            write_atomically(self._path, "".join(kept).encode())
            self._lines = self._path.open("a")

    def advance(self, step: int) -> None:
        """Moves the bar; where there is none, says after long silence how far it is."""
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=step)
        elif time.perf_counter() - self._said >= SILENCE:
            phase, steps = self._phase
            self._said = time.perf_counter()
            self.say(f"{phase} {step}/{steps}")

    def waiting(self, batches: Iterator[T]) -> T:
        """The next batch; the time it takes is ``loader_share`` of the record."""
        began = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - began
        return batch

    def write(self, phase: str, step: int, steps: int, values: dict[str, float]) -> None:
        """Averages since the last call, seconds per step and the loader's share of them."""
        first, began = self._start
        elapsed = time.perf_counter() - began
        seconds, share = elapsed / max(step - first, 1), self._waited / elapsed
        self._start, self._waited = (step, time.perf_counter()), 0.0
        note = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=step, note=note)
        else:
            left = time.strftime("%H:%M:%S", time.gmtime(seconds * (steps - step)))
            self._said = time.perf_counter()
            self.say(f"{phase} {step}/{steps}  {note}  {seconds:.3f} s/step, {left} left")
        speed = {"seconds_per_step": round(seconds, 5), "loader_share": round(share, 4)}
        record = {"phase": phase, "step": step, **speed, **values}
        if self._lines:
            self._lines.write(json.dumps(record) + "\n")
            self._lines.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"{phase}/{name}", value, step)
            self._board.flush()

    def end(self) -> None:
        """Takes the bar away."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        """Closes the files."""
        self.end()
        if self._lines:
            self._lines.close()
        if self._board:
            self._board.close()
