"""`python -m fiancee_jax evaluate` from a workdir to its numbers and page."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from studies import TIMES, made_records, made_table
from tiny import tiny_renderer, tiny_workdir

from fiancee_jax import inference
from fiancee_jax.__main__ import main
from fiancee_jax.data import Landscapes
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import document, segmentation, subjects
from fiancee_jax.evaluation.options import Options
from fiancee_jax.evaluation.run import evaluate, plain
from fiancee_jax.evaluation.table import Promise

SHORT = segmentation.Training(steps=2, batch_size=2)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    data = Landscapes(train=5, predictor=4, calibration=3, report=7)
    tiny_workdir(folder, tiny_renderer(data=data))
    students = folder / "baselines" / "students"
    students.mkdir(parents=True)
    tiny_workdir(students, tiny_renderer(exits=((0, 0.5),), data=data))
    return folder


@pytest.fixture(scope="module")
def found(workdir, tmp_path_factory):
    """Six maps of the split, photos of all splits, the backbone twice."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation.load_or_train, "__defaults__", (SHORT,))
        patch.setattr("fiancee_jax.evaluation.spread.RESAMPLES", 3)
        for module in ("records", "examples"):
            patch.setattr(f"fiancee_jax.evaluation.{module}.BATCH", 8)
        words = ["evaluate", "--model", str(workdir), "--out", str(out), "--limit", "6"]
        main([*words, "--real", "all", "--spread"])
    return out


def read(out):
    return json.loads((out / "evaluation.json").read_text())


def test_numbers_page_and_records_are_written(found):
    result = read(found)
    assert result["format_version"] == 2
    assert (result["inputs"], result["records"]) == (6, 6)
    assert len(result["max_lpips"]) == 3
    assert (found / "index.html").stat().st_size < 1_000_000
    assert (found / "records.npz").is_file()
    words = f"evaluate --model {result['model']} --out {found} --limit 6 --real all --spread"
    assert result["command"].endswith(words)
    assert result["data"]["kind"] == "Landscapes"
    undocumented = set(result) - set(re.findall(r"\w+", document.__doc__ or ""))
    assert not undocumented


def test_scores_by_all_photos_and_how_far_they_move_by_z(found):
    result = read(found)
    spread = result["spread"]
    assert set(spread) == {"fd_efflite0", "miou", "resamples"}
    backbone = next(row for row in result["rows"] if row["policy"] == "backbone")
    assert backbone["samples"] == [6, 19]
    student = next(row for row in result["rows"] if row["policy"] == "student_1")
    assert student["samples"] == [6, 19]  # the photos that were looked at for the model
    assert student["fd_efflite0"] > 0
    assert spread["fd_efflite0"]["first"] == pytest.approx(backbone["fd_efflite0"])
    assert spread["miou"]["first"] == pytest.approx(backbone["miou"])
    assert spread["fd_efflite0"]["second"] != backbone["fd_efflite0"]
    assert "at other z" in (found / "index.html").read_text()


def test_every_cell_has_a_value_or_a_reason(found):
    for row in read(found)["rows"]:
        empty = {key for key, value in row.items() if value is None}
        assert empty == set(row["why_empty"]), row["policy"]


def test_absent_rows_say_how_to_get_them(found):
    absent = read(found)["absent"]
    ridges, budgets = {"ridge", "ridge_products"}, {"budget_0.5"}
    assert {"no_guides", "zero_guides", "calibrated"} | ridges | budgets <= set(absent)
    assert "students" not in absent
    assert "baselines --model" in absent["no_guides"]
    assert "--phases calibration" in absent["calibrated"]
    assert "--phases predictor --rerun" in absent["ridge_products"]


def test_thresholds_and_promises_say_what_they_rest_on(found):
    result = read(found)
    assert result["max_lpips_from"] == "inputs"  # no targets, no calibration
    assert (result["exchangeable"], result["exchangeable_why"]) == (
        False,
        "the model is not calibrated",
    )
    assert all(isinstance(promise["tau"], float) for promise in result["promises"])


def test_routed_calls_are_timed_for_the_learned_router(found):
    timed = {row["policy"] for row in read(found)["rows"] if row["ms_routed"] is not None}
    assert timed == {"learned"}


