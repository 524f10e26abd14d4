"""Output folders are tried first, and nobody finds half a file."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from fiancee_jax.errors import UserError
from fiancee_jax.files import sweep, writable, write_atomically, write_png


def test_folders_are_made_and_left_empty(tmp_path):
    folders = tmp_path / "new" / "out", tmp_path / "new" / "other"
    writable(*folders)
    writable(*folders)
    assert [list(folder.iterdir()) for folder in folders] == [[], []]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"cannot write into the output folder .*file/out.*--out"):
        writable(tmp_path, tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_file_is_replaced_at_once(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_is_a_user_error(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*a\.png"):
        write_atomically(tmp_path / "a.png", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*a\.png"):
        write_atomically(tmp_path / "file" / "a.png", b"")


def test_what_killed_writers_left_is_swept_away(tmp_path, monkeypatch):
    write_atomically(tmp_path / "kept.png", b"")
    (tmp_path / ".mine.tmp").touch()
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "lost.png", b"half")
    assert len(list(tmp_path.iterdir())) == 3
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "kept.png"]


def killed(*_):
    raise KeyboardInterrupt


def test_pictures_are_written_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)
