"""The identity network: its size, unit vectors, pictures of other sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.models import identity_net
from fiancee_jax.models.identity_net import embed, seen_size


@pytest.fixture(scope="module")
def params():
    return identity_net.initial(np.random.default_rng(0))


def pictures(h=32, w=32):
    return np.random.default_rng(1).uniform(-1, 1, (3, h, w, 3)).astype(np.float32)


def test_golden_parameter_count(params):
    planes = ((3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128))
    units = sum(9 * i * o + 2 * o for i, o in planes)  # kernels, and the norms' scale and bias
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(params)) == units + 128 * 64 + 64


def test_vectors_have_length_one_and_tell_pictures_apart(params):
    found = np.asarray(jax.jit(embed)(params, pictures()))
    assert found.shape == (3, identity_net.EMBEDDING)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("size", "seen"),
    [((32, 32), (32, 32)), ((64, 96), (64, 96)), ((128, 128), (64, 64)), ((256, 192), (85, 64))],
)
def test_larger_pictures_are_reduced(size, seen):
    assert seen_size(size) == seen


def test_what_is_larger_is_seen_reduced(params):
    large = jnp.asarray(pictures(128, 96))
    small = jax.image.resize(large, (3, *seen_size((128, 96)), 3), "linear")
    np.testing.assert_allclose(embed(params, large), embed(params, small), atol=1e-5)
