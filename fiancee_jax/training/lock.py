"""One run at a time in a workdir."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from fiancee_jax.errors import UserError

NAME = ".lock"


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the workdir; the lock ends with the process, however that ends.

    Raises:
        UserError: another run holds it.
    """
    with (workdir / NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"{holder} is training in {workdir} already. Wait for it, stop it, or take another "
                "--workdir."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
