"""Stopping in order: at SIGTERM or SIGINT (Ctrl-C) training saves its step, then leaves."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax

from fiancee_jax.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Listens for signals within a ``with`` block, in the main thread of a program.

    Where nothing would be lost (`deferred` is not in use) a signal raises `Interrupted` at once;
    elsewhere it waits until it is asked for. A second Ctrl-C never waits.
    """

    def __init__(self) -> None:
        self._got: int | None = None
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            # Several hosts must agree on the step to stop after: JAX listens for SIGTERM there.
            mine = SIGNALS if jax.process_count() == 1 else SIGNALS[1:]
            self._before = {number: signal.signal(number, self._note) for number in mine}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: object) -> None:
        if self._got is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._got = number
        if not self._waits:
            raise Interrupted(number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals within wait until `asked` is asked."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def asked(self, step: int) -> int | None:
        """The signal that came, if one did; all hosts get the same answer for a step."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                return signal.SIGTERM
            return None
        return self._got
