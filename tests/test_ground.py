"""The grey ground: mattes are laid over it exactly, and it is told from foreground."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fiancee_jax.data.ground import GROUND, has_foreground, over_ground

PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(4)))


@given(PICTURES)
def test_a_matte_blends_to_the_nearest_whole_number(rgba):
    rgb, alpha = rgba[..., :3].astype(float), rgba[..., 3:] / 255
    blended = over_ground(rgba)
    assert blended.dtype == np.uint8
    assert np.abs(blended - (alpha * rgb + (1 - alpha) * GROUND)).max() <= 0.5


def test_an_opaque_pixel_stays_and_a_clear_one_is_ground():
    rgba = np.array([[[1, 2, 3, 255], [250, 0, 9, 0]]], np.uint8)
    np.testing.assert_array_equal(over_ground(rgba), [[[1, 2, 3], [128, 128, 128]]])


@pytest.mark.parametrize(
    ("value", "tolerance", "expected"),
    [
        (128, 0, False),
        (129, 0, True),
        (130, 2, False),
        (126, 2, False),
        (131, 2, True),
        (0, 2, True),
    ],
)
def test_foreground_is_what_differs_in_any_channel(value, tolerance, expected):
    picture = np.full((4, 5, 3), GROUND, np.uint8)
    picture[2, 3, 1] = value
    assert has_foreground(picture, tolerance) is expected
