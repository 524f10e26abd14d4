"""One folder of label maps at several thresholds, beside the backbone's pictures and measured."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fiancee_jax import cli, render_folder
from fiancee_jax.errors import UserError
from fiancee_jax.files import write_atomically
from fiancee_jax.inference import Renderer
from fiancee_jax.models.lpips import lpips
from fiancee_jax.pictures import grid
from fiancee_jax.render_folder import Request, Summary
from fiancee_jax.report import figures, share_of_full

BATCH = 16
SHOWN = 8  # rows of the picture


@dataclasses.dataclass(frozen=True)
class Row:
    """One threshold. GMACs count predictor and retrieval.

    Attributes:
        gmacs: mean GMACs per picture; `share` of the backbone's.
        predicted: mean predicted LPIPS-alex; `measured` the mean of the true one.
        above: share of the inputs whose measured LPIPS is above the threshold.
        exits: pictures by exit 1..n.
    """

    max_lpips: float
    gmacs: float
    share: float
    predicted: float
    measured: float
    above: float
    exits: list[int]


def compare(
    renderer: Renderer,
    model: str,
    labels: pathlib.Path,
    out: pathlib.Path,
    max_lpips: Sequence[float],
) -> list[Row]:
    """Renders `labels` with the backbone and at each threshold, and measures the difference.

    Args:
        renderer: the model.
        model: its name, for titles.
        labels: folder of label maps.
        out: gets one folder for each threshold, ``full/``, ``compare.json`` and ``compare.png``.
        max_lpips: the thresholds.
    """
    if not max_lpips:
        raise UserError("max-lpips is empty; give one or more thresholds, say 0.03 0.06 0.1.")
    out = out.resolve()
    requests = {x: Request(model, labels, out / f"max_lpips_{x:g}", max_lpips=x) for x in max_lpips}
    for request in requests.values():  # all before the first is rendered
        render_folder.check(renderer, request)
    base = Request(model, labels, out / "full", exit="full")
    full = render_folder.render_folder(renderer, base)
    rows, columns = [], []
    for limit, request in requests.items():
        summary = render_folder.render_folder(renderer, request)
        distances = measured(summary, full)
        rows.append(_row(limit, summary, distances))
        columns.append((limit, summary, distances))
    write_atomically(
        out / "compare.json", json.dumps([dataclasses.asdict(r) for r in rows]).encode()
    )
    sheet(full, columns).save(out / "compare.png")
    show(rows)
    print(f"wrote {out / 'compare.png'}\nwrote {out / 'compare.json'}")
    for limit, summary, _ in columns:
        print(f"wrote {summary.out / 'index.html'} (max_lpips {limit:g})")
    return rows


def measured(summary: Summary, full: Summary) -> np.ndarray:
    """LPIPS-alex of every written picture to the backbone's, by name."""
    names = [p.name for p in summary.pictures]
    found = []
    for start in range(0, len(names), BATCH):
        part = names[start : start + BATCH]
        padded = part + part[-1:] * (BATCH - len(part))  # one shape, one compile
        pair = [np.stack([_read(s.out, name) for name in padded]) for s in (summary, full)]
        found.append(np.asarray(lpips(pair[0], pair[1]))[: len(part)])
    return np.concatenate(found)


def _read(folder: pathlib.Path, name: str) -> np.ndarray:
    with Image.open(folder / f"{name}.png") as image:
        return np.asarray(image, np.float32) / np.float32(127.5) - 1


def _row(limit: float, summary: Summary, distances: np.ndarray) -> Row:
    return Row(
        max_lpips=limit,
        gmacs=float(np.mean([p.gmacs for p in summary.pictures])),
        share=float(share_of_full(summary.pictures)),
        predicted=float(np.mean([p.predicted[p.exit - 1] for p in summary.pictures])),
        measured=float(distances.mean()),
        above=float((distances > limit).mean()),
        exits=[e.count for e in summary.exits],
    )


def show(rows: Sequence[Row]) -> None:
    """Prints the table."""
    headers = (
        *("max_lpips", "GMACs", "of full", "LPIPS predicted", "LPIPS measured", "above max_lpips"),
        "pictures by exit",
    )
    cells = [
        (
            f"{r.max_lpips:g}",
            figures(r.gmacs),
            f"{100 * r.share:.1f} %",
            f"{r.predicted:.3f}",
            f"{r.measured:.3f}",
            f"{100 * r.above:.0f} %",
            " ".join(map(str, r.exits)),
        )
        for r in rows
    ]
    cli.print_table(headers, cells, "Means over the folder; LPIPS-alex to the backbone's picture")


def sheet(full: Summary, columns: Sequence[tuple[float, Summary, np.ndarray]]) -> Image.Image:
    """Label map, each threshold's picture with its exit, and the backbone's, for a few inputs.

    The inputs shown are spread over the exits that they take at the middle threshold.
    """
    middle = columns[len(columns) // 2][1].pictures
    order = sorted(range(len(middle)), key=lambda i: (middle[i].exit, i))
    chosen = [order[round(k)] for k in np.linspace(0, len(order) - 1, min(SHOWN, len(order)))]
    pictures, captions = [], []
    for i in chosen:
        name = middle[i].name
        row, words = [_rgb(full.out / "_labels" / f"{name}.png")], [name]
        for _, summary, distances in columns:
            row.append(_rgb(summary.out / f"{name}.png"))
            words.append(f"exit {summary.pictures[i].exit}, LPIPS {distances[i]:.3f}")
        pictures.append([*row, _rgb(full.out / f"{name}.png")])
        captions.append([*words, f"exit {len(full.exits)}"])
    headers = ["label map", *(f"max_lpips {limit:g}" for limit, _, _ in columns), "backbone"]
    scale = max(1, round(160 / pictures[0][-1].shape[1]))
    return grid(pictures, headers, captions, scale=scale)


def _rgb(path: pathlib.Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
