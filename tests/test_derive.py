import dataclasses
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config, tiny_model, tiny_workdir

import fiancee_jax as fj
from fiancee_jax.config import BranchesPhase, Exit, Logging, PredictorPhase, write_config
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer
from fiancee_jax.models.dcgan import Dcgan
from fiancee_jax.training import derive


def config():
    """Of the smallest family, whose branches compile in seconds."""
    return tiny_config(
        model=Dcgan(size=(32, 32), width=4, z_dim=4, stages=3),
        branches=BranchesPhase(steps=2, batch_size=4, lpips_net="alex", measure=4),
        predictor=PredictorPhase(inputs=8, steps=2, batch_size=4, channels=4, hidden=8),
        logging=Logging(every=1, preview_every=9, checkpoint_every=9),
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    tiny_workdir(folder, Renderer(config(), *tiny_model(config()), menu=[]))
    return folder


def test_students_are_light_from_the_stem_on_and_share_the_backbone(workdir):
    (written,) = derive.train_baselines(workdir, ["students"], [0.5])
    assert written == workdir / "baselines" / "students"
    student, model = fj.load(written), fj.load(workdir)
    assert student.model.exits == (Exit(0, 0.5),)
    assert not student.has_predictor
    assert student.model.gmacs[-1] == model.model.gmacs[-1]
    z = jnp.ones((2, 4))
    full = model(z=z, exit="full").images
    np.testing.assert_array_equal(student(z=z, exit="full").images, full)
    picture = student(z=z, exit=1).images
    assert np.isfinite(picture).all()
    assert np.abs(picture - full).max() > 1e-3

    before = (written / "checkpoints" / "branches").stat().st_mtime_ns
    derive.train_baselines(workdir, ["students"], [0.5])  # finished: left as it is
    assert (written / "checkpoints" / "branches").stat().st_mtime_ns == before


@pytest.mark.slow
def test_controls_have_predictors_of_their_own(workdir):
    for name, form in derive.FORMS.items():
        (written,) = derive.train_baselines(workdir, [name])
        control = fj.load(written)
        assert control.config.guides.form == form
        assert control.has_predictor
        assert [e.name for e in control.model.exits] == ["tap1_w50", "tap2_w50"]


def test_configs_of_baselines():
    base = config()
    students = derive.baseline_config(base, "students", [0.4, 0.6])
    assert students.exits == (Exit(0, 0.4), Exit(0, 0.6))
    assert students.branches == base.branches  # the same losses and as many steps
    assert students.guides == base.guides
    routed = dataclasses.replace(base.branches, router="runs/first")
    others = derive.baseline_config(dataclasses.replace(base, branches=routed), "students", [0.4])
    assert others.branches == base.branches  # a router knows other exits than theirs
    zeros = derive.baseline_config(base, "zero_guides")
    assert (zeros.guides.form, zeros.exits) == ("zeros", base.exits)


def test_stale_settings_are_named():
    base = config()
    students = derive.baseline_config(base, "students", [0.3])
    assert derive.stale(base, students, "students") == []  # whatever widths it has
    other = dataclasses.replace(
        base,
        name="again",
        branches=dataclasses.replace(base.branches, steps=9),
        predictor=dataclasses.replace(base.predictor, steps=9),
        seed=1,
    )
    lines = ["branches.steps: 2 -> 9", "seed: 0 -> 1"]
    assert derive.stale(other, students, "students") == lines
    control = derive.baseline_config(base, "no_guides")
    assert derive.stale(base, control, "no_guides") == []
    assert derive.stale(other, control, "no_guides") == [
        lines[0], "predictor.steps: 2 -> 9", lines[1],
    ]  # fmt: skip


def test_stale_baselines_are_refused_and_trained_anew_on_demand(workdir, tmp_path, monkeypatch):
    copy = shutil.copytree(workdir, tmp_path / "copy")
    derived = []
    monkeypatch.setattr(derive, "derive", lambda *given: derived.append(given) or given[1])
    students = copy / "baselines" / "students"
    students.mkdir(parents=True, exist_ok=True)
    stale = dataclasses.replace(config(), seed=3)
    write_config(derive.baseline_config(stale, "students", [0.5]), students)
    with pytest.raises(UserError, match=r"(?s)other settings.*seed: 3 -> 0.*students --rerun"):
        derive.train_baselines(copy, ["students"], [0.5])
    assert not derived
    derive.train_baselines(copy, ["students"], [0.5], rerun=True)
    assert derived[0][1] == students
    assert not students.exists()
    assert (copy / "baselines" / "students.old-1" / "config.json").is_file()


def test_what_cannot_be_trained_is_refused(workdir):
    with pytest.raises(UserError, match=r"\['magic'\].*students, no_guides, zero_guides"):
        derive.train_baselines(workdir, ["magic"])
    with pytest.raises(UserError, match="student-widths are"):
        derive.train_baselines(workdir, ["students"], [1.5])
    json.loads((workdir / "config.json").read_text())  # untouched


def test_what_a_baseline_starts_from_is_finished_and_the_same(workdir, tmp_path):
    other, bare = tmp_path / "other", tmp_path / "bare"
    shutil.copytree(workdir, other)
    shutil.copytree(workdir, bare)
    shutil.rmtree(bare / "checkpoints" / "guides")
    with pytest.raises(UserError, match="phase 'guides', which is not finished"):
        derive.train_baselines(bare, ["students"], [0.5])
    shutil.rmtree(other / "checkpoints")
    tiny_workdir(other, Renderer(config(), *tiny_model(config(), seed=1), menu=[]))
    stale = other / "baselines" / "students" / "checkpoints"
    shutil.rmtree(stale, ignore_errors=True)
    shutil.copytree(workdir / "checkpoints" / "backbone", stale / "backbone")
    with pytest.raises(UserError, match="derived from another backbone"):
        derive.train_baselines(other, ["students"], [0.5])
