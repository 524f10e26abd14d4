"""The segmenter's network: shapes, patches, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.errors import UserError
from fiancee_jax.models import segmenter


@pytest.fixture(scope="module")
def params():
    return segmenter.initial(5, np.random.default_rng(0))


def pictures(h=16, w=24):
    return np.random.default_rng(1).uniform(-1, 1, (2, h, w, 3)).astype(np.float32)


def test_golden_parameter_count(params):
    planes = ((12, 32), (32, 64), (64, 64), (64, 128), (128, 128), (192, 64), (96, 32), (32, 32))
    units = sum(9 * i * o + 2 * o for i, o in planes)  # kernels, and the norms' scale and bias
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(params)) == units + 32 * 20 + 20


def test_predicts_the_likeliest_class(params):
    logits = jax.jit(segmenter.logits)(params, pictures())
    found = segmenter.predict(params, pictures())
    assert logits.shape == (2, 16, 24, 5)
    assert (found.shape, found.dtype) == ((2, 16, 24), jnp.int32)
    np.testing.assert_array_equal(found, np.argmax(logits, axis=-1))
    assert 0.05 < np.std(logits) < 20  # neither dead nor wild at the start


def test_patches_keep_their_place():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    patches = segmenter._patches(jnp.asarray(x))
    np.testing.assert_array_equal(patches[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(segmenter._pixels(patches), x)


@pytest.mark.parametrize("size", [(12, 16), (16, 20)])
def test_sizes_that_cannot_be_halved_three_times(params, size):
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}; .* divisible by 8"):
        segmenter.predict(params, pictures(*size))
