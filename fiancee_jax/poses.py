"""Head poses: (yaw, pitch, roll, dx, dy, s), radians, half picture sides, logarithm of the scale.

Coordinates are x to the right, y down, z towards the viewer; a head faces the viewer at pose 0.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def rotation(pose: Any) -> Float[Array, "... 3 3"]:
    """``Rz(roll) Rx(pitch) Ry(yaw)`` of [..., 3 or more]: the nose goes right, down, tilts."""
    yaw, pitch, roll = pose[..., 0], pose[..., 1], pose[..., 2]
    zero, one = jnp.zeros_like(yaw), jnp.ones_like(yaw)

    def matrix(*rows: Any) -> Array:
        return jnp.stack(rows, -1).reshape(*yaw.shape, 3, 3)

    c, s = jnp.cos(yaw), jnp.sin(yaw)
    about_y = matrix(c, zero, s, zero, one, zero, -s, zero, c)
    c, s = jnp.cos(pitch), jnp.sin(pitch)
    about_x = matrix(one, zero, zero, zero, c, s, zero, -s, c)
    c, s = jnp.cos(roll), jnp.sin(roll)
    about_z = matrix(c, -s, zero, s, c, zero, zero, zero, one)
    return about_z @ about_x @ about_y
