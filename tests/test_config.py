"""Configs: JSON round trips, look-up by name, and what is refused."""

import dataclasses
import json
import shutil

import pytest
from tiny import tiny_config

from fiancee_jax import config as module
from fiancee_jax.config import (
    FORMAT_VERSION,
    Config,
    Exit,
    Guides,
    config_names,
    difference,
    from_dict,
    load_config,
    read_config,
    to_dict,
    write_config,
)
from fiancee_jax.config_check import check_config
from fiancee_jax.errors import UserError

TINY = tiny_config()


def changed(**changes):
    return dataclasses.replace(TINY, **changes)


def with_model(**changes):
    return changed(model=dataclasses.replace(TINY.model, **changes))


def with_phase(name, **changes):
    return changed(**{name: dataclasses.replace(getattr(TINY, name), **changes)})


# --- JSON ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "config",
    [TINY, changed(exits=(Exit(1, 0.25),), seed=7), changed(guides=Guides(form="patch", cell=2))],
)
def test_round_trip(config):
    plain = json.loads(json.dumps(to_dict(config)))
    again = from_dict(plain)
    assert again == config
    assert hash(again.model) == hash(config.model)  # lists came back as tuples
    assert plain["model"]["kind"] == "fiancee_jax.models.oasis.Oasis"


def test_every_config_in_the_box_round_trips_and_can_work():
    assert {"quickstart", "camvid"} <= set(config_names())
    for name in config_names():
        config = load_config(name)
        assert config.name == name
        assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
        check_config(config)


def edited(**changes):
    """TINY as a dict; a dotted key (with __) sets or removes a nested field."""
    plain = to_dict(TINY)
    for key, value in changes.items():
        *parents, last = key.split("__")
        inner = plain
        for parent in parents:
            inner = inner[parent]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__depth": 3}, "not a config of this version.*depth"),
        ({"colour": 3}, "not a config of this version.*colour"),
        ({"guides__shape": 3}, "not a config of this version.*shape"),
        ({"name": None}, "not a config of this version.*name"),
        ({"model": None}, "not a config of this version.*model"),
        ({"guides__form": "pallette"}, "not a config of this version.*form"),
        ({"seed": "many"}, "not a config of this version.*seed"),
        ({"model__kind": "os.system"}, "names the class os.system, which is not one of ours"),
        ({"model__kind": "fiancee_jax.weights.Path"}, "not one of ours"),
        ({"data__kind": None}, "not one of ours"),
        ({"model__kind": "fiancee_jax.models.oasis.Nope"}, "not a config of this version.*Nope"),
        ({"model__kind": "fiancee_jax.models.nope.Oasis"}, "not a config of this version.*nope"),
        ({"model__kind": "fiancee_jax.models.oasis.dataclasses.dataclass"}, "."),
    ],
)
def test_from_dict_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        from_dict(edited(**changes))


def test_from_dict_leaves_its_argument_alone():
    plain = to_dict(TINY)
    before = json.dumps(plain)
    from_dict(plain)
    assert json.dumps(plain) == before


# --- workdirs -----------------------------------------------------------------------------------
def test_write_and_read(tmp_path):
    write_config(TINY, tmp_path)
    assert read_config(tmp_path) == TINY
    assert load_config(str(tmp_path)) == TINY
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]  # nothing half-written is left
    assert json.loads((tmp_path / "config.json").read_text())["format_version"] == FORMAT_VERSION


def test_a_folder_without_config_json(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json.*--workdir"):
        read_config(tmp_path)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, None])
def test_another_format_version(tmp_path, version):
    (tmp_path / "config.json").write_text(json.dumps({"format_version": version, **to_dict(TINY)}))
    with pytest.raises(UserError, match=f"format version {version}.*reads {FORMAT_VERSION}"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["{", "", "[]", "3"])
