"""The page of a rendered folder: ``index.html``, self-contained, without scripts or requests."""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import urllib.parse
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np

MAX_CARDS = 500


@dataclasses.dataclass(frozen=True)
class Picture:
    """One rendered picture.

    Attributes:
        name: the stem of its file.
        exit: the exit that ran, 1..n.
        predicted: predicted LPIPS-alex of exits 1..n; NaN without a predictor.
        gmacs: GMACs spent on it.
        full_gmacs: GMACs of the backbone alone at its size.
    """

    name: str
    exit: int
    predicted: tuple[float, ...]
    gmacs: float
    full_gmacs: float

    @property
    def predicted_lpips(self) -> float | None:
        """Predicted LPIPS-alex of the exit that ran; None without a predictor."""
        value = self.predicted[self.exit - 1]
        return None if math.isnan(value) else value

    def record(self) -> dict[str, Any]:
        """Its line of ``manifest.jsonl``."""
        predicted = [None if math.isnan(p) else round(p, 6) for p in self.predicted]
        return {
            "name": self.name,
            "exit": self.exit,
            "predicted_lpips": predicted[self.exit - 1],
            "predicted": predicted,
            "gmacs": round(self.gmacs, 9),
        }


@dataclasses.dataclass(frozen=True)
class ExitLine:
    """One exit of the model, and how many pictures took it.

    Attributes:
        number: 1..n.
        name: of the exit; "backbone" for the last.
        tap: stage after which its branch leaves the trunk; None for the backbone.
        width: of its branch, as a share of the backbone's channels.
        gmacs: mean GMACs over the rendered sizes.
        share: `gmacs` over the backbone's own.
        count: pictures that took it.
    """

    number: int
    name: str
    tap: int | None
    width: float
    gmacs: float
    share: float
    count: int


def page(
    title: str,
    policy: str,
    pictures: Sequence[Picture],
    exits: Sequence[ExitLine],
    classes: Sequence[str] = (),
    colors: np.ndarray | None = None,
    setting: str = "",
) -> str:
    """The HTML of a rendered folder; pictures lie beside it, label maps in ``_labels/``.

    Args:
        title: heading, usually the name of the model.
        policy: what was asked for, "max_lpips 0.1".
        pictures: all of them, in the order of the page; the first 500 get a card.
        exits: all exits of the model.
        classes: names for the legend.
        colors: their colours, [classes, 3] uint8.
        setting: what calibration made of the policy, in words.
    """
    swatches = [] if colors is None else [tuple(map(int, c)) for c in colors]
    total = len(pictures)
    return render(
        "report.html",
        title=title,
        policy=policy,
        setting=setting,
        total=total,
        mean_gmacs=sum(p.gmacs for p in pictures) / max(total, 1),
        share=share_of_full(pictures),
        exits=exits,
        legend=list(zip(classes, swatches, strict=bool(swatches))),
        cards=pictures[:MAX_CARDS],
        num_exits=len(exits),
    )


def render(template: str, **context: Any) -> str:
    """A template of the package with these values, which are escaped; it may include others."""
    folder = importlib.resources.files("fiancee_jax")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figures"] = figures
    environment.filters["href"] = href
    return environment.get_template(template).render(context)


def share_of_full(pictures: Sequence[Picture]) -> float:
    """GMACs spent on the pictures over those of the backbone alone."""
    return sum(p.gmacs for p in pictures) / (sum(p.full_gmacs for p in pictures) or math.nan)


def figures(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant figures, never in powers of ten; a dash for none."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(decimals, 0)}f}"


def href(path: str) -> str:
    """A file's relative address: names may hold ``#``, ``?``, ``%`` or a colon."""
    return "./" + urllib.parse.quote(path)
