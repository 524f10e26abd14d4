"""Writing files: folders that can be written, and files of which nobody ever finds half."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import socket
import tempfile
import threading

import numpy as np
from PIL import Image

from fiancee_jax.errors import UserError

UNFINISHED, UNFINISHED_LENGTH = ".fiancee.tmp", 80  # files that a kill may leave


def writable(*folders: pathlib.Path) -> None:
    """Makes output folders, if need be, and tries to write into each.

    Raises:
        UserError: one cannot be made or written.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(
                f"cannot write into the output folder {folder}: {error.strerror or error}. Give "
                "--out a folder that can be made or written."
            ) from None


def write_png(path: pathlib.Path, pixels: np.ndarray) -> None:
    """Writes [h, w, 3] uint8 as PNG, by `write_atomically`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that nobody ever finds half of it.

    Raises:
        UserError: it cannot be written.
    """
    writer = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{writer[-UNFINISHED_LENGTH:]}{UNFINISHED}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from None


def sweep(folder: pathlib.Path) -> None:
    """Takes away what writers that were killed have left; nobody else may be writing here."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)
