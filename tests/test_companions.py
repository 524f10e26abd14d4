"""Baselines stand beside a model only if they would be trained the same today."""

import dataclasses
import shutil

import pytest
from tiny import tiny_model, tiny_renderer, tiny_workdir

from fiancee_jax import inference
from fiancee_jax.config import write_config
from fiancee_jax.evaluation.companions import trained_baseline
from fiancee_jax.training.derive import baseline_config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    tiny_workdir(folder, tiny_renderer())
    students = folder / "baselines" / "students"
    students.mkdir(parents=True)
    tiny_workdir(students, tiny_renderer(exits=((0, 0.5),)))
    return folder


@pytest.fixture(scope="module")
def renderer(workdir):
    return inference.load(workdir)


def copied(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "copy")
    return copy, copy / "baselines" / "students"


def test_what_fits_is_taken_and_what_is_not_there_is_named(workdir, renderer):
    assert isinstance(trained_baseline(renderer, workdir, "students"), inference.Renderer)
    reason = trained_baseline(renderer, workdir, "no_guides")
    assert reason == (
        f"not trained; run python -m fiancee_jax baselines --model {workdir} --names no_guides"
    )


def test_one_without_branches_is_not_done(workdir, renderer, tmp_path):
    copy, students = copied(workdir, tmp_path)
    shutil.rmtree(students / "checkpoints" / "branches")
    assert "not trained to its end" in str(trained_baseline(renderer, copy, "students"))


def test_other_settings_are_named(workdir, renderer, tmp_path):
    copy, students = copied(workdir, tmp_path)
    config = inference.load(students).config
    changed = dataclasses.replace(config.branches, steps=7, l1=1.0)
    write_config(dataclasses.replace(config, branches=changed), students)
    reason = str(trained_baseline(renderer, copy, "students"))
    assert "trained with other settings (branches.l1: 1.0 -> 2.0; branches.steps: 7 -> " in reason
    assert reason.endswith("--names students --rerun")
    # what students do not use may differ, and so may what does not train anything
    same = dataclasses.replace(
        config, name="other", predictor=dataclasses.replace(config.predictor, steps=1)
    )
    write_config(same, students)
    assert isinstance(trained_baseline(renderer, copy, "students"), inference.Renderer)


@pytest.mark.parametrize("part", ["backbone", "bank"])
def test_another_backbone_or_bank_is_left_out(workdir, renderer, tmp_path, part):
    copy, students = copied(workdir, tmp_path)
    shutil.rmtree(students)
    students.mkdir()
    other = tiny_renderer(exits=((0, 0.5),))
    other.variables = {**other.variables, part: tiny_renderer(seed=9).variables[part]}
    tiny_workdir(students, other)
    words = {"backbone": "another backbone", "bank": "another guide bank"}[part]
    assert words in str(trained_baseline(renderer, copy, "students"))


def test_controls_have_guides_of_their_own(workdir, renderer):
    control = workdir / "baselines" / "zero_guides"
    control.mkdir()
    config = baseline_config(renderer.config, "zero_guides")
    tiny_workdir(control, inference.Renderer(config, *tiny_model(config), menu=[]))
    found = trained_baseline(renderer, workdir, "zero_guides")
    assert isinstance(found, inference.Renderer)
    assert found.config.guides.form == "zeros"
