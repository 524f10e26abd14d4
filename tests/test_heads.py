"""The data set of rendered heads: pairs, splits, cross reenactment with its truth, clips."""

import dataclasses
import functools

import numpy as np
import pytest

from fiancee_jax.data import Heads, heads
from fiancee_jax.data.ground import GROUND
from fiancee_jax.data.head_renderer import render
from fiancee_jax.data.heads import clip, identity, render_identity
from fiancee_jax.data.splits import SPLITS
from fiancee_jax.errors import UserError

SIZE = (32, 32)
SMALL = Heads(train=20, predictor=20, calibration=20, report=20, identities=5)


@functools.cache
def element(index, split="report", **fields):
    return dataclasses.replace(SMALL, **fields).open(split, SIZE)[index]


def test_an_element_is_what_a_source_promises():
    source = SMALL.open("report", SIZE)
    got = source[3]
    assert len(source) == 20
    assert SMALL.classes() == ()
    assert got.pop("name") == "heads_report_000003"
    shapes = {key: (value.shape, value.dtype) for key, value in got.items()}
    picture, pose = ((32, 32, 3), np.uint8), ((6,), np.float32)
    assert shapes == {
        "source": picture,
        "driver": picture,
        "image": picture,
        "mask": ((32, 32), np.uint8),
        "source_pose": pose,
        "driver_pose": pose,
        "motion": ((14,), np.float32),
    }
    np.testing.assert_array_equal(got["motion"][:6], got["driver_pose"])


def test_an_element_depends_on_seed_split_and_index_alone():
    first, again = element(3), Heads(report=7, identities=5).open("report", SIZE)[3]
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
    for other in (element(4), element(3, seed=1), element(3, split="train")):
        assert not np.array_equal(first["motion"], other["motion"])
        assert not np.array_equal(first["image"], other["image"])


def test_no_identity_is_in_two_splits():
    skins = {tuple(identity(0, split, i).paint.skin) for split in SPLITS for i in range(20)}
    assert len(skins) == 80


def test_a_source_ends():
    source = Heads(report=2, identities=5).open("report", SIZE)
    assert len([got["name"] for got in source]) == 2  # the sequence protocol: IndexError
    with pytest.raises(IndexError, match="pair 2 of 2"):
        source[2]


@pytest.mark.parametrize(
    ("data", "split", "size", "expected"),
    [
        (Heads(), "val", (64, 64), r"'val'.*train, predictor, calibration, report"),
        (Heads(train=0), "train", (64, 64), r"Found 0 pairs in split 'train'.*at least 1"),
        (Heads(), "train", (15, 64), r"size \(15, 64\).*16 pixels"),
        (Heads(seed=-1), "train", (64, 64), r"seed -1.*0 or more"),
        (Heads(cross=1.5), "train", (64, 64), r"cross 1.5.*a share from 0 to 1"),
        (Heads(own=-1), "train", (64, 64), r"own -1.*0 or more"),
        (Heads(identities=1), "train", (64, 64), r"identities 1.*at least 2"),
    ],
)
def test_bad_input_is_named(data, split, size, expected):
    with pytest.raises(UserError, match=expected):
        data.open(split, size)


def owner(picture, motion, split="report"):
    """Which of the five identities a picture shows, in a motion; None if none."""
    for index in range(5):
        images, _ = render_identity(0, split, index, motion[None], SIZE)
        if np.array_equal(images[0], picture):
            return index
    return None


def test_the_target_is_the_sources_identity_in_the_drivers_motion():
    for index in range(3):
        crossed, plain = element(index, cross=1.0), element(index, cross=0.0)
        who = owner(crossed["image"], crossed["motion"])
        assert who is not None
        images, masks = render_identity(0, "report", who, crossed["motion"][None], SIZE)
        np.testing.assert_array_equal(crossed["mask"], masks[0])
        driver = owner(crossed["driver"], crossed["motion"])
        assert driver is not None
        assert driver != who
        np.testing.assert_array_equal(plain["image"], images[0])
        np.testing.assert_array_equal(plain["driver"], plain["image"])
        assert not np.array_equal(plain["source"], plain["image"])


def test_the_share_of_cross_pairs_is_as_asked():
    same = [np.array_equal(element(i)["driver"], element(i)["image"]) for i in range(16)]
    assert 3 <= sum(same) <= 13


def test_ground_is_where_there_is_no_head():
    got = element(5)
    assert (got["image"][got["mask"] == 0] == GROUND).all()
    assert 0.2 < got["mask"].mean() < 0.75


def test_own_adds_frames_and_changes_nothing_else():
    plain, more = (element(2, "train", own=own) for own in (0, 2))
    assert more["own"].shape == (2, 32, 32, 3)
    for key, value in plain.items():
        np.testing.assert_array_equal(value, more[key])
    assert not np.array_equal(more["own"][0], more["own"][1])


def test_own_frames_are_of_the_sources_identity(monkeypatch):
    skins = []

    def record(identities, motions, size):
        skins.append(identities.paint.skin)
        return render(identities, motions, size)

    monkeypatch.setattr(heads, "render", record)
    _ = dataclasses.replace(SMALL, own=2, cross=1.0).open("report", SIZE)[0]
    (source, target, driver, *own) = skins[0]
    np.testing.assert_array_equal(np.stack([target, *own]), np.stack([source] * 3))
    assert not np.array_equal(driver, source)


def test_only_training_drivers_are_jittered():
    plain, jittered = (element(1, "train", cross=0.0, jitter=on) for on in (False, True))
    np.testing.assert_array_equal(plain["driver"], plain["image"])
    change = np.abs(jittered["driver"].astype(float) - plain["driver"]).mean()
    assert 1 < change < 40
    ground = (plain["driver"] == GROUND).all(-1)
    assert (jittered["driver"][ground] == GROUND).all(), "its outline and pose stay"
    for key in ("source", "image", "mask", "motion"):
        np.testing.assert_array_equal(plain[key], jittered[key])
    report = element(1, cross=0.0, jitter=True)
    np.testing.assert_array_equal(report["driver"], report["image"])


def test_a_clip_is_smooth_and_of_one_identity():
    images, masks, motions = clip(0, 1, "report", 6, SIZE)
    assert images.shape == (6, 32, 32, 3)
    assert masks.shape == (6, 32, 32)
    assert motions.shape == (6, 14)
    again, same = render_identity(0, "report", 1, motions[2:3], SIZE)
    np.testing.assert_array_equal(images[2:3], again)
    np.testing.assert_array_equal(masks[2:3], same)
    steps = np.abs(np.diff(images.astype(float), axis=0)).mean((1, 2, 3))
    assert 0 < steps.max() < 8


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 1, "test", 2, SIZE), "'test'.*expected one of"),
        ((0, 1, "report", 0, SIZE), "Found 0 frames"),
        ((0, -1, "report", 2, SIZE), "identity -1"),
    ],
)
def test_bad_clips_are_named(arguments, expected):
    with pytest.raises(UserError, match=expected):
        clip(*arguments)
