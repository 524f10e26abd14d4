"""Regressions that foresee: linear relations are found, noise is not, statistics are NumPy's."""

import jax.numpy as jnp
import numpy as np

from benchmarks import foresight


def test_a_linear_relation_is_found_on_rows_never_seen():
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((400, 6)) * 10.0 ** np.arange(-3, 3), rng.random((6, 2))
    y = (x / 10.0 ** np.arange(-3, 3)) @ weights + 3
    np.testing.assert_allclose(foresight.foreseen(x[:300], y[:300], x[300:]), y[300:], atol=0.05)


def test_of_noise_it_says_the_mean():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((300, 200)), rng.standard_normal((300, 1))
    guess = foresight.foreseen(x[:200], y[:200], x[200:])
    assert np.abs(guess - y[:200].mean()).max() < 0.2


def test_what_lies_beyond_all_rows_counts_as_the_furthest():
    x = np.linspace(0, 1, 50)[:, None]
    far, edge = (foresight.foreseen(x, 2 * x, np.full((1, 1), v)) for v in (100.0, 1.0))
    np.testing.assert_array_equal(far, edge)


def test_statistics_are_logarithms_of_means_and_deviations_of_two_layers():
    rng = np.random.default_rng(2)
    layers = [rng.random((2, 4, 4, c), np.float32) for c in (3, 5, 7)]
    found = foresight.statistics(tuple(map(jnp.asarray, layers)))
    parts = [f(x, axis=(1, 2)) for x in layers[:2] for f in (np.mean, np.std)]
    np.testing.assert_allclose(found, np.log(np.concatenate(parts, 1) + 1e-3), rtol=1e-5)
