"""Moving a volume of features: head poses, grids of coordinates, trilinear look-up.

Coordinates are (x, y, z), each in [-1, 1] over the volume: x to the right, y down, z towards the
viewer. A pose is (yaw, pitch, roll, dx, dy, s): radians, shift in half picture sides, logarithm of
the scale. MegaPortraits (Drobyshev et al., 2022), section 3.1.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.poses import rotation

POSE = 6  # numbers


def grid(shape: tuple[int, ...]) -> Float[Array, "d h w 3"]:
    """Coordinates of the voxel centres of a volume of (depth, height, width); slice 0 is z = -1."""
    depth, height, width = (2 * (jnp.arange(n) + 0.5) / n - 1 for n in shape)
    z, y, x = jnp.meshgrid(depth, height, width, indexing="ij")
    return jnp.stack([x, y, z], axis=-1)


def posed(points: Float[Array, "d h w 3"], pose: Float[Array, "b 6"]) -> Float[Array, "b d h w 3"]:
    """Where points of the head are in the picture: ``e^s R p + (dx, dy, 0)``."""
    scaled = rotation(pose[:, :3]) * jnp.exp(pose[:, 5])[:, None, None]
    return jnp.einsum("bij,dhwj->bdhwi", scaled, points) + _shift(pose)


def unposed(
    points: Float[Array, "d h w 3"], pose: Float[Array, "b 6"]
) -> Float[Array, "b d h w 3"]:
    """Which points of the head are at these places of the picture: the inverse of `posed`."""
    scaled = rotation(pose[:, :3]) * jnp.exp(-pose[:, 5])[:, None, None]
    return jnp.einsum("bji,bdhwj->bdhwi", scaled, points[None] - _shift(pose))


def _shift(pose: Float[Array, "b 6"]) -> Float[Array, "b 1 1 1 3"]:
    shift = jnp.concatenate([pose[:, 3:5], jnp.zeros_like(pose[:, :1])], axis=1)
    return shift[:, None, None, None, :]


def look_up(
    volume: Float[Array, "b d h w c"], where: Float[Array, "b e i j 3"]
) -> Float[Array, "b e i j c"]:
    """Trilinear values of a volume at coordinates; outside it is continued by its border."""
    b, *shape, c = volume.shape
    sides = jnp.array(shape[::-1]).reshape(1, 1, 3)
    place = (where.astype(jnp.float32).reshape(b, -1, 3) + 1) / 2 * sides - 0.5
    place = jnp.clip(place, 0, sides - 1)
    low = jnp.clip(jnp.floor(place), 0, jnp.maximum(sides - 2, 0))
    part, low = place - low, low.astype(jnp.int32)
    flat, total = volume.reshape(b, -1, c), jnp.zeros((), volume.dtype)
    for corner in range(8):
        step = jnp.array([(corner >> axis) & 1 for axis in range(3)]).reshape(1, 1, 3)
        x, y, z = jnp.moveaxis(jnp.minimum(low + step, sides - 1), -1, 0)
        index = (z * shape[1] + y) * shape[2] + x
        weight = jnp.where(step == 1, part, 1 - part).prod(-1)
        values = jnp.take_along_axis(flat, index[..., None], axis=1)
        total = total + values * weight[..., None].astype(volume.dtype)
    return total.reshape(b, *where.shape[1:4], c)
