"""The charts of the page: matplotlib figures as inline SVG whose colours follow the page's theme.

Figures are drawn without pyplot, in pixels, with the light colours of `PALETTE`; each of these
becomes a CSS variable in the SVG, so that one drawing serves a light and a dark page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# name: (light, dark); hues of Okabe and Ito (2008), told apart by the colour-blind too
PALETTE = {
    "ink": ("#16191e", "#e9edf3"),
    "faint": ("#5f6876", "#97a1b0"),
    "line": ("#dfe3e9", "#2a303a"),
    "card": ("#fffffe", "#191d24"),
    "learned": ("#0067a8", "#5fb0ee"),
    "guarantee": ("#7a4fb5", "#b794f0"),
    "lambda": ("#4aa3d9", "#9bd4f5"),
    "ridge": ("#00876a", "#35c9a3"),
    "ridge_products": ("#5b8c1a", "#a3d356"),
    "mixture": ("#848d9a", "#8f99a7"),
    "oracle": ("#16191d", "#e9edf2"),
    "students": ("#cf5c00", "#f28e3b"),
    "no_guides": ("#b8538f", "#e08cc0"),
    "zero_guides": ("#a98600", "#e3c64a"),
}
LIGHT = {name: light for name, (light, _) in PALETTE.items()}
WORDS = {
    "mixture": "blind mixture",
    "no_guides": "without guides",
    "zero_guides": "zeros for guides",
    "ridge": "ridge router",
    "ridge_products": "ridge with products",
    "lambda": "lambda rule",
    "learned": "learned router",
    "students": "students",
    "oracle": "oracle",
}
STYLES = {
    "lambda": (0, (4, 2)),
    "ridge_products": (0, (3, 1)),
    "no_guides": (0, (6, 2, 1, 2)),
    "zero_guides": (0, (1, 1.5)),
}
FONT = 12.0  # pixels
NARROW = 480  # pixels; below, two columns of names have to do

Curves = Mapping[str, Sequence[Mapping[str, float]]]


# --- quality against compute --------------------------------------------------------------------
def quality_compute(
    curves: Curves, promised: Sequence[tuple[float, float]] = (), *, width: int, height: int
) -> Markup:
    """Mean LPIPS-alex against share of the backbone's GMACs, a line for each policy.

    Args:
        curves: of `curves.curves`.
        promised: (share, LPIPS-alex) of calibrated routers.
        width, height: pixels.
    """
    axes = new_axes(width, height)
    for name in (name for name in WORDS if curves.get(name)):
        _curve(axes, name, curves[name])
    _exits(axes, curves.get("exits", ()))
    if promised:
        x, y = zip(*promised, strict=True)
        axes.plot(x, y, "D", ms=5, color=LIGHT["guarantee"], label="calibrated routers", zorder=5)
    _named(axes, curves)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes.set_xlabel("share of the backbone's GMACs")
    axes.set_ylabel("mean LPIPS-alex to the backbone")
    return svg(axes, "Mean LPIPS-alex against the share of the backbone's GMACs, by policy")


def _curve(axes: Axes, name: str, points: Sequence[Mapping[str, float]]) -> None:
    x, y = ([p[key] for p in points] for key in ("share", "lpips"))
    color, main = LIGHT[name], name in ("learned", "oracle", "mixture")
    if name == "students":
        axes.plot(x, y, "s", ms=6, color=color, label=WORDS[name], zorder=4)
        return
    style = STYLES.get(name, "-")
    axes.plot(x, y, color=color, lw=2.2 if main else 1.5, ls=style, label=WORDS[name], zorder=3)


def _exits(axes: Axes, points: Sequence[Mapping[str, float]]) -> None:
    """Circles with the exits' numbers, the backbone's left out: it is the corner."""
    for number, p in enumerate(points, start=1):
        axes.plot(
            p["share"], p["lpips"], "o", ms=5, mec=LIGHT["mixture"], mfc=LIGHT["card"], zorder=4
        )
        if number < len(points):
            axes.annotate(
                str(number),
                (p["share"], p["lpips"]),
                (0, 6),
                textcoords="offset points",
                ha="center",
                color=LIGHT["faint"],
                fontsize=FONT - 2,
            )


def _named(axes: Axes, curves: Curves) -> None:
    """The names of the policies, in the order in which their curves lie at half the compute."""
    at_half = {
        WORDS[name]: float(np.interp(0.5, *_by_share(points)))
        for name, points in curves.items()
        if name in WORDS and points
    }
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -at_half.get(labels[i], 0.0))
    figure: Any = axes.get_figure()
    legend = figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside upper left",
        ncols=2 if figure.bbox.width < NARROW else 4,
        frameon=False,
        fontsize=FONT - 0.5,
        handlelength=2.2,
        title="at half the compute, top to bottom",
        title_fontsize=FONT - 2,
        alignment="left",
    )
    legend.get_title().set_color(LIGHT["faint"])
    for text in legend.get_texts():
        text.set_color(LIGHT["ink"])


def _by_share(points: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.array([p[key] for p in points]) for key in ("share", "lpips"))
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


# --- estimates and promises -----------------------------------------------------------------------
def reliability(bins: Sequence[Mapping[str, float]], exit: int, highest: float) -> Markup:
    """Predicted against measured LPIPS-alex of one exit: means of bins, bars from p10 to p90."""
    axes = new_axes(230, 215)
    predicted, measured, p10, p90 = (
        [b[key] for b in bins] for key in ("predicted", "measured", "p10", "p90")
    )
    axes.plot([0, highest], [0, highest], color=LIGHT["faint"], lw=1, alpha=0.6)
    axes.vlines(predicted, p10, p90, color=LIGHT["learned"], lw=1.6, alpha=0.45)
    axes.plot(predicted, measured, "o-", color=LIGHT["learned"], ms=4, lw=1.4)
    axes.set_xlim(0, highest)
    axes.set_ylim(0, highest)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("predicted")
    axes.set_ylabel("measured")
    return svg(axes, f"Predicted against measured LPIPS-alex of exit {exit}")


def promises(found: Sequence[Mapping[str, Any]], promised: bool = True) -> Markup:
    """Observed share of broken thresholds against the promised one; thresholds by marker.

    Where nothing was `promised`, no half is shaded: there is nothing to pass.
    """
    axes = new_axes(340, 280)
    kept = [p for p in found if p["confidence"] is not None]
    top = 1.15 * max(
        [1 - p["confidence"] for p in kept] + [p["violations_interval"][1] for p in kept]
    )
    if promised:
        axes.fill_between([0, top], [0, top], [0, 0], color=LIGHT["guarantee"], alpha=0.1, lw=0)
    axes.plot([0, top], [0, top], color=LIGHT["guarantee"], lw=1)
    limits = sorted({p["threshold"] for p in kept})
    for i, limit in enumerate(limits):
        some = [p for p in kept if p["threshold"] == limit]
        shift = 0.014 * top * (i - (len(limits) - 1) / 2)
        x = np.array([1 - p["confidence"] for p in some]) + shift
        low, high = np.array([p["violations_interval"] for p in some]).T
        axes.vlines(x, low, high, color=LIGHT["ink"], lw=1, alpha=0.5)
        y = [p["violations"] for p in some]
        axes.plot(x, y, "osD^v"[i % 5], color=LIGHT["ink"], ms=5, label=f"max_lpips {limit:g}")
    axes.legend(loc="upper left", frameon=False, fontsize=FONT - 1, labelcolor=LIGHT["ink"])
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    word = "promised" if promised else "asked for"
    axes.set_xlabel(f"{word}: broken at most")
    axes.set_ylabel("observed: broken")
    return svg(axes, f"Observed share of pictures above the threshold against the one {word}")


# --- drawing ------------------------------------------------------------------------------------
def new_axes(width: int, height: int) -> Axes:
    """Axes with two thin spines, ready for `svg`."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LIGHT["line"])
    axes.tick_params(colors=LIGHT["faint"], labelsize=FONT - 1, color=LIGHT["line"], length=3)
    axes.xaxis.label.set(color=LIGHT["faint"], size=FONT)
    axes.yaxis.label.set(color=LIGHT["faint"], size=FONT)
    axes.patch.set_visible(False)
    return axes


def _pixels(number: re.Match[str]) -> str:
    """Hundredths of a pixel are enough."""
    return f"{float(number[0]):.2f}"


def svg(axes: Axes, title: str) -> Markup:
    """The figure of these axes as an SVG element that inherits the page's font and colours."""
    out = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts may have it
        axes.get_figure().savefig(out, format="svg", transparent=True, metadata=nothing)  # pyright: ignore
    text = out.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would rule the page
    text = re.sub(r' id="[a-z][a-zA-Z0-9.]*_\d+"', "", text)  # of groups: nobody refers to them
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", _pixels, tag[0]), text)
    for name, color in LIGHT.items():
        text = text.replace(color, f"var(--c-{name})")
    width = round(72 * axes.get_figure().get_size_inches()[0])  # pyright: ignore
    label = Markup('<svg role="img" aria-label="{}" style="max-width: {}px"').format(title, width)
    return label + Markup(re.sub(r'^<svg width="[^"]*" height="[^"]*"', "", text))
