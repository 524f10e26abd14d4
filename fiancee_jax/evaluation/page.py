"""The page of an evaluation: ``index.html``, self-contained, without scripts or requests."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiancee_jax.evaluation import cells, charts, curves, hardness_charts, page_pictures, words
from fiancee_jax.evaluation.table import Table
from fiancee_jax.files import write_atomically
from fiancee_jax.inference import Renderer
from fiancee_jax.report import render

LIMIT = 1_000_000  # bytes of the page
SIDES = (256, 192, 128, 96, 64)  # longest side of its pictures, pixels: the first that fits
POLICIES = ("learned", "oracle")
GAPS = {"gaps": "mean LPIPS-alex", "gaps_in_violations": "violation rate"}  # what is equal

Found = Mapping[str, Any]  # what evaluation.json holds; its numbers may be NaN here


def write(
    out: pathlib.Path, found: Found, renderer: Renderer, table: Table, source: Any, seed: int
) -> None:
    """Writes ``index.html``, below `LIMIT`.

    Args:
        out: folder of the evaluation; the page links to ``evaluation.json`` beside it.
        found: what that file holds, ``hardness`` included.
        renderer: renders the few inputs that are shown.
        table: what was measured.
        source: the inputs that were measured.
        seed: of their z's.
    """
    context = numbers(found)
    rendered = page_pictures.render(renderer, found["hardness"], source, seed)
    html = b""
    for side in SIDES:
        shown = {
            "examples": page_pictures.examples(found, table, rendered, side),
            "latent": page_pictures.latent(found["hardness"], rendered, side),
        }
        # names of files may hold bytes that are no text
        html = render("evaluation/page.html", **context, **shown).encode(errors="replace")
        if len(html) < LIMIT:
            break
    write_atomically(out / "index.html", html)


# --- numbers ------------------------------------------------------------------------------------
def numbers(found: Found) -> dict[str, Any]:
    """What the template takes, but for pictures."""
    notes, limit = cells.Footnotes(), words.middle(found)
    return {
        "found": found,
        "limit": limit,
        "headline": words.headline(found),
        "losses": words.losses(found),
        "tiles": _tiles(found, limit),
        "palette": charts.PALETTE,
        "curves": _curves(found),
        "columns": cells.columns(found["rows"]),
        "thresholds": [_threshold(found, x, notes, x == limit) for x in found["max_lpips"]],
        "notes": notes.reasons,
        "gaps": [(equal, _gaps(found, found[key])) for key, equal in GAPS.items() if found[key]],
        "comparisons": _comparisons(found),
        "reliability": _reliability(found["reliability"]),
        "promises": _promises(found),
        "hardness": _hardness(found["hardness"], limit),
        "percent": words.percent,
        "interval": words.interval,
        "signed": words.signed,
        "broken": lambda promise: found["exchangeable"] and words.broken(promise),
        "origin": words.ORIGINS[found["max_lpips_from"]],
        "one_seed": words.one_seed(found),
    }


def _tiles(found: Found, limit: float) -> list[tuple[str, str]]:
    learned, oracle = (words.row(found, limit, policy) for policy in POLICIES)
    blind = words.row(found, limit, "mixture_equal_distance")
    tiles = [(f"{limit:g}", "max_lpips, the middle threshold")]
    for row, text in (
        (learned, "of the backbone\u2019s GMACs, learned router"),
        (blind, "blind mixture of equal mean LPIPS"),
        (oracle, "oracle"),
    ):
        tiles += [(words.percent(row["share"]), text)] if row else []
    if learned:
        tiles.append((words.percent(learned["violation_rate"]), "of its pictures above max_lpips"))
        saving = learned["share_of_oracle_saving"]
        tiles.append((words.percent(saving), "of what an oracle saves that breaks it as often"))
    gap = words.gap(found, limit)
    if gap and words.known([gap["taken"]]):
        within = words.interval(gap["taken_interval"], digits=0)
        text = "of the way from blind mixture to oracle of equal mean LPIPS"
        tiles.append((words.percent(gap["taken"], 0), f"{text}{within and f' ({within})'}"))
    return tiles


def _curves(found: Found) -> dict[str, Any]:
    promised = [
        (row["share"], row["lpips_alex_mean"])
        for row in found["rows"]
        if row["group"] == "guarantee"
    ]
    return {
        "wide": charts.quality_compute(found["curves"], promised, width=900, height=440),
        "narrow": charts.quality_compute(found["curves"], promised, width=350, height=430),
    }


def _threshold(found: Found, limit: float, notes: cells.Footnotes, shown: bool) -> dict[str, Any]:
    rows = [row for row in found["rows"] if row["threshold"] == limit]
    return {
        "limit": limit,
        "open": shown,
        "groups": cells.groups(rows, cells.columns(found["rows"]), notes),
        "histograms": cells.histograms(rows),
    }


def _gaps(found: Found, gaps: list[Found]) -> list[dict[str, Any]]:
    return [
        {
            **gap,
            "name": words.name(found, gap["threshold"], gap["policy"]),
            "verdict": words.verdict(gap["gain_interval"], higher_is_better=True),
        }
        for gap in gaps
    ]


def _comparisons(found: Found) -> list[dict[str, Any]]:
    keys = ("lpips_interval", "violation_interval")
    return [
        {
            **pair,
            "name": words.name(found, pair["threshold"], pair["b"]),
            "apart": words.apart(pair),
            "verdicts": [words.verdict(pair[key], higher_is_better=False) for key in keys],
        }
        for pair in found["comparisons"]
    ]


def _reliability(found: Sequence[Found]) -> list[dict[str, Any]]:
    """A chart for each exit, to one scale; nothing without a predictor."""
    tops = [b[key] for e in found for b in e["bins"] for key in ("predicted", "p90")]
    if any(x is None or not np.isfinite(x) for x in tops) or not tops:
        return []
    highest = 1.05 * max(tops)
    return [
        {"exit": e["exit"], "chart": charts.reliability(e["bins"], e["exit"], highest)}
        for e in found
    ]


def _promises(found: Found) -> dict[str, Any]:
    calibrated = [p for p in found["promises"] if p["confidence"] is not None]
    promised = found["exchangeable"]
    chart = charts.promises(calibrated, promised) if calibrated else None
    return {"rows": found["promises"], "chart": chart, "every": curves.EVERY_EXIT}


def _hardness(found: Found, limit: float) -> dict[str, Any]:
    chosen = [c for c in found["choices"] if c["threshold"] == limit]
    explained = found["exits"][-1]["explained"] is not None
    between = found["exits"][-1]["between_inputs"]
    return {
        "ranks": hardness_charts.ranks(found),
        "explained": hardness_charts.explained(found["exits"]) if explained else None,
        "by_difficulty": hardness_charts.by_difficulty(chosen, limit),
        "between": between,
        "omitted": found["omitted"],
    }
