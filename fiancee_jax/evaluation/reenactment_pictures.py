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
COLOURS = ("learned", "mixture", "lambda", "guarantee", "ridge", "students")
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
    """PNG: by |yaw| of the driver, how far pictures are, and what the router spends on them.

    Args:
        hardness: by kind what `reenactment_hardness` found.
        costs: of the model.
    """
    figure = Figure(figsize=(13, 6.6), dpi=100, layout="constrained")
    places: Any = figure.subplots(len(KINDS), 3, sharey="col")
    cheapest = f"exit 1 of {len(costs.exits)}"
    for (base, near, spent), (kind, found) in zip(places, hardness.items(), strict=True):
        groups = found["yaw"]
        early = {cheapest: [g["to_backbone"][0] for g in groups]}
        _bars(base, groups, early, f"{kind}: mean LPIPS-alex to the backbone's picture")
        sides = (cheapest, 0), ("backbone", -1)
        both = {name: [g["to_truth"][i] for g in groups] for name, i in sides}
        _bars(near, groups, both, f"{kind}: mean LPIPS-alex to the truth")
        shares = {
            f"routed, max_lpips {row['max_lpips']:g}": [
                1 - g["routed"][i]["decoder_saved"] for g in groups
            ]
            for i, row in enumerate(groups[0]["routed"])
        }
        _bars(spent, groups, shares, f"{kind}: spent, of the backbone's decoder")
        spent.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _bars(
    axes: Axes, groups: Sequence[Mapping[str, Any]], bars: Mapping[str, list[float]], title: str
) -> None:
    """Bars side by side for each group of pairs."""
    place, width = np.arange(len(groups)), 0.8 / len(bars)
    for i, (label, values) in enumerate(bars.items()):
        left = place + (i - (len(bars) - 1) / 2) * width
        color = LIGHT[COLOURS[i % len(COLOURS)]]
        axes.bar(left, values, width, color=color, label=label)
    names = [f"{g['name']}\N{DEGREE SIGN}\n{g['count']} pairs" for g in groups]
    axes.set_xticks(place, names)
    axes.margins(y=0.35)  # for the legend; both kinds share an axis
    axes.set_title(title, fontsize=10, loc="left", color=LIGHT["ink"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=LIGHT["faint"])
    axes.legend(frameon=False, fontsize=9, loc="upper left")
