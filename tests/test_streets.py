"""Street layouts drawn by a program."""

import numpy as np
import pytest

from fiancee_jax.data import streets
from fiancee_jax.data.streets import CLASSES, draw_street


@pytest.fixture(scope="module")
def drawn():
    return np.stack([draw_street(np.random.default_rng([0, i]), (48, 64)) for i in range(40)])


def test_a_street_is_a_function_of_its_seed(drawn):
    again = draw_street(np.random.default_rng([0, 3]), (48, 64))
    np.testing.assert_array_equal(again, drawn[3])
    assert len({x.tobytes() for x in drawn}) == len(drawn)
    assert drawn.dtype == np.uint8


def test_all_classes_but_void_are_drawn(drawn):
    assert set(np.unique(drawn)) == set(range(len(CLASSES) - 1))
    assert CLASSES[-1] == "void"


def test_sky_is_above_and_the_road_below(drawn):
    rows = np.arange(48)[None, :, None]
    height = {kind: rows[0][np.where(drawn == kind)[1]].mean() for kind in range(11)}
    assert height[streets.SKY] < height[streets.BUILDING] < height[streets.PAVEMENT]
    assert height[streets.PAVEMENT] < height[streets.ROAD]
    assert (drawn[:, 0] == streets.ROAD).sum() == 0
    assert (drawn[:, -1] == streets.SKY).sum() == 0
    bottom = (drawn[:, -1] == streets.ROAD).mean()
    assert bottom > 0.5


def test_the_road_narrows_towards_its_vanishing_point(drawn):
    width = (drawn == streets.ROAD).sum(2).mean(0)
    assert width[-1] > width[36] > width[30] > 0


@pytest.mark.parametrize("size", [(192, 256), (64, 96)])
def test_another_size_shows_the_same_street(size):
    """Not below: people and poles are then thinner than a pixel."""
    small, large = (
        draw_street(np.random.default_rng(7), (size[0] * k, size[1] * k)) for k in (1, 2)
    )
    assert small.shape == size
    agree = (large[::2, ::2] == small).mean()
    assert agree > 0.9
