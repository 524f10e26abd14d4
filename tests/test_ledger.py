"""Folders that were cut short: what is done is not done again, and nothing is left out."""

import copy
import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_renderer

from fiancee_jax import hosts
from fiancee_jax import render_folder as folder_module
from fiancee_jax.data import Landscapes
from fiancee_jax.data.labels import LabelFile
from fiancee_jax.errors import UserError
from fiancee_jax.ledger import NAME, Ledger, mark_of
from fiancee_jax.render_folder import Request, render_folder
from fiancee_jax.render_job import Job
from fiancee_jax.report import Picture

SIZE = (32, 32)
SCENES = Landscapes(report=16)


class Killed(BaseException):
    """Stands for a kill: nothing after it runs but what a process leaves on disk."""


@pytest.fixture(scope="module")
def renderer():
    return tiny_renderer()


@pytest.fixture
def labels(tmp_path) -> pathlib.Path:
    """Seven maps: two batches of four."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for i in range(7):
        draw(folder / f"scene_{i}.png", i)
    return folder


def draw(path, index):
    Image.fromarray(SCENES.open("report", SIZE)[index]["labels"]).save(path)


def request(labels, **options):
    options = {"batch_size": 4, "max_lpips": 0.1, **options}
    return Request("runs/demo", labels, labels.parent / "out", **options)


def files(folder):
    """All that a run leaves, but for times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def cut_short(renderer, request, monkeypatch, after):
    """Renders until so many pictures have been written."""
    write, count = folder_module.write_picture, iter(range(100))

    def dies(*args):
        if next(count) >= after:
            raise Killed
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "write_picture", dies)
        with pytest.raises(Killed):
            render_folder(renderer, request)


def names_rendered(monkeypatch):
    """Names of the files that are rendered from now on."""
    found, images = [], Job.images

    def noting(job, batch, exits):
        found.extend(file.name for file in batch.files)
        return images(job, batch, exits)

    monkeypatch.setattr(Job, "images", noting)
    return found


@pytest.mark.parametrize("policy", [{}, {"max_lpips": None, "budget_gmacs": 0.02}])
def test_a_run_that_was_cut_short_is_continued(renderer, labels, monkeypatch, capsys, policy):
    whole = request(labels, **policy)
    render_folder(renderer, dataclasses.replace(whole, out=labels.parent / "whole"))
    cut_short(renderer, whole, monkeypatch, after=5)
    assert (whole.out / NAME).is_file()
    assert not (whole.out / "manifest.jsonl").exists()
    rendered = names_rendered(monkeypatch)
    summary = render_folder(renderer, whole)
    assert rendered == ["scene_4", "scene_5", "scene_6"]
    assert "continuing: 4 of 7 are done already" in capsys.readouterr().out
    assert len(summary.pictures) == 7
    expected = files(labels.parent / "whole")
    assert files(whole.out) == expected
    assert {f"scene_{i}.png" for i in range(7)} <= expected.keys()
    assert NAME not in expected


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"max_lpips": 0.2}, {"max_lpips": None, "exit": "1"}]
)
def test_another_request_begins_anew(renderer, labels, monkeypatch, change):
    cut_short(renderer, request(labels), monkeypatch, after=5)
    rendered = names_rendered(monkeypatch)
    render_folder(renderer, request(labels, **change))
    assert len(rendered) == 7


def test_a_finished_run_can_be_run_again(renderer, labels, monkeypatch):
    render_folder(renderer, request(labels))
    rendered = names_rendered(monkeypatch)
    render_folder(renderer, request(labels))
    assert len(rendered) == 7


def test_what_has_changed_meanwhile_is_rendered_again(renderer, labels, monkeypatch):
    cut_short(renderer, request(labels), monkeypatch, after=5)
    draw(labels / "scene_0.png", 9)
    (labels.parent / "out" / "scene_1.png").unlink()
    rendered = names_rendered(monkeypatch)
    render_folder(renderer, request(labels))
    assert rendered == [f"scene_{i}" for i in (0, 1, 4, 5, 6)]


def test_a_map_that_goes_bad_meanwhile_is_recorded(renderer, labels, monkeypatch):
    read = LabelFile.read

    def fails(file):
        if file.name == "scene_2":
            raise UserError(f"{file.path}: no such file")
        return np.full(SIZE, 99, np.uint8) if file.name == "scene_3" else read(file)

    monkeypatch.setattr(LabelFile, "read", fails)
    summary = render_folder(renderer, request(labels))
    assert list(summary.failed) == ["scene_2", "scene_3"]
    lines = (summary.out / "manifest.jsonl").read_text().splitlines()
    records = {record["name"]: record for record in map(json.loads, lines)}
    assert "no such file" in records["scene_2"]["error"]
    assert "holds class ids 99" in records["scene_3"]["error"]
    assert sorted(p.stem for p in summary.out.glob("*.png")) == [
        f"scene_{i}" for i in (0, 1, 4, 5, 6)
    ]


