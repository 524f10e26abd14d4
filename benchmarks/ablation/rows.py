"""Finished rows: a JSON list of objects with stable keys, written after every variant."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

Row = dict[str, Any]


def load(path: pathlib.Path) -> list[Row]:
    """The rows of a file, or none."""
    return json.loads(path.read_text()) if path.is_file() else []


def append(path: pathlib.Path, new: list[Row]) -> None:
    """Adds rows; the file is replaced at once, so that a killed run leaves a whole one."""
    lines = [json.dumps(row) for row in [*load(path), *new]]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    unfinished.replace(path)


def has(rows: list[Row], **wanted: Any) -> bool:
    """Whether a row has all these values."""
    return any(all(row.get(k) == v for k, v in wanted.items()) for row in rows)


def by_variant(rows: list[Row], keys: tuple[str, ...]) -> list[tuple[Row, list[Row]]]:
    """Rows that differ in their seed alone, in the order of the file: (first, all of them)."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    return [(group[0], group) for group in groups.values()]


def spread(group: list[Row], field: str, digits: int = 4) -> str:
    """The mean over seeds, and half the distance between the extremes if there are several."""
    values = np.array([row[field] for row in group], float)
    text = f"{values.mean():.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {np.ptp(values) / 2:.{digits}f}"


def markdown(headers: tuple[str, ...], table: list[tuple[Any, ...]]) -> str:
    """A table for docs/."""
    lines = [headers, ("---",) * len(headers), *table]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
