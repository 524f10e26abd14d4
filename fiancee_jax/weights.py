"""Reads weight files without running anything that is in them.

Pickles are read with `safe_pickle`: names that rebuild arrays and tensors are admitted, any other
is refused. Neither torch nor flax is needed.

    .npz                     read_npz      arrays by name
    NumPy pickle (.ckpt)     read_pickle   nested dicts, lists and tuples of arrays
    torch zip file (.pth)    read_torch    arrays by their names in the state dict

`read_weights` chooses between them by what the file contains, not by how it is called.
"""

import functools
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fiancee_jax.errors import UserError
from fiancee_jax.safe_pickle import Refused, TorchUnpickler, Unpickler, plain

PathLike = str | os.PathLike[str]


def read_weights(path: PathLike) -> Any:
    """The arrays of a weight file of any kind this module reads, chosen by its content.

    Returns:
      What `read_torch`, `read_npz` or `read_pickle` returns for the file.

    Raises:
      UserError: the file is missing, truncated, of another kind, or names anything to execute.
    """
    if _kind(path) == _PICKLE:
        return read_pickle(path)
    if _kind(path) != _ZIP:
        expected = "a torch .pth, an .npz or a pickle of NumPy arrays"
        raise UserError(f"{path}: found {_kind(path)}; expected {expected}.")
    names = _archive_names(path)
    if any(n == "data.pkl" or n.endswith("/data.pkl") for n in names):
        return read_torch(path)
    if names and all(n.endswith(".npy") for n in names):
        return read_npz(path)
    raise UserError(
        f"{path}: found a zip archive with {_few(names)}; expected a torch .pth (data.pkl inside) "
        "or an .npz (.npy files inside). Give the weight file itself, not an archive around it."
    )


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """Arrays of an .npz by name, in the dtype they were saved in (float16 is not widened).

    Raises:
      UserError: missing or truncated file, not an .npz, or an array of Python objects in it.
    """
    if _kind(path) != _ZIP:
        raise UserError(f"{path}: found {_kind(path)}; expected an .npz file of arrays.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        raise _broken(path, "an .npz of plain arrays", error) from error


def read_pickle(path: PathLike) -> Any:
    """Pytree of np arrays (dicts, lists, tuples, plain numbers and text) in a NumPy pickle.

    Raises:
      UserError: missing or truncated file, another kind of file, or a global that does not
        rebuild an array; the message names the file and the global. Nothing has been executed.
    """
    if _kind(path) != _PICKLE:
        raise UserError(f"{path}: found {_kind(path)}; expected a pickle of NumPy arrays.")
    data = io.BytesIO(Path(path).read_bytes())
    return _unpickle(lambda: Unpickler(data), path, "a pickle of NumPy arrays")


def read_torch(path: PathLike) -> dict[str, np.ndarray]:
    """Tensors of a zip-format .pth (torch 1.6 or later) by name; torch is not needed.

    A state dict keeps its own names (`body.0.conv_0.weight_orig`); where the file holds it under
    `state_dict`, that dict is what is read. Other nesting is joined with dots. Leaves that are
    not tensors (an epoch, options) are left out. The arrays are read-only views of their
    storage; bfloat16 comes as float32.

    Raises:
      UserError: missing or truncated file, another kind of file (a legacy .pth, .safetensors),
        or a global that does not rebuild a tensor. Nothing has been executed.
    """
    if _kind(path) != _ZIP:
        raise UserError(f"{path}: found {_kind(path)}; expected a zip-format torch .pth file.")
    names = _archive_names(path)
    pickles = [n for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{path}: found {_few(names)}; expected one data.pkl (a torch .pth file).")
    with zipfile.ZipFile(path) as archive:
        reader = functools.partial(TorchUnpickler, archive, pickles[0])
        tree = _unpickle(reader, path, "a torch .pth file")
    if isinstance(tree, Mapping) and isinstance(tree.get("state_dict"), Mapping):
        tree = tree["state_dict"]
    arrays = dict(_flat(tree))
    if not arrays:
        raise UserError(f"{path}: found no tensor in it; expected a state dict. Save that one.")
    return arrays


def _unpickle(reader: Callable[[], Unpickler], path: PathLike, expected: str) -> Any:
    try:
        return plain(reader().load())
    except Refused as error:
        raise UserError(
            f"{path}: found {error}; expected {expected}. Refused, and nothing in the file "
            "was executed. Save the bare arrays (an .npz, or a state dict of tensors)."
        ) from error
    except Exception as error:  # a broken pickle may raise nearly anything
        raise _broken(path, expected, error) from error


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """(dotted name, array) of every array in nested dicts and sequences."""
    if isinstance(tree, np.ndarray):
        yield prefix, tree
    elif isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))


# What was found, for the messages.


def _head(path: PathLike, size: int = 64) -> bytes:
    """The first bytes of a file; UserError where there is none."""
    try:
        with open(path, "rb") as file:
            head = file.read(size)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise UserError(
            f"{path}: no weight file could be read ({reason}); check the path."
        ) from error
    if not head:
        raise UserError(f"{path}: found an empty file; expected weights. Fetch or save it again.")
    return head


def _archive_names(path: PathLike) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise _broken(path, "a whole zip archive (.pth or .npz)", error) from error


_PICKLE, _ZIP = "a pickle", "a zip archive (a torch .pth or an .npz)"
_KINDS = {  # first bytes -> what the file is
    # The number with which torch before 1.6 began a bare pickle.
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": "a legacy torch file (before 1.6; load it in "
    "torch and torch.save it again)",
    b"PK": _ZIP,
    b"\x80": _PICKLE,
    b"\x93NUMPY": "a single .npy array (save named arrays as .npz)",
    b"\x89HDF": "an HDF5 file (convert it to .npz)",
    b"<": "a web page (a failed download?)",
}


def _kind(path: PathLike) -> str:
    """What the first bytes of a file say it is; UserError where they cannot be read."""
    head = _head(path)
    if head[8:10] == b'{"':  # after the 8 bytes of its header's length
        return "a safetensors file, which is not read yet (convert it to .npz)"
    named = (name for start, name in _KINDS.items() if head.startswith(start))
    return next(named, f"a file that starts with {head[:8]!r}")


def _broken(path: PathLike, expected: str, error: Exception) -> UserError:
    detail = f"{type(error).__name__}: {error}".rstrip(": ")
    return UserError(
        f"{path}: found a file that is truncated or damaged ({Path(path).stat().st_size} bytes; "
        f"{detail}); expected {expected}. Fetch or save it again."
    )


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:4]) or "nothing in it"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
