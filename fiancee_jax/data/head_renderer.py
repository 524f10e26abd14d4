"""Ray caster of rendered heads: deterministic, at any size, always on the CPU."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax.data.ground import GROUND
from fiancee_jax.data.head_identities import Identity
from fiancee_jax.data.head_materials import colour, mix, shade, wave
from fiancee_jax.data.head_parameters import Motion
from fiancee_jax.data.head_surfaces import Array, Scene, Vector, distance, kind
from fiancee_jax.poses import rotation

SAMPLES = 2  # rays a pixel, along each side
BLOCK = 4  # rays along each side of a bundle, which starts as one
NEAR, DEPTH = 0.95, 1.9  # where rays start, and how far they go
COARSE_STEPS, FINE_STEPS = 14, 13
OFFSETS = 0.006 * np.eye(4, 3, -1, dtype=np.float32)  # nowhere, right, down, near: for normals
REACH = 0.12  # how far from a surface others cast their shade on it
NEARBY = 0.05  # rays that end this near a surface show it
BACK = -0.04  # a step back at most, out of what a long step went into
CAUTION = 0.95  # share of the distance that a step goes: blended surfaces are nearer than they say


def project(points: Any, pose: Any) -> Any:
    """Where points of the head appear.

    Args:
        points: [n, 3], head coordinates.
        pose: [6].

    Returns:
        [n, 3]: x right and y down, -1 to 1 over the picture's shorter side; z to the viewer.
    """
    shift = jnp.stack([pose[3], pose[4], jnp.zeros_like(pose[3])])
    return jnp.exp(pose[5]) * points @ rotation(pose).T + shift[None]


def render(
    identities: Identity, motions: Motion, size: tuple[int, int], background: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Renders heads; compiles once for each size. Threads may share it.

    Args:
        identities: with a leading axis b.
        motions: with a leading axis b.
        size: (height, width), pixels; the head is as large as the shorter side says.
        background: True puts each identity's backdrop behind the head, False `GROUND`.

    Returns:
        Pictures [b, h, w, 3] uint8 and masks [b, h, w] uint8, 1 where the foreground covers half
        of a pixel or more.
    """
    leaves, tree = jax.tree.flatten((identities, motions))
    rows = np.hstack([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves]).astype(np.float32)
    layout = _Layout(tree, tuple(np.shape(leaf)[1:] for leaf in leaves))
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        found = [
            _picture(row, _trace(row, layout, tuple(size)), layout, tuple(size), background)
            for row in rows
        ]
    images, masks = zip(*found, strict=True)
    return np.stack(images), np.stack(masks)


class _Layout(NamedTuple):
    """How one row of numbers holds a tree of parameters; one argument goes to a device faster."""

    tree: Any
    shapes: tuple[tuple[int, ...], ...]

    def unpack(self, row: Array) -> Any:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        leaves = jnp.split(row, ends[:-1])
        return self.tree.unflatten(
            [leaf.reshape(shape) for leaf, shape in zip(leaves, self.shapes, strict=True)]
        )


class _Hits(NamedTuple):
    """Where the rays ended. Each a picture of rays, `SAMPLES` for a pixel along each side.

    Attributes:
        body: in body coordinates.
        normal: unit normals there.
        kind: which surface it is, see `head_surfaces.kind`.
        opened: 0 in hollows, 1 where nothing stands between it and the light.
        hit: whether there is a surface at all.
    """

    body: Vector
    normal: Vector
    kind: Array
    opened: Array
    hit: Array