def test_a_damaged_config_json(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        read_config(tmp_path)


# --- look-up ------------------------------------------------------------------------------------
def test_an_unknown_name_is_answered_with_the_nearest_and_all():
    with pytest.raises(UserError, match=r"Did you mean 'quickstart'.*camvid.*quickstart"):
        load_config("quikstart")
    with pytest.raises(UserError) as error:
        load_config("zzzzzz")
    assert "Did you mean" not in str(error.value)


def test_a_config_file_by_path(tmp_path):
    shutil.copy(module.config_dir() / "quickstart.py", tmp_path / "mine.py")
    assert load_config(str(tmp_path / "mine.py")) == load_config("quickstart")


def test_a_config_file_that_is_absent_or_empty(tmp_path):
    with pytest.raises(UserError, match=r"no config.*absent\.py"):
        load_config(str(tmp_path / "absent.py"))
    (tmp_path / "empty.py").write_text("config = 3\n")
    with pytest.raises(UserError, match="must define `config = Config"):
        load_config(str(tmp_path / "empty.py"))


def test_configs_are_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_config("quickstart"), Config)


# --- differences --------------------------------------------------------------------------------
def test_difference_names_dotted_fields_under_the_given_ones():
    old = TINY
    new = dataclasses.replace(
        old,
        model=dataclasses.replace(old.model, width=3),
        guides=dataclasses.replace(old.guides, size=99),
        seed=1,
    )
    assert difference(old, new, ("model", "seed")) == ["model.width: 2 -> 3", "seed: 0 -> 1"]
    assert difference(old, new, ("guides",)) == ["guides.size: 16 -> 99"]
    deeper = dataclasses.replace(old, predictor=dataclasses.replace(old.predictor, hidden=9))
    assert difference(old, deeper, ("predictor.channels",)) == []
    assert difference(old, deeper, ("predictor.hidden",)) == ["predictor.hidden: 8 -> 9"]
    assert difference(old, old, tuple(f.name for f in dataclasses.fields(old))) == []


def test_difference_of_exits_shows_both_lists():
    new = changed(exits=(Exit(1, 0.25),))
    (line,) = difference(TINY, new, ("exits",))
    assert line.startswith("exits: ")
    assert "0.25" in line


def test_difference_of_another_class():
    new = {**to_dict(TINY), "data": {"kind": "fiancee_jax.data.folders.Folder", "root": "x"}}
    lines = difference(TINY, from_dict(new), ("data",))
    assert "data.root: None -> x" in lines
    assert any(line.startswith("data.kind: ") for line in lines)


