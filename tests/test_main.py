"""The verbs of ``python -m fiancee_jax``."""

import dataclasses

import pytest
from tiny import tiny_config, tiny_renderer, tiny_workdir

from fiancee_jax import __main__ as verbs
from fiancee_jax import cost
from fiancee_jax.config import write_config
from fiancee_jax.data import Folder, tfds
from fiancee_jax.errors import UserError
from fiancee_jax.report import figures


@pytest.fixture(scope="module")
def renderer():
    return tiny_renderer()


def rows(output):
    lines = [line.split() for line in output.splitlines()]
    return [line for line in lines if line and line[0].isdigit()]


def test_cost_of_a_config_takes_the_classes_of_its_data(tmp_path, capsys, renderer):
    config = renderer.config
    write_config(
        dataclasses.replace(config, model=dataclasses.replace(config.model, classes=())), tmp_path
    )
    verbs.main(["cost", str(tmp_path)])
    output = capsys.readouterr().out
    model, branches = renderer.model, renderer.variables["branches"]
    counts = [cost.parameters(branches[e.name]["params"]) for e in model.exits]
    counts.append(cost.parameters(renderer.variables["backbone"]["params"]))
    names = [e.name for e in model.exits] + ["backbone"]
    expected = [
        [str(i), name, figures(gmacs), f"{count:,}"]
        for i, (name, gmacs, count) in enumerate(
            zip(names, model.gmacs, counts, strict=True), start=1
        )
    ]
    assert [[r[0], r[1], r[4], r[7]] for r in rows(output)] == expected
    assert rows(output)[-1][5:7] == ["100", "%"]
    assert f"predictor: {figures(model.predictor_gmacs())} GMACs" in output
    assert f"retrieval: {figures(model.retrieval_gmacs())} GMACs" in output


def test_cost_of_a_trained_workdir_counts_its_menu(tmp_path, capsys, renderer):
    tiny_workdir(tmp_path, renderer, dropped=(1,))
    verbs.main(["cost", str(tmp_path)])
    assert [r[:2] for r in rows(capsys.readouterr().out)] == [["1", "tap2_w50"], ["2", "backbone"]]


def test_cost_says_when_the_data_cannot_be_opened(tmp_path):
    config = tiny_config(classes=(), data=Folder(str(tmp_path / "nowhere")))
    write_config(config, tmp_path)
    with pytest.raises(UserError, match=r"Found no folder .*nowhere.*--data\.root"):
        verbs.main(["cost", str(tmp_path)])


def test_cost_at_another_size(capsys):
    verbs.main(["cost", "quickstart", "--size", "128", "64"])
    output = capsys.readouterr().out
    assert "One picture of 128x64" in output
    with pytest.raises(UserError, match="100x64"):
        verbs.main(["cost", "quickstart", "--size", "100", "64"])


def test_cost_of_an_unknown_config_suggests_one():
    with pytest.raises(UserError, match=r"'quikstart'.* Did you mean 'quickstart'"):
        verbs.main(["cost", "quikstart"])


def test_prepare_calls_tfds(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(tfds, "prepare", lambda *a: calls.append(a) or "/data/x")
    verbs.main(["prepare", "scene_parse150", "--data-dir", "/data"])
    assert calls == [("scene_parse150", "/data")]
    assert "prepared scene_parse150 in /data/x" in capsys.readouterr().out


def test_an_unknown_verb_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        verbs.main(["cots", "x"])
    assert stop.value.code == 2
    assert "cost" in capsys.readouterr().err
