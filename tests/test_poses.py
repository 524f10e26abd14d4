"""Turns of heads are rotations, applied in the order that is said."""

import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.poses import rotation


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_they_are_rotations_of_any_shape_of_poses(shape):
    poses = jnp.asarray(np.random.default_rng(0).uniform(-1.5, 1.5, (*shape, 6)), jnp.float32)
    found = np.asarray(rotation(poses)).reshape(-1, 3, 3)
    same = np.broadcast_to(np.eye(3), found.shape)
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), same, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-5)


def test_yaw_comes_first_and_roll_last():
    a = 0.3, -0.7, 1.1
    (cy, cp, cr), (sy, sp, sr) = np.cos(a), np.sin(a)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    np.testing.assert_allclose(rotation(jnp.array(a)), roll @ pitch @ yaw, atol=1e-6)
