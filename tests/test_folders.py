"""Image and label folders: blocks of a split, and every problem in one message."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fiancee_jax.data import Folder, Landscapes, epoch
from fiancee_jax.data.folders import at_root, parse_split, read_classes
from fiancee_jax.errors import UserError

SIZE = (8, 8)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """A data set of ten pairs of 6x8 pixels in ``train``."""
    (tmp_path / "classes.json").write_text(json.dumps(["sky", "road", "void"]))
    for i in range(10):
        name, suffix = f"f{i:02d}", "jpg" if i % 2 else "png"
        write(tmp_path / "train" / "images" / f"{name}.{suffix}", np.full((6, 8, 3), 20 * i))
        write(tmp_path / "train" / "labels" / f"{name}.png", np.full((6, 8), i % 3))
    return tmp_path


def problems(folder, split="train"):
    with pytest.raises(UserError) as caught:
        folder.open(split, SIZE)
    return str(caught.value).splitlines()


def test_pairs_are_read_in_order(root):
    source = Folder(str(root)).open("train", SIZE)
    assert Folder(str(root)).classes() == ("sky", "road", "void")
    assert len(source) == 10
    element = source[4]
    assert element["name"] == "f04"
    np.testing.assert_array_equal(element["labels"], np.full((6, 8), 1))
    np.testing.assert_array_equal(element["image"], np.full((6, 8, 3), 80))
    assert element["labels"].dtype == element["image"].dtype == np.uint8
    assert abs(int(source[5]["image"][0, 0, 0]) - 100) <= 2  # a JPEG
    names = [name for names, _ in epoch(source, SIZE, 4, keys=["labels"]) for name in names]
    assert names == [f"f{i:02d}" for i in range(10)]


def test_a_split_is_cut_into_contiguous_blocks(root):
    data = Folder(
        str(root),
        train="train[:60%]",
        predictor="train[60%:80%]",
        calibration="train[80%:90%]",
        report="train[90%:]",
    )
    names = [
        [element["name"] for element in data.open(split, SIZE)]
        for split in ("train", "predictor", "calibration", "report")
    ]
    assert names == [[f"f{i:02d}" for i in range(6)], ["f06", "f07"], ["f08"], ["f09"]]


@given(st.text("ab_-.", min_size=1).filter(lambda s: s not in (".", "..")), st.data())
def test_split_expressions(name, data):
    start = data.draw(st.integers(0, 99))
    stop = data.draw(st.integers(start + 1, 100))
    assert parse_split(f"{name}[{start}%:{stop}%]") == (name, start, stop)
    assert parse_split(f"{name}[{start}%:]") == (name, start, 100)
    assert parse_split(f"{name}[:{stop}%]") == (name, 0, stop)
    assert parse_split(name) == (name, 0, 100)


@pytest.mark.parametrize(
    "expression",
    ["train[10:20]", "train[60%:40%]", "train[:0%]", "train[:101%]", "train[", "", "..", "a/b"],
)
def test_bad_split_expressions(expression):
    with pytest.raises(UserError, match=r"expected NAME or NAME\[a%:b%\].*train\[:60%\]") as caught:
        parse_split(expression)
    assert repr(expression) in str(caught.value)


def test_another_root(tmp_path):
    known = Folder(root="here", report="val[0:9]")
    assert at_root(known, None) is known
    assert at_root(known, tmp_path) == Folder(root=str(tmp_path), report="val[0:9]")
    assert at_root(Landscapes(), tmp_path) == Folder(root=str(tmp_path))


def test_an_unknown_split(root):
    assert "Found split 'val'; expected one of train" in problems(Folder(str(root)), "val")[0]


def test_an_absent_root(tmp_path):
    first = problems(Folder(str(tmp_path / "nowhere")))[0]
    assert first.startswith(f"Found no folder {tmp_path / 'nowhere'}. Expected SPLIT/images/NAME")
    assert first.endswith("--data.root.")
    with pytest.raises(UserError, match=r"Found no folder .*nowhere"):
        Folder(str(tmp_path / "nowhere")).classes()


def test_an_absent_split_says_what_is_there(root):
    lines = problems(Folder(str(root)), "report")
    assert "2 problems in split report (val)" in lines[0]
    assert f"{root / 'val' / 'images'}: no such folder (found in {root}: ['train'])" in lines[1]


def test_an_empty_split(root):
    (root / "val" / "images").mkdir(parents=True)
    (root / "val" / "labels").mkdir()
    assert "no pairs in val (0 files in all)" in problems(Folder(str(root)), "report")[1]


def test_all_problems_come_at_once(root):
    train = root / "train"
    (train / "labels" / "f00.png").unlink()
    (train / "images" / "f01.jpg").unlink()
    write(train / "labels" / "f02.png", np.full((3, 4), 1))
    write(train / "labels" / "f03.png", [[0, 1], [77, 200]])
    write(train / "labels" / "f04.png", np.zeros((6, 8, 3)))
    jpeg = train / "images" / "f05.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-30])
    (train / "images" / "f06.png").write_text("no image")
    write(train / "images" / "f07.png", np.zeros((6, 8, 3)))  # beside f07.jpg
    (root / "classes.json").unlink()
    lines = problems(Folder(str(root)))
    expected = [
        ("classes.json", "no such file; expected a JSON list of class names by id"),
        ("f07.png", "same stem as f07.jpg; keep one of them"),
        ("f00.png", "no labels f00.png"),
        ("f01.png", "no image f01.jpg or .png"),
        ("f02.png", "8x6 pixels, but f02.png has 4x3"),
        ("f03.jpg", "8x6 pixels, but f03.png has 2x2"),
        ("f04.png", "mode RGB"),
        ("f05.jpg", "damaged"),
        ("f06.png", "not an image"),
    ]
    assert f"Found {len(expected)} problems in split train (train) of {root}:" == lines[0]
    for line, (name, problem) in zip(lines[1:-1], expected, strict=True):
        assert name in line
        assert problem in line
    assert "Mend, replace or remove these files" in lines[-1]


def test_unknown_ids_are_named(root):
    write(root / "train" / "labels" / "f03.png", np.full((6, 8), 77))
    lines = problems(Folder(str(root)))
    assert len(lines) == 3
    assert "f03.png: holds class ids 77; expected 0 to 2 (there are 3 classes)" in lines[1]
    assert "classes.json says 0 = sky, 1 = road, 2 = void." in lines[2]
    assert "Mend, replace or remove these files" in lines[2]


def test_only_the_block_is_checked(root):
    (root / "train" / "images" / "f09.jpg").write_text("no image")
    assert len(Folder(str(root), train="train[:90%]").open("train", SIZE)) == 9
    assert "f09.jpg" in problems(Folder(str(root), report="train[90%:]"), "report")[1]


def test_a_long_list_is_cut(root):
    for i in range(30):
        write(root / "val" / "images" / f"{i:02d}.png", np.zeros((2, 2, 3)))
    (root / "val" / "labels").mkdir()
    lines = problems(Folder(str(root)), "report")
    assert "Found 30 problems" in lines[0]
    assert len(lines) == 1 + 20 + 1 + 1
    assert lines[-2] == "  and 10 more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[", "unreadable"),
        ('{"sky": 0}', r'found {"sky": 0}; expected a JSON list'),
        ("[1, 2]", r"found \[1, 2\]"),
        ("[]", "found 0 names; expected.*1 to 256, distinct"),
        ('["a", "b", "a"]', "found 3 names, a more than once"),
        (json.dumps([str(i) for i in range(257)]), "found 257 names; expected"),
    ],
)
def test_malformed_class_lists(tmp_path, text, expected):
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(UserError, match=expected) as caught:
        read_classes(path)
    assert str(path) in str(caught.value)


def test_camvid(camvid_dir):
    data = Folder(str(camvid_dir))
    assert "void" in {name.lower() for name in data.classes()}
    source = data.open("calibration", (96, 128))
    assert len(source) == 58
    element = source[0]
    assert element["image"].shape == (360, 480, 3)
    assert element["labels"].max() < len(data.classes())

    def nearest(count):  # 360 / 96 = 480 / 128 = 3.75
        return np.floor((np.arange(count) + 0.5) * 3.75).astype(int)

    names, batch = next(epoch(source, (96, 128), 4, keys=["labels"]))
    assert names[0] == element["name"]
    assert batch.inputs["labels"].shape == (4, 96, 128)
    assert batch.target is not None
    assert batch.target.shape == (4, 96, 128, 3)
    np.testing.assert_array_equal(
        batch.inputs["labels"][0],
        element["labels"][np.ix_(nearest(96), nearest(128))],
    )
