"""Measures against their formulas in NumPy and SciPy, by hand where that is short."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax import metrics
from fiancee_jax.errors import UserError


def noise(seed, shape=(2, 16, 20, 3)):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


# --- pictures -----------------------------------------------------------------------------------
def test_psnr_by_hand():
    a = np.zeros((3, 8, 8, 3), np.float32)
    b = np.stack([a[0], a[0] + 0.5, a[0] + 2e-3])
    expected = [100.0, 10 * np.log10(4 / 0.25), 10 * np.log10(4 / 4e-6)]
    np.testing.assert_allclose(metrics.psnr(a, b), expected, rtol=1e-4)


def ssim_by_hand(a, b):
    """Wang et al. (2004), eq. 13, for pictures in [0, 1]: each window, each channel, their mean."""
    g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(g, g) / g.sum() ** 2

    def blur(x):
        patches = np.lib.stride_tricks.sliding_window_view(x, (11, 11), axis=(0, 1))
        return np.einsum("hwcij,ij->hwc", patches, window)

    a, b = ((np.float64(x) + 1) / 2 for x in (a, b))
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))


def test_ssim_by_hand():
    a = noise(0)
    b = np.clip(0.7 * a + 0.3 * noise(1), -1, 1)
    expected = [ssim_by_hand(x, y) for x, y in zip(a, b, strict=True)]
    assert 0.5 < expected[0] < 0.98
    np.testing.assert_allclose(metrics.ssim(a, b), expected, rtol=1e-4)
    np.testing.assert_allclose(metrics.ssim(a, a), 1, rtol=1e-5)


def test_pictures_that_do_not_pair():
    for measure in (metrics.psnr, metrics.ssim):
        for a, b in ((noise(0), noise(0)[:1]), (noise(0)[0], noise(0)[0])):
            with pytest.raises(UserError, match=r"expected \[b,h,w,3\] twice"):
                measure(a, b)
    with pytest.raises(UserError, match="10x20; SSIM's window needs at least 11x11"):
        metrics.ssim(noise(0)[:, :10], noise(0)[:, :10])


# --- sets of features ---------------------------------------------------------------------------
def gaussians(n, m, d, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    return a, rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 90, 12), (40, 60, 30), (30, 8, 5)])
def test_frechet_distance_matches_scipy(n, m, d):
    a, b = gaussians(n, m, d)
    p, q = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(np.asarray(scipy.linalg.sqrtm(p @ q)))
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(p + q - 2 * root)
    np.testing.assert_allclose(metrics.frechet_distance(a, b), expected, rtol=1e-8)
    np.testing.assert_allclose(metrics.frechet_distance(b, a), expected, rtol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(6, 40), (40, 6)])  # fewer and more pictures than features
def test_frechet_distance_by_hand(n, d):
    a, shift = gaussians(n, n, d)[0], np.arange(d)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(metrics.frechet_distance(a, a + shift), np.sum(shift**2))
    doubled = a.mean(0) + 2 * (a - a.mean(0))  # a covariance of 4 A: tr(A + 4 A - 2 * 2 A) = tr A
    np.testing.assert_allclose(metrics.frechet_distance(a, doubled), np.trace(np.cov(a.T)))


def test_squared_mmd_by_hand():
    a, b = gaussians(4, 5, 3)
    kernel = lambda x, y: (x @ y / 3 + 1) ** 3  # noqa: E731
    aa = np.mean([kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    bb = np.mean([kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    ab = np.mean([kernel(x, y) for x in a for y in b])
    np.testing.assert_allclose(metrics._squared_mmd(a, b), aa + bb - 2 * ab, rtol=1e-12)


def test_kernel_distance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 8)), rng.normal(size=(400, 8))
    mean, std = metrics.kernel_distance(a, b)
    assert abs(mean) < std
    assert std > 0
    far, _ = metrics.kernel_distance(a, b + 1)
    assert far > 10 * std
    same = metrics.kernel_distance(a, b, subsets=7, size=50, seed=3)
    assert same == metrics.kernel_distance(a, b, subsets=7, size=50, seed=3)
    assert same != metrics.kernel_distance(a, b, subsets=7, size=50, seed=4)


@pytest.mark.parametrize("measure", [metrics.frechet_distance, metrics.kernel_distance])
def test_features_that_make_no_sense(measure):
    a, b = gaussians(9, 9, 3)
    for wrong in (b[:1], b[:, :2], b[0]):
        with pytest.raises(UserError, match=r"expected \[n,d\] and"):
            measure(a, wrong)
    with pytest.raises(UserError, match="not finite"):
        measure(a, np.where(b > 0, np.nan, b))


def test_subsets_that_make_no_sense():
    for options in ({"subsets": 0}, {"size": 1}):
        with pytest.raises(UserError, match="at least 1 subset of 2"):
            metrics.kernel_distance(*gaussians(9, 9, 3), **options)


# --- label maps ---------------------------------------------------------------------------------
def test_mean_iou_by_hand():
    truth = np.array([[0, 0, 1], [1, 2, 2]])
    predicted = np.array([[0, 1, 1], [1, 0, 3]])
    matrix = metrics.confusion(truth, predicted, 4)
    np.testing.assert_array_equal(matrix, [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 1], [0] * 4])
    assert metrics.mean_iou(matrix) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    # Without the pixels of class 2, class 0 has no false one left; 3 is never true.
    assert metrics.mean_iou(matrix, ignore=2) == pytest.approx((1 / 2 + 2 / 3) / 2)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(2, 5), st.sampled_from([None, 0, 1]))
def test_mean_iou_is_that_of_sets_of_pixels(seed, k, ignore):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, k, (2, 3, 4, 5))
    halves = [metrics.confusion(t, p, k) for t, p in zip(truth, predicted, strict=True)]
    counted = truth != ignore if ignore is not None else np.full(truth.shape, True)
    ious = [
        np.sum(counted & (truth == c) & (predicted == c))
        / np.sum(counted & ((truth == c) | (predicted == c)))
        for c in np.unique(truth[counted])
    ]
    np.testing.assert_allclose(metrics.mean_iou(np.sum(halves, axis=0), ignore), np.mean(ious))


def test_labels_that_make_no_sense():
    labels = np.zeros((2, 3), np.int32)
    for truth, predicted in ((labels, labels[:1]), (labels + 4, labels), (labels, labels - 1)):
        with pytest.raises(UserError, match="ids from 0 to 3"):
            metrics.confusion(truth, predicted, 4)
    with pytest.raises(UserError, match="no labelled pixel"):
        metrics.mean_iou(metrics.confusion(labels, labels, 4), ignore=0)
