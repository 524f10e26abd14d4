"""Street layouts drawn by a program: label maps with CamVid's classes, no photo to any of them.

One vanishing point; road, pavements and rows of houses run towards it; trees, poles, signs, cars
and people stand on the ground at random depths, the far ones first. For demonstrations of
models that were trained on real maps: these maps are simpler, and theirs are better.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "signsymbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
    "void",
)  # CamVid's eleven (Brostow et al., 2009) and void, in the order of its label maps
FINE = 4  # drawn so many times as large, then every FINE-th pixel is kept
NEAR, FAR = 1.0, 12.0  # depths of things that stand on the ground
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, WALKER, CYCLIST = range(11)


@dataclasses.dataclass(frozen=True)
class _View:
    """Where things at a place of the street appear, in pixels.

    Attributes:
        horizon: (x, y) of the vanishing point.
        height: of the picture.
        eye: the camera's height over the road, metres.
    """

    horizon: tuple[float, float]
    height: float
    eye: float = 1.5

    def at(self, across: float, up: float, depth: float) -> tuple[float, float]:
        """Of a point `across` metres to the right, `up` metres over the road."""
        scale = (self.height - self.horizon[1]) / self.eye / depth
        return self.horizon[0] + across * scale, self.horizon[1] + (self.eye - up) * scale


def draw_street(rng: np.random.Generator, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """A random street as a label map of `CLASSES`; the same for the same state of `rng`."""
    height, width = (FINE * side for side in size)
    picture = Image.new("L", (width, height), SKY)
    pen = ImageDraw.Draw(picture)
    view = _View((width * rng.uniform(0.4, 0.6), height * rng.uniform(0.42, 0.52)), height)
    left, right = -rng.uniform(2.5, 5.0), rng.uniform(2.5, 5.0)  # the road's edges
    kerb = rng.uniform(1.5, 3.0)
    _ground(pen, view, (left - kerb, left, right, right + kerb), width)
    for side, edge in ((-1, left - kerb), (1, right + kerb)):
        _row(pen, view, rng, side, edge)
    things = _things(rng, left, right, kerb)
    for depth, kind, across in sorted(things, reverse=True):
        _DRAWN[kind](pen, view, rng, across, depth)
    return np.asarray(picture)[FINE // 2 :: FINE, FINE // 2 :: FINE].copy()


def _ground(
    pen: ImageDraw.ImageDraw, view: _View, edges: tuple[float, float, float, float], width: float
) -> None:
    x, y = view.horizon
    pen.rectangle((0, y, width, view.height), PAVEMENT)
    near = [view.at(edge, 0, 0.2) for edge in edges[1:3]]
    pen.polygon([(x, y), *near], ROAD)


def _row(
    pen: ImageDraw.ImageDraw, view: _View, rng: np.random.Generator, side: int, edge: float
) -> None:
    """Houses along one side, far ones first; a gap shows a fence and trees."""
    ends = np.cumsum(rng.uniform(1.0, 5.0, 12)) + 0.6
    for far, near in zip(ends[:0:-1], ends[-2::-1], strict=True):
        kind = rng.choice([BUILDING, TREE, FENCE], p=[0.72, 0.2, 0.08])
        top = {BUILDING: rng.uniform(5, 13), TREE: rng.uniform(4, 8), FENCE: 1.6}[int(kind)]
        corners = [view.at(edge, up, depth) for up, depth in ((0, near), (top, near))]
        corners += [view.at(edge, up, depth) for up, depth in ((top, far), (0, far))]
        pen.polygon(corners, int(kind))
        if kind == TREE:
            _crown(pen, rng, view.at(edge, top, (near + far) / 2), corners[1], corners[2])
        if kind == BUILDING:  # its face towards us
            out = view.at(edge + side * 30, 0, near)[0]
            pen.polygon([corners[0], corners[1], (out, corners[1][1]), (out, corners[0][1])], 1)


def _crown(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, *places: tuple[float, float]
) -> None:
    """A ragged edge of leaves around some places."""
    spread = max(abs(places[-1][0] - places[-2][0]), 12.0) / 3
    for x, y in places:
        for _ in range(12):
            dx, dy = rng.normal(0, spread, 2)
            r = spread * rng.uniform(0.3, 0.8)
            pen.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), TREE)


def _things(
    rng: np.random.Generator, left: float, right: float, kerb: float
) -> list[tuple[float, str, float]]:
    """(depth, kind, metres across) of what stands on the ground."""
    depth = lambda: float(np.exp(rng.uniform(np.log(2.2 * NEAR), np.log(FAR))))  # noqa: E731
    edges = (left - kerb / 2, right + kerb / 2)
    found = [(depth(), "walker", float(rng.choice(edges))) for _ in range(rng.integers(0, 6))]
    found += [(depth(), "pole", float(rng.choice(edges))) for _ in range(rng.integers(1, 6))]
    found += [(depth(), "sign", float(rng.choice(edges))) for _ in range(rng.integers(0, 4))]
    lanes = (left + 1.1, left / 2, right / 2, right - 1.1)
    found += [(depth() + 1, "car", float(rng.choice(lanes))) for _ in range(rng.integers(0, 5))]
    found += [(depth(), "cyclist", float(rng.choice(lanes))) for _ in range(rng.integers(0, 3))]
    return found


def _box(
    view: _View, across: float, depth: float, wide: float, low: float, high: float
) -> tuple[float, float, float, float]:
    left, top = view.at(across - wide / 2, high, depth)
    right, bottom = view.at(across + wide / 2, low, depth)
    return left, top, right, bottom


def _car(pen: ImageDraw.ImageDraw, view: _View, _: object, across: float, depth: float) -> None:
    pen.rounded_rectangle(_box(view, across, depth, 1.8, 0.15, 0.95), view.height / depth / 12, CAR)
    pen.rounded_rectangle(_box(view, across, depth, 1.4, 0.7, 1.5), view.height / depth / 12, CAR)
    for shift in (-0.7, 0.7):
        pen.ellipse(_box(view, across + shift, depth, 0.3, 0, 0.5), CAR)


def _walker(
    pen: ImageDraw.ImageDraw,
    view: _View,
    rng: np.random.Generator,
    across: float,
    depth: float,
    kind: int = WALKER,
) -> None:
    tall = rng.uniform(1.55, 1.85)
    for shift in (-0.13, 0.13):
        pen.rectangle(_box(view, across + shift, depth, 0.2, 0, 0.85), kind)
    pen.rounded_rectangle(
        _box(view, across, depth, 0.55, 0.75, tall - 0.25), view.height / depth / 20, kind
    )
    pen.ellipse(_box(view, across, depth, 0.26, tall - 0.32, tall), kind)


def _cyclist(
    pen: ImageDraw.ImageDraw, view: _View, rng: np.random.Generator, across: float, depth: float
) -> None:
    pen.ellipse(_box(view, across, depth, 0.5, 0, 0.75), CYCLIST)
    _walker(pen, view, rng, across, depth, CYCLIST)


def _pole(pen: ImageDraw.ImageDraw, view: _View, rng: object, across: float, depth: float) -> None:
    pen.rectangle(_box(view, across, depth, 0.14, 0, 4.5), POLE)


def _sign(
    pen: ImageDraw.ImageDraw, view: _View, rng: np.random.Generator, across: float, depth: float
) -> None:
    pen.rectangle(_box(view, across, depth, 0.1, 0, 2.4), POLE)
    drawn = pen.ellipse if rng.uniform() < 0.5 else pen.rectangle
    drawn(_box(view, across, depth, 0.6, 2.1, 2.9), SIGN)


_DRAWN = {"car": _car, "walker": _walker, "cyclist": _cyclist, "pole": _pole, "sign": _sign}
