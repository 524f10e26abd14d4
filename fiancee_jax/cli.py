"""What every command shares: mistakes as one line and an exit status, tables, progress."""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import jax
from rich import progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fiancee_jax.errors import Interrupted, UserError

INCOMPLETE, USER_ERROR, INTERRUPTED = 1, 2, 130  # exit statuses


def run(main: Callable[[], None]) -> None:
    """Runs a command; a `UserError` becomes its message alone and exit status 2.

    So does what fails over several hosts when one of them is gone, with status 1.
    """
    keep_compiled()
    try:
        main()
    except UserError as error:
        _say_error(str(error))
        sys.exit(USER_ERROR)
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        _say_error(
            f"a computation over {jax.process_count()} hosts failed: {str(error).splitlines()[0]} "
            "If another host has ended, its own words say why. Run the same command again on all."
        )
        sys.exit(INCOMPLETE)
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.number)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _say_error(text: str) -> None:
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(Text("error: ", "bold red") + Text(text), soft_wrap=True)
    else:
        print(f"error: {text}", file=sys.stderr)


def keep_compiled() -> None:
    """Keeps compiled programs between runs, in the user's cache folder unless JAX is told another.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder, ``JAX_ENABLE_COMPILATION_CACHE=0`` keeps
    nothing.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(base) / "fiancee_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table of numbers (right-aligned) after a first column of anything.

    Drawn by rich on a terminal, plain aligned text elsewhere.
    """
    cells = [[str(value) for value in row] for row in rows]
    console = Console()
    if console.is_terminal:
        table = Table(title=Text(title) if title else None, title_justify="left")
        for i, header in enumerate(headers):
            table.add_column(Text(header), justify="right" if i else "left")
        for row in cells:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    if title:
        print(title)
    for row in [list(headers), *cells]:
        first, *rest = [
            text.rjust(w) if i else text.ljust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join([first, *rest]).rstrip())


class Progress:
    """A bar on a terminal; elsewhere a line now and then. Use it in a ``with`` block.

    Args:
        what: says what is counted, "pictures".
        total: how many there will be.
        every: seconds between lines where there is no terminal.
    """

    def __init__(self, what: str, total: int, every: float = 5.0) -> None:
        self.what, self.total, self.every = what, total, every
        self.done, self._started, self._said = 0, time.monotonic(), time.monotonic()
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        console = Console()
        self._bar = progress.Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task(what, total=total) if self._bar else None

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar:
            self._bar.console.print(Text(line), soft_wrap=True)
        else:
            print(line, flush=True)

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self.done += count
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done)
        elif time.monotonic() - self._said >= self.every:
            self._said = time.monotonic()
            seconds = self._said - self._started
            self.say(f"{self.done}/{self.total} {self.what} in {seconds:.0f} s")
