"""Published archives become folders that the full-size configs read."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from fiancee_jax import __main__ as verbs
from fiancee_jax.config import load_config
from fiancee_jax.data.archives import ARCHIVES, arrange
from fiancee_jax.errors import UserError

PAIRS = {  # picture and label map of number i, as the archives name them
    "ade20k": (
        "images/{training|validation}/ADE_{i}.jpg",
        "annotations/{training|validation}/ADE_{i}.png",
    ),
    "coco": (
        "images/{train2017|val2017}/{i}.jpg",
        "annotations/{train2017|val2017}/{i}.png",
    ),
    "cityscapes": (
        "leftImg8bit/{train|val}/ulm/ulm_{i}_leftImg8bit.png",
        "gtFine/{train|val}/ulm/ulm_{i}_gtFine_labelIds.png",
    ),
}
LARGEST = {"ade20k": 150, "coco": 181, "cityscapes": 33}  # ids in the archive's own files


def unpack(name, folder, train=40, val=3):
    """An archive with pictures full of their number, label maps of 0 and one more id."""
    for which, count in enumerate((train, val)):
        for i in range(count):
            picture, labels = (folder / place(path, which, i) for path in PAIRS[name])
            for path in (picture, labels):
                path.parent.mkdir(parents=True, exist_ok=True)
            ids = np.zeros((8, 8), np.uint8)
            ids[0] = LARGEST[name]
            ids[1] = 255 if name == "coco" else 1
            Image.fromarray(ids).save(labels)
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(picture)


def place(path, which, i):
    before, _, rest = path.partition("{")
    words, _, after = rest.partition("}")
    return before + words.split("|")[which] + after.replace("{i}", f"{i:06d}")


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_config_reads_what_was_laid_out(tmp_path, name):
    unpack(name, tmp_path / "archive")
    found = arrange(name, tmp_path / "archive", tmp_path / "data")
    config = load_config(f"oasis_{name}")
    data = dataclasses.replace(config.data, root=str(tmp_path / "data"))
    splits = {s: data.open(s, config.model.size) for s in ("train", "predictor", "calibration")}
    report = data.open("report", config.model.size)
    cut = [32, 4, 4] if name == "cityscapes" else [36, 2, 2]
    assert [len(split) for split in splits.values()] == cut
    assert len(report) == 3
    assert sum(found.values()) == 43
    names = [element["name"] for split in splits.values() for element in split]
    assert len(set(names)) == 40
    family = config.model.with_classes(data.classes())
    assert family.num_classes == ARCHIVES[name].classes
    assert family.void == 0


def test_coco_counts_its_classes_from_one_and_unlabelled_as_void(tmp_path):
    unpack("coco", tmp_path / "archive", train=3)
    arrange("coco", tmp_path / "archive", tmp_path / "data")
    labels = np.asarray(Image.open(tmp_path / "data/train/labels/000002.png"))
    assert labels[:3, 0].tolist() == [182, 0, 1]
    original = np.asarray(Image.open(tmp_path / "archive/annotations/train2017/000002.png"))
    assert original[:3, 0].tolist() == [181, 255, 0]


def test_every_20th_picture_is_kept_for_predictor_and_calibration(tmp_path):
    unpack("ade20k", tmp_path / "archive")
    arrange("ade20k", tmp_path / "archive", tmp_path / "data")
    for split, kept in (("predictor", [0, 20]), ("calibration", [1, 21])):
        stems = sorted(path.stem for path in (tmp_path / "data" / split / "images").iterdir())
        assert stems == [f"ADE_{i:06d}" for i in kept]
    assert json.loads((tmp_path / "data" / "classes.json").read_text())[:2] == ["void", "class 1"]


def test_messages(tmp_path):
    with pytest.raises(UserError, match=r"Found 0 pictures in .*archive; expected .*gtFine/train"):
        arrange("cityscapes", tmp_path / "archive", tmp_path / "data")
    unpack("cityscapes", tmp_path / "archive", train=2, val=0)
    with pytest.raises(UserError, match=r"Found 2 pictures in .*gtFine/val"):
        arrange("cityscapes", tmp_path / "archive", tmp_path / "data")
    unpack("cityscapes", tmp_path / "archive", train=2)
    (tmp_path / "archive/gtFine/train/ulm/ulm_000001_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"no label map .*ulm_000001_gtFine.* \(1 of 5 are missing"):
        arrange("cityscapes", tmp_path / "archive", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="Found something at"):
        arrange("cityscapes", tmp_path / "archive", tmp_path / "data")


def test_the_command_shows_what_it_made(tmp_path, capsys):
    unpack("cityscapes", tmp_path / "archive", train=2)
    out = tmp_path / "new" / "data"
    verbs.main(["arrange", "cityscapes", str(tmp_path / "archive"), "--out", str(out)])
    said = capsys.readouterr().out
    assert "train: 2 pairs, val: 3 pairs" in said
    assert f"wrote {out}" in said
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def test_nothing_is_left_of_an_interrupted_run(tmp_path):
    def stopped(pairs):
        yield pairs[0]
        raise KeyboardInterrupt

    unpack("cityscapes", tmp_path / "archive", train=2)
    with pytest.raises(KeyboardInterrupt):
        arrange("cityscapes", tmp_path / "archive", tmp_path / "data", stopped)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
