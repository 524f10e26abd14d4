"""How near pictures are to photos: copies and mirrored copies are found, others are not."""

import numpy as np
import pytest

from benchmarks import nearest


def _unit(rng, *shape):
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_copy_and_a_mirrored_copy_lie_at_nought():
    rng = np.random.default_rng(0)
    photos, mirrored = _unit(rng, 5, 64), _unit(rng, 5, 64)
    pictures = np.stack([photos[3], mirrored[1], *_unit(rng, 1, 64)])
    apart = nearest.distances(pictures, photos, mirrored)
    assert apart.shape == (3, 5)
    assert apart.argmin(1)[:2].tolist() == [3, 1]
    np.testing.assert_allclose(apart.min(1)[:2], 0, atol=1e-12)
    assert apart[2].min() > 0.3
    expected = min(1 - pictures[2] @ photos[0], 1 - pictures[2] @ mirrored[0])
    assert apart[2, 0] == pytest.approx(expected)


def test_quantiles():
    found = nearest.quantiles(np.linspace(0, 1, 101))
    assert found == {"median": 0.5, "p5": pytest.approx(0.05), "least": 0.0}
