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
    assert ridge.read_targets(path, 3) is None
    np.savez(path, grid=grid, vector=records.vector, target=records.lpips[:, :-1])
    targets = ridge.read_targets(path, 3)
    assert targets is not None
    fitted = ridge.fit_both(targets)
    assert fitted.keys() == ridge.LABELS.keys()
    for one in fitted.values():
        predicted = one.predict(records.shares, records.vector)
        assert predicted[:, 0] == pytest.approx(records.lpips[:, 0], rel=0.1)
    assert ridge.read_targets(path, 4) is None  # of another menu of exits


def test_products_by_hand():
    shares, vector = np.array([[0.25, 0.75]]), np.array([[2.0, -3.0]])
    plain, root = [0.25, 0.75, 2, -3], np.sqrt(0.75)
    pairs = [4, -6, 9]
    found = ridge.columns(shares, vector, np.array([0, 1]))
    np.testing.assert_allclose(found, [plain + pairs + [1, -1.5, 2 * root, -3 * root]])
    np.testing.assert_allclose(ridge.columns(shares, vector), [plain])


def test_long_latents_have_squares_and_few_classes():
    rng = np.random.default_rng(0)
    shares, vector = rng.dirichlet(np.ones(40), 50), rng.normal(size=(50, 100))
    fitted = ridge.fit(shares, vector, rng.random((50, 1)), products=True)
    assert fitted.mixed is not None
    assert len(fitted.mixed) == ridge.MOST_MIXED // 100
    assert len(fitted.weights) == 40 + 100 + 100 + ridge.MOST_MIXED
    kept = shares.mean(0)[fitted.mixed]
    assert kept.min() >= np.sort(shares.mean(0))[-len(kept)]


def test_products_find_what_is_bent():
    rng = np.random.default_rng(0)
    shares, vector = rng.dirichlet(np.ones(3), 800), rng.normal(size=(800, 3))
    hard = 0.5 * vector[:, 0] * vector[:, 1] + np.sqrt(shares[:, 0]) * vector[:, 2] - 3
    target = np.exp(hard)[:, None]
    both = ridge.fit_both(ridge.Targets(shares[:600], vector[:600], target[:600]))
    error = {
        name: np.abs(np.log(one.predict(shares[600:], vector[600:])[:, 0]) - hard[600:]).mean()
        for name, one in both.items()
    }
    assert error["ridge_products"] < 0.1 < 0.3 < error["ridge"]


def test_what_never_changed_in_training_says_nothing():
    rng = np.random.default_rng(0)
    shares = np.pad(rng.random((60, 1)), ((0, 0), (0, 1)), constant_values=0.1)
    vector, target = rng.normal(size=(60, 1)), rng.random((60, 1)) + 0.1
    fitted = ridge.fit(shares, vector, target)
    new = shares + np.array([0, 0.5])
    np.testing.assert_array_equal(fitted.predict(new, vector), fitted.predict(shares, vector))
