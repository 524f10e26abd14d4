"""Digests of a folder."""

import hashlib
import json

import pytest

from fiancee_jax import digests


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "data").write_bytes(b"12345")
    (tmp_path / "list").write_bytes(b"")
    digests.seal(tmp_path)
    return tmp_path


def test_a_sealed_folder_is_as_it_was(folder):
    assert digests.problem(folder) == ""
    known = json.loads((folder / "digests.json").read_text())
    assert known == {
        "a/data": hashlib.sha256(b"12345").hexdigest(),
        "list": hashlib.sha256(b"").hexdigest(),
    }
    digests.seal(folder)
    assert digests.problem(folder) == ""


def test_a_folder_that_was_never_sealed_has_no_problem(tmp_path):
    assert digests.problem(tmp_path) == ""


@pytest.mark.parametrize("content", [b"1234", b"12346", b""])
def test_changed_files_are_named(folder, content):
    (folder / "a" / "data").write_bytes(content)
    assert digests.problem(folder) == "a/data is not as it was written"


def test_missing_files_are_named(folder):
    (folder / "list").unlink()
    assert digests.problem(folder) == "list is missing"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a/data": 1}', "\x00"])
def test_a_damaged_list_is_a_problem(folder, text):
    (folder / "digests.json").write_text(text)
    assert digests.problem(folder)
