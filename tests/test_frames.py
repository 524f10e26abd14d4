"""Sources and drivers on disk: what is read, cut and laid over the ground; and every mistake."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from fiancee_jax.data.clip_files import read_frame, read_size
from fiancee_jax.data.frames import fit, read_clip
from fiancee_jax.data.ground import GROUND
from fiancee_jax.errors import UserError

SIZE = (32, 32)
ORDER = ["f1", "f2", "f10", "f20"]


def save(path, size=SIZE, seed=0, mode="RGB", **options):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (*size, len(mode)), np.uint8)
    Image.fromarray(pixels, mode=None if mode == "RGB" else mode).save(path, **options)
    return pixels


@pytest.fixture
def files(tmp_path) -> tuple[pathlib.Path, pathlib.Path]:
    """A source and a driver of four frames, as paths."""
    driver = tmp_path / "driver"
    driver.mkdir()
    for i, name in enumerate(ORDER):
        save(driver / f"{name}.png", seed=i)
    save(tmp_path / "source.png", seed=9)
    return tmp_path / "source.png", driver


def refused(source, driver, *words):
    with pytest.raises(UserError) as error:
        read_clip(source, driver, SIZE)
    for word in words:
        assert word in str(error.value)
    return str(error.value)


# --- what is read -------------------------------------------------------------------------------
def test_frames_come_in_natural_order(files):
    clip = read_clip(files[0], files[1], SIZE)
    assert [frame.name for frame in clip.frames] == ORDER
    for i in range(4):
        expected = np.asarray(Image.open(files[1] / f"{ORDER[i]}.png"))
        np.testing.assert_array_equal(clip.read(i), expected)
    np.testing.assert_array_equal(clip.source, np.asarray(Image.open(files[0])))
    assert clip.note == ""


def test_other_files_are_ignored_and_formats_mix(files):
    (files[1] / "notes.txt").write_text("not a frame")
    (files[1] / ".hidden.png").write_text("not a frame")
    save(files[1] / "f30.jpg", seed=5)
    save(files[1] / "f31.webp", seed=6)
    clip = read_clip(files[0], files[1], SIZE)
    assert [frame.path.name for frame in clip.frames[-2:]] == ["f30.jpg", "f31.webp"]


def test_alpha_is_the_matte(tmp_path):
    pixels = save(tmp_path / "a.png", mode="RGBA")
    found = read_frame(tmp_path / "a.png").astype(float)
    alpha = pixels[..., 3:] / 255
    np.testing.assert_allclose(found, alpha * pixels[..., :3] + (1 - alpha) * GROUND, atol=0.51)
    Image.fromarray(pixels).quantize(16).save(tmp_path / "palette.png", transparency=0)
    assert (read_frame(tmp_path / "palette.png") == GROUND).all(-1).any()


def test_greyscale_and_turned_pictures(tmp_path):
    pixels = save(tmp_path / "rgb.png", (32, 48))
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    grey = read_frame(tmp_path / "grey.png")
    np.testing.assert_array_equal(grey, np.repeat(pixels[..., :1], 3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter to the right
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_frame(tmp_path / "turned.png"), np.rot90(pixels, -1))
    assert read_size(tmp_path / "turned.png") == (48, 32)


def test_another_aspect_is_cut_to_the_centre(files):
    wide = np.zeros((32, 48, 3), np.uint8)
    wide[:, 8:40] = 200
    for name in ORDER:
        Image.fromarray(wide).save(files[1] / f"{name}.png")
    save(files[0], (64, 64))
    clip = read_clip(files[0], files[1], SIZE)
    assert (clip.read(0) == 200).all()
    assert clip.source.shape == (*SIZE, 3)
    assert clip.note == (
        "the driver's frames (32x48) cut to the centre of the model's aspect, 32x32."
    )
    save(files[0], (60, 40))
    note = read_clip(files[0], files[1], SIZE).note
    assert note.startswith("the source (60x40) and the driver's frames (32x48) cut")


def test_fit_keeps_what_fits_already():
    picture = np.zeros((*SIZE, 3), np.uint8)
    assert fit(picture, SIZE) is picture
    assert fit(picture, (16, 24)).shape == (16, 24, 3)


# --- mistakes -----------------------------------------------------------------------------------
def test_a_source_without_foreground(files):
    rgba = np.zeros((*SIZE, 4), np.uint8)
    Image.fromarray(rgba).save(files[0])
    refused(*files, "source.png: found nothing but background", "alpha channel")
    rgba[:8, :, 3] = 255
    Image.fromarray(np.pad(rgba, ((16, 16), (0, 0), (0, 0)))).save(files[0])
    assert read_clip(files[0], files[1], SIZE).note  # the head is in the cut
    Image.fromarray(np.pad(rgba, ((0, 32), (0, 0), (0, 0)))).save(files[0])
    refused(*files, "in the middle if it is cut")


def test_sources_that_cannot_be_read(files):
    refused(files[0].with_name("nowhere.png"), files[1], "nowhere.png: no such file", "Give a")
    refused(files[1], files[1], "not an image, or damaged", "Give a source picture")
    files[0].write_bytes(files[0].read_bytes()[:500])
    refused(*files, "source.png: damaged or cut short")
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(files[0])
    refused(*files, "expected 8 bits per channel")


def test_drivers_that_are_no_clip(files, tmp_path):
    refused(files[0], tmp_path / "nowhere", "Found no folder", "two or more of one size")
    refused(files[0], files[0], "Found no folder")
    (tmp_path / "empty").mkdir()
    refused(files[0], tmp_path / "empty", "Found no frames in")
    save(tmp_path / "empty" / "only.png")
    message = refused(files[0], tmp_path / "empty", "a single frame", "only.png")
    assert "no motion to follow" in message


def test_everything_wrong_with_the_frames_is_said_at_once(files):
    save(files[1] / "f2.png", (32, 40))
    content = (files[1] / "f10.png").read_bytes()
    (files[1] / "f10.png").write_bytes(content[: len(content) // 2])
    save(files[1] / "f20.jpg")
    message = refused(*files, "Found 3 problems in 5 frames")
    assert f"{files[1] / 'f2.png'}: is 32x40, most frames are 32x32" in message
    assert f"{files[1] / 'f10.png'}: damaged or cut short" in message
    assert f"{files[1] / 'f20.png'}: same name as f20.jpg but for the ending" in message
    assert "f1.png" not in message


def test_names_that_no_file_system_promises_to_keep(files):
    try:
        (files[1] / "f1.png").rename(files[1] / "f\udcff.png")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    refused(*files, "the name is not valid UTF-8")


@pytest.mark.parametrize(
    ("size", "word"), [((32, 66), "wide"), ((66, 32), "tall"), ((1, 300), "wide")]
)
def test_aspects_of_which_too_little_would_be_left(files, size, word):
    save(files[0], size)
    refused(*files, f"the source {files[0]} is {size[0]}x{size[1]}", f"as {word} as the model's")
    save(files[0])
    for name in ORDER:
        save(files[1] / f"{name}.png", size)
    refused(*files, "the driver", "more than twice", "Crop it around the head")


def test_twice_as_wide_is_still_cut(files):
    save(files[0], (32, 64))
    assert read_clip(files[0], files[1], SIZE).source.shape == (*SIZE, 3)
