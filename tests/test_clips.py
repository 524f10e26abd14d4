"""Clips: pairs of frames for self-reenactment, and every problem of a folder in one message."""

import concurrent.futures

import cattrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fiancee_jax.data import epoch
from fiancee_jax.data.clips import Clips, draw_pairs
from fiancee_jax.data.splits import SPLITS
from fiancee_jax.errors import UserError

SIZE = (8, 8)
SOME = ("p0", "p1", "p2", "p3")  # one identity for each split


def write(path, value, size=(6, 8)):
    """A frame of one colour, lossless."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """Four identities with two clips each, of 8 and 5 frames of 6x8; a frame's colour is unique."""
    for i, identity in enumerate(SOME):
        for clip, frames in (("a", 8), ("b", 5)):
            for n in range(frames):
                value = 60 * i + 20 * (clip == "b") + 2 * n + 1
                write(tmp_path / identity / clip / f"{n + 1}.png", value)
    return tmp_path


def problems(data, split="train"):
    with pytest.raises(UserError) as caught:
        data.open(split, SIZE)
    return str(caught.value).splitlines()


def value_of(name):
    """The colour of both frames that a pair is named after."""
    identity, clip, frames = name.split("_")
    start = 60 * SOME.index(identity) + 20 * (clip == "b") - 1
    return tuple(start + 2 * int(frame) for frame in frames.split("-"))


def test_elements_are_what_their_names_say(root):
    source = Clips(str(root), pairs=3, jitter=False).open("train", SIZE)
    assert Clips().classes() == ()
    assert len(source) == 6
    elements = [element for element in source]  # the sequence protocol: IndexError
    for element in elements:
        assert set(element) == {"name", "source", "driver", "image"}
        first, second = value_of(element["name"])
        for key, value in (("source", first), ("driver", second), ("image", second)):
            assert element[key].dtype == np.uint8
            np.testing.assert_array_equal(element[key], np.full((6, 8, 3), value))
    clips = [element["name"].rsplit("_", 1)[0] for element in elements]
    assert clips == ["p0_a", "p0_b"] * 3
    assert len({element["name"] for element in elements}) == 6
    with pytest.raises(IndexError, match="pair -1 of 6"):
        source[-1]


def test_an_element_depends_on_seed_split_and_index_alone(root):
    first = Clips(str(root), own=2).open("train", SIZE)
    again = Clips(str(root), own=2, pairs=4).open("train", SIZE)
    _ = again[3]  # another access in between changes nothing
    for key in first[5]:
        np.testing.assert_array_equal(first[5][key], again[5][key])
    names = [[e["name"] for e in Clips(str(root), seed=s).open("train", SIZE)] for s in (0, 1)]
    assert names[0] != names[1]


def test_threads_read_the_same(root):
    source = Clips(str(root), own=1).open("train", SIZE)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        elements = list(pool.map(source.__getitem__, list(range(len(source))) * 3))
    for i, element in enumerate(elements):
        alone = source[i % len(source)]
        for key in alone:
            np.testing.assert_array_equal(element[key], alone[key])


def test_only_the_training_splits_driver_is_jittered(root):
    for split in SPLITS:
        for jitter in (True, False):
            source = Clips(str(root), jitter=jitter).open(split, SIZE)
            elements = [source[i] for i in range(len(source))]
            other = [not np.array_equal(e["driver"], e["image"]) for e in elements]
            assert all(other) if jitter and split == "train" else not any(other)
            for element in elements:
                assert (element["image"] == value_of(element["name"])[1]).all()
                assert (element["source"] == value_of(element["name"])[0]).all()


def test_own_frames_are_others_of_the_identity(root):
    for element in Clips(str(root), own=3).open("predictor", SIZE):
        values = element["own"][:, 0, 0, 0].tolist()
        assert element["own"].shape == (3, 6, 8, 3)
        assert element["own"].dtype == np.uint8
        assert len({*values, *value_of(element["name"])}) == 5
        assert all(60 < value < 100 for value in values)
    every = Clips(str(root), own=11).open("report", SIZE)[0]  # of 8 + 5 frames
    shown = {*every["own"][:, 0, 0, 0].tolist(), *value_of(every["name"])}
    assert shown == {180 + 2 * n + 1 for n in range(8)} | {200 + 2 * n + 1 for n in range(5)}


def test_own_frames_are_of_the_pairs_size(root):
    for n in range(4):
        write(root / "p0" / "c" / f"{n}.png", 99, (4, 4))
    shapes = {e["own"].shape[1:] for e in Clips(str(root), own=2).open("train", SIZE)}
    assert shapes == {(6, 8, 3), (4, 4, 3)}
    assert problems(Clips(str(root), own=3))[1:-1] == [
        "  p0: 4 frames of 4x4; data.own = 3 needs 5 of one size"
    ]


def test_mattes_lie_on_the_ground(root):
    for n in range(2):
        rgba = np.zeros((4, 4, 4), np.uint8)
        rgba[1:3, 1:3] = (200, 100, 10 * n, 255)
        Image.fromarray(rgba).save(write(root / "p0" / "c" / f"{n}.png", 0))
    elements = [e for e in Clips(str(root)).open("train", SIZE) if e["name"][:4] == "p0_c"]
    assert len(elements) == 2  # both orders of the only pair
    for element in elements:
        for key in ("source", "image"):
            assert (element[key][0] == 128).all()
            assert element[key][1, 1, :2].tolist() == [200, 100]


def test_no_identity_is_in_two_splits(root):
    names = [
        {e["name"].split("_")[0] for e in Clips(str(root)).open(split, SIZE)} for split in SPLITS
    ]
    assert names == [{"p0"}, {"p1"}, {"p2"}, {"p3"}]


