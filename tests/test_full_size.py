"""The full-size configs: the published recipe, data that is absent, data of another kind."""

import pathlib
import re
from typing import Any

import pytest
import tensorflow_datasets as tfds

from fiancee_jax.config import load_config
from fiancee_jax.config_check import check_config
from fiancee_jax.data import Folder, Tfds
from fiancee_jax.errors import UserError
from fiancee_jax.training import run
from fiancee_jax.training.arguments import parse
from fiancee_jax.training.run import resolve, train

DOCS = pathlib.Path(__file__).parents[1] / "docs" / "full-size.md"
RECIPE = {  # pictures, epochs, batch, lr of G and D, EMA, lambda_LM (Sushko et al., 2021)
    "oasis_ade20k": (20_210, 200, 32, 1e-4, 4e-4, 0.9999, 10),
    "oasis_coco": (118_287, 100, 32, 1e-4, 4e-4, 0.9999, 10),
    "oasis_cityscapes": (2_975, 200, 20, 4e-4, 4e-4, 0.999, 5),
}


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    for phase in run.RUN:
        monkeypatch.setitem(run.RUN, phase, lambda work: pytest.fail("training began"))


@pytest.mark.parametrize("name", RECIPE)
def test_the_recipe_is_the_published_one(name):
    config, phase = load_config(name), load_config(name).backbone
    pictures, epochs, batch, *rest = RECIPE[name]
    assert (phase.batch_size, phase.steps) == (batch, epochs * (pictures // batch))
    found = [phase.lr_g, phase.lr_d, phase.ema_decay, config.model.lambda_labelmix]
    assert found == rest
    assert (phase.step, phase.schedule, phase.init_gain) == ("published", "constant", 0.02)
    assert (phase.beta1, phase.beta2, phase.recollect, phase.own_latent) == (0.0, 0.999, 50, 0.0)
    assert config.augment.flip
    assert (config.model.width, config.model.hidden, config.model.z_dim) == (64, 128, 64)
    assert config.model.void == 0
    check_config(config)


@pytest.mark.parametrize("name", RECIPE)
def test_absent_data_is_one_line_before_anything_is_done(name, tmp_path):
    root = tmp_path / "nowhere"
    arguments = parse([name, "--workdir", str(tmp_path / "run"), "--data.root", str(root)])
    with pytest.raises(UserError) as error:
        train(arguments.config, arguments.workdir)
    message = str(error.value)
    assert "\n" not in message
    for part in (f"Found no folder {root}", "SPLIT/images/NAME.jpg", "classes.json", "--data.root"):
        assert part in message
    assert not (tmp_path / "run").exists()


def test_data_with_another_number_of_classes(tmp_path):
    (tmp_path / "classes.json").write_text('["void", "road", "sky"]')
    arguments = parse(["oasis_cityscapes", "--workdir", "x", "--data.root", str(tmp_path)])
    with pytest.raises(UserError, match="data set has 3 classes, but the model has 35"):
        resolve(arguments.config)


@pytest.fixture
def example(tmp_path):
    """The config that docs/full-size.md shows, as a file."""
    (text,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    file = tmp_path / "cityscapes_tfds.py"
    file.write_text(text)
    return file


def test_tfds_in_a_file_of_ones_own(tmp_path, example):
    published, own = load_config("oasis_cityscapes"), load_config(str(example))
    assert isinstance(published.data, Folder)
    assert isinstance(own.data, Tfds)
    assert own.model == published.model
    assert resolve(own).backbone == published.backbone
    flags = ["--data.data-dir", str(tmp_path), "--workdir", str(tmp_path / "run")]
    arguments = parse([str(example), *flags])
    with pytest.raises(UserError) as error:
        train(arguments.config, arguments.workdir)
    message = str(error.value)
    assert f"is not prepared in {tmp_path}" in message
    command = "python -m fiancee_jax prepare cityscapes/semantic_segmentation --data-dir"
    assert f"`{command} {tmp_path}`" in message


def test_the_example_names_the_features_that_tfds_has(example):
    data = load_config(str(example)).data
    features: Any = tfds.builder(data.name).info.features
    assert features[data.image_key].shape == (1024, 2048, 3)
    assert features[data.label_key].shape == (1024, 2048, 1)
