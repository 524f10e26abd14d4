"""The table of a threshold as text: groups of rows, cells of two lines, reasons as footnotes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fiancee_jax.evaluation.words import interval, percent
from fiancee_jax.report import figures

GROUPS = {
    "static": "The same exit for all",
    "baseline": "Baselines",
    "router": "Routers",
    "guarantee": "Routers with a guarantee",
    "oracle": "Knows every distance beforehand",
    "student": "Distilled students, and the router at their GMACs",
}
ROUTED = ("router", "guarantee", "oracle")
BESIDE = ("ridge", "ridge_products", "mixture_equal_distance")  # policies drawn beside routers


class Column(NamedTuple):
    """A key of a row and how it is written; `below` in small print under it."""

    head: str
    key: str
    form: Callable[[Any], str]
    below: str = ""
    below_form: Callable[[Any], str] = str


class Cell(NamedTuple):
    """What stands in the table; empty ones have a `reason` and the `mark` of its footnote."""

    text: str
    below: str = ""
    reason: str = ""
    mark: int = 0


def _mean(values: Any) -> str:
    known = [v for v in values if v is not None]
    return figures(float(np.mean(known))) if known else figures(None)


COLUMNS = (
    Column("Of full", "share", percent, "gmacs", lambda x: f"{figures(x)} GMACs"),
    Column("Beyond shared", "share_beyond", percent),
    Column(
        "LPIPS-alex", "lpips_alex_mean", figures, "lpips_vgg_mean", lambda x: f"vgg {figures(x)}"
    ),
    Column("p95", "lpips_alex_p95", figures, "lpips_alex_max", lambda x: f"max {figures(x)}"),
    Column("Above", "violation_rate", percent, "violation_interval", interval),
    Column("Of oracle\u2019s saving", "share_of_oracle_saving", lambda x: percent(x, 0)),
    Column("L1", "l1_mean", figures, "psnr_mean", lambda x: f"{x:.1f} dB"),
    Column("SSIM", "ssim_mean", lambda x: f"{x:.3f}"),
    Column(
        "Estimates off by",
        "predictor_mae",
        _mean,
        "predictor_spearman",
        lambda x: f"rank {_mean(x)}",
    ),
    Column("FD-EffLite0", "fd_efflite0", figures, "samples", lambda x: "{:,} to {:,}".format(*x)),
    Column("KID", "kid", figures, "kid_std", lambda x: f"\N{PLUS-MINUS SIGN} {figures(x)}"),
    Column("mIoU", "miou", lambda x: f"{x:.3f}"),
    Column("ms", "ms_batched", figures, "ms_batch1", lambda x: f"alone {figures(x)}"),
    Column("ms routed", "ms_routed", figures),
)


@dataclasses.dataclass
class Footnotes:
    """Reasons in the order in which they came up; their marks count from 1."""

    reasons: list[str] = dataclasses.field(default_factory=list)

    def mark(self, reason: str) -> int:
        """The number of a reason, a new one if it is new."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1


def cell(row: Mapping[str, Any], column: Column, notes: Footnotes) -> Cell:
    """A row's entry in a column."""
    value = row[column.key]
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        reason = row["why_empty"].get(column.key, "there is nothing to measure it against")
        return Cell("\N{EN DASH}", reason=reason, mark=notes.mark(reason))
    below = row[column.below] if column.below else None
    return Cell(column.form(value), "" if below is None else column.below_form(below))


def columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns that say something: shares beyond what exits share only if they share any."""
    shared = any(row["share_beyond"] != row["share"] for row in rows)
    return [column for column in COLUMNS if shared or column.key != "share_beyond"]


def groups(
    rows: Iterable[Mapping[str, Any]], shown: Sequence[Column], notes: Footnotes
) -> list[dict[str, Any]]:
    """The rows of one threshold under the titles of `GROUPS`, in the order of these."""
    found: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    for row in rows:
        line = {
            "label": row["label"],
            "setting": row["setting"],
            "cells": [cell(row, column, notes) for column in shown],
            "main": row["policy"] == "learned",
        }
        found[group_of(row)].append(line)
    return [{"title": GROUPS[group], "rows": lines} for group, lines in found.items() if lines]


def group_of(row: Mapping[str, Any]) -> str:
    """Its group; a router that stands beside a student is listed with it."""
    return "student" if "_as_student" in row["policy"] else row["group"]


def histograms(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Which exits each router takes: label and shares of exits 1..n."""
    return [
        {"label": row["label"], "exits": row["exits"], "main": row["policy"] == "learned"}
        for row in rows
        if group_of(row) in ROUTED or row["policy"] in BESIDE
    ]
