"""What policies are set to, and whether a promise is one about the inputs at hand."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from studies import made_records, made_subject
from tiny import tiny_config, tiny_renderer

from fiancee_jax.data import Folder, Landscapes
from fiancee_jax.evaluation import settings
from fiancee_jax.evaluation.ridge import Targets
from fiancee_jax.models.dcgan import Dcgan
from fiancee_jax.routing.calibration import Calibration

DISTANCES = np.linspace(0.0, 0.4, 401)[:, None]


def calibrated(renderer=None) -> Any:
    renderer = renderer or tiny_renderer()
    predicted = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    renderer.calibration = Calibration.from_measured(predicted, predicted, np.arange(40) // 4)
    return renderer


def test_thresholds_are_the_makers_before_the_evaluated():
    bare, found = tiny_renderer(), made_records()
    targets = Targets(DISTANCES, DISTANCES, DISTANCES)
    renderer = calibrated()
    taken = [
        settings.thresholds((0.3,), targets, renderer, found),
        settings.thresholds((), targets, renderer, found),
        settings.thresholds((), None, renderer, found),
        settings.thresholds((), None, bare, found),
    ]
    assert [origin for _, origin in taken] == [
        "options", "predictor_targets", "calibration", "inputs",
    ]  # fmt: skip
    assert taken[0][0] == (0.3,)
    assert taken[1][0] == (0.1, 0.2, 0.3)
    assert taken[2][0] == settings.quartiles(renderer.calibration.distance)
    assert taken[3][0] == settings.quartiles(found.lpips[:, :-1])


def test_equal_quartiles_are_one_threshold():
    assert settings.quartiles(np.full((9, 2), 0.1234)) == (0.12,)


def test_settings_of_a_calibrated_model():
    renderer = tiny_renderer()
    assert settings.settings(renderer, 0.5, (0.8, 0.95)) == []
    assert settings.budgets(renderer, made_subject()) == {}
    easy, hard = settings.settings(calibrated(renderer), 0.5, (0.8, 0.95))
    assert easy.tau > 0
    assert hard.tau < 0
    assert "0.95 needs 19 calibration units" in hard.reason


def judged(renderer, data, split="report"):
    return settings.exchangeable(renderer, data, split)


def test_promises_are_about_scenes_drawn_alike():
    renderer = calibrated()
    data = renderer.config.data
    assert judged(renderer, data)[0] is True
    assert judged(tiny_renderer(), data) == (False, "the model is not calibrated")
    for split, word in (("train", "trained"), ("predictor", "trained"), ("calibration", "chosen")):
        promised, why = judged(renderer, data, split=split)
        assert not promised
        assert word in why
    assert not judged(renderer, Landscapes(seed=7))[0]


def test_promises_are_not_about_other_files():
    renderer = calibrated()
    folder = Folder("somewhere")
    renderer.config = dataclasses.replace(renderer.config, data=folder)
    promised, why = judged(renderer, folder)
    assert not promised
    assert "other files" in why
    other = dataclasses.replace(folder, report="winter")
    assert "another folder" in judged(renderer, other, split="winter")[1]
    assert "another folder" in judged(renderer, Folder("elsewhere"), split="train")[1]


@pytest.mark.parametrize("split", ["report", "train"])
def test_nothing_but_z_is_always_drawn_alike(split):
    config = tiny_config(model=Dcgan(size=(32, 32), width=4, z_dim=4, stages=3))
    renderer = tiny_renderer()
    renderer = calibrated(
        type(renderer)(
            config,
            dataclasses.replace(renderer.model, family=config.model),
            renderer.variables,
            [],
        )
    )
    assert judged(renderer, config.data, split=split)[0] is True
