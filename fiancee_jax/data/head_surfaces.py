"""Surfaces of rendered heads: a signed distance in head and body coordinates.

Head coordinates: x to the right, y down, z towards the viewer the head faces; the picture's half
side is 1. The body (neck, shoulders) shifts and scales with the head but does not turn.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fiancee_jax.data.head_hair import FAR, Hair
from fiancee_jax.data.head_identities import Glasses, Identity, Shape

Array = Any  # of one shape throughout: one number for each ray
JAW_DROP = 0.13  # how far the chin moves down as the mouth opens fully
EYE_RADIUS = 0.1
SKIN, EYE, HAIR, RIMS, CLOTHES = range(5)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("x", "y", "z"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Vector:
    """Points or directions as three arrays: faster code than one of [n, 3]."""

    x: Array
    y: Array
    z: Array

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.x + other.x, self.y + other.y, self.z + other.z)

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.x - other.x, self.y - other.y, self.z - other.z)

    def __mul__(self, factor: Array) -> Vector:
        return Vector(self.x * factor, self.y * factor, self.z * factor)

    def times(self, other: Vector) -> Vector:
        """Componentwise product."""
        return Vector(self.x * other.x, self.y * other.y, self.z * other.z)

    def dot(self, other: Vector) -> Array:
        """Inner product."""
        return self.x * other.x + self.y * other.y + self.z * other.z

    def unit(self) -> Vector:
        """The same direction at length 1."""
        return self * jax.lax.rsqrt(self.dot(self) + 1e-12)

    def mirrored(self) -> Vector:
        """The point on the right half of the head: both halves are one surface."""
        return Vector(jnp.abs(self.x), self.y, self.z)


class Scene(NamedTuple):
    """What a picture shows. Scalars, and turn [3, 3]: body coordinates = turn @ head's."""

    who: Identity
    turn: Array
    jaw: Array
    smile: Array
    brows: tuple[Array, Array]
    lids: tuple[Array, Array]
    gaze: tuple[Array, Array]


class Parts(NamedTuple):
    """Signed distances to what a ray can hit; eyes is below 0 where the skin is an eye's."""

    skin: Array
    hair: Array
    rims: Array
    clothes: Array
    eyes: Array

    @property
    def nearest(self) -> Array:
        """Distance to whichever is nearest."""
        return jnp.minimum(jnp.minimum(self.skin, self.hair), jnp.minimum(self.rims, self.clothes))


def ellipsoid(p: Vector, centre: tuple[Any, ...], radii: tuple[Any, ...]) -> Array:
    """Distance to an ellipsoid, exact to first order near its surface."""
    rx, ry, rz = (1 / r for r in radii)
    x, y, z = (p.x - centre[0]) * rx, (p.y - centre[1]) * ry, (p.z - centre[2]) * rz
    size = x * x + y * y + z * z + 1e-6
    slope = (x * rx) ** 2 + (y * ry) ** 2 + (z * rz) ** 2 + 1e-6
    return (size - jnp.sqrt(size)) * jax.lax.rsqrt(slope)


def capsule(p: Vector, start: tuple[Any, ...], end: tuple[Any, ...], radius: Any) -> Array:
    """Distance to a line segment with round ends."""
    way = Vector(*(b - a for a, b in zip(start, end, strict=True)))
    off = p - Vector(*start)
    share = jnp.clip(off.dot(way) / way.dot(way), 0, 1)
    rest = off - way * share
    return jnp.sqrt(rest.dot(rest)) - radius


def bump(p: Vector, centre: tuple[Any, ...], radii: tuple[Any, ...]) -> Array:
    """1 in the middle, falling smoothly to 0 at an ellipsoid's surface."""
    x, y, z = ((v - c) / r for v, c, r in zip((p.x, p.y, p.z), centre, radii, strict=True))
    return jnp.maximum(1 - (x * x + y * y + z * z), 0) ** 2


def blend(a: Array, b: Array, width: float) -> Array:
    """Smooth minimum: joins two surfaces with a fillet of that width."""
    near = jnp.maximum(width - jnp.abs(a - b), 0)
    return jnp.minimum(a, b) - near * near * (0.25 / width)


def wave(t: Array) -> Array:
    """About sin(2 pi t), of arithmetic alone."""
    u = t - jnp.floor(t) - 0.5
    return u * (16 * jnp.abs(u) - 8)


