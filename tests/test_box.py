"""Models in the box: written, read from anywhere, refused when damaged, unpacked."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from tiny import tiny_renderer, tiny_workdir

from fiancee_jax import box, inference
from fiancee_jax.__main__ import main
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import write_config
from fiancee_jax.data import Folder
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.routing.calibration import Calibration
from fiancee_jax.training import backbone
from fiancee_jax.training.run import train

LABELS = np.random.default_rng(0).integers(0, 10, (4, 32, 32)).astype(np.int32)
Z = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
KEPT = {
    "predicted": np.full((6, 2), 0.1, np.float32),
    "distance": np.full((6, 2), 0.2, np.float32),
    "unit": np.arange(6),
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    """A finished run, calibrated; large enough to be rounded."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    renderer = tiny_renderer(width=4, hidden=8)
    tiny_workdir(folder, renderer)
    store = Store(folder)
    store.save("calibration", 1, model=KEPT, train={}, extra={"finished": True})
    store.close()
    return folder


@pytest.fixture(scope="module")
def boxed(workdir, tmp_path_factory) -> pathlib.Path:
    return box.export(workdir, tmp_path_factory.mktemp("pretrained") / "tiny")


def rendered(renderer, **options):
    return renderer(LABELS, z=Z, exact=True, **options)


def test_it_renders_what_the_workdir_renders_but_for_rounding(workdir, boxed):
    whole, small = inference.load(workdir, sparse=False), inference.load(boxed, sparse=False)
    assert small.model.exits == whole.model.exits
    assert small.menu == whole.menu
    for option in ({"exit": "full"}, {"exit": 1}, {"max_lpips": 0.1}):
        a, b = rendered(whole, **option), rendered(small, **option)
        np.testing.assert_allclose(a.images, b.images, atol=0.02)
        np.testing.assert_array_equal(a.exits, b.exits)
        np.testing.assert_array_equal(a.predicted_lpips, b.predicted_lpips)  # not rounded
    for name, value in KEPT.items():
        np.testing.assert_array_equal(getattr(small.calibration, name), value)


def test_large_arrays_of_the_generator_alone_are_rounded(workdir, boxed):
    before, after = box.read(workdir).variables, box.read(boxed).variables
    rounded = 0
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        assert b.dtype == a.dtype
        if path[0].key == "predictor" or a.size < box.LARGE:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_array_equal(a.astype(np.float16).astype(np.float32), b)
            rounded += 1
    assert rounded > 5


def test_the_same_model_gives_the_same_bytes_and_again(workdir, boxed, tmp_path):
    again = box.export(workdir, tmp_path / "again")
    twice = box.export(boxed, tmp_path / "twice")
    for name in (box.WEIGHTS, box.NOTE, "config.json"):
        assert (boxed / name).read_bytes() == (again / name).read_bytes()
        assert (boxed / name).read_bytes() == (twice / name).read_bytes()


def test_a_card_that_is_there_stays(workdir, tmp_path):
    (tmp_path / "README.md").write_text("the card")
    box.export(workdir, tmp_path)
    assert (tmp_path / "README.md").read_text() == "the card"


def test_it_is_found_by_name_from_another_directory(boxed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inference, "_boxes", lambda: {"tiny": boxed})
    (tmp_path / "tiny").mkdir()  # a folder of something else does not hide it
    assert inference.find_model("tiny") == boxed
    with pytest.raises(UserError, match=r"'tinny'. Models in the box: tiny"):
        inference.find_model("tinny")


def test_a_config_in_a_box_knows_no_path_of_this_machine(workdir):
    config = box.read(workdir).config
    moved = dataclasses.replace(config, data=Folder(root="/home/somebody/photos/streets"))
    assert box._anywhere(moved).data == Folder(root="data/streets")
    assert box._anywhere(config) == config


