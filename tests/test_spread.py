"""How far scores move by z alone."""

import dataclasses
import json

import numpy as np
import pytest
from studies import made_records
from test_evaluate import SHORT
from tiny import tiny_renderer, tiny_workdir

from fiancee_jax import metrics
from fiancee_jax.__main__ import main
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import segmentation
from fiancee_jax.evaluation.options import Options
from fiancee_jax.evaluation.spread import spread


def twice(shift=0.0, seed=1):
    """Made-up records, the backbone's pictures a second time, `shift` away."""
    records = made_records(inputs=30, latents=2)
    assert records.confusion is not None
    rng = np.random.default_rng(seed)
    return dataclasses.replace(
        records,
        again_features=rng.standard_normal((60, 6)) + shift,
        again_confusion=records.confusion[:, -1],
    )


def test_the_scores_are_those_of_both_sets():
    records = twice()
    found = spread(records, None, 0)
    assert found is not None
    assert records.features is not None
    assert records.real_features is not None
    fd = found["fd_efflite0"]
    first = metrics.frechet_distance(records.features[:, -1], records.real_features)
    assert fd["first"] == pytest.approx(first)
    assert fd["second"] == pytest.approx(
        metrics.frechet_distance(np.asarray(records.again_features), records.real_features)
    )
    assert found["miou"] == {"first": 1.0, "second": 1.0, "interval": [0.0, 0.0]}


def test_the_interval_holds_zero_for_alike_sets_and_not_for_others():
    low, high = spread(twice(), None, 0)["fd_efflite0"]["interval"]  # pyright: ignore
    assert low < 0 < high
    low, high = spread(twice(shift=2.0), None, 0)["fd_efflite0"]["interval"]  # pyright: ignore
    assert low < high < 0


def test_nothing_without_a_second_set():
    assert spread(made_records(), None, 0) is None


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Six maps of the split, photos of all splits, the backbone twice."""
    folder, out = tmp_path_factory.mktemp("runs") / "tiny", tmp_path_factory.mktemp("out")
    folder.mkdir()
    tiny_workdir(folder, tiny_renderer())
    words = ["evaluate", "--model", str(folder), "--out", str(out), "--limit", "6"]
    sizes = {"train": 5, "predictor": 4, "calibration": 3, "report": 7}
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["data"] |= sizes
    path.write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation.load_or_train, "__defaults__", (SHORT,))
        patch.setattr("fiancee_jax.evaluation.spread.RESAMPLES", 3)
        main([*words, "--real", "all", "--spread", "--latents", "2"])
    return out


def test_evaluate_has_it(evaluated):
    found = json.loads((evaluated / "evaluation.json").read_text())
    assert set(found["spread"]) == {"fd_efflite0", "miou", "resamples"}
    backbone = next(row for row in found["rows"] if row["policy"] == "backbone")
    assert backbone["samples"] == [12, 19]
    assert found["spread"]["fd_efflite0"]["first"] == pytest.approx(backbone["fd_efflite0"])
    assert found["spread"]["miou"]["first"] == pytest.approx(backbone["miou"])
    assert found["spread"]["fd_efflite0"]["second"] != backbone["fd_efflite0"]
    assert "at other z" in (evaluated / "index.html").read_text()


@pytest.mark.parametrize("changes", [{"spread": True}, {"real": "all"}])
def test_it_needs_judges(changes, tmp_path):
    with pytest.raises(UserError, match="--no-judges"):
        Options("m", tmp_path, judges=False, **changes).check()
