"""The phases on a tiny generator: they learn, resume to the bit, and refuse what cannot work."""

import dataclasses
import errno
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small import PHASE, SMALL, unconditional, with_phase
from tiny import tiny_config, tiny_renderer, tiny_workdir

import fiancee_jax as fj
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import (
    BackbonePhase,
    BranchesPhase,
    CalibrationPhase,
    Exit,
    Guides,
    Logging,
    PredictorPhase,
    write_config,
)
from fiancee_jax.data import Batch, Folder
from fiancee_jax.errors import Interrupted, NonFiniteError
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.dcgan import Dcgan
from fiancee_jax.training import adversarial, backbone, branches, predictor, run
from fiancee_jax.training.arguments import parse
from fiancee_jax.training.lock import locked
from fiancee_jax.training.log import Log, average, mean
from fiancee_jax.training.run import train

SIZE = (32, 32)


def config(**changes):
    base = tiny_config(
        blocks=3,
        z_dim=8,
        backbone=BackbonePhase(
            steps=4, batch_size=4, step="fused", lr_g=1e-3, lr_d=1e-3, recollect=1, init_gain=1.0
        ),
        branches=BranchesPhase(steps=3, batch_size=4, lpips_net="alex", measure=4),
        predictor=PredictorPhase(inputs=16, steps=4, batch_size=8, channels=4, hidden=8),
        calibration=CalibrationPhase(inputs=2),
        logging=Logging(every=2, preview_every=2, checkpoint_every=2),
    )
    return dataclasses.replace(base, **changes)


def quick():
    """A config of the smallest family, whose backbone compiles in seconds."""
    family = Dcgan(size=SIZE, width=2, z_dim=8, stages=2)
    return config(model=family, exits=(Exit(1, 0.5),), guides=Guides(form="none"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(config(), tmp_path_factory.mktemp("runs") / "tiny")


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def batch_of(size=SIZE, b=4):
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, 10, (b, *size)), jnp.int32)
    target = jnp.asarray(rng.uniform(-1, 1, (b, *size, 3)), jnp.float32)
    return Batch({"labels": labels}, target, jnp.asarray(rng.normal(size=(b, 8)), jnp.float32))


# --- the whole ----------------------------------------------------------------------------------
def test_all_phases_leave_a_model_that_routes(trained):
    renderer = fj.load(trained)
    labels = np.zeros((3, *SIZE), np.int32)
    r = renderer(labels, key=jax.random.key(0), max_lpips=0.1)
    assert r.images.shape == (3, *SIZE, 3)
    assert np.isfinite(np.asarray(r.images)).all()
    assert renderer.has_predictor
    assert {e["dropped"] for e in renderer.menu} >= {""}
    records = list(map(json.loads, (trained / "metrics.jsonl").read_text().splitlines()))
    assert {r["phase"] for r in records} == {"backbone", "branches", "predictor"}
    assert {p.name for p in (trained / "samples").iterdir()} >= {
        "backbone_000004.png",
        "branches_000003.png",
    }


