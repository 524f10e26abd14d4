"""Pictures of reenactment: a sheet of unseen identities, and bars of what is hard."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from fiancee_jax.evaluation.charts import LIGHT
from fiancee_jax.evaluation.reenactment import KINDS, Measured, paired, rendered
from fiancee_jax.evaluation.reenactment_rows import Costs, chosen
from fiancee_jax.evaluation.reenactment_study import Study
from fiancee_jax.pictures import grid, to_uint8

SHOWN = 5  # pairs of each kind; at most a batch
SIDE = 192  # pixels of a picture in the sheet, about
DRIVERS = {"self": "the same identity", "cross": "another identity"}


# --- the sheet ------------------------------------------------------------------------------------
def sheet(study: Study, found: Measured, costs: Costs, limit: float) -> Image.Image:
    """Source, driver, truth, backbone, cheapest exit and the routed picture with its exit.

    The pairs shown are of different identities, spread over the exits that cross-reenactment takes
    at `limit`; each is shown driven by its own identity and by another. LPIPS is LPIPS-alex to the
    truth.
    """
    shown = spread(study.who, chosen(found, "cross", limit))
    pictures, captions = [], []
    for kind in KINDS:
        rows, words = _rows(study, found, kind, limit, shown)
        pictures += rows
        captions += words
    saved = costs.columns(float(costs.exits[0]))["saved"]["decoder"]
    cheapest = f"exit 1 (decoder -{saved:.0%})"
    headers = ["source", "driver", "truth", "backbone", cheapest, f"routed at {limit:g}"]
    scale = max(1, round(SIDE / pictures[0][0].shape[1]))
    return grid(pictures, headers, captions, scale=scale, font_size=13)


def spread(who: np.ndarray, exits: np.ndarray) -> list[int]:
    """A few pairs of different identities, from the lowest exit to the highest."""
    first = np.unique(who, return_index=True)[1]
    order = first[np.lexsort((first, exits[first]))]
    places = np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)
    return order[places].tolist()


def _rows(
    study: Study, found: Measured, kind: str, limit: float, shown: Sequence[int]
) -> tuple[list[list[np.ndarray]], list[list[str]]]:
    """Pictures and captions of some pairs."""
    elements = [study.sources[kind][i] for i in shown]
    _, batches = next(paired(study.renderer, {kind: elements}))
    batch = batches[kind]
    exits = to_uint8(np.stack(rendered(study.renderer, batch)[0]))
    taken, lpips = chosen(found, kind, limit)[shown], found[f"{kind}.lpips_alex"][shown]
    rows, words = [], []
    for row, (element, exit) in enumerate(zip(elements, taken, strict=True)):
        made = [exits[k, row] for k in (-1, 0, exit)]
        near = [f"LPIPS {lpips[row, k]:.3f}" for k in (-2, 0, exit)]
        rows.append([*(element[key] for key in ("source", "driver", "image")), *made])
        words.append([element["name"], DRIVERS[kind], "", *near[:2], f"exit {exit + 1}, {near[2]}"])
    return rows, words


# --- what is hard ---------------------------------------------------------------------------------
def hardness_chart(hardness: Mapping[str, Any], costs: Costs) -> bytes:
    """PNG: by |yaw| of the driver, how far pictures are from the truth, and what routers spend.

    Args:
        hardness: by kind what `reenactment_hardness` found.
        costs: of the model.
    """
    figure = Figure(figsize=(9.5, 6.4), dpi=110, layout="constrained")
    grid_of_axes: Any = figure.subplots(len(KINDS), 2, sharey="col")
    for (near, spent), (kind, found) in zip(grid_of_axes, hardness.items(), strict=True):
        groups = found["yaw"]
        lines = {
            "exit 1": (LIGHT["learned"], [g["to_truth"][0] for g in groups]),
            "backbone": (LIGHT["mixture"], [g["to_truth"][-1] for g in groups]),
        }
        _bars(near, groups, lines, f"{kind}: mean LPIPS-alex to the truth")
        colours = ("lambda", "learned", "guarantee", "ridge", "students")
        shares = {}
        for i, row in enumerate(groups[0]["routed"]):
            values = [1 - g["routed"][i]["decoder_saved"] for g in groups]
            shares[f"max_lpips {row['max_lpips']:g}"] = LIGHT[colours[i % len(colours)]], values
        _bars(spent, groups, shares, f"{kind}: GMACs of the router, of the decoder's")
        spent.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _bars(
    axes: Axes,
    groups: Sequence[Mapping[str, Any]],
    lines: Mapping[str, tuple[str, list[float]]],
    title: str,
) -> None:
    """Bars side by side for each group of pairs."""
    place, width = np.arange(len(groups)), 0.8 / len(lines)
    for i, (label, (color, values)) in enumerate(lines.items()):
        axes.bar(
            place + (i - (len(lines) - 1) / 2) * width, values, width, color=color, label=label
        )
    names = [f"{g['name']}\N{DEGREE SIGN}\n{g['count']} pairs" for g in groups]
    axes.set_xticks(place, names)
    axes.set_title(title, fontsize=10, loc="left", color=LIGHT["ink"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=LIGHT["faint"])
    axes.legend(frameon=False, fontsize=9)
