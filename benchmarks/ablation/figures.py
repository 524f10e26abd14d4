"""Figures of ablations that one looks at rather than reads."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.ablation.rows import Row, by_variant
from fiancee_jax.evaluation.replay import frontier


def draw(name: str, rows: list[Row], path: pathlib.Path) -> bool:
    """Draws the ablation `name` to a PNG, if it has a figure; says whether it has."""
    drawing = {"exits": _pareto, "bank_size": _sizes}.get(name)
    if drawing is None or not rows:
        return False
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    drawing(figure.subplots(), rows)
    figure.savefig(path, dpi=110)
    return True


def _pareto(axes: Axes, rows: list[Row]) -> None:
    """LPIPS over cost: a line for each tap, a point for each width, and the lower convex hull."""
    groups = [(first, *_over_seeds(group)) for first, group in by_variant(rows, ("tap", "width"))]
    for tap in sorted({first["tap"] for first, _, _ in groups}):
        mine = sorted((first["share"], mean, half) for first, mean, half in groups
                      if first["tap"] == tap)  # fmt: skip
        share, mean, half = np.array(mine).T
        axes.errorbar(share, mean, half, marker="o", capsize=2, label=f"tap {tap}")
    for first, mean, _ in groups:
        axes.annotate(f"{first['width']:.2g}", (first["share"], mean), (3, 4),
                      textcoords="offset points", fontsize=7)  # fmt: skip
    hull = frontier(*np.array([(first["share"], mean) for first, mean, _ in groups]).T)
    axes.plot(hull.cost, hull.distance, "k:", label="mixtures of two")
    axes.set(xlabel="share of the backbone's GMACs", ylabel="LPIPS-alex to the backbone")
    axes.legend()


def _sizes(axes: Axes, rows: list[Row]) -> None:
    """LPIPS over the number of entries."""
    groups = [(int(first["variant"].removeprefix("size-")), *_over_seeds(group))
              for first, group in by_variant(rows, ("variant",))]  # fmt: skip
    size, mean, half = np.array(sorted(groups)).T
    axes.errorbar(size, mean, half, marker="o", capsize=2)
    axes.set(xscale="log", xlabel="entries in the bank", ylabel="LPIPS-alex to the backbone")


def _over_seeds(group: list[Row]) -> tuple[float, float]:
    values = np.array([row["lpips"] for row in group])
    return float(values.mean()), float(np.ptp(values) / 2)
