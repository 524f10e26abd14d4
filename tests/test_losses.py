"""Losses against NumPy, and against the published implementation's values."""

# NumPy arrays are given where JAX's are asked for:
# pyright: reportArgumentType=false

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax import losses

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (2, 3, 5)).astype(np.int32)
LOGITS = RNG.standard_normal((2, 3, 5, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def published(fixtures_dir):
    """(arrays NHWC, expected losses) of the published PyTorch code; void is class 0 there."""
    folder = fixtures_dir / "oasis"
    with np.load(folder / "square_io.npz") as archive:
        arrays = {k: archive[k] for k in archive.files}
    arrays = {k: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for k, a in arrays.items()}
    return arrays, json.loads((folder / "square.json").read_text())["losses"]


def test_published_losses(published):
    arrays, expected = published
    labels = arrays["labels"].astype(np.int32)
    weights = losses.class_weights(labels, 12, void=0)
    ours = {
        "d_fake": losses.fake_loss(arrays["d_fake"]),
        "d_real": losses.real_loss(arrays["d_real"], labels, weights),
        "g_adv": losses.real_loss(arrays["d_fake"], labels, weights),
    }
    for name, value in ours.items():
        assert float(value) == pytest.approx(expected[name], abs=1e-4), name


def weights_by_hand(labels, num_classes, void):
    counted = [c for c in range(num_classes) if c != void and (labels == c).any()]
    return [
        labels.size / (len(counted) * (labels == c).sum()) if c in counted else 0.0
        for c in range(num_classes)
    ]


@pytest.mark.parametrize("void", [None, 0, 2])
def test_class_weights(void):
    # six classes, of which 4 and 5 are absent
    weights = losses.class_weights(LABELS, 6, void)
    np.testing.assert_allclose(weights, weights_by_hand(LABELS, 6, void), rtol=1e-6)


def test_class_weights_of_a_picture_of_void():
    np.testing.assert_array_equal(losses.class_weights(np.zeros((1, 2, 2), int), 3, 0), np.zeros(3))


def test_balanced_weights_sum_to_the_pixels():
    # every present class gets the same share of the loss
    weights = np.asarray(losses.class_weights(LABELS, 4, None))
    assert weights[LABELS].sum() == pytest.approx(LABELS.size, rel=1e-5)


def test_cross_entropy_counts_zero_weights_in_its_mean():
    weights = RNG.uniform(0, 1, LABELS.shape).astype(np.float32)
    weights[0] = 0
    exp = np.exp(LOGITS.astype(np.float64))
    p = exp / exp.sum(-1, keepdims=True)
    ce = -np.log(np.take_along_axis(p, LABELS[..., None], -1)[..., 0])
    assert float(losses.pixel_cross_entropy(LOGITS, LABELS)) == pytest.approx(ce.mean(), rel=1e-5)
    weighted = losses.pixel_cross_entropy(LOGITS, LABELS, weights)
    assert float(weighted) == pytest.approx((ce * weights).mean(), rel=1e-5)


def test_real_is_class_plus_one_and_fake_is_zero():
    sure = 50.0 * np.eye(6, dtype=np.float32)
    ones = np.ones(5, np.float32)
    assert float(losses.real_loss(sure[LABELS + 1], LABELS, ones)) < 1e-6
    assert float(losses.real_loss(sure[LABELS], LABELS, ones)) == pytest.approx(50)
    assert float(losses.fake_loss(sure[np.zeros_like(LABELS)])) < 1e-6
    assert float(losses.fake_loss(sure[LABELS + 1])) == pytest.approx(50)


def test_void_pixels_have_no_loss():
    weights = losses.class_weights(LABELS, 4, void=1)

    def loss(logits):
        return losses.real_loss(logits, LABELS, weights)

    gradient = np.abs(jax.grad(loss)(jnp.asarray(LOGITS))).sum(-1)
    assert not gradient[LABELS == 1].any()
    assert (gradient[LABELS != 1] > 0).all()


def test_labelmix_mask_is_one_fair_coin_for_each_class():
    coins = []
    for seed in range(200):
        mask = np.asarray(losses.labelmix_mask(jax.random.key(seed), LABELS, 4))
        assert mask.shape == (*LABELS.shape, 1)
        for c in range(4):  # constant over each class, over the whole batch
            values = np.unique(mask[c == LABELS])
            assert values.size == 1
            coins.append(values.item())
    assert set(coins) == {0.0, 1.0}
    assert np.mean(coins) == pytest.approx(0.5, abs=4 * 0.5 / 800**0.5)  # 4 standard errors


def test_mix_takes_the_real_picture_where_the_mask_is_one():
    mask = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    real, fake = np.full((1, 1, 2, 3), 5.0), np.full((1, 1, 2, 3), -7.0)
    np.testing.assert_array_equal(losses.mix(mask, real, fake)[0, 0], [[5.0] * 3, [-7.0] * 3])


def test_labelmix_loss():
    real, fake, mixed = RNG.standard_normal((3, 2, 3, 5, 6)).astype(np.float32)
    mask = RNG.integers(0, 2, (2, 3, 5, 1)).astype(np.float32)
    expected = ((mixed - np.where(mask == 1, real, fake)) ** 2).mean()
    loss = losses.labelmix_loss(mixed, real, fake, mask)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_l1_is_per_sample():
    a, b = RNG.standard_normal((2, 3, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(losses.l1(a, b), np.abs(a - b).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(losses.l1(a, a), np.zeros(3))