def test_a_predictor_of_cells_is_trained_on_measured_cells(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    phase = dataclasses.replace(config().predictor, cells=0.3, hidden=0)
    train(config(predictor=phase), copy, phases=["predictor"], rerun=True)
    renderer = fj.load(copy)
    columns = [config().exits.index(exit) for exit in renderer.model.exits]
    with np.load(copy / "predictor_targets.npz") as kept:
        assert kept["cells"].shape == (16, len(columns), *kept["grid"].shape[1:3])
        means = kept["cells"].mean((2, 3), np.float32)
        np.testing.assert_allclose(means, kept["lpips"][:, columns], rtol=2e-3)
    r = renderer(np.zeros((3, *SIZE), np.int32), key=jax.random.key(0), max_lpips=0.1)
    assert (np.diff(r.predicted_lpips, axis=1) <= 0).all()


def test_a_finished_run_is_left_alone(trained, capsys):
    before = leaves(fj.load(trained).variables)
    train(config(), trained)
    assert capsys.readouterr().out.count("finished already") == 5
    for a, b in zip(before, leaves(fj.load(trained).variables), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resumed_training_ends_with_the_same_weights(tmp_path):
    """Stopped after 2 of 4 steps and continued, against 4 steps in one go."""
    cut = dataclasses.replace(quick().backbone, steps=2)
    train(quick(), tmp_path / "once", phases=["backbone"])
    train(dataclasses.replace(quick(), backbone=cut), tmp_path / "twice", phases=["backbone"])
    train(quick(), tmp_path / "twice", phases=["backbone"])
    once, twice = (Store(tmp_path / name).model("backbone") for name in ("once", "twice"))
    for a, b in zip(leaves(once), leaves(twice), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    """Back by an hour at every look; steps, not times, say which checkpoint is the last."""
    cut = dataclasses.replace(quick().backbone, steps=2)
    train(quick(), tmp_path / "once", phases=["backbone"])
    looks, clock = itertools.count(), time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600 * min(next(looks), 200))
    train(dataclasses.replace(quick(), backbone=cut), tmp_path / "twice", phases=["backbone"])
    train(quick(), tmp_path / "twice", phases=["backbone"])
    monkeypatch.undo()
    assert next(looks) > 2  # somebody did look
    stores = [Store(tmp_path / name) for name in ("once", "twice")]
    assert [store.latest("backbone") for store in stores] == [4, 4]
    for a, b in zip(*(leaves(store.model("backbone")) for store in stores), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rerun_moves_the_older_checkpoints_aside(tmp_path):
    train(quick(), tmp_path, phases=["backbone"])
    train(quick(), tmp_path, phases=["backbone"], rerun=True)
    assert (tmp_path / "checkpoints" / "backbone.old-1" / "4").is_dir()
    assert Store(tmp_path).finished("backbone")


# --- bad input ----------------------------------------------------------------------------------
def test_a_phase_without_its_predecessor_names_the_command(tmp_path):
    message = r"'branches' needs 'backbone'.*python train.py .* --phases backbone"
    with pytest.raises(fj.UserError, match=message):
        train(config(), tmp_path / "new", phases=["branches"])
    assert not (tmp_path / "new").exists()


def test_the_command_for_a_missing_phase_is_right(tmp_path):
    write_config(config(), tmp_path)
    with pytest.raises(fj.UserError, match="'predictor' needs 'backbone'") as error:
        train(config(), tmp_path, phases=["predictor"])
    command = shlex.split(str(error.value).partition("yours: ")[2])
    assert command[:2] == ["python", "train.py"]
    a = parse(command[2:])
    assert (a.config, a.workdir, a.phases) == (config(), str(tmp_path), ("backbone",))


def test_a_phase_between_that_would_be_stale_is_asked_for(tmp_path):
    renderer = tiny_renderer()
    tiny_workdir(tmp_path, renderer)
    with pytest.raises(fj.UserError, match=r"'predictor' needs 'guides'.*anew.*--phases backbone"):
        train(renderer.config, tmp_path, phases=["backbone", "predictor"])
    assert Store(tmp_path).finished("guides")


def test_all_splits_are_checked_before_the_first_phase(tmp_path, monkeypatch):
    def refuse(_):
        raise AssertionError("trained before everything was checked")

    monkeypatch.setitem(run.RUN, "backbone", refuse)
    root = tmp_path / "data"
    for folder, shape in (("images", (*SIZE, 3)), ("labels", SIZE)):
        (root / "train" / folder).mkdir(parents=True)
        Image.fromarray(np.zeros(shape, np.uint8)).save(root / "train" / folder / "a.png")
    (root / "classes.json").write_text(json.dumps(config().model.classes))
    with pytest.raises(fj.UserError) as error:
        train(config(data=Folder(str(root))), tmp_path / "run")
    for split in ("report (val)", "predictor (predictor)", "calibration (calibration)"):
        assert f"split {split}" in str(error.value)
    assert "split train" not in str(error.value)
    assert not (tmp_path / "run" / "config.json").exists()


def test_own_latents_must_fit_z(tmp_path):
    other = config(
        backbone=dataclasses.replace(config().backbone, own_latent=1.0),
        model=dataclasses.replace(config().model, z_dim=4),
    )
    with pytest.raises(fj.UserError, match=r"latents of length 8, and z has length 4.*own_latent"):
        train(other, tmp_path)


def test_a_predictor_of_another_shape_is_noticed(trained):
    other = config(predictor=dataclasses.replace(config().predictor, hidden=9))
    with pytest.raises(
        fj.UserError, match=r"a predictor checkpoint .*\n  predictor.hidden: 8 -> 9"
    ):
        train(other, trained)


def test_other_changes_are_said(trained, capsys):
    train(config(seed=3), trained)
    assert "changed since the last run here:\n  seed: 0 -> 3" in capsys.readouterr().out
    train(config(), trained)


def test_a_checkpoint_of_another_config_shows_the_difference(trained):
    other = config(model=dataclasses.replace(config().model, width=3))
    with pytest.raises(fj.UserError, match=r"model.width: 2 -> 3") as error:
        train(other, trained)
    assert "--rerun" in str(error.value)
    assert json.loads((trained / "config.json").read_text())["model"]["width"] == 2


def test_unknown_phases_are_listed(tmp_path):
    with pytest.raises(fj.UserError, match=r"choose from backbone, guides, branches, predictor"):
        train(config(), tmp_path, phases=["calibrate"])


def test_a_size_that_does_not_divide_is_refused(tmp_path):
    other = config(model=dataclasses.replace(config().model, size=(36, 32)))
    with pytest.raises(fj.UserError, match=r"model.size is \[36, 32\].*divisible by 8"):
        train(other, tmp_path)


def test_a_workdir_in_use_is_refused_before_anything_is_written(tmp_path):
    with locked(tmp_path), pytest.raises(fj.UserError, match=r"is training in .* already"):
        train(quick(), tmp_path, phases=["backbone"])
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("what", ["", " in phase 'backbone' after step 3, which is saved"])
def test_a_signal_says_how_to_continue(tmp_path, monkeypatch, what):
    def stopped(work):
        raise Interrupted(signal.SIGTERM, what)

    monkeypatch.setitem(run.RUN, "backbone", stopped)
    with pytest.raises(Interrupted, match=f"stopped by SIGTERM{what}") as caught:
        train(quick(), tmp_path, phases=["backbone"])
    line = str(caught.value).split("Continue with: python train.py ")[1]
    assert parse(shlex.split(line)).phases == ("backbone",)
    assert ("starts anew" in str(caught.value)) == (not what)


def test_a_full_disk_is_one_message(tmp_path, monkeypatch):
    def full(work):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

    monkeypatch.setitem(run.RUN, "backbone", full)
    with pytest.raises(fj.UserError, match=r"cannot write metrics\.jsonl: No space left"):
        train(quick(), tmp_path, phases=["backbone"])


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(fj.UserError, match="cannot write to the workdir"):
        train(config(), tmp_path / "file" / "run")


def test_a_batch_must_split_over_the_devices(tmp_path):
    other = config(backbone=dataclasses.replace(config().backbone, batch_size=6))
    with pytest.raises(fj.UserError, match=r"backbone.batch_size is 6.*multiple of 4"):
        train(other, tmp_path)


def test_micro_batches_must_split_over_the_devices_too(tmp_path):
    other = config(backbone=dataclasses.replace(config().backbone, batch_size=12, accumulate=2))
    with pytest.raises(fj.UserError, match=r"is 12.* in 2 micro-batches .*over 4.*multiple of 8"):
        train(other, tmp_path)


def test_a_value_that_is_not_finite_stops_with_step_and_phase(tmp_path):
    phase = dataclasses.replace(quick().backbone, lr_g=1e38, steps=2)
    other = dataclasses.replace(quick(), backbone=phase)
    with pytest.raises(NonFiniteError, match=r"non-finite in phase 'backbone' by step 2"):
        train(other, tmp_path, phases=["backbone"])


# --- steps --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def model():
    return MultiExit.of(config())


def reference_losses(model, state, batch, inputs, spectral, d_spectral, key):
    """The losses of one fused step, by calling the pieces directly."""
    images, _ = adversarial.generate(model, state["params"], state["batch_stats"], spectral, inputs)
    logits = adversarial.discriminate(model, state["d_params"], [d_spectral])
    g = model.family.generator_loss(logits, images, inputs)
    d = model.family.discriminator_losses(logits, images, batch.target, inputs, key)
    return {"g_adv": g, **d}


def test_fused_step_shares_one_forward():
    """Its metrics are the losses of a single picture batch under the weights before the step."""
    model, phase, batch, key = SMALL, PHASE, unconditional(), jax.random.key(3)
    state = backbone.init_state(model, phase, np.random.default_rng(0))
    k_z, k_mix = jax.random.split(key)
    inputs = {**batch.inputs, "z": adversarial.draw_latents(model, phase, batch, k_z)}
    spectral = adversarial.iterations(state["params"], state["spectral"], 2)[-1]
    d_spectral = adversarial.iterations(state["d_params"], state["d_spectral"], 4)[-1]
    expected = jax.jit(reference_losses, static_argnums=0)(
        model, state, batch._replace(inputs=inputs), inputs, spectral, d_spectral, k_mix
    )
    before = jax.tree.map(np.array, state)
    after, metrics = backbone.make_step(model, phase)(state, batch, key, None)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name][0], value, rtol=2e-4, atol=1e-6)
    moved = np.abs(leaves(after["params"])[0] - leaves(before["params"])[0]).max()
    assert 0 < moved <= 1.01 * phase.lr_g  # Adam's first step is at most the learning rate
    d = phase.ema_decay
    for a, p, e in zip(*map(leaves, (before["ema"], after["params"], after["ema"])), strict=True):
        np.testing.assert_allclose(e, d * a + (1 - d) * p, rtol=1e-5, atol=1e-7)


def test_published_step_draws_anew_for_the_discriminator():
    """D's fake loss there is of another z and of G after its update: it differs from fused."""
    model, batch, key = SMALL, unconditional(), jax.random.key(3)
    metrics = {}
    for name in ("fused", "published"):
        phase = with_phase(step=name)
        state = backbone.init_state(model, phase, np.random.default_rng(0))
        after, metrics[name] = backbone.make_step(model, phase)(state, batch, key, None)
        assert all(np.isfinite(x).all() for x in leaves(after))
    assert float(metrics["fused"]["d_fake"][0]) != float(metrics["published"]["d_fake"][0])
    np.testing.assert_allclose(
        float(metrics["fused"]["d_fake"][0]), float(metrics["published"]["d_fake"][0]), rtol=0.2
    )


def test_choose_picks_so_many_exits():
    for count in (1, 2):
        chosen = [branches.choose(jax.random.key(i), 4, count) for i in range(20)]
        assert {int(c.sum()) for c in chosen} == {count}
        assert np.stack(chosen).any(0).all()
    assert branches.choose(jax.random.key(0), 4, 0).all()


@pytest.mark.slow
def test_branches_learn_with_an_adversary_and_random_exits(trained, tmp_path):
    for changes in ({"adversarial": 0.1}, {"adversarial": 0.1, "exits_per_step": 1}):
        other = config(branches=dataclasses.replace(config().branches, **changes))
        train(other, tmp_path, phases=["backbone", "guides", "branches"])
        assert Store(tmp_path).finished("branches")
        train(other, tmp_path, phases=["branches"], rerun=True)


# --- pieces -------------------------------------------------------------------------------------
def test_metrics_average_by_sums_and_counts():
    history = [{"a": mean(jnp.float32(1)), "b": (2.0, 1.0)}, {"a": mean(3.0), "b": (0.0, 0.0)}]
    assert average(history) == {"a": 2.0, "b": 2.0}


def test_rows_resume():
    columns = (np.arange(50.0), np.arange(50.0) * 2)
    one, two = (predictor.Rows(columns, 8, seed=1) for _ in range(2))
    first = [next(one) for _ in range(3)]
    two.set_state({"count": 2})
    np.testing.assert_array_equal(next(two)[0], first[2][0])
    np.testing.assert_array_equal(first[2][1], 2 * first[2][0])


def test_predictor_starts_at_the_mean_of_the_targets(model):
    targets = jnp.asarray([[0.3, 0.1], [0.5, 0.3]])
    state = predictor.init_state(model, config().predictor, targets, jax.random.key(0))
    inputs = {**batch_of().inputs, "z": jnp.zeros((4, 8))}
    predicted = model.predict({"predictor": {"params": state["params"]}}, inputs)
    np.testing.assert_allclose(predicted, [[0.4, 0.2, 0.0]] * 4, rtol=1e-4)


def test_plain_lines_in_a_log(capsys, tmp_path):
    log = Log(tmp_path)
    log.begin("backbone", 0, 10)
    log.write("backbone", 5, 10, {"g_adv": 1.5})
    log.close()
    out = capsys.readouterr().out
    assert "backbone: step 0 of 10, compiling (once)" in out
    assert re.search(r"backbone 5/10  g_adv 1.5  [\d.]+ s/step", out)