# --- checks -------------------------------------------------------------------------------------
def test_tiny_can_work():
    check_config(TINY)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (with_model(size=(20, 32)), r"divisible by 8: try \[16, 32\]"),
        (changed(exits=(Exit(-1, 0.5),)), "tap-1_w50 taps stage -1.*stages 1 to 3"),
        (changed(exits=(Exit(4, 0.5),)), "tap4_w50 taps stage 4.*stages 1 to 3"),
        (changed(exits=(Exit(1, 1.5),)), "width 1.5; it must be between 0 and 1"),
        (changed(exits=(Exit(1, 1.0),)), "width 1, which saves nothing.*light_block class"),
        (with_phase("branches", compose=1.5), "branches.compose is 1.5; it is a share"),
        (with_phase("predictor", compose=-0.5), "predictor.compose is -0.5"),
        (with_phase("predictor", of_train=2.0), "predictor.of_train is 2; it is a share"),
        (
            with_phase("branches", compose=0.5, adversarial=0.1),
            "branches.compose is 0.5.*no photo.*set branches.adversarial to 0",
        ),
        (
            with_phase("branches", running_statistics=True, inherit=False),
            "running_statistics is true, but with branches.inherit false",
        ),
        (
            with_phase("branches", lpips_net="vgg", lpips_vgg=1.0),
            "lpips_vgg is 1 and branches.lpips_net is 'vgg'.*beside LPIPS-alex",
        ),
        (with_phase("branches", lpips_net="alex", lpips_vgg=-1.0), "lpips_vgg is -1 .*0 or more"),
        (changed(exits=(Exit(1, 0.0),)), "width 0.0"),
        (changed(exits=(Exit(1, float("nan")),)), r"exits.0.width is nan; it must be a number"),
        (with_phase("branches", lr=float("inf")), r"branches.lr is inf; it must be a number"),
        (changed(exits=(Exit(1, 0.5), Exit(1, 0.501))), "different"),
        (changed(exits=()), "non-empty"),
        (
            with_phase("branches", adversarial=0.1, exits_per_step=2),
            "0.1.*exits_per_step 0.*found 2",
        ),
        (with_phase("backbone", steps=0), "backbone.steps is 0; it must be 1 or more"),
        (with_phase("branches", batch_size=-4), "branches.batch_size is -4"),
        (with_phase("branches", precision="fp16"), "'fp16'; choose from float32, bfloat16"),
        (with_phase("backbone", accumulate=0), "backbone.accumulate is 0; it must be 1 or more"),
        (with_phase("predictor", hidden=-1), "predictor.hidden is -1; it must be 0 .none. or more"),
        (
            with_phase("backbone", batch_size=10, accumulate=4),
            "batch_size is 10.*accumulate = 4 equal micro-batches. Take a batch size of 12, or",
        ),
        (with_phase("logging", every=0), "logging.every is 0"),
        (with_phase("logging", keep_every=-500), "keep_every is -500; it must be 0 or a multiple"),
        (with_phase("logging", keep_every=750), "keep_every is 750.*checkpoint_every, 500: others"),
        (with_phase("predictor", cells=-1.0), "predictor.cells is -1; it is a weight"),
        (
            with_phase("predictor", cells=0.3, members=2),
            "goes with predictor.hidden 0, members 1.*Found hidden 8, members 2",
        ),
        (with_phase("predictor", cells=0.3, hidden=0, channels=0), "Found channels 0"),
        (with_phase("predictor", pool=0), "predictor.pool is 0; it must be 1 or more"),
        (with_phase("predictor", pool=2), "pool is 2, which joins the cells.*Give it a weight"),
        (with_phase("branches", focus=1.5), "branches.focus is 1.5; it is a share"),
        (with_phase("predictor", holdout=0.0), "holdout 0; at least one input must be held out"),
        (with_phase("predictor", inputs=1), "predictor.inputs is 1"),
        (changed(guides=Guides(form="patch", patch_stage=2)), "patch_stage is 2.*from 1 to 1"),
        (changed(guides=Guides(form="patch", patch_stage=0)), "patch_stage is 0.*from 1 to 1"),
        (changed(guides=Guides(form="patch", cell=16)), "guides.cell is 16.*8x8 pixels"),
        (changed(guides=Guides(form="patch", cell=3)), "guides.cell is 3.*divisor of 8"),
        (changed(guides=Guides(size=4, neighbours=8)), "guides.neighbours is 8.*1 to 4"),
        (changed(guides=Guides(neighbours=0)), "guides.neighbours is 0"),
        (changed(guides=Guides(form="image", size=0)), "guides.size is 0"),
        (changed(guides=Guides(form="random", size=4)), "guides.neighbours is 8.*1 to 4"),
        (
            changed(guides=Guides(form="patch", population="kmeans")),
            "guides.population is 'kmeans'.*cells of form 'patch' are drawn at random",
        ),
        (with_model(palette_bands=0), "model.palette_bands is 0"),
    ],
)
def test_check_config_says_what_cannot_work(config, message):
    with pytest.raises(UserError, match=message):
        check_config(config)


def test_options_of_other_forms_do_not_matter():
    check_config(changed(guides=Guides(form="palette", patch_stage=3, cell=3)))
    check_config(changed(guides=Guides(form="none", size=1)))


def test_names_of_exits():
    assert Exit(1, 0.25).name == "tap1_w25"
    assert Exit(3, 1 / 3).name == "tap3_w33"
