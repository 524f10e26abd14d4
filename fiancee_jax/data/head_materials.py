"""Colours and shading of rendered heads: skin, eyes, mouth, hair, clothes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fiancee_jax.data.head_surfaces import (
    CLOTHES,
    EYE,
    EYE_RADIUS,
    HAIR,
    JAW_DROP,
    RIMS,
    Array,
    Scene,
    Vector,
    mouth,
    to_head,
    wave,
)

Colour = Vector  # linear red, green, blue as x, y, z


def colour(values: Any) -> Colour:
    """The three numbers of a parameter as a `Colour` of scalars."""
    return Vector(values[0], values[1], values[2])


def mix(a: Colour, b: Colour, share: Array) -> Colour:
    """a where share is 0, b where it is 1."""
    return Vector(*(x + (y - x) * share for x, y in ((a.x, b.x), (a.y, b.y), (a.z, b.z))))


def step(value: Array, width: float) -> Array:
    """0 below zero, 1 above, with a soft edge of that width."""
    return jnp.clip(value * (1 / width) + 0.5, 0, 1)


def grain(p: Vector, rate: float, phase: Any) -> Array:
    """Irregular texture fixed to the head, about -1 to 1."""
    x, y, z = p.x * rate + phase[0], p.y * rate + phase[1], p.z * rate + phase[2]
    first = wave(x + 0.37 * y + 0.4 * wave(0.61 * z)) * wave(y - 0.43 * z + 0.4 * wave(0.53 * x))
    return 0.6 * first + 0.4 * wave(1.9 * z + 0.7 * x + 0.5 * wave(1.3 * y))


def skin(scene: Scene, p: Vector) -> Colour:
    """Skin with red cheeks, freckles, brows, a beard, and the mouth."""
    paint, q = scene.who.paint, p.mirrored()
    tone = colour(paint.skin)
    front = step(p.z - 0.15, 0.2)
    red = jnp.maximum(1 - ((q.x - 0.2) / 0.14) ** 2 - ((p.y - 0.2) / 0.12) ** 2, 0) * front
    nose = jnp.maximum(1 - (p.x**2 + (p.y - 0.22) ** 2) / 0.008, 0) * front
    got = mix(tone, Vector(tone.x, tone.y * 0.6, tone.z * 0.55), paint.redness * (red + 0.4 * nose))
    got = got * (1 + 0.05 * grain(p, 6.0, paint.phase))
    spots = step(grain(p, 17.0, paint.phase) - 0.45, 0.15) * step(0.1 - jnp.abs(p.y - 0.14), 0.08)
    got = mix(
        got, Vector(tone.x * 0.62, tone.y * 0.48, tone.z * 0.4), paint.freckles * spots * front
    )
    hair = colour(paint.hair) * (0.8 + 0.4 * grain(p, 25.0, paint.phase))
    got = mix(got, hair, paint.beard * _beard(scene, p))
    got = mix(got, hair, paint.brows * _brows(scene, p) * front)
    return _mouth(scene, p, got)


def _beard(scene: Scene, p: Vector) -> Array:
    """Cheeks below the ears, the upper lip and the chin, but not the mouth."""
    across, below, above = mouth(scene, p)
    height = (below - above) / (0.13 + below + above)
    clear = step((across / 1.25) ** 2 + height * height - 1.1, 0.5)
    upper = 0.31 + 0.25 * step(0.1 - p.z, 0.3) - 0.1 * jnp.abs(p.x)
    lower = 0.64 + JAW_DROP * scene.jaw
    return clear * step(p.y - upper, 0.12) * step(lower - p.y, 0.1) * step(p.z - 0.05, 0.2)


def _brows(scene: Scene, p: Vector) -> Array:
    s = scene.who.shape
    raised = jnp.where(p.x < 0, scene.brows[0], scene.brows[1])
    along = (jnp.abs(p.x) - 0.175 * s.eye_gap) / 0.115
    line = -0.125 - 0.05 * raised + 0.03 * along * along - 0.02 * along * raised
    thick = 0.026 * (1 - 0.35 * along)
    return step(1 - along * along, 0.4) * step(thick - jnp.abs(p.y - line), 0.02)


def _mouth(scene: Scene, p: Vector, around: Colour) -> Colour:
    """Lips, and between them teeth and tongue in the dark."""
    tone, s = colour(scene.who.paint.skin), scene.who.shape
    across, below, above = mouth(scene, p)
    front, full = step(p.z - 0.2, 0.05), jnp.maximum(1 - across * across, 0)
    upper, lower = 0.045 * s.lips * full + 0.008, 0.055 * s.lips * full + 0.008
    lips = step(jnp.minimum(below + upper, above + lower), 0.012) * step(1 - jnp.abs(across), 0.1)
    got = mix(around, Vector(tone.x * 0.8, tone.y * 0.42, tone.z * 0.45), 0.85 * lips * front)
    seam = step(0.007 - jnp.abs(jnp.minimum(below, above)), 0.008) * step(full - 0.05, 0.1) * front
    got = mix(got, got * 0.35, seam)
    tongue = step(0.045 - above, 0.03) * step(0.6 - jnp.abs(across), 0.3)
    inside = mix(Vector(0.05, 0.012, 0.012), Vector(0.35, 0.1, 0.1), 0.8 * tongue)
    teeth = step(0.035 - below, 0.01) * step(0.75 - jnp.abs(across), 0.2)
    inside = mix(inside, Vector(0.8, 0.76, 0.68), teeth)
    return mix(got, inside, step(jnp.minimum(below, above), 0.01) * step(full - 0.05, 0.1) * front)


def eye(scene: Scene, p: Vector) -> Colour:
    """Eyeballs between their lids: white, iris, pupil, a glint and lashes."""
    s, paint = scene.who.shape, scene.who.paint
    left, centre = p.x < 0, 0.165 * s.eye_gap
    x = jnp.where(left, p.x + centre, p.x - centre)
    y = p.y - 0.01
    closed = jnp.where(left, scene.lids[0], scene.lids[1])
    along = x / (0.088 * s.eye_size)
    room = jnp.maximum(1 - along * along, 0) * s.eye_size
    top, bottom = room * (-0.052 + 0.078 * closed), room * 0.034
    opening = jnp.minimum(y - top, bottom - y)
    away = (x - 0.055 * scene.gaze[0]) ** 2 + (y - 0.022 * scene.gaze[1] + 0.004) ** 2
    away = jnp.sqrt(away) / EYE_RADIUS
    got = mix(Vector(0.78, 0.75, 0.72), colour(paint.iris), step(0.37 - away, 0.06))
    got = mix(
        got,
        Vector(0.0, 0.0, 0.0),
        jnp.maximum(step(0.17 - away, 0.05), 0.7 * step(0.03 - jnp.abs(away - 0.37), 0.04)),
    )
    glint = (x - 0.055 * scene.gaze[0] - 0.012) ** 2 + (y - 0.022 * scene.gaze[1] + 0.016) ** 2
    got = mix(got, Vector(1.0, 1.0, 1.0), step(0.008 - jnp.sqrt(glint), 0.006))
    got = mix(colour(paint.skin) * 0.85, got * step(y - top + 0.005, 0.04), step(opening, 0.01))
    lashes = step(0.009 - jnp.abs(y - top), 0.01) * step(room - 0.1, 0.2)
    return mix(got, Vector(0.02, 0.015, 0.012), 0.9 * lashes)


def strands(scene: Scene, p: Vector) -> tuple[Array, Vector]:
    """Light and dark strands (about -1 to 1), and the direction that they run in."""
    h, phase = scene.who.hair, scene.who.paint.phase
    sideways = Vector(p.y + 0.35, h.part - p.x, 0.0 * p.z)
    backwards = Vector(0.0 * p.x, p.z + 0.1, -p.y - 0.1)
    along = mix(sideways, backwards, h.flow).unit()
    across = p.z + (p.x - p.z) * h.flow + 0.15 * wave(p.y * 1.3 + phase[0])
    fine = wave(across * 23 + 0.6 * wave(p.y * 4 + phase[1])) + wave(across * 41 + phase[2])
    return 0.3 * fine + 0.4 * wave(across * 9.0 + wave(p.y * 2)), along


def clothes(scene: Scene, body: Vector) -> Colour:
    """Plain or striped cloth."""
    paint = scene.who.paint
    stripe = step(wave(body.y * paint.stripes + 0.1 * body.x), 0.3)
    return mix(colour(paint.clothes), colour(paint.pattern), stripe * (paint.stripes > 0))


def shade(scene: Scene, body: Vector, normal: Vector, kind: Array, opened: Array) -> Colour:
    """Linear colour of what the rays hit.

    Args:
        scene: what is shown.
        body, normal: where, and the unit normals there, in body coordinates.
        kind: which surface, see `head_surfaces.kind`.
        opened: 0 in hollows, 1 where nothing stands between it and the light.
    """
    light, paint, p = scene.who.light, scene.who.paint, to_head(scene.turn, body)
    in_hair, (tone, along) = (kind == HAIR) * 1.0, strands(scene, p)
    hair = colour(paint.hair) * (1 + 0.45 * tone)
    surface = mix(skin(scene, p), eye(scene, p), (kind == EYE) * step(p.z - 0.2, 0.05))
    surface = mix(mix(surface, hair, in_hair), clothes(scene, body), kind == CLOTHES)
    surface = mix(surface, colour(paint.rims), kind == RIMS)
    towards, opened = colour(light.direction), 0.25 + 0.75 * opened
    half = (towards + Vector(0.0, 0.0, 1.0)).unit()
    gleam = jnp.maximum(normal.dot(half), 0) ** 16 * 0.12
    gloss = (1 - along.dot(to_head(scene.turn, half)) ** 2) ** 8 * (0.08 + 0.08 * tone)
    shine = mix(colour([gleam] * 3), (hair * 2.0 + colour([0.1] * 3)) * gloss, in_hair)
    direct = jnp.maximum(normal.dot(towards) * 0.8 + 0.2, 0) * opened
    around = colour(light.ambient) * ((0.7 - 0.3 * normal.y) * (0.4 + 0.6 * opened))
    lit = colour(light.colour) * direct
    return surface.times(lit + around) + shine.times(lit)