@functools.partial(jax.jit, static_argnums=(1, 2))
def _trace(row: Array, layout: _Layout, size: tuple[int, int]) -> _Hits:
    """Casts the rays; apart from the colours, which would make XLA repeat it for each channel."""
    who, motion = layout.unpack(row)
    scene = _scene(who, motion)
    coarse = tuple(-(-SAMPLES * n // BLOCK) for n in size)
    pixel = 2 * jnp.exp(-motion.pose[5]) / (SAMPLES * min(size))
    bundle = 0.71 * (BLOCK - 1) * pixel
    depth = march(scene, _rays(motion, size, BLOCK), jnp.zeros(coarse), bundle, COARSE_STEPS)
    fine = _rays(motion, size, 1)
    depth = depth.repeat(BLOCK, 0).repeat(BLOCK, 1)[: fine.x.shape[0], : fine.x.shape[1]]
    depth = march(scene, fine, depth, 0.0, FINE_STEPS)
    body = Vector(fine.x, fine.y, NEAR - depth)
    here, *ahead = jax.lax.map(lambda off: distance(scene, body + colour(off)), OFFSETS)
    normal = Vector(*(there - here for there in ahead)).unit()
    towards = (normal + colour(who.light.direction)).unit()
    opened = jnp.clip(distance(scene, body + towards * REACH) * (1 / REACH), 0, 1)
    return _Hits(body, normal, kind(scene, body), opened, (here < NEARBY) & (depth < DEPTH))


def _rays(motion: Motion, size: tuple[int, int], width: int) -> Vector:
    """Body coordinates of rays at z = 0, each the middle of width x width fine ones."""
    y, x = jnp.indices([-(-SAMPLES * n // width) for n in size], jnp.float32)
    x, y = (
        ((v + 0.5) * width / SAMPLES - n / 2) * (2 / min(size))
        for v, n in ((x, size[1]), (y, size[0]))
    )
    scale = jnp.exp(-motion.pose[5])
    return Vector((x - motion.pose[3]) * scale, (y - motion.pose[4]) * scale, 0 * x)


def _scene(who: Identity, motion: Motion) -> Scene:
    jaw, smile, *others = (motion.expression[i] for i in range(8))
    return Scene(
        who,
        rotation(motion.pose),
        jaw,
        smile,
        brows=(others[0], others[1]),
        lids=(others[2], others[3]),
        gaze=(others[4], others[5]),
    )


def march(scene: Scene, rays: Vector, depth: Array, bundle: Any, steps: int) -> Array:
    """Sphere tracing along -z, a fixed number of steps.

    Args:
        scene: what is shown.
        rays: x and y of the rays in body coordinates.
        depth: where they start, below `NEAR`.
        bundle: half width of the bundles whose middles the rays are: none of a bundle hits.
        steps: how many.

    Returns:
        The depths reached, at most `DEPTH`.
    """

    def advance(_: Any, depth: Array) -> Array:
        free = distance(scene, Vector(rays.x, rays.y, NEAR - depth))
        return jnp.minimum(depth + jnp.maximum(CAUTION * free - bundle, BACK), DEPTH)

    return jax.lax.fori_loop(0, steps, advance, depth)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _picture(
    row: Array, hits: _Hits, layout: _Layout, size: tuple[int, int], background: bool
) -> tuple[Array, Array]:
    """Mean of each pixel's samples, over what is behind; and the mask."""
    who, motion = layout.unpack(row)
    shown = shade(_scene(who, motion), hits.body, hits.normal, hits.kind, hits.opened)
    h, w = size

    def mean(v: Array) -> Array:
        return v.reshape(h, SAMPLES, w, SAMPLES).mean((1, 3))

    cover = mean(hits.hit.astype(jnp.float32))
    mask = cover >= 0.5
    levels = (jnp.sqrt(jnp.clip(v, 0, 1)) * hits.hit for v in (shown.x, shown.y, shown.z))
    front = jnp.stack([mean(v) for v in levels], -1)
    if background:
        behind = _backdrop(who, size)
    else:
        behind = jnp.full((h, w, 3), GROUND / 255)
        front, cover = front * mask[..., None], cover * mask
    image = front + behind * (1 - cover[..., None])
    return jnp.round(255 * image).astype(jnp.uint8), mask.astype(jnp.uint8)


def _backdrop(who: Identity, size: tuple[int, int]) -> Array:
    b, phase = who.backdrop, who.paint.phase
    y, x = jnp.indices(size, jnp.float32)
    x, y = (2 * (x + 0.5) - size[1]) / min(size), (2 * (y + 0.5) - size[0]) / min(size)
    share = 0.5 + 0.35 * (x * b.direction[0] + y * b.direction[1])
    share = share + b.pattern * wave(1.3 * x + phase[0] + 0.4 * wave(0.9 * y)) * wave(
        1.1 * y + phase[1]
    )
    got = mix(colour(b.near), colour(b.far), jnp.clip(share, 0, 1))
    return jnp.sqrt(jnp.stack([got.x, got.y, got.z], -1))