def to_head(turn: Array, p: Vector) -> Vector:
    """Body coordinates to head coordinates: the transpose of turn."""
    return Vector(*(p.x * turn[0, i] + p.y * turn[1, i] + p.z * turn[2, i] for i in range(3)))


def mouth(scene: Scene, p: Vector) -> tuple[Array, Array, Array]:
    """Where a point is in the mouth.

    Returns:
        Position along it (-1 and 1 at its corners), and how far the point is below the edge of the
        upper lip and above the edge of the lower one.
    """
    shape = scene.who.shape
    across = p.x / (0.135 * shape.mouth * (1 + 0.16 * scene.smile - 0.2 * scene.jaw))
    inside = jnp.maximum(1 - across * across, 0)
    curve = 0.015 + 0.055 * scene.smile
    line = 0.375 + 0.04 * (shape.chin - 1) - curve * jnp.minimum(across * across, 2)
    gap = JAW_DROP * 0.85 * scene.jaw
    return across, p.y - line + 0.2 * gap * inside, line + gap * inside - p.y


def _skull(scene: Scene, p: Vector) -> Array:
    """Cranium, face and jaw."""
    s = scene.who.shape
    drop = JAW_DROP * scene.jaw
    cranium = ellipsoid(p, (0.0, -0.17, -0.07), (0.41 * s.width, 0.44, 0.5 * s.depth))
    face = ellipsoid(p, (0.0, 0.14, 0.1), (0.35 * s.face, 0.43, 0.34))
    centre = (0.0, 0.12 + 0.34 * s.chin + drop, 0.23 - 0.2 * drop)
    chin = ellipsoid(p, centre, (0.18 * s.jaw, 0.13, 0.15))
    return blend(blend(cranium, face, 0.12), chin, 0.2)


def _nose(s: Shape, p: Vector) -> Array:
    low, out = 0.1 + 0.11 * s.nose_length, 0.41 + 0.1 * s.nose_size
    bridge = capsule(p, (0.0, -0.04, 0.44), (0.0, low, out), 0.037 * s.nose_width)
    ball = ellipsoid(p, (0.0, low, out - 0.005), (0.056 * s.nose_width, 0.05, 0.06))
    side = (0.055 * s.nose_width, low + 0.015, out - 0.07)
    wings = ellipsoid(p.mirrored(), side, (0.036, 0.036, 0.05))
    return blend(blend(bridge, ball, 0.05), wings, 0.04)


def _relief(scene: Scene, p: Vector) -> Array:
    """How far soft features stand out of the face; negative for the eye sockets and the mouth."""
    s, q = scene.who.shape, p.mirrored()
    raised = 0.02 * scene.smile
    cheeks = bump(q, (0.2, 0.19 - 2 * raised, 0.33), (0.16, 0.15, 0.22))
    ridge = bump(q, (0.14 * s.eye_gap, -0.105, 0.42), (0.16, 0.075, 0.16))
    sockets = bump(q, (0.165 * s.eye_gap, 0.0, 0.43), (0.13, 0.1, 0.16))
    across, below, above = mouth(scene, p)
    full = jnp.maximum(1 - across * across, 0) * (p.z > 0.2)
    upper = jnp.maximum(1 - (below + 0.02) ** 2 * 900, 0)
    lower = jnp.maximum(1 - (above + 0.025) ** 2 * 650, 0)
    hollow = jnp.clip(jnp.minimum(below, above) * 14, 0, 1) * (p.z > 0.2)
    lips = 0.022 * s.lips * full * jnp.maximum(upper, lower) - 0.07 * hollow
    return (0.03 * s.cheeks + raised) * cheeks + 0.03 * s.brow * ridge - 0.055 * sockets + lips