def test_a_second_run_renders_nothing_again(found, workdir, monkeypatch, capsys):
    before = (found / "records.npz").stat().st_mtime_ns
    monkeypatch.setattr(segmentation.load_or_train, "__defaults__", (SHORT,))
    monkeypatch.setattr(subjects.time_routed, "__defaults__", (0.0,))
    monkeypatch.setattr(subjects.records, "measure", lambda *_, **__: pytest.fail("rendered"))
    options = Options(str(workdir), found, limit=6, max_lpips=(0.05,), real="all", spread=True)
    result = evaluate(options)
    assert (found / "records.npz").stat().st_mtime_ns == before
    assert result["max_lpips"] == [0.05]
    said = capsys.readouterr().out
    assert "max_lpips 0.05" in said
    assert "not in the table: no_guides: not trained; run python -m fiancee_jax baselines" in said
    assert "max_lpips: as asked for" in said
    assert "One training seed (0)" in said
    assert "routed -: " in said


def test_without_judges_their_columns_say_so(workdir, tmp_path, monkeypatch):
    study = subjects.open_study(
        inference.load(workdir), workdir, Options(str(workdir), tmp_path, judges=False)
    )
    monkeypatch.setattr(segmentation, "load_or_train", lambda *_: pytest.fail("trained"))
    judges = subjects.find_judges(study)
    assert (judges.features, judges.segment) == (None, None)
    monkeypatch.setattr(subjects.records, "measure", lambda *_, **__: made_records(pictures=False))
    monkeypatch.setattr(subjects, "time_exits", lambda *_: TIMES)
    subject = subjects.measured(study, study.renderer, judges, "own")
    assert not subject.judged
    assert [path.name for path in tmp_path.iterdir()] == ["records_unjudged.npz"]


def test_the_command_has_flags_as_typed(tmp_path):
    command = Options("m", tmp_path, judges=False, max_lpips=(0.1, 0.2)).command
    assert command.endswith(f"--model m --out {tmp_path} --max-lpips 0.1 0.2 --no-judges")


def test_the_middle_threshold_is_timed_first():
    promises = [Promise(0.8, 0.1), Promise(0.9, 0.1)]
    table = dataclasses.replace(made_table(), calibrated=dict.fromkeys((0.1, 0.3, 0.2), promises))
    wanted = subjects.routed_settings(table)
    assert wanted[:3] == [(0.2, None), (0.2, 0.8), (0.2, 0.9)]
    assert wanted[3:5] == [(0.1, None), (0.3, None)]
    assert len(wanted) == len(set(wanted)) == 9


def test_blocks_are_those_of_films_and_none_elsewhere():
    records = made_records(inputs=6, latents=2)  # scene_000 ...: one film
    assert subjects.blocks(records, 1) is None
    assert np.array_equal(subjects.blocks(records, 4), np.repeat([0, 0, 0, 0, 1, 1], 2))  # pyright: ignore[reportArgumentType]
    towns = dataclasses.replace(records, names=np.repeat(list("abcdef"), 2))
    assert subjects.blocks(towns, 4) is None


# --- mistakes -----------------------------------------------------------------------------------
def test_mistakes_are_told_before_anything_is_rendered(workdir, tmp_path):
    cases = [
        (Options("nowhere", tmp_path), "no workdir or model called"),
        (Options(str(workdir), tmp_path, latents=0), "latents is 0"),
        (Options(str(workdir), tmp_path, confidence=(1.0,)), "confidence is"),
        (Options(str(workdir), tmp_path, max_lpips=(float("nan"),)), "max-lpips is"),
        (Options(str(workdir), tmp_path, split="winter"), "split is 'winter'"),
        (Options(str(workdir), tmp_path, limit=3), "found 3 inputs in report; .* wants 4 or more"),
        (Options(str(workdir), tmp_path, data=tmp_path / "nowhere"), "nowhere"),
    ]
    for options, words in cases:
        with pytest.raises(UserError, match=words):
            evaluate(options)
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserError, match="cannot write into"):
        evaluate(Options(str(workdir), blocked))
    bare = tmp_path / "bare"
    bare.mkdir()
    tiny_workdir(bare, tiny_renderer())
    shutil.rmtree(bare / "checkpoints" / "predictor")
    with pytest.raises(UserError, match="no branches or no predictor yet"):
        evaluate(Options(str(bare), tmp_path))


def test_json_has_no_nan():
    tree = {"a": float("nan"), "b": [1.0, float("inf")], "c": (None, "x"), 3: 1}
    assert plain(tree) == {"a": None, "b": [1.0, None], "c": [None, "x"], "3": 1}