def test_unpacked_it_is_a_finished_run_that_can_be_trained_on(boxed, tmp_path, capsys):
    main(["unpack", str(boxed), "--workdir", str(tmp_path / "w")])
    assert "wrote" in capsys.readouterr().out
    one, two = box.read(boxed), box.read(tmp_path / "w")
    jax.tree.map(np.testing.assert_array_equal, one.variables, two.variables)
    assert (one.config, one.menu, one.exits) == (two.config, two.menu, two.exits)
    phase = dataclasses.replace(one.config.predictor, inputs=40, steps=2, batch_size=4)
    config = dataclasses.replace(one.config, predictor=phase)
    branches = dataclasses.replace(config.branches, batch_size=4)
    config = dataclasses.replace(config, branches=branches)
    train(config, tmp_path / "w", phases=["predictor"], rerun=True)
    said = capsys.readouterr().out
    assert "predictor 2/2" in said
    after = box.read(tmp_path / "w")
    jax.tree.map(
        np.testing.assert_array_equal, after.variables["branches"], one.variables["branches"]
    )
    assert after.calibration is None  # that was the old predictor's


def test_unpacking_overwrites_nothing(boxed, workdir, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UserError, match="not empty"):
        box.unpack(boxed, tmp_path)
    with pytest.raises(UserError, match="no model in the box"):
        box.unpack(workdir, tmp_path / "w")


def test_with_its_discriminator_the_backbone_goes_on(tmp_path):
    renderer = tiny_renderer(width=4, hidden=8)
    config, folder = renderer.config, tmp_path / "w"
    model, phase = MultiExit.of(config, ()), config.backbone
    state = backbone.init_state(model, phase, np.random.default_rng(5))
    folder.mkdir()
    write_config(config, folder)
    with contextlib.closing(Store(folder)) as store:
        trained, extra = renderer.variables["backbone"], {"finished": True}
        store.save("backbone", phase.steps, model=trained, train=state, extra=extra)
    boxed = box.export(folder, tmp_path / "box", discriminator=True)
    assert (boxed / box.CRITIC).stat().st_size > 1000
    again = box.export(boxed, tmp_path / "again", discriminator=True)  # rounded once, never again
    assert (again / box.CRITIC).read_bytes() == (boxed / box.CRITIC).read_bytes()
    box.unpack(again, tmp_path / "on")
    with contextlib.closing(Store(tmp_path / "on")) as store:
        found = store.train("backbone", state)
    for name in ("params", "ema"):
        jax.tree.map(lambda a, b: _near(a, b), found[name], trained["params"])
    jax.tree.map(lambda a, b: _near(a, b), found["batch_stats"], trained["batch_stats"])
    jax.tree.map(lambda a, b: _near(a, b), found["d_params"], state["d_params"])
    assert not np.any(jax.tree.leaves(found["opt_d"])[0])


def _near(a, b):
    np.testing.assert_allclose(a, b, atol=2**-11 * np.abs(b).max())  # float16


def test_without_a_discriminator_none_is_written(workdir, boxed, tmp_path):
    assert not (boxed / box.CRITIC).exists()
    with pytest.raises(UserError, match="holds no discriminator"):
        box.export(boxed, tmp_path / "box", discriminator=True)
    with pytest.raises(UserError, match="keeps no training state"):
        box.export(workdir, tmp_path / "box", discriminator=True)
    assert not (tmp_path / "box").exists()


