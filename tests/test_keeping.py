"""Records are read again only if they would come out the same."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from studies import made_records
from tiny import tiny_renderer

import fiancee_jax
from fiancee_jax.data import Folder, Landscapes
from fiancee_jax.evaluation import keeping
from fiancee_jax.evaluation.records import Judges
from fiancee_jax.evaluation.subjects import First

RENDERER, RECORDS = tiny_renderer(), made_records()


def judges(scale=1.0):
    def read(scale, pictures):
        return scale * pictures

    part = jax.tree_util.Partial(read, jnp.array(scale))
    empty = {"w": jnp.zeros(2)}
    return Judges(empty, empty, None, part)  # pyright: ignore[reportArgumentType]


def mark(renderer=RENDERER, judges=judges(), data=Landscapes(), source=(), **options):  # noqa: B008
    return keeping.fingerprint(renderer, judges, data, source, **{"seed": 0, **options})


def test_the_mark_knows_weights_data_judges_and_options():
    assert mark() == mark()
    changed = tiny_renderer()
    other = jax.tree.map(lambda x: x + 1, RENDERER.variables["predictor"])
    changed.variables = {**RENDERER.variables, "predictor": other}
    marks = {
        mark(),
        mark(data=Landscapes(seed=1)),
        mark(seed=1),
        mark(changed),
        mark(judges=judges(2.0)),
        mark(judges=judges()._replace(segment=None)),
    }
    assert len(marks) == 6


def test_the_mark_knows_version_and_format(monkeypatch):
    marks = {mark()}
    monkeypatch.setattr(fiancee_jax, "__version__", "0.0.other")
    marks.add(mark())
    monkeypatch.setattr(keeping, "FORMAT", keeping.FORMAT + 1)
    assert len(marks | {mark()}) == 3


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        for kind, mode in (("images", "RGB"), ("labels", "L")):
            path = tmp_path / "val" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (8, 8)).save(path)
    (tmp_path / "classes.json").write_text('["sky"]')
    return Folder(str(tmp_path))


def test_the_mark_knows_the_files_of_a_folder(folder):
    def marked(count=2):
        source = folder.open("report", (8, 8))
        return mark(data=folder, source=source if count == 2 else First(source, count))

    before, first = marked(), marked(1)
    assert before == marked()
    path = folder._root() / "val" / "labels" / "b.png"
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    touched = marked()
    assert touched != before
    assert marked(1) == first  # which does not read b
    Image.new("L", (9, 8)).save(folder._root() / "val" / "labels" / "b.png")
    Image.new("RGB", (9, 8)).save(folder._root() / "val" / "images" / "b.png")
    assert marked() != touched


def test_kept_until_something_changes(tmp_path):
    path, calls = tmp_path / "records.npz", []

    def make():
        calls.append(1)
        return dataclasses.replace(RECORDS, real_confusion=None)

    first = keeping.kept(path, "a", make)
    again = keeping.kept(path, "a", make)
    assert len(calls) == 1
    assert again.real_confusion is None
    np.testing.assert_array_equal(first.lpips, again.lpips)
    np.testing.assert_array_equal(again.names, RECORDS.names)
    keeping.kept(path, "b", make)
    assert len(calls) == 2
    whole = path.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(keeping.kept(path, "b", make).lpips, RECORDS.lpips)
    assert len(calls) == 5


def test_arrays_are_kept_while_their_mark_fits(tmp_path):
    path, calls = tmp_path / "kept.npz", []

    def make():
        calls.append(1)
        return {"names": np.array(["a"]), "self.psnr": np.ones((1, 2))}

    for mark in ("one", "one", "two"):
        found = keeping.kept_arrays(path, mark, make)
        assert found["names"].tolist() == ["a"]
        np.testing.assert_array_equal(found["self.psnr"], np.ones((1, 2)))
        assert set(found) == {"names", "self.psnr"}
    assert len(calls) == 2
    path.write_bytes(b"damaged")
    keeping.kept_arrays(path, "two", make)
    assert len(calls) == 3
