"""SHA-256 of folders, to see whether they are still what was written, and of pytrees."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from fiancee_jax.files import write_atomically

NAME = "digests.json"


def seal(folder: pathlib.Path) -> None:
    """Writes the list into the folder, whose files must be complete."""
    found = {name: _digest(folder / name) for name in _names(folder)}
    write_atomically(folder / NAME, json.dumps(found, indent=0).encode())


def problem(folder: pathlib.Path, without: str = "") -> str:
    """What is wrong with a folder: "" if it is as it was sealed, or was never sealed.

    Args:
        folder: with its list.
        without: a folder in it whose files are not looked at, for none of them will be read.
    """
    try:
        known = json.loads((folder / NAME).read_bytes())
        for name in sorted(known):
            if without and name.startswith(f"{without}/"):
                continue
            if not (folder / name).is_file():
                return f"{name} is missing"
            if known[name] != _digest(folder / name):
                return f"{name} is not as it was written"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return f"{NAME} cannot be read ({error})"
    return ""


def update(digest: Any, tree: PyTree) -> None:
    """Adds the arrays of a pytree to a digest of hashlib: paths, dtypes, shapes and values."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{path}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())


def _names(folder: pathlib.Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files if path.name != NAME)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
