"""Label maps on disk: what is read, and that every kind of mistake is named."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fiancee_jax.data.labels import (
    bad_ids,
    check_label_files,
    fit_labels,
    read_image,
    read_label_folder,
    read_labels,
)
from fiancee_jax.errors import UserError

CLASSES = ("sky", "road", "void")


def save(path, array, mode=None):
    image = Image.fromarray(np.asarray(array, np.uint8))
    if mode == "P":
        image.putpalette([i % 256 for i in range(768)])
    elif mode:
        image = image.convert(mode)
    image.save(path)
    return path


def four_bit_grey(path):
    """A 2x2 greyscale PNG with 4 bits per pixel, ids 0 1 / 2 0, which Pillow stretches by 17."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 2, 2, 4, 0, 0, 0, 0)
    rows = zlib.compress(bytes([0, 0x01, 0, 0x20]))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(png)
    return path


@pytest.mark.parametrize("mode", [None, "P"])
def test_index_images_are_read_as_they_are(tmp_path, mode):
    ids = np.array([[0, 1, 2], [250, 255, 7]])
    labels = read_labels(save(tmp_path / "a.png", ids, mode))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, ids)


def test_palette_images_of_few_bits_are_read_as_they_are(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8))
    image.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])
    image.save(tmp_path / "a.png", bits=2)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), [[0, 1], [2, 0]])


def test_a_folder_is_sorted_and_read_lazily(tmp_path):
    save(tmp_path / "b.png", np.full((4, 6), 1))
    save(tmp_path / "a.PNG", np.full((2, 3), 2))
    (tmp_path / "notes.txt").write_text("not a label map")
    (tmp_path / "._b.png").write_bytes(b"hidden")
    files = read_label_folder(tmp_path, CLASSES)
    assert [(f.name, f.size) for f in files] == [("a", (2, 3)), ("b", (4, 6))]
    save(tmp_path / "b.png", np.full((4, 6), 2))
    np.testing.assert_array_equal(files[1].read(), np.full((4, 6), 2))


def test_all_problems_come_at_once(tmp_path):
    save(tmp_path / "good.png", [[0, 2]])
    save(tmp_path / "ids.png", [[0, 3, 200, 2]])
    save(tmp_path / "colour.png", np.zeros((2, 2)), "RGB")
    save(tmp_path / "alpha.png", np.zeros((2, 2)), "LA")
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "deep.png")
    four_bit_grey(tmp_path / "thin.png")
    (tmp_path / "text.png").write_text("hello")
    whole = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 3, (64, 64)))
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(UserError) as caught:
        read_label_folder(tmp_path, CLASSES)
    lines = str(caught.value).splitlines()
    assert lines[0] == "Found 7 problems in 8 label maps:"
    assert lines[-1] == (
        "A label map is an 8-bit PNG with one channel (greyscale or palette), pixel = class id."
    )
    expected = {
        "alpha.png": "mode LA",
        "colour.png": "mode RGB",
        "cut.png": "damaged or cut short",
        "deep.png": "mode I;16",
        "ids.png": "class ids 3, 200; expected 0 to 2 (there are 3 classes)",
        "text.png": "not an image, or damaged",
        "thin.png": "(stored as L;4); expected an index image, 8 bits and one channel",
    }
    for line, (name, problem) in zip(lines[1:-1], expected.items(), strict=True):
        assert name in line
        assert problem in line


def test_a_long_list_is_cut(tmp_path):
    for i in range(25):
        save(tmp_path / f"{i:02d}.png", [[9]])
    with pytest.raises(UserError, match="Found 25 problems") as caught:
        read_label_folder(tmp_path, CLASSES)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert lines[-2] == "  and 5 more"


def test_folders_without_label_maps(tmp_path):
    with pytest.raises(UserError, match=r"Found no folder .*absent; expected one with label maps"):
        read_label_folder(tmp_path / "absent", CLASSES)
    with pytest.raises(UserError, match=r"Found no PNG in .*; expected label maps, NAME.png"):
        read_label_folder(tmp_path, CLASSES)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone.png: no such file"):
        check_label_files([tmp_path / "gone.png"], CLASSES)


@pytest.mark.parametrize("side", [12, 20])  # Pillow warns above the limit, raises above twice that
def test_oversized_images_are_refused_before_decoding(tmp_path, monkeypatch, side):
    save(tmp_path / "bomb.png", np.zeros((side, side)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"bomb.png: too large.*at most 100 pixels"):
        read_label_folder(tmp_path, CLASSES)


def test_bad_ids_lists_the_first_eight():
    assert bad_ids(np.array([[0, 2]]), 3) == ""
    assert bad_ids(np.array([[-1, 2]]), 3).startswith("holds class ids -1; expected 0 to 2")
    assert "10, 11, 12, 13, 14, 15, 16, 17 and 2 more" in bad_ids(np.arange(20)[None], 10)


sides = st.integers(1, 50)


@given(sides, sides, sides, sides)
def test_fitting_cuts_the_centre_and_takes_the_nearest(h, w, th, tw):
    labels = np.arange(h * w).reshape(h, w)
    ch, cw = min(h, max(1, round(w * th / tw))), min(w, max(1, round(h * tw / th)))
    cut = labels[(h - ch) // 2 :, (w - cw) // 2 :][:ch, :cw]
    rows = [int((i + 0.5) * ch / th) for i in range(th)]
    columns = [int((j + 0.5) * cw / tw) for j in range(tw)]
    np.testing.assert_array_equal(fit_labels(labels, (th, tw)), cut[np.ix_(rows, columns)])


def test_fitting_a_fitting_map_is_no_work():
    labels = np.zeros((4, 8), np.uint8)
    assert fit_labels(labels, (4, 8)) is labels


def test_pictures_of_any_common_kind_become_rgb(tmp_path):
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    for mode in ("L", "RGB", "RGBA", "LA"):
        image = read_image(save(tmp_path / f"{mode}.png", grey, mode))
        np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, -1))
    palette = Image.fromarray(np.zeros((2, 2), np.uint8))
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=bytes([0]))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0, 0], [10, 20, 30])


def test_a_deep_picture_is_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep.png: found mode I;16; expected 8 bits per channel"):
        read_image(tmp_path / "deep.png")


def test_a_cut_jpeg_is_refused(tmp_path):
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(data, "jpeg")
    (tmp_path / "a.jpg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    with pytest.raises(UserError, match=r"a.jpg: damaged or cut short"):
        read_image(tmp_path / "a.jpg")
