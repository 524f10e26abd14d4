"""Reads weight files without running anything that is in them.

Pickles are read with `safe_pickle`: names that rebuild arrays and tensors are admitted, any other
is refused. Neither torch nor flax is needed.

    .npz                     read_npz           arrays by name
    .safetensors             read_safetensors   arrays by name
    NumPy pickle (.ckpt)     read_pickle        nested dicts, lists and tuples of arrays
    torch zip file (.pth)    read_torch         arrays by their names in the state dict
    legacy torch file        read_legacy_torch  the same, from files before torch 1.6

`read_weights` chooses between them by what the file contains, not by how it is called.
"""

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from fiancee_jax.errors import UserError
from fiancee_jax.safe_pickle import Refused, TorchUnpickler, Unpickler, legacy_torch, plain

PathLike = str | os.PathLike[str]


def read_weights(path: PathLike) -> Any:
    """The arrays of a weight file of any kind this module reads, chosen by its content.

    Returns:
      What the reader of that kind returns; see above.

    Raises:
      UserError: the file is missing, truncated, of another kind, or names anything to execute.
    """
    readers = {
        _PICKLE: read_pickle,
        _SAFETENSORS: read_safetensors,
        _LEGACY: read_legacy_torch,
        _ZIP: _read_zip,
    }
    if _kind(path) not in readers:
        expected = "a torch .pth, a .safetensors, an .npz or a pickle of NumPy arrays"
        raise UserError(f"{path}: found {_kind(path)}; expected {expected}.")
    return readers[_kind(path)](path)


def _read_zip(path: PathLike) -> dict[str, np.ndarray]:
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
    return _unpickle(lambda: Unpickler(data).load(), path, "a pickle of NumPy arrays")


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
        tree = _unpickle(
            lambda: TorchUnpickler(archive, pickles[0]).load(), path, "a torch .pth file"
        )
    return _state_dict(tree, path)


def read_safetensors(path: PathLike) -> dict[str, np.ndarray]:
    """Tensors of a .safetensors file by name; bfloat16 comes as float32.

    Raises:
      UserError: missing, truncated or damaged file, another kind of file, or 8-bit floats in it.
    """
    if _kind(path) != _SAFETENSORS:
        raise UserError(f"{path}: found {_kind(path)}; expected a .safetensors file.")
    try:
        found = safetensors.deserialize(Path(path).read_bytes())
        _check_dtypes(path, {spec["dtype"] for _, spec in found})
        return {name: _tensor(spec) for name, spec in found}
    except UserError:
        raise
    except Exception as error:
        raise _broken(path, "a whole .safetensors file", error) from error


def _check_dtypes(path: PathLike, found: set[str]) -> None:
    unknown = sorted(found - {*_SAFETENSORS_DTYPES, "BF16"})
    if unknown:
        raise UserError(
            f"{path}: found values of type {', '.join(unknown)}; expected one of BF16, "
            f"{', '.join(_SAFETENSORS_DTYPES)}. Convert them to F32 and save again."
        )


def _tensor(spec: Any) -> np.ndarray:
    if spec["dtype"] == "BF16":  # the upper half of a float32
        halves = np.frombuffer(spec["data"], "<u2").astype(np.uint32)
        return (halves << 16).view(np.float32).reshape(spec["shape"])
    dtype = np.dtype(_SAFETENSORS_DTYPES[spec["dtype"]])
    return np.frombuffer(spec["data"], dtype).reshape(spec["shape"])


def read_legacy_torch(path: PathLike) -> dict[str, np.ndarray]:
    """Tensors of a .pth from before torch 1.6 by name, as `read_torch` gives them.

    Raises:
      UserError: missing or truncated file, another kind of file, or a global that does not
        rebuild a tensor. Nothing has been executed.
    """
    if _kind(path) != _LEGACY:
        raise UserError(f"{path}: found {_kind(path)}; expected {_LEGACY}.")
    data = Path(path).read_bytes()
    return _state_dict(_unpickle(lambda: legacy_torch(data), path, "a torch .pth file"), path)


def _state_dict(tree: Any, path: PathLike) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, or of the one under ``state_dict``."""
    if isinstance(tree, Mapping) and isinstance(tree.get("state_dict"), Mapping):
        tree = tree["state_dict"]
    arrays = dict(_flat(tree))
    if not arrays:
        raise UserError(f"{path}: found no tensor in it; expected a state dict. Save that one.")
    return arrays


def _unpickle(load: Callable[[], Any], path: PathLike, expected: str) -> Any:
    try:
        return plain(load())
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
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:  # the last: other versions
        raise _broken(path, "a whole zip archive (.pth or .npz)", error) from error


_PICKLE, _ZIP = "a pickle", "a zip archive (a torch .pth or an .npz)"
_SAFETENSORS, _LEGACY = "a safetensors file", "a legacy torch file (from before torch 1.6)"
_SAFETENSORS_DTYPES = {  # names in the file's header; numbers are little-endian
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "BOOL": "?",
}
_KINDS = {  # first bytes -> what the file is
    # The number with which torch before 1.6 began a bare pickle.
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": _LEGACY,
    b"PK": _ZIP,
    b"\x80": _PICKLE,
    b"\x93NUMPY": "a single .npy array (save named arrays as .npz)",
    b"\x89HDF": "an HDF5 file (convert it to .npz)",
    b"<": "a web page (a failed download?)",
    b"version https://git-lfs": "a Git LFS pointer (fetch the file itself: git lfs pull)",
}


def _kind(path: PathLike) -> str:
    """What the first bytes of a file say it is; UserError where they cannot be read."""
    head = _head(path)
    if head[8:10] == b'{"':  # after the 8 bytes of its header's length
        return _SAFETENSORS
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
