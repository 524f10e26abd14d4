"""Keeps records on disk, and knows when they would come out otherwise."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import fiancee_jax
from fiancee_jax import digests
from fiancee_jax.data.clips import ClipSource
from fiancee_jax.data.folders import FolderSource
from fiancee_jax.evaluation.records import DISTANCES, Judges, Records
from fiancee_jax.inference import Renderer

Arrays = dict[str, Any]  # NumPy arrays by name

FORMAT = 2  # of the file; raise it when a column changes its meaning


def fingerprint(renderer: Renderer, judges: Judges, data: Any, source: Any, **options: Any) -> str:
    """Changes whenever records would.

    Args:
        renderer: its networks and all its arrays count.
        judges: their arrays count, so a segmenter trained anew gives another mark.
        data: the data set; its fields count, which for procedural data is all there is.
        source: the opened split; names, sizes and times of its files count, where it has files.
        options: anything else that JSON can hold.
    """
    words = [FORMAT, fiancee_jax.__version__, repr(data), repr(renderer.model), _files(source)]
    digest = hashlib.sha256(json.dumps([words, options], sort_keys=True).encode())
    digests.update(digest, (renderer.variables, judges))
    return digest.hexdigest()


def _files(source: Any) -> list[list[Any]]:
    """Name, size and time of change (ns) of the files of a folder's split; nothing of others."""
    count = len(source)
    while not isinstance(source, FolderSource | ClipSource) and hasattr(source, "source"):
        source = source.source
    pairs: Iterable[Any] = source.pairs[:count] if isinstance(source, FolderSource) else ()
    paths = source.files if isinstance(source, ClipSource) else [p for pair in pairs for p in pair]
    found = [(path.name, path.stat()) for path in paths]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]


def kept(path: pathlib.Path, mark: str, make: Callable[[], Records]) -> Records:
    """The records in `path` if they carry `mark`, else made and written there."""
    found = kept_arrays(path, mark, lambda: _arrays(make()))
    distances = {name: found.pop(name) for name in DISTANCES if name in found}
    return Records(distances=distances, **found)  # pyright: ignore[reportArgumentType]


def _arrays(records: Records) -> Arrays:
    columns = {field.name: getattr(records, field.name) for field in dataclasses.fields(records)}
    distances = columns.pop("distances")
    return {k: v for k, v in columns.items() if v is not None} | distances


def kept_arrays(path: pathlib.Path, mark: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in `path` if they carry `mark`, else made and written there."""
    found = _read(path, mark) if path.is_file() else None
    if found:
        return found
    arrays = make()
    unfinished = path.with_name(f"{path.stem}.tmp.npz")
    np.savez(unfinished, allow_pickle=False, fingerprint=np.array(mark), **arrays)
    unfinished.replace(path)
    return arrays


def _read(path: pathlib.Path, mark: str) -> Arrays | None:
    """Arrays of this mark; None for others, and for a file that is damaged or something else."""
    try:
        with path.open("rb") as file, np.load(file) as archive:
            found = dict(archive) if str(archive["fingerprint"]) == mark else {}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
    found.pop("fingerprint", None)
    return found or None
