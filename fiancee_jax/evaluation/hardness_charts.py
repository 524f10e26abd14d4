"""Charts of `hardness`: what difficulty goes with, and how routers follow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fiancee_jax.evaluation.charts import FONT, LIGHT, new_axes, svg

LONGEST = 14  # bars
CROWDED = "crowdedness"
DESIGNS = {
    "areas": "class areas",
    "vector": "z and its squares",
    "both": "both",
    "products": "both and areas x z",
}


def ranks(found: Mapping[str, Any]) -> Markup:
    """The strongest rank correlations of exit 1's distance; dots: of the mean over early exits."""
    named = [(name, a, b) for name, a, b in _paired(found) if a is not None and b is not None]
    # crowdedness is what one would suspect: always shown
    named = sorted(named, key=lambda row: (row[0] != CROWDED, -abs(row[1])))[:LONGEST]
    named = sorted(named, key=lambda row: abs(row[1]))
    axes = new_axes(350, 70 + 19 * max(len(named), 3))
    values, y = [row[1] for row in named], np.arange(len(named))
    axes.barh(y, values, 0.62, color=LIGHT["learned"], alpha=0.8)
    axes.plot([row[2] for row in named], y, "o", ms=4.5, mfc=LIGHT["card"], mec=LIGHT["ink"])
    axes.axvline(0, color=LIGHT["faint"], lw=0.8)
    axes.set_yticks(y, [row[0] for row in named], parse_math=False)  # names may hold dollars
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    edge = max([0.1, *(1.15 * max(abs(a), abs(b)) for _, a, b in named)])
    axes.set_xlim(-edge, edge)
    axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.set_xlabel("rank correlation with LPIPS-alex")
    return svg(axes, "Rank correlation of distance with what is known of the input")


def _paired(found: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """(name, exit 1's correlation, that of the mean) of everything known of the input."""
    names, first, mean = found["features"], found["exits"][0]["rank"], found["exits"][-1]["rank"]
    word = names["vector"][0].split()[0] if names["vector"] else "z"
    return [
        *zip(names["areas"], first["areas"], mean["areas"], strict=True),
        (CROWDED, first["crowdedness"], mean["crowdedness"]),
        *zip(names["vector"], first["vector"], mean["vector"], strict=True),
        (f"length of {word}", first["vector_norm"], mean["vector_norm"]),
    ]


def explained(exits: Sequence[Mapping[str, Any]]) -> Markup:
    """Share of the variance of log distance explained by design; dots: each early exit."""
    keys = [key for key in DESIGNS if exits[-1]["explained"][key] is not None][::-1]
    axes = new_axes(350, 57 + 27 * len(keys))
    y = np.arange(len(keys))
    shown = np.array([[max(e["explained"][key], 0.0) for key in keys] for e in exits])
    axes.barh(y, shown[-1], 0.55, color=LIGHT["ridge"], alpha=0.8)
    for row in shown[:-1]:
        axes.plot(row, y, "o", ms=4, mfc=LIGHT["card"], mec=LIGHT["ink"])
    axes.set_yticks(y, [DESIGNS[key] for key in keys])
    axes.set_ylim(-0.6, len(keys) - 0.4)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.set_xlim(0, max(0.1, 1.08 * float(shown.max(initial=0.0))))
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("variance of log LPIPS-alex explained")
    return svg(axes, "Share of the variance of log distance explained by ridge regression")


def by_difficulty(choices: Sequence[Mapping[str, Any]], max_lpips: float) -> Markup:
    """Share of the backbone's GMACs spent on fifths of the records, by measured difficulty."""
    axes = new_axes(350, 240)
    for choice in choices:
        values, name = choice["by_difficulty"], choice["policy"]
        x = np.arange(1, len(values) + 1)
        axes.plot(x, values, "o-", color=LIGHT[name], lw=2, ms=4.5, label=f"{name} router")
    axes.set_xticks(x, ["easiest", *[""] * (len(values) - 2), "hardest"][: len(values)])
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes.set_xlabel("fifths of the pictures by measured distance")
    axes.set_ylabel("of the backbone's GMACs")
    axes.legend(loc="upper left", frameon=False, fontsize=FONT - 0.5, labelcolor=LIGHT["ink"])
    return svg(axes, f"Compute spent by difficulty at max_lpips {max_lpips:g}")


def heat(found: Mapping[str, Any], marked: Sequence[int]) -> Markup:
    """Exit 1's distance over the plane of z; crosses at the `marked` steps."""
    steps, values = np.array(found["steps"]), np.array(found["lpips_alex"])
    axes = new_axes(350, 320)
    half = (steps[1] - steps[0]) / 2
    box = (steps[0] - half, steps[-1] + half) * 2
    drawn = axes.imshow(values, "cividis", origin="lower", extent=box, interpolation="nearest")
    columns, rows = np.meshgrid(steps[list(marked)], steps[list(marked)])
    for color, width in (("black", 3.2), ("white", 1.5)):  # to be seen on dark and on light
        axes.plot(columns.ravel(), rows.ravel(), "x", ms=5.5, mew=width, color=color)
    axes.set_xlabel("first direction of z")
    axes.set_ylabel("second direction of z")
    bar = axes.get_figure().colorbar(drawn, shrink=0.85)  # pyright: ignore
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=LIGHT["faint"], labelsize=FONT - 1, length=0)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    return svg(axes, "LPIPS-alex of exit 1 over a plane of z")
