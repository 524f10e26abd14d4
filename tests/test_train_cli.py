"""The command line of train.py: names, overrides, and messages for mistakes."""

import pytest

import fiancee_jax as fj
from fiancee_jax.training.arguments import parse


def test_fields_are_overridden_by_their_dotted_names():
    a = parse(["quickstart", "--workdir", "w", "--backbone.steps", "7", "--model.width", "3"])
    assert (a.config.backbone.steps, a.config.model.width, a.workdir) == (7, 3, "w")
    assert a.phases == ("backbone", "guides", "branches", "predictor")


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


def test_no_config_at_all_shows_the_usage():
    for arguments in ([], ["--workdir", "w"]):
        with pytest.raises(fj.UserError, match=r"python train\.py CONFIG_OR_WORKDIR --workdir DIR"):
            parse(arguments)
