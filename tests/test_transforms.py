"""Crops, resizes and flips act on picture and labels alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiancee_jax.data.transforms import (
    Augment,
    augment,
    centre_box,
    crop_and_resize,
    random_box,
    resize_image,
    resize_labels,
)
from fiancee_jax.errors import UserError

sides = st.integers(1, 40)


def pair(h, w, seed=0):
    """A picture whose red channel is its label times ten."""
    labels = np.random.default_rng(seed).integers(0, 20, (h, w)).astype(np.uint8)
    image = np.stack([labels * 10, np.zeros_like(labels), np.zeros_like(labels)], -1)
    return {"name": "x", "labels": labels, "image": image}


@pytest.mark.parametrize(
    ("source", "target", "box"),
    [
        ((360, 480), (96, 128), (0, 0, 360, 480)),
        ((360, 480), (64, 64), (0, 60, 360, 360)),
        ((480, 360), (64, 64), (60, 0, 360, 360)),
        ((100, 100), (64, 128), (25, 0, 50, 100)),
        ((5, 5), (64, 64), (0, 0, 5, 5)),
    ],
)
def test_the_centre_box_is_the_largest_of_the_aspect(source, target, box):
    assert centre_box(source, target) == box


@given(sides, sides, sides, sides)
def test_boxes_stay_inside(h, w, th, tw):
    top, left, height, width = centre_box((h, w), (th, tw))
    assert 0 <= top <= top + height <= h
    assert 0 <= left <= left + width <= w
    assert height == h or width == w
    rng = np.random.default_rng(h * w)
    top, left, height, width = random_box((h, w), (th, tw), 0.5, rng)
    assert 0 <= top <= top + height <= h
    assert 0 <= left <= left + width <= w


@given(sides, sides, sides, sides)
def test_nearest_is_the_index_formula(h, w, th, tw):
    labels = np.arange(h * w).reshape(h, w)
    rows = [int(np.floor((i + 0.5) * h / th)) for i in range(th)]
    columns = [int(np.floor((j + 0.5) * w / tw)) for j in range(tw)]
    expected = labels[np.ix_(rows, columns)]
    np.testing.assert_array_equal(resize_labels(labels, (0, 0, h, w), (th, tw)), expected)


def test_crop_and_resize_cuts_the_same_place_of_both():
    element = pair(12, 16)
    image, labels = (crop_and_resize(element[k], (2, 3, 6, 8), (6, 8)) for k in ("image", "labels"))
    np.testing.assert_array_equal(labels, element["labels"][2:8, 3:11])
    np.testing.assert_array_equal(image, element["image"][2:8, 3:11])


def test_pictures_shrink_with_antialiasing_and_grow():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    labels = np.zeros((64, 64), np.uint8)
    small = resize_image(stripes, (0, 0, 64, 64), (16, 16))
    assert np.abs(small[:, 2:-2].astype(int) - 100).max() < 12  # neither 0 nor 200
    box = (0, 0, 64, 64)
    assert crop_and_resize(stripes, box, (100, 130)).shape == (100, 130, 3)
    assert crop_and_resize(labels, box, (100, 130)).shape == (100, 130)


def test_nothing_to_do_is_no_work():
    element = pair(8, 12)
    assert augment(element, None, (8, 12)) is element


def test_without_options_the_centre_is_taken():
    element = pair(10, 20)
    got = augment(element, None, (10, 10))
    np.testing.assert_array_equal(got["labels"], element["labels"][:, 5:15])
    np.testing.assert_array_equal(got["image"], element["image"][:, 5:15])
    assert got["name"] == "x"
    assert element["labels"].shape == (10, 20)


def test_labels_without_a_picture():
    got = augment({"labels": np.arange(16).reshape(4, 4)}, None, (2, 2))
    np.testing.assert_array_equal(got["labels"], [[5, 7], [13, 15]])
    assert "image" not in got


def test_every_picture_and_map_is_cut_alike_whatever_its_name():
    rng, whole = np.random.default_rng(0), pair(12, 16)
    element = {
        "source": whole["image"],
        "driver": whole["image"],
        "id": np.arange(3.0),
        "name": "x",
    }
    got = augment(element, rng, (6, 6), Augment(min_scale=0.5))
    assert got["source"].shape == (6, 6, 3)
    np.testing.assert_array_equal(got["source"], got["driver"])
    assert got["id"] is element["id"]


def test_several_pictures_of_an_element_are_cut_like_one():
    frames = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), np.uint8)
    element = {"name": "x", "image": frames[0], "own": frames}
    options = Augment(flip=True, min_scale=0.6)
    for seed in range(4):
        found = augment(element, np.random.default_rng(seed), (6, 8), options)
        assert found["own"].shape == (3, 6, 8, 3)
        np.testing.assert_array_equal(found["own"][0], found["image"])
        alone = {"name": "x", "image": frames[2]}
        same = augment(alone, np.random.default_rng(seed), (6, 8), options)
        np.testing.assert_array_equal(found["own"][2], same["image"])
    with pytest.raises(UserError, match="image 20x12, own 18x12"):
        augment({**element, "own": frames[:, :, 2:]}, None, (6, 8))


def test_pictures_of_two_sizes_in_one_element_are_refused():
    element = {"name": "x", "source": np.zeros((4, 4, 3), np.uint8), "image": pair(4, 6)["image"]}
    with pytest.raises(UserError, match=r"of x must be of one size; found source 4x4, image 6x4"):
        augment(element, None, (2, 2))


def test_a_flip_flips_both_half_of_the_time():
    element, flips = pair(6, 6), 0
    for seed in range(60):
        got = augment(element, np.random.default_rng(seed), (6, 6), Augment(flip=True))
        np.testing.assert_array_equal(got["image"][..., 0], got["labels"] * 10)
        flipped = np.array_equal(got["labels"], element["labels"][:, ::-1])
        assert flipped or np.array_equal(got["labels"], element["labels"])
        flips += flipped
    assert 18 < flips < 42


def test_random_crops_differ_in_place_and_size():
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    element = {"labels": smooth, "image": np.repeat(smooth[..., None], 3, -1)}
    options = Augment(flip=False, min_scale=0.5)
    got = [augment(element, np.random.default_rng(s), (20, 20), options) for s in range(20)]
    spans = [int(g["labels"].max()) - int(g["labels"].min()) for g in got]
    corners = [int(g["labels"][0, 0]) for g in got]
    assert min(spans) < 50 < 65 < max(spans)  # sides between 20 and 40
    assert len(set(corners)) > 8
    for g in got:  # the picture shows what the labels say, up to the rounding of a pixel
        assert np.abs(g["image"][2:-2, 2:-2, 0].astype(int) - g["labels"][2:-2, 2:-2]).max() <= 2


def test_the_same_generator_gives_the_same_element():
    element, options = pair(20, 30), Augment(min_scale=0.4)
    a, b = (augment(element, np.random.default_rng(7), (8, 8), options) for _ in range(2))
    np.testing.assert_array_equal(a["image"], b["image"])
    np.testing.assert_array_equal(a["labels"], b["labels"])


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_a_bad_scale_is_named(scale):
    with pytest.raises(UserError, match=rf"min_scale {scale}.*more than 0 and at most 1"):
        Augment(min_scale=scale)


def test_options_need_a_generator():
    with pytest.raises(ValueError, match="needs a random generator"):
        augment(pair(4, 4), None, (2, 2), Augment())
