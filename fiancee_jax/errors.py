"""The exceptions that are no bugs: mistakes in what a person gave us, and being told to stop."""

from __future__ import annotations

import signal


class UserError(ValueError):
    """A mistake in the user's input: what was found, what was expected, how to mend it.

    The command line prints the message alone (no stack trace) and exits with status 2. The
    Python API raises it. Nothing has been compiled or overwritten when it is raised.
    """


class NonFiniteError(UserError):
    """Training met a value that is not finite; the last good checkpoint is untouched.

    Attributes:
        what: which value, phase and step.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """A signal asked the program to stop, and it has: what was done is on disk.

    Attributes:
        number: the signal's. The command line exits with status 128 + number, as shells do.
        what: where it stopped.
    """

    def __init__(self, number: int, what: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{what}")
        self.number, self.what = number, what
