"""Colours of label maps."""

import itertools

import numpy as np
import pytest

from fiancee_jax.colors import KNOWN, class_colors
from fiancee_jax.data import Landscapes

CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car",
    "pedestrian", "bicyclist", "void",
)  # fmt: skip


def test_known_names_have_their_colour_in_any_list():
    assert class_colors(("void", "sky")).tolist() == [[0, 0, 0], [135, 190, 235]]
    assert class_colors(("strange", "sky"))[1].tolist() == [135, 190, 235]
    assert class_colors(("sky",)).dtype == np.uint8


@pytest.mark.parametrize("classes", [Landscapes().classes(), CAMVID])
def test_our_data_sets_are_known(classes):
    assert set(classes) <= KNOWN.keys()
    assert len(set(map(tuple, class_colors(classes)))) == len(classes)


def test_unknown_names_are_far_apart():
    colors = class_colors(tuple(f"class {i}" for i in range(8))).astype(int)
    apart = [np.abs(a - b).max() for a, b in itertools.combinations(colors, 2)]
    assert min(apart) > 25


def test_many_unknown_names_all_differ():
    colors = class_colors(tuple(f"class {i}" for i in range(183)))
    assert len(np.unique(colors, axis=0)) == 183


def test_a_name_that_comes_twice_has_one_colour():
    colors = class_colors(("a", "b", "a"))
    np.testing.assert_array_equal(colors[0], colors[2])
    assert (colors[0] != colors[1]).any()


def test_no_classes():
    assert class_colors(()).shape == (0, 3)
