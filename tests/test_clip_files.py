"""Folders of clips: identities of a split, order of frames, and frames as they are read."""

import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fiancee_jax.data.clip_files import (
    Clip,
    blocks,
    find_identities,
    natural,
    pair_name,
    read_clips,
    read_frame,
    read_size,
)
from fiancee_jax.data.splits import SPLITS
from fiancee_jax.errors import UserError


@st.composite
def shares(draw):
    """Four percents of 1 or more, 100 in all."""
    cuts = draw(st.lists(st.integers(1, 99), min_size=3, max_size=3, unique=True).map(sorted))
    return tuple(np.diff([0, *cuts, 100]).tolist())


@given(st.integers(4, 500), shares())
def test_blocks_part_everything_and_none_is_empty(count, parts):
    things = list(range(count))
    found = [things[block] for block in blocks(count, parts)]
    assert [thing for block in found for thing in block] == things
    assert all(found)
    for block, percent in zip(found, parts, strict=True):
        assert abs(len(block) - count * percent / 100) < 4


def test_blocks_of_round_numbers():
    assert blocks(20, (70, 10, 10, 10)) == [
        slice(0, 14),
        slice(14, 16),
        slice(16, 18),
        slice(18, 20),
    ]
    assert blocks(4, (97, 1, 1, 1)) == [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4)]


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["", "frame_", "7-", "é"]))
def test_natural_order_is_that_of_the_numbers(numbers, before):
    names = sorted((f"{before}{n}.x" for n in numbers), key=natural)
    assert names == [f"{before}{n}.x" for n in sorted(numbers)]


@given(st.lists(st.text(max_size=6)))
def test_any_names_have_an_order(names):
    assert sorted(sorted(names, key=natural), key=natural) == sorted(names, key=natural)


def test_identities_of_each_split(tmp_path):
    for i in range(10):
        (tmp_path / f"p{i}").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "list.txt").write_text("")
    problems = []
    found = [find_identities(tmp_path, split, (40, 20, 20, 20), problems) for split in SPLITS]
    names = [[path.name for path in block] for block in found]
    assert names == [["p0", "p1", "p2", "p3"], ["p4", "p5"], ["p6", "p7"], ["p8", "p9"]]
    for i, split in enumerate(SPLITS):
        (tmp_path / split / f"q{i}").mkdir(parents=True)
    found = [find_identities(tmp_path, split, (40, 20, 20, 20), problems) for split in SPLITS]
    assert found == [[tmp_path / split / f"q{i}"] for i, split in enumerate(SPLITS)]
    assert not problems


def test_names_are_fit_for_files():
    frames = tuple(pathlib.Path(name) for name in ("a b/1.png", "a b/2:x.png", "a b/ü.png"))
    clip = Clip("a b", "a_b_c", frames, (1, 1))
    assert pair_name(clip, 0, 1) == "a_b_c_1-2_x"
    assert pair_name(clip, 2, 0) == "a_b_c_ü-1"


def test_a_clip_is_read_in_natural_order(tmp_path):
    folder = tmp_path / "anna" / "at home/2"
    folder.mkdir(parents=True)
    for name in ("f10.png", "f9.jpg", "f2.webp", "f1.JPEG"):
        Image.new("RGB", (6, 4)).save(folder / name)
    (folder / "f3.txt").write_text("no frame")
    Image.new("RGB", (9, 9)).save(folder / ".f4.png")
    problems = []
    (clip,) = read_clips([tmp_path / "anna" / "at home"], problems)
    assert not problems
    assert [path.name for path in clip.frames] == ["f1.JPEG", "f2.webp", "f9.jpg", "f10.png"]
    assert clip.size == (4, 6)
    assert clip.identity == "at home"
    assert clip.name == "at_home_2"


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_alpha_is_the_matte_of_the_foreground(tmp_path, suffix):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0] = [[200, 40, 10, 255], [200, 40, 10, 128]]
    Image.fromarray(rgba).save(tmp_path / f"a.{suffix}", lossless=True)
    frame = read_frame(tmp_path / f"a.{suffix}")
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, [[[200, 40, 10], [164, 84, 69]], [[128] * 3] * 2])


def test_other_kinds_of_images(tmp_path):
    grey = np.array([[0, 90, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "grey.png"), grey[..., None].repeat(3, 2))
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "palette.png", transparency=1)
    np.testing.assert_array_equal(
        read_frame(tmp_path / "palette.png"), [[[10, 20, 30], [128, 128, 128]]]
    )
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "rgb.png"), rgb)
    assert read_size(tmp_path / "rgb.png") == (2, 4)


def test_more_than_8_bits(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png: found mode I;16; expected 8 bits per channel"):
        read_size(tmp_path / "deep.png")


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_file_cut_short_shows_in_its_header(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"cut\.{suffix}: .*damaged"):
        read_size(path)


# --- mistakes -----------------------------------------------------------------------------------
def write(*paths):
    """Small black frames."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)


def wrong_with(root, split="train"):
    """The problems of a split."""
    problems = []
    read_clips(find_identities(root, split, (70, 10, 10, 10), problems), problems)
    return problems


def test_no_identity(tmp_path):
    assert wrong_with(tmp_path) == [f"{tmp_path}: no folder of an identity"]
    write(tmp_path / "1.png", tmp_path / "2.png")
    (line,) = wrong_with(tmp_path)
    assert line.endswith("; 2 images lie directly in it (1.png), two levels too high")


def test_too_few_identities(tmp_path):
    for name in ("anna", "ben", "cleo"):
        (tmp_path / name).mkdir()
    assert wrong_with(tmp_path)[0] == (
        f"{tmp_path}: too few identities to give each split one: found 3 (anna, ben, cleo); "
        "expected 4 or more, or folders of the splits"
    )


def test_some_of_the_splits_folders(tmp_path):
    for name in ("train", "report", "anna"):
        (tmp_path / name).mkdir()
    (line,) = wrong_with(tmp_path)
    assert line.startswith(f"{tmp_path}: found train, report but no predictor, calibration; exp")


def test_images_one_level_too_high(tmp_path):
    write(*(tmp_path / name / "1.png" for name in "abcd"))
    first, second = wrong_with(tmp_path)
    assert first.startswith("no common identity for training pairs")
    assert "found no clip of two readable frames (identities: 1, clips: 0)" in first
    reason = "no folder of a clip; 1 image lies directly in it (1.png), one level too high"
    assert second == f"{tmp_path / 'a'}: {reason}"


def test_images_one_level_too_low(tmp_path):
    write(*(tmp_path / name / "clip" / "png" / "1.png" for name in "abcd"))
    reason = "no frames; images in its folders lie one level too low"
    assert wrong_with(tmp_path)[1] == f"{tmp_path / 'a' / 'clip'}: {reason}"


def test_no_clip_of_two_frames(tmp_path):
    write(*(tmp_path / name / clip / "1.png" for name in "abcd" for clip in "xy"))
    first, *singles = wrong_with(tmp_path)
    assert "found no clip of two readable frames (identities: 1, clips: 2)" in first
    reason = "a single frame, 1.png; expected two or more"
    assert singles == [f"{tmp_path / 'a' / clip}: {reason}" for clip in "xy"]
