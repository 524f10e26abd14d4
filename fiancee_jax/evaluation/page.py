"""The page of an evaluation: ``index.html``, self-contained, without scripts or requests."""

from __future__ import annotations

import base64
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from fiancee_jax.evaluation import cells, charts, examples, hardness_charts, words
from fiancee_jax.evaluation.latent_map import plane
from fiancee_jax.evaluation.table import Table
from fiancee_jax.inference import Renderer
from fiancee_jax.pictures import to_uint8
from fiancee_jax.render_job import write_atomically
from fiancee_jax.report import render

LIMIT = 1_000_000  # bytes of the page
SIDES = (256, 192, 128, 96, 64)  # longest side of its pictures, pixels: the first that fits
POLICIES = ("learned", "oracle")

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
    rendered = _rendered(renderer, found["hardness"], source, seed)
    html = b""
    for side in SIDES:
        shown = {
            "examples": _examples(found, table, rendered, side),
            "latent": _latent(found["hardness"], rendered, side),
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
        "columns": cells.COLUMNS,
        "thresholds": [_threshold(found, x, notes, x == limit) for x in found["max_lpips"]],
        "notes": notes.reasons,
        "gaps": _gaps(found),
        "comparisons": _comparisons(found),
        "reliability": _reliability(found["reliability"]),
        "promises": _promises(found["promises"]),
        "hardness": _hardness(found["hardness"], limit),
        "percent": words.percent,
        "interval": words.interval,
        "signed": words.signed,
        "broken": words.broken,
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
        "groups": cells.groups(rows, notes),
        "histograms": cells.histograms(rows),
    }


def _gaps(found: Found) -> list[dict[str, Any]]:
    return [
        {
            **gap,
            "name": words.name(found, gap["threshold"], gap["policy"]),
            "verdict": words.verdict(gap["gain_interval"], higher_is_better=True),
        }
        for gap in found["gaps"]
    ]


def _comparisons(found: Found) -> list[dict[str, Any]]:
    keys = ("lpips_interval", "violation_interval")
    return [
        {
            **pair,
            "name": words.name(found, pair["threshold"], pair["b"]),
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


def _promises(found: Sequence[Found]) -> dict[str, Any]:
    calibrated = [p for p in found if p["confidence"] is not None]
    return {"rows": found, "chart": charts.promises(calibrated) if calibrated else None}


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


# --- pictures -----------------------------------------------------------------------------------
def _rendered(renderer: Renderer, found: Found, source: Any, seed: int) -> dict[str, Any]:
    """Inputs and pictures of everything that is shown, rendered once."""
    chosen, mapped = [*found["easiest"], *found["hardest"]], found["latent_map"]
    names = {record["name"] for record in chosen} | ({mapped["name"]} if mapped else set())
    inputs = examples.inputs_of(renderer, source, names)
    z = np.stack([examples.latent_of(renderer, r["name"], seed, r["latent"]) for r in chosen])
    of = [inputs[record["name"]] for record in chosen]
    draw = renderer.model.family.picture_of_inputs
    rendered = {"records": examples.pictures(renderer, of, z), "inputs": [draw(x) for x in of]}
    if mapped:
        steps = np.array(mapped["steps"])[list(_marked(mapped))]
        points = plane(np.array(mapped["directions"]), steps)
        given = inputs[mapped["name"]]
        rendered["plane"] = examples.pictures(renderer, [given] * len(points), points)[-1]
        rendered["mapped"] = draw(given)
    return rendered


def _examples(
    found: Found, table: Table, rendered: Mapping[str, Any], side: int
) -> list[dict[str, Any]]:
    """The easiest and the hardest inputs with their pictures."""
    hardness, limit = found["hardness"], words.middle(found)
    chosen = [*hardness["easiest"], *hardness["hardest"]]
    taken = [table.learned(limit).taken.argmax(1) + 1, table.oracle(limit).taken.argmax(1) + 1]
    cards = [
        {
            **record,
            "input": None
            if rendered["inputs"][i] is None
            else _map(rendered["inputs"][i][0], side),
            "pictures": [photo(x[i], side) for x in rendered["records"]],
            "taken": [int(exits[record["record"]]) for exits in taken],
        }
        for i, record in enumerate(chosen)
    ]
    count = len(hardness["easiest"])
    return [
        {"title": "Easiest", "cards": cards[:count]},
        {"title": "Hardest", "cards": cards[count:]},
    ]


def _latent(found: Found, rendered: Mapping[str, Any], side: int) -> dict[str, Any] | None:
    mapped = found["latent_map"]
    if not mapped:
        return None
    marked = _marked(mapped)
    order = np.arange(len(marked) ** 2).reshape(len(marked), -1)[::-1].ravel()  # as in the chart
    drawn = rendered["mapped"]
    return {
        "name": mapped["name"],
        "chart": hardness_charts.heat(mapped, marked),
        "pictures": [photo(rendered["plane"][i], side) for i in order],
        "input": None if drawn is None else _map(drawn[0], side),
    }


def _marked(mapped: Found) -> tuple[int, int, int]:
    last = len(mapped["steps"]) - 1
    return 0, last // 2, last


def photo(picture: np.ndarray, side: int) -> str:
    """A picture [h, w, 3] in [-1, 1] as a data address, WebP, no side longer than this."""
    return _address(_fitted(to_uint8(picture), side, Image.Resampling.LANCZOS), "webp", quality=88)


def _map(drawn: np.ndarray, side: int) -> str:
    """A drawn input [h, w, 3] uint8 as a data address, PNG of few colours."""
    fitted = _fitted(drawn, side, Image.Resampling.NEAREST)
    return _address(fitted.quantize(256), "png", optimize=True)


def _fitted(picture: np.ndarray, side: int, how: Image.Resampling) -> Image.Image:
    image = Image.fromarray(picture)
    scale = min(1.0, side / max(image.size))
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), how
    )


def _address(image: Image.Image, form: str, **options: Any) -> str:
    out = io.BytesIO()
    image.save(out, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(out.getvalue()).decode()}"
