"""The command line of train.py: names, overrides, and messages for mistakes."""

import pytest
from tiny import tiny_config

import fiancee_jax as fj
from fiancee_jax.config import config_names, write_config
from fiancee_jax.training.arguments import parse


def test_fields_are_overridden_by_their_dotted_names():
    a = parse(["quickstart", "--workdir", "w", "--backbone.steps", "7", "--model.width", "3"])
    assert (a.config.backbone.steps, a.config.model.width, a.workdir) == (7, 3, "w")
    assert a.phases == ("backbone", "guides", "branches", "predictor", "calibration")


def test_data_root_of_a_folder_config():
    a = parse(["camvid", "--data.root", "somewhere", "--workdir", "w", "--phases", "guides"])
    assert (a.config.data.root, a.phases) == ("somewhere", ("guides",))


def test_unknown_config_suggests_the_nearest():
    with pytest.raises(fj.UserError, match=r"'quickstrat'.*Did you mean 'quickstart'\?"):
        parse(["quickstrat", "--workdir", "w"])


def test_unknown_field_suggests_the_nearest(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["quickstart", "--workdir", "w", "--backbone.stpes", "7"])
    assert stopped.value.code == 2
    assert "--backbone.steps" in capsys.readouterr().err


def test_a_workdir_is_its_own_config_and_workdir(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    write_config(tiny_config(seed=5), folder)
    a = parse([str(folder), "--backbone.steps", "7"])
    assert (a.workdir, a.config.seed, a.config.backbone.steps) == (str(folder), 5, 7)
    assert parse([str(folder), "--workdir", "elsewhere"]).workdir == "elsewhere"


def test_a_folder_does_not_hide_the_config_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    a = parse(["quickstart", "--workdir", "w"])
    assert (a.config.name, a.workdir) == ("quickstart", "w")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_no_mistake(flag, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse([flag])
    assert stopped.value.code == 0
    output = capsys.readouterr().out
    assert "python train.py CONFIG_OR_WORKDIR --workdir DIR" in output
    assert f"configs: {', '.join(config_names())}" in output


def test_a_workdir_must_be_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["quickstart"])
    assert stopped.value.code == 2
    assert "--workdir" in capsys.readouterr().err


def test_no_config_at_all_shows_the_usage():
    for arguments in ([], ["--workdir", "w"]):
        with pytest.raises(fj.UserError, match=r"python train\.py CONFIG_OR_WORKDIR --workdir DIR"):
            parse(arguments)