def test_folders_of_the_splits_take_precedence(tmp_path):
    for i, split in enumerate(SPLITS):
        for n in range(2):
            write(tmp_path / split / f"q{i}" / "clip" / f"{n}.png", 10)
    for i, split in enumerate(SPLITS):
        source = Clips(str(tmp_path)).open(split, SIZE)
        assert {e["name"] for e in source} == {f"q{i}_clip_0-1", f"q{i}_clip_1-0"}


def test_the_loader_takes_them(root):
    source = Clips(str(root), pairs=2, jitter=False).open("train", SIZE)
    names, batch = next(epoch(source, SIZE, 4, keys=["source", "driver"]))
    assert batch.inputs["source"].shape == batch.inputs["driver"].shape == (4, 8, 8, 3)
    assert batch.target is not None
    want = [value_of(name)[1] / 127.5 - 1 for name in names]
    np.testing.assert_allclose(batch.target[:, 0, 0, 0], want, atol=1e-6)


def test_a_config_keeps_its_fields():
    data = Clips("x", pairs=2, shares=(40, 20, 20, 20))
    plain = {**cattrs.unstructure(data), "shares": [40, 20, 20, 20]}  # as JSON has it
    assert cattrs.structure(plain, Clips) == data


def test_files_are_all_frames_of_the_split(root):
    files = Clips(str(root)).open("train", SIZE).files
    assert sorted(files) == sorted((root / "p0").glob("*/*.png"))


@given(st.integers(2, 60), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_pairs_are_different_frames_far_apart(frames, count, seed):
    pairs = draw_pairs(frames, count, np.random.default_rng(seed))
    all_pairs = [(a, b) for a in range(frames) for b in range(frames) if 4 * abs(a - b) >= frames]
    assert len(set(pairs)) == len(pairs) == min(count, len(all_pairs))
    assert set(pairs) <= set(all_pairs)
    assert pairs[:1] == draw_pairs(frames, 1, np.random.default_rng(seed))


def test_an_unknown_split(root):
    assert problems(Clips(str(root)), "val")[0].startswith("Found split 'val'; expected one of")


def test_too_few_identities_for_any_split(root):
    (root / "p3").rename(root.parent / "p3")
    for split in SPLITS:
        (line,) = problems(Clips(str(root)), split)[1:-1]
        assert line.startswith(f"  {root}: too few identities to give each split one: found 3")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"root": ""}, r"data\.root is not given\. Expected ROOT/IDENTITY/CLIP/FRAME\.png"),
        ({"root": "/nowhere/at/all"}, r"Found no folder /nowhere/at/all\. Expected ROOT/IDENTITY"),
        ({"pairs": 0}, r"data\.pairs is 0; it must be 1 or more"),
        ({"seed": -1}, r"data\.seed is -1; it must be 0 or more"),
        ({"own": -1}, r"data\.own is -1; it must be 0 or more"),
        ({"shares": (70, 10, 10, 20)}, r"data\.shares is \(70, 10, 10, 20\); .* add up to 100"),
        ({"shares": (80, 10, 10)}, r"for train, predictor, calibration, report"),
        ({"shares": (80, 10, 10, 0)}, r"whole percents of 1 or more"),
    ],
)
def test_fields_that_cannot_work(tmp_path, fields, expected):
    with pytest.raises(UserError, match=expected):
        Clips(**{"root": str(tmp_path), **fields}).open("train", SIZE)


def test_all_problems_come_at_once(root):
    (root / "p0" / "empty").mkdir()
    write(root / "p0" / "single" / "7.png", 0)
    write(root / "p0" / "a" / "9.png", 0, (3, 4))
    write(root / "p0" / "a" / "8.jpg", 0)  # beside 8.png
    (root / "p0" / "b" / "2.png").write_text("no image")
    png = root / "p0" / "b" / "3.png"
    png.write_bytes(png.read_bytes()[:60])
    for n in range(2):
        write(root / "p0" / "x y" / f"{n}.png", 0)
        write(root / "p0" / "x_y" / f"{n}.png", 0)
    (root / "p1" / "a" / "1.png").write_text("of another split, which is not checked")
    lines = problems(Clips(str(root)))
    folder = root / "p0"
    expected = [
        (folder / "a" / "8.png", "same name as 8.jpg but for the ending; keep one of them"),
        (folder / "a", "frames of mixed size, 8x6 (first 1.png), 4x3 (first 9.png); expected one"),
        (folder / "b" / "2.png", "not an image, or damaged"),
        (folder / "b" / "3.png", "damaged or cut short"),
        (folder / "empty", "no frames"),
        (folder / "single", "a single frame, 7.png; expected two or more"),
        (folder / "x_y", f"called p0_x_y_..., like those of {folder / 'x y'}; rename one"),
    ]
    assert lines[0] == f"Found 7 problems in split train of {root}:"
    for line, (path, problem) in zip(lines[1:-1], expected, strict=True):
        assert line.startswith(f"  {path}: ")
        assert problem in line
    assert lines[-1].startswith("Expected ROOT/IDENTITY/CLIP/FRAME.png (or .jpg, .jpeg, .webp)")


def test_damage_behind_the_header_is_named_when_read(root):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for n in range(2):
        Image.fromarray(noise).save(write(root / "p0" / "c" / f"{n}.jpg", 0))
    cut = root / "p0" / "c" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:-400])
    source = Clips(str(root)).open("train", SIZE)
    assert source.clips[2].name == "p0_c"
    with pytest.raises(UserError, match=r"c/1\.jpg: damaged or cut short"):
        source[2]