def _hair(h: Hair, s: Shape, p: Vector) -> Array:
    """A cap and a curtain, with a window cut out for the face, and a bun or a tail."""
    v = h.volume
    cap = ellipsoid(p, (0.0, -0.18, -0.08), (0.41 * s.width + v, 0.44 + v, 0.5 * s.depth + v))
    fall = Vector(p.x, jnp.maximum(jnp.abs(p.y - 0.1) - 0.35, 0), p.z)
    sides = (0.43 * s.width + v + h.flare * jnp.maximum(p.y, 0), 0.4, 0.4 + v)
    curtain = ellipsoid(fall, (0.0, 0.0, -0.12), sides) + FAR * (1 - h.curtain)
    curls = wave(p.x * h.curl_rate + 0.2 * wave(p.y * 3)) * wave(p.y * h.curl_rate)
    curls = (curls + wave(p.z * h.curl_rate)) * h.curl
    groove = 0.03 * jnp.maximum(1 - ((p.x - h.part) / 0.03) ** 2, 0) * h.parted
    body = blend(cap, curtain, 0.1) + curls + groove * (p.y < -0.2)
    lift = jnp.minimum(p.y - h.hairline, 0)
    throat = 0.6 * jnp.maximum(p.y - 0.3, 0)  # deeper below the chin
    front = Vector(p.x - 0.4 * h.part * h.parted, lift, p.z + throat)
    window = ellipsoid(front, (0.0, 0.0, 0.6), (h.window, 0.34, 0.5))
    body = -blend(-body, window + 0.5 * curls, 0.03)
    body = -blend(-body, h.length - p.y + 0.4 * (p.z + 0.1) * h.slant, 0.04)
    extra = capsule(p, tuple(h.extra_start), tuple(h.extra_end), h.extra_radius)
    return jnp.minimum(body, extra + 0.6 * curls)


def _rims(g: Glasses, s: Shape, p: Vector) -> Array:
    """Two rounded frames, a bridge and two temples."""
    q = p.mirrored()
    bent = q.z - 0.5 + 0.5 * q.x * q.x
    side, up = jnp.abs(q.x - 0.17 * s.eye_gap) - g.width, jnp.abs(q.y - 0.02) - g.height
    corner = jnp.sqrt(jnp.maximum(side, 0) ** 2 + jnp.maximum(up, 0) ** 2)
    edge = corner + jnp.minimum(jnp.maximum(side, up), 0) - g.rounding
    frame = jnp.sqrt(edge * edge + bent * bent)
    inner = 0.17 * s.eye_gap - g.width - g.rounding
    bridge = jnp.sqrt(jnp.maximum(q.x - inner, 0) ** 2 + (q.y + 0.01) ** 2 + bent * bent)
    hinge = 0.17 * s.eye_gap + g.width + g.rounding
    ear = (0.42 * s.width, -0.02, -0.05)
    temple = capsule(q, (hinge, -0.02, 0.5 - 0.5 * hinge * hinge), ear, 0.0)
    return jnp.minimum(jnp.minimum(frame, bridge), temple) - g.thickness


def parts(scene: Scene, body: Vector) -> Parts:
    """Signed distances to all surfaces at points in body coordinates."""
    s, p = scene.who.shape, to_head(scene.turn, body)
    q = p.mirrored()
    face = _skull(scene, p) - _relief(scene, p)
    face = blend(face, _nose(s, p), 0.05)
    ears = ellipsoid(q, (0.415 * s.width, 0.06, -0.03), (0.045, 0.12 * s.ears, 0.07 * s.ears))
    nape = tuple(0.22 * scene.turn[i, 1] - 0.13 * scene.turn[i, 2] for i in range(3))
    neck = capsule(body, nape, (0.0, 1.05, -0.18), 0.2 * s.neck)
    shoulders = ellipsoid(body, (0.0, 1.29, -0.2), (0.98, 0.5, 0.4))
    eyes = ellipsoid(q, (0.165 * s.eye_gap, 0.01, 0.3), (EYE_RADIUS,) * 3)
    skin = blend(jnp.minimum(face, eyes), ears, 0.03)
    return Parts(
        skin=blend(skin, neck, 0.06),
        hair=_hair(scene.who.hair, s, p),
        rims=_rims(scene.who.glasses, s, p),
        clothes=blend(shoulders, neck + 0.1, 0.14),
        eyes=eyes - face,
    )


def distance(scene: Scene, body: Vector) -> Array:
    """Signed distance to the nearest surface."""
    return parts(scene, body).nearest


def kind(scene: Scene, body: Vector) -> Array:
    """Which surface is nearest: `SKIN`, `EYE`, `HAIR`, `RIMS` or `CLOTHES`, int32."""
    found = parts(scene, body)
    others = jnp.minimum(found.skin, found.hair)
    got = jnp.where(found.eyes < 0, EYE, SKIN)
    got = jnp.where(found.hair < found.skin, HAIR, got)
    got = jnp.where(found.clothes < others, CLOTHES, got)
    return jnp.where(found.rims < jnp.minimum(others, found.clothes), RIMS, got)