def test_it_is_not_trained_where_it_lies(boxed):
    with pytest.raises(UserError, match=r"is a model in the box.*unpack"):
        train(box.read(boxed).config, boxed)
    assert sorted(p.name for p in boxed.iterdir()) == [box.NOTE, "config.json", box.WEIGHTS]


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        (box.WEIGHTS, lambda x: x[:-1], "is not the file that box.json belongs to"),
        (box.WEIGHTS, lambda x: x[:90] + bytes([x[90] ^ 1]) + x[91:], "is not the file"),
        (box.WEIGHTS, None, "cannot be read"),
        (box.NOTE, lambda x: x[:-5], "box.json is damaged"),
        (box.NOTE, lambda _: b"[]", "box.json is damaged"),
        (box.NOTE, lambda x: x.replace(b'"menu"', b'"many"'), "damaged.*menu"),
        (box.NOTE, lambda x: x.replace(b'version": 1', b'version": 9'), "version 9.*reads 1"),
        (box.NOTE, lambda x: x.replace(b'"tap": 1,', b'"tap": 1.5,'), "exits that its config.json"),
        (box.NOTE, None, "has no box.json beside its weights"),
        ("config.json", lambda x: x[:-5], "config.json is damaged"),
        ("config.json", None, "holds no config"),
    ],
)
def test_damage_is_one_clear_message(boxed, tmp_path, name, harm, message):
    for path in boxed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if harm is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(harm((boxed / name).read_bytes()))
    with pytest.raises(UserError, match=message):
        inference.load(tmp_path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda a: a.pop("predictor/params/offset"), "predictor/params/offset.*found nothing"),
        (
            lambda a: a.update({"backbone/params/stem/fc/bias": np.zeros(3, np.float32)}),
            r"stem/fc/bias should be float32 of shape \[64\]; found float32 of shape \[3\]",
        ),
        (
            lambda a: a.update({"backbone/params/stem/fc/bias": np.zeros(64, np.int32)}),
            "stem/fc/bias should be float32.*found int32",
        ),
        (lambda a: a.update({"backbone": np.zeros(3, np.float32)}), "are not a model's"),
        (lambda a: a.update({"calibration/more": np.zeros(3, np.float32)}), "are not a model's"),
        (
            lambda a: a.update({"calibration/predicted": np.zeros((6, 1), np.float32)}),
            r"calibration/predicted should be float32 of shape \[6, 2\]",
        ),
    ],
)
def test_arrays_that_do_not_fit_the_config_are_refused(boxed, tmp_path, harm, message):
    """With the right hash: it was put together by somebody else."""
    arrays = dict(safetensors.numpy.load((boxed / box.WEIGHTS).read_bytes()))
    harm(arrays)
    content = safetensors.numpy.save(arrays)
    note = json.loads((boxed / box.NOTE).read_text())
    note["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "config.json").write_bytes((boxed / "config.json").read_bytes())
    (tmp_path / box.WEIGHTS).write_bytes(content)
    (tmp_path / box.NOTE).write_text(json.dumps(note))
    with pytest.raises(UserError, match=message):
        inference.load(tmp_path)


def test_some_exits_alone(workdir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(workdir, folder)
    for phase in ("predictor", "calibration"):
        shutil.rmtree(folder / "checkpoints" / phase)
    whole = inference.load(folder, sparse=False)
    small = inference.load(box.export(folder, tmp_path / "box", exits=(2,)), sparse=False)
    assert [entry["tap"] for entry in small.menu] == [whole.menu[1]["tap"]]
    np.testing.assert_allclose(
        rendered(small, exit=1).images, rendered(whole, exit=2).images, atol=0.02
    )
    run = box.unpack(tmp_path / "box", tmp_path / "unpacked")
    assert inference.load(run).model.exits == small.model.exits


@pytest.mark.parametrize("numbers", [(0,), (3,), (1, 7)])
def test_exits_that_are_not_there_are_refused(workdir, tmp_path, numbers):
    with pytest.raises(UserError, match=r"to be kept, but the trained early exits are 1 \("):
        box.export(workdir, tmp_path / "box", exits=numbers)
    assert not (tmp_path / "box").exists()


def test_exits_are_chosen_before_the_predictor(workdir, tmp_path):
    with pytest.raises(UserError, match="has a predictor, which was trained for all"):
        box.export(workdir, tmp_path / "box", exits=(1,))


def test_what_float16_does_not_reach_is_refused():
    kernel = np.full((32, 64), 1e5, np.float32)
    with pytest.raises(UserError, match=r"backbone/kernel holds 1e\+05, more than float16 can"):
        box._kept("backbone/kernel", kernel)
    assert box._kept("predictor/kernel", kernel) is kernel
    assert box._kept("calibration/unit", np.arange(5000)).dtype == np.int64


def test_the_command_says_what_it_wrote(workdir, tmp_path, capsys):
    main(["export", "--model", str(workdir), "--out", str(tmp_path / "box")])
    assert "weights.safetensors (0.3 MiB), box.json" in capsys.readouterr().out
    note = json.loads((tmp_path / "box" / box.NOTE).read_text())
    assert len(note["menu"]) == 2
    assert isinstance(box.read(tmp_path / "box").calibration, Calibration)
