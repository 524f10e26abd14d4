import numpy as np
import pytest
from studies import made_records

from fiancee_jax.evaluation import ridge


def test_finds_what_is_linear_in_areas_and_z():
    train, test = made_records(inputs=400), made_records(inputs=100, seed=1)
    fitted = ridge.fit(train.shares, train.vector, train.lpips[:, :-1])
    found = fitted.predict(test.shares, test.vector)
    assert found.shape == test.lpips.shape
    np.testing.assert_allclose(found, test.lpips, rtol=0.02)


def test_predictions_fall_with_cost_and_end_in_zero():
    rng = np.random.default_rng(0)
    shares, vector, target = rng.random((80, 3)), rng.normal(size=(80, 2)), rng.random((80, 3))
    found = ridge.fit(shares, vector, target).predict(shares, vector)
    assert np.all(np.diff(found, axis=1) <= 0)
    assert np.all(found[:, -1] == 0)
    assert np.all(found[:, :-1] > 0)


def test_noise_is_damped():
    rng = np.random.default_rng(0)
    shares, vector = rng.random((60, 3)), rng.normal(size=(60, 30))
    target = np.exp(rng.normal(size=(60, 1)) - 3)
    fitted = ridge.fit(shares, vector, target)
    assert np.abs(fitted.weights).max() < 0.3  # least squares would follow the noise


def test_reads_the_predictors_own_targets(tmp_path):
    records = made_records()
    grid = np.tile(records.shares[:, None, None], (1, 2, 2, 1)).astype(np.float16)
    path = tmp_path / "predictor_targets.npz"
    assert ridge.fit_targets(path) is None
    np.savez(path, grid=grid, vector=records.vector, target=records.lpips[:, :-1])
    fitted = ridge.fit_targets(path)
    assert fitted is not None
    predicted = fitted.predict(records.shares, records.vector)
    assert predicted[:, 0] == pytest.approx(records.lpips[:, 0], rel=0.1)
