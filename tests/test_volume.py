"""Poses, grids and trilinear look-up against NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fiancee_jax.models import volume

angles, shifts = st.floats(-1.5, 1.5), st.floats(-0.5, 0.5)
poses = st.tuples(angles, angles, angles, shifts, shifts, st.floats(-0.4, 0.4))


def pose(**changes):
    names = ("yaw", "pitch", "roll", "dx", "dy", "s")
    return jnp.array([[changes.get(name, 0.0) for name in names]], jnp.float32)


@pytest.mark.parametrize(
    ("change", "nose"),
    [
        ({}, (0, 0, 1)),
        ({"yaw": np.pi / 2}, (1, 0, 0)),  # to the right
        ({"pitch": np.pi / 2}, (0, 1, 0)),  # down
        ({"roll": np.pi / 2}, (0, 0, 1)),
        ({"dx": 0.3, "dy": -0.2, "s": np.log(2)}, (0.3, -0.2, 2)),
    ],
)
def test_where_the_nose_goes(change, nose):
    tip = jnp.array([0.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(volume.posed(tip, pose(**change))[0, 0, 0, 0], nose, atol=1e-6)


def test_roll_tilts_the_top_of_the_head():
    top = jnp.array([0.0, -1.0, 0.0]).reshape(1, 1, 1, 3)
    found = volume.posed(top, pose(roll=np.pi / 2))[0, 0, 0, 0]
    np.testing.assert_allclose(found, (1, 0, 0), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(poses)
def test_unposed_undoes_posed(numbers):
    given_pose = jnp.array([numbers], jnp.float32)
    points = volume.grid((2, 3, 2))
    moved = volume.posed(points, given_pose)
    back = [
        volume.unposed(moved[0, d, h, w].reshape(1, 1, 1, 3), given_pose).reshape(3)
        for d, h, w in ((0, 0, 0), (1, 2, 1))
    ]
    np.testing.assert_allclose(back, [points[0, 0, 0], points[1, 2, 1]], atol=1e-5)


def test_the_grid_has_the_centres_of_voxels():
    found = volume.grid((2, 4, 1))
    assert found.shape == (2, 4, 1, 3)
    np.testing.assert_allclose(found[0, 0, 0], (0, -0.75, -0.5))
    np.testing.assert_allclose(found[1, 3, 0], (0, 0.75, 0.5))


def test_looking_up_the_grid_gives_the_volume():
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    where = jnp.repeat(volume.grid((3, 4, 5))[None], 2, axis=0)
    np.testing.assert_allclose(
        volume.look_up(jnp.asarray(values), jnp.asarray(where)), values, atol=1e-5
    )


def test_look_up_is_trilinear_and_continued_by_the_border():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((1, 3, 4, 5, 2)).astype(np.float32)
    where = rng.uniform(-1.5, 1.5, (1, 2, 3, 4, 3)).astype(np.float32)
    sides = np.array([5, 4, 3])
    index = ((where.reshape(-1, 3) + 1) / 2 * sides - 0.5)[:, ::-1].T
    expected = [
        ndimage.map_coordinates(values[0, ..., c], index, order=1, mode="nearest") for c in (0, 1)
    ]
    found = np.asarray(volume.look_up(jnp.asarray(values), jnp.asarray(where))).reshape(-1, 2)
    np.testing.assert_allclose(found, np.stack(expected, -1), atol=1e-4)


def test_a_single_slice_can_be_looked_up():
    values = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2, 1)
    where = jnp.zeros((1, 1, 1, 1, 3))
    assert float(
        volume.look_up(jnp.asarray(values), jnp.asarray(where))[0, 0, 0, 0, 0]
    ) == pytest.approx(1.5)