def test_when_all_maps_go_bad_that_is_an_error(renderer, labels, monkeypatch):
    def gone(file):
        raise UserError(f"{file.path}: no such file")

    monkeypatch.setattr(LabelFile, "read", gone)
    with pytest.raises(UserError, match="Found 7 problems in 7 label maps"):
        render_folder(renderer, request(labels))


# --- the file -------------------------------------------------------------------------------------
def ledger_of(tmp_path, mark="a"):
    found = [LabelFile(f"x{i}", tmp_path / f"x{i}.labels", (1, 1)) for i in range(3)]
    for file in found:
        if not file.path.exists():
            file.path.touch()
        (tmp_path / f"{file.name}.png").touch()
    return Ledger(tmp_path, mark, found)


def test_pictures_come_back_as_they_were(tmp_path):
    pictures = [
        Picture("x0", 1, (0.1, 1 / 3), 0.3, 0.9),
        Picture("x1", 2, (float("nan"),), 1.0, 2.0),
    ]
    ledger = ledger_of(tmp_path)
    ledger.add(pictures)
    ledger.close()
    again = ledger_of(tmp_path)
    again.close()
    assert list(map(repr, again.done.values())) == list(map(repr, pictures))


@pytest.mark.parametrize(
    "end", ["", '{"name": "x', '{"name": 1}\n', "[]\n", "null\n", "\x00\n", "[" * 99999]
)
def test_lines_that_a_kill_or_a_disk_spoiled_are_passed_over(tmp_path, end):
    ledger = ledger_of(tmp_path)
    ledger.add([Picture("x0", 1, (0.1,), 0.3, 0.9)])
    ledger.close()
    with (tmp_path / NAME).open("a") as file:
        file.write(end)
    again = ledger_of(tmp_path)
    again.close()
    assert list(again.done) == ["x0"]


@pytest.mark.parametrize("first", ["", "{", '{"mark": "b"}', "\x00"])
def test_another_or_no_mark_begins_anew(tmp_path, first):
    (tmp_path / NAME).write_text(first)
    ledger = ledger_of(tmp_path)
    assert not ledger.done
    ledger.finish()
    assert not (tmp_path / NAME).exists()


def as_host(monkeypatch, index, count):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(hosts, "meet", lambda where: None)


def picture_of(name):
    return Picture(name, 1, (0.5,), 0.3, 0.9)


def test_the_first_of_several_hosts_gathers_what_all_have_done(tmp_path, monkeypatch):
    as_host(monkeypatch, 0, 2)
    first = ledger_of(tmp_path)
    as_host(monkeypatch, 1, 2)
    second = ledger_of(tmp_path)
    second.add([picture_of("x1")])
    second.add_failed({"x2": "torn"})
    second.close()
    as_host(monkeypatch, 0, 2)
    first.add([picture_of("x0")])
    first.gather()
    assert sorted(first.done) == ["x0", "x1"]
    assert first.failed == {"x2": "torn"}
    first.finish()
    assert not list(tmp_path.glob(".unfinished*"))


def test_a_run_of_several_hosts_is_continued_by_fewer(tmp_path, monkeypatch):
    for index in range(3):
        as_host(monkeypatch, index, 3)
        ledger = ledger_of(tmp_path)
        ledger.add([picture_of(f"x{index}")])
        ledger.close()
    as_host(monkeypatch, 0, 2)
    ledger = ledger_of(tmp_path)
    ledger.close()
    assert sorted(ledger.done) == ["x0", "x1", "x2"]
    assert sorted(path.name for path in tmp_path.glob(".unfinished*")) == [
        ".unfinished-1.jsonl",
        ".unfinished.jsonl",
    ]
    as_host(monkeypatch, 0, 1)
    ledger = ledger_of(tmp_path, mark="other")
    ledger.close()
    assert not ledger.done


def test_the_mark_knows_weights_and_options(renderer):
    options = {"seed": 0}
    mark = mark_of(renderer, options)
    assert mark_of(renderer, options) == mark
    assert mark_of(renderer, {"seed": 1}) != mark
    other = copy.copy(renderer)
    other.variables = jax.tree.map(lambda x: x + 1, renderer.variables)
    assert mark_of(other, options) != mark
