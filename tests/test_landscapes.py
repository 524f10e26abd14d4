"""Procedural landscapes: deterministic, at any size the same scene, and the latent matters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.data import noise, palette, scenery
from fiancee_jax.data.landscapes import CLASSES, LATENT_DIM, Landscapes, draw_labels, render
from fiancee_jax.data.splits import SPLITS
from fiancee_jax.errors import UserError


def scene(seed, size):
    return draw_labels(np.random.default_rng(seed), size)


def test_an_element_is_what_a_source_promises():
    source = Landscapes(train=20).open("train", (32, 64))
    element = source[12]
    assert len(source) == 20
    assert element["name"] == "landscape_train_000012"
    assert element["labels"].shape == (32, 64)
    assert element["labels"].dtype == np.uint8
    assert element["labels"].max() < len(CLASSES) == 10
    assert element["image"].shape == (32, 64, 3)
    assert element["image"].dtype == np.uint8
    assert element["latent"].shape == (LATENT_DIM,) == (8,)
    assert element["latent"].dtype == np.float32


def test_an_element_depends_on_seed_split_and_index_alone():
    first = Landscapes().open("train", (16, 16))
    again = Landscapes(train=99).open("train", (16, 16))
    _ = again[4]  # another access in between changes nothing
    for key in ("labels", "image", "latent"):
        np.testing.assert_array_equal(first[3][key], again[3][key])
    others = [
        Landscapes().open("report", (16, 16))[3],
        Landscapes(seed=1).open("train", (16, 16))[3],
        first[4],
    ]
    for other in others:
        assert not np.array_equal(first[3]["latent"], other["latent"])
        assert not np.array_equal(first[3]["image"], other["image"])


def test_splits_are_disjoint():
    data = Landscapes(train=30, predictor=30, calibration=30, report=30)
    latents = [
        tuple(source[i]["latent"])
        for source in (data.open(split, (8, 8)) for split in SPLITS)
        for i in range(len(source))
    ]
    assert len(set(latents)) == 120


def test_a_source_ends():
    source = Landscapes(report=3).open("report", (8, 8))
    assert len([element["name"] for element in source]) == 3  # the sequence protocol: IndexError
    with pytest.raises(IndexError, match="scene 3 of 3"):
        source[3]


@pytest.mark.parametrize(
    ("data", "split", "size", "expected"),
    [
        (Landscapes(), "val", (64, 64), r"'val'.*train, predictor, calibration, report"),
        (Landscapes(train=0), "train", (64, 64), r"Found 0 scenes in split 'train'.*at least 1"),
        (Landscapes(), "train", (4, 64), r"size \(4, 64\).*8 pixels"),
        (Landscapes(seed=-1), "train", (64, 64), r"seed -1.*0 or more"),
    ],
)
def test_bad_input_is_named(data, split, size, expected):
    with pytest.raises(UserError, match=expected):
        data.open(split, size)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_the_same_scene_at_three_times_the_size(seed):
    # The centre of pixel i is the centre of pixel 3 i + 1 of the large map.
    small, large = scene(seed, (24, 32)), scene(seed, (72, 96))
    assert (large[1::3, 1::3] == small).mean() > 0.998


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_a_wider_picture_shows_more_of_the_same(seed):
    np.testing.assert_array_equal(scene(seed, (32, 64))[:, 16:48], scene(seed, (32, 32)))


def test_the_same_picture_at_four_times_the_size():
    for i in range(6):
        small = Landscapes().open("train", (64, 64))[i]["image"].astype(float)
        large = Landscapes().open("train", (256, 256))[i]["image"].astype(float)
        other = Landscapes().open("train", (64, 64))[i + 1]["image"].astype(float)
        mean = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
        assert np.abs(mean - small).mean() < min(12, 0.4 * np.abs(other - small).mean())


def test_scenes_range_from_empty_to_crowded():
    maps = [scene(i, (32, 32)) for i in range(200)]
    edges = np.array([(m[1:] != m[:-1]).mean() + (m[:, 1:] != m[:, :-1]).mean() for m in maps])
    assert np.percentile(edges, 5) < 0.09 < 0.25 < np.percentile(edges, 95)
    kinds = [len(np.unique(m)) for m in maps]
    assert min(kinds) <= 3
    assert max(kinds) >= 8
    share = np.bincount(np.concatenate(maps).ravel(), minlength=10) / (200 * 32 * 32)
    assert share.min() > 0.005  # every class occurs
    assert share.max() < 0.5


def bands():
    """A map with all ten classes, one below the other, [60, 60]."""
    return np.repeat(np.arange(10, dtype=np.uint8), 6)[:, None].repeat(60, 1)


def test_a_map_can_be_painted_in_any_light():
    labels = bands()
    zero = np.zeros(8)
    np.testing.assert_array_equal(render(labels, zero, 1), render(labels, zero, 1))
    for dim in range(8):
        high, low = zero.copy(), zero.copy()
        high[dim], low[dim] = 1.5, -1.5
        changed = render(labels, high, 1).astype(float) - render(labels, low, 1)
        assert np.abs(changed).mean() > 1, f"latent {dim} does nothing"


def test_the_latent_acts_as_documented():
    labels = bands()

    def mean(label, **dims):
        latent = np.zeros(8)
        for key, value in dims.items():
            latent[int(key[1:])] = value
        return render(labels, latent, 0)[labels == label].mean(0)

    meadow = scenery.MEADOW
    assert mean(meadow, z0=2).sum() > 1.3 * mean(meadow, z0=-2).sum()  # dusk is darker
    warm, cold = mean(meadow, z1=2), mean(meadow, z1=-2)
    assert warm[0] / warm[2] > 1.4 * cold[0] / cold[2]
    spring, winter = mean(meadow, z2=-2), mean(meadow, z2=2.5)
    assert spring[1] > 1.3 * spring[2]  # green
    assert abs(winter[1] - winter[2]) < 0.1 * winter[1]  # white
    red, basalt = mean(scenery.MOUNTAIN, z6=2.5), mean(scenery.MOUNTAIN, z6=-2.5)
    assert red[0] / red[2] > 1.3 * basalt[0] / basalt[2]
    np.testing.assert_allclose(mean(meadow, z6=2.5), mean(meadow, z6=-2.5))  # not the geology's


def test_the_sun_stands_on_the_side_the_latent_says():
    sky = np.zeros((32, 32), np.uint8)
    left, right = (render(sky, np.eye(8)[4] * side).astype(float) for side in (-2, 2))
    assert left[:, :16].mean() > left[:, 16:].mean() + 5
    assert right[:, 16:].mean() > right[:, :16].mean() + 5


def test_the_texture_seed_changes_texture_and_not_light():
    labels, latent = bands(), np.zeros(8)
    a, b = (render(labels, latent, seed).astype(float) for seed in (1, 2))
    assert np.abs(a - b).mean() > 1
    assert np.abs(a.mean((0, 1)) - b.mean((0, 1))).max() < 6


@pytest.mark.parametrize("label", range(10))
def test_a_map_of_one_class_can_be_painted(label):
    image = render(np.full((16, 24), label, np.uint8), np.zeros(8))
    assert image.shape == (16, 24, 3)
    assert 20 < image.mean() < 250


def test_extreme_latents_stay_smooth_and_finite():
    labels = scene(0, (16, 16))
    far, farther = (render(labels, np.full(8, v)).astype(float) for v in (30.0, 40.0))
    assert np.abs(far - farther).mean() < 1
    assert palette.mood(np.full(8, -30.0)).season < 1e-9


def test_noise_is_periodic_normalised_and_mipped():
    levels = noise.fractal(1, 1.75)
    assert [len(level) for level in levels] == [512 >> k for k in range(10)]
    assert levels[0].std() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(levels[1], levels[0].reshape(256, 2, 256, 2).mean((1, 3)), atol=1e-5)
    u = np.array([3.5, 4.5, 4.0, 3.5 + 512])
    got = noise.sample(levels, u, 7.5)
    row = levels[0][7]
    np.testing.assert_allclose(got, [row[3], row[4], (row[3] + row[4]) / 2, row[3]], atol=1e-6)
    np.testing.assert_allclose(noise.sample(levels, 3.0, 5.0, step=2.0), levels[1][2, 1])
