"""Driver jitter: a pure function that changes colours and shapes a little, and never the ground."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fiancee_jax.data import driver_jitter
from fiancee_jax.data.driver_jitter import bilinear, coordinates, jitter, recolour
from fiancee_jax.data.ground import GROUND

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(2, 40), st.integers(2, 40))
PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def rng(seed=0):
    return np.random.default_rng(seed)


def blob(side=64):
    """A coloured disc with a soft edge in the middle of the ground, [side, side, 3]."""
    y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    cover = np.clip((0.6 - np.hypot(x, y)) * 10, 0, 1)[..., None]
    colour = np.stack([220 + 0 * x, 120 + 60 * x, 60 + 40 * y], -1)
    return (cover * colour + (1 - cover) * GROUND).astype(np.uint8)


@settings(deadline=None)
@given(PICTURES, SEEDS)
def test_it_is_a_pure_function_of_picture_and_generator(image, seed):
    before = image.copy()
    first, again = jitter(image, rng(seed)), jitter(image, rng(seed))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    assert first.shape == image.shape
    assert first.dtype == np.uint8


@given(SIZES, SEEDS)
def test_ground_stays_ground(size, seed):
    ground = np.full((*size, 3), GROUND, np.uint8)
    np.testing.assert_array_equal(jitter(ground, rng(seed)), ground)


def test_the_foreground_changes_a_little_and_stays_in_place():
    image = blob()
    for seed in range(20):
        other = jitter(image, rng(seed))
        change = np.abs(other.astype(float) - image)
        assert 1 < change.mean() < 30
        assert (other[:4] == GROUND).all()
        y, x = np.nonzero((other != GROUND).any(-1))
        assert abs(y.mean() - 31.5) < 2
        assert abs(x.mean() - 31.5) < 2


def test_seeds_differ():
    made = {jitter(blob(16), rng(seed)).tobytes() for seed in range(20)}
    assert len(made) == 20


def test_every_change_of_colour_occurs():
    colours = np.array([[[40, 90, 200], [200, 200, 200], [20, 20, 20]]], np.uint8)
    made = np.stack([recolour(colours, rng(seed)) for seed in range(200)]).astype(float)[:, 0]
    brightness = made.mean((1, 2))
    balance = made[:, 1, 0] - made[:, 1, 2]  # of a grey
    saturation = made[:, 0, 2] - made[:, 0, 0]
    contrast = made[:, 1].mean(1) - made[:, 2].mean(1)
    for values, spread in ((brightness, 15), (balance, 10), (saturation, 60), (contrast, 30)):
        assert np.ptp(values) > spread
    assert (made[:, 1].mean(1) > made[:, 2].mean(1) + 100).all()  # light stays light


@given(SEEDS)
def test_a_soft_edge_to_the_ground_stays_soft(seed):
    ramp = (GROUND + np.arange(0, 100)[None, :, None] * np.array([1, 0.6, 0.3])).astype(np.uint8)
    steps = np.diff(recolour(ramp, rng(seed)).astype(int), axis=1)
    assert np.abs(steps).max() <= 5


@given(SIZES, SEEDS)
def test_the_warp_never_folds_and_keeps_the_centre(size, seed):
    rows, columns = coordinates(size, rng(seed))
    assert rows.shape == columns.shape == size
    assert (np.diff(rows, axis=0) > 0).all()
    assert (np.diff(columns, axis=1) > 0).all()
    down_rows, down_columns = np.diff(rows, axis=0)[:, 1:], np.diff(columns, axis=0)[:, 1:]
    right_rows, right_columns = np.diff(rows, axis=1)[1:], np.diff(columns, axis=1)[1:]
    assert (down_rows * right_columns - down_columns * right_rows > 0).all()
    reach = 0.15 * min(size) + 0.06 * np.array(size) / 2
    assert np.abs(rows - np.arange(size[0])[:, None]).max() < reach[0]
    assert np.abs(columns - np.arange(size[1])[None]).max() < reach[1]


@given(SEEDS, st.integers(1, 20), st.integers(1, 20))
def test_the_middle_pixel_of_odd_sizes_stays_exactly(seed, half_height, half_width):
    rows, columns = coordinates((2 * half_height + 1, 2 * half_width + 1), rng(seed))
    at = half_height, half_width
    np.testing.assert_allclose((rows[at], columns[at]), at, atol=1e-9)


def test_a_warp_is_the_same_at_twice_the_size():
    small, large = (coordinates((n, n), rng(3))[0] for n in (32, 96))
    np.testing.assert_allclose((large[1::3, 1::3] + 0.5) / 3 - 0.5, small, atol=1e-9)


def test_without_amplitudes_only_the_crop_is_left(monkeypatch):
    monkeypatch.setattr(driver_jitter, "BEND", 0.0)
    monkeypatch.setattr(driver_jitter, "CROP", (0.5, 0.5))
    rows, columns = coordinates((4, 8), rng())
    np.testing.assert_allclose(rows[:, 3], [0.75, 1.25, 1.75, 2.25])
    np.testing.assert_allclose(columns[2, [0, 7]], [1.75, 5.25])


def test_bilinear_reads_between_pixels_and_goes_on_beyond_the_border():
    image = np.zeros((2, 3, 3), np.uint8)
    image[..., 0] = [[0, 10, 20], [100, 110, 120]]
    rows = np.array([0.0, 0.5, 1.0, -3.0, 9.0, 0.25])
    columns = np.array([1.0, 1.0, 1.5, 0.5, 9.0, -1.0])
    got = bilinear(image, rows, columns)
    assert got.dtype == np.float32
    assert got[:, 0] == pytest.approx([10, 60, 115, 5, 120, 25])
    assert not got[:, 1:].any()
