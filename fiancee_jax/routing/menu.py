"""The menu of exits: ordered by cost; an exit that is dearer and no better is dropped, visibly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiancee_jax.config import Exit


@dataclasses.dataclass(frozen=True)
class Entry:
    """One exit as measured on unseen inputs. GMACs are for one picture, retrieval included.

    Attributes:
        mean: mean LPIPS-alex to the backbone's picture; `p10` and `p90` are its percentiles.
        l1: mean absolute difference to the backbone's picture, in units of [-1, 1].
        dropped: why it is not on the menu, or "".
    """

    tap: int
    width: float
    gmacs: float
    mean: float
    p10: float
    p90: float
    l1: float
    dropped: str = ""

    @property
    def exit(self) -> Exit:
        """The (tap, width) pair."""
        return Exit(self.tap, self.width)


def drop_dominated(entries: list[Entry]) -> list[Entry]:
    """Entries by cost; those with a cheaper exit of no larger mean distance are marked dropped."""
    best: Entry | None = None
    marked = []
    for entry in sorted(entries, key=lambda e: (e.gmacs, e.mean)):
        if best is not None and entry.mean >= best.mean:
            reason = f"dearer and no better than {best.exit.name}"
            entry = dataclasses.replace(entry, dropped=reason)
        else:
            best = entry
        marked.append(entry)
    return marked


def kept(entries: Sequence[Mapping[str, Any]]) -> tuple[Exit, ...]:
    """The exits on the menu, in its order; entries as dicts, as a checkpoint holds them."""
    return tuple(Exit(e["tap"], e["width"]) for e in entries if not e["dropped"])


def measure(exit: Exit, gmacs: float, lpips: np.ndarray, l1: np.ndarray) -> Entry:
    """An entry from per-input measurements, both [inputs]."""
    p10, mean, p90 = np.percentile(lpips, 10), lpips.mean(), np.percentile(lpips, 90)
    gmacs, mean, p10, p90, mae = (round(float(x), 6) for x in (gmacs, mean, p10, p90, l1.mean()))
    return Entry(exit.tap, exit.width, gmacs, mean, p10, p90, mae)
