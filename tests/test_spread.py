"""How far scores move by z alone."""

import dataclasses

import numpy as np
import pytest
from studies import made_records

from fiancee_jax import metrics
from fiancee_jax.errors import UserError
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


@pytest.mark.parametrize("changes", [{"spread": True}, {"real": "all"}])
def test_it_needs_judges(changes, tmp_path):
    with pytest.raises(UserError, match="--no-judges"):
        Options("m", tmp_path, judges=False, **changes).check()
