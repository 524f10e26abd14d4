"""What difficulty goes with: rank correlations, explained variance, components, directions of z."""

import dataclasses
import types
from typing import Any

import numpy as np
import pytest
import studies
from scipy import stats

from fiancee_jax.evaluation import hardness
from fiancee_jax.evaluation.hardness import between_inputs, cross_validated


def stub(latent_dim=2) -> Any:
    """As much of a renderer as statistics need."""
    family = types.SimpleNamespace(view_names=("a", "b", "c"), latent_dim=latent_dim)
    return types.SimpleNamespace(model=types.SimpleNamespace(family=family))


def spearmanr(a, b) -> float:
    result: Any = stats.spearmanr(a, b)
    return result.statistic


@pytest.fixture
def no_map(monkeypatch):
    monkeypatch.setattr(hardness, "latent_map", lambda *_: "not here")


def found_in(table):
    return hardness.hardness(stub(), table, source=None, seed=0)


@pytest.fixture
def found(no_map):
    return found_in(studies.made_table(inputs=80))


def test_ranks_are_spearmans_of_every_column(found):
    rec = studies.made_records(inputs=80)
    rank = found["exits"][0]["rank"]
    expected = [spearmanr(x, rec.lpips[:, 0]) for x in rec.shares.T]
    np.testing.assert_allclose(rank["areas"], expected, atol=1e-12)
    norm = np.linalg.norm(rec.vector, axis=1)
    assert rank["vector_norm"] == pytest.approx(spearmanr(norm, rec.lpips[:, 0]))
    assert rank["areas"][0] > 0.4  # studies.py: the first class makes it hard, as does z 1
    assert rank["vector"][0] > 0.3
    assert abs(rank["crowdedness"]) < 0.3
    assert found["features"] == {"areas": ["a", "b", "c"], "vector": ["z 1", "z 2"]}


def test_exits_are_numbered_and_the_last_is_their_mean(found):
    assert [e["exit"] for e in found["exits"]] == [1, 2, 3, "mean"]


def test_explained_variance_knows_areas_from_z(found):
    explained = found["exits"][-1]["explained"]
    # log distance is 1.5 area + .4 z_1 up to the floor: both explain it, each alone a part
    assert explained["both"] > 0.9
    assert 0.2 < explained["areas"] < 0.9
    assert 0.1 < explained["vector"] < 0.8
    assert explained["products"] > 0.9


def test_choices_follow_difficulty(found):
    learned, oracle = found["choices"]
    assert (learned["policy"], oracle["policy"]) == ("learned", "oracle")
    assert oracle["by_difficulty"] == sorted(oracle["by_difficulty"])
    assert oracle["rank"]["areas"][0] > 0.5
    assert len(learned["by_difficulty"]) == 5


def test_extremes_are_of_different_inputs(no_map):
    table = studies.made_table(inputs=50, latents=3)
    rec, found = table.subject.records, found_in(table)
    for key in ("easiest", "hardest"):
        names = [r["name"] for r in found[key]]
        assert len(set(names)) == hardness.SHOWN
    best = found["easiest"][0]
    assert best["record"] == np.log(rec.lpips[:, :-1] + 1e-3).mean(1).argmin()
    assert best["latent"] == best["record"] % 3  # an input's records follow each other
    assert best["lpips_alex"] == rec.lpips[best["record"]].tolist()


def test_few_inputs_and_one_latent_are_said(no_map):
    found = found_in(studies.made_table(inputs=12))
    assert found["exits"][0]["explained"] is None
    assert found["exits"][0]["between_inputs"] is None
    assert "40 inputs" in found["omitted"]["explained"]
    assert "--latents" in found["omitted"]["between_inputs"]
    assert found["omitted"]["latent_map"] == "not here"
    assert found["latent_map"] is None


def test_constant_columns_have_no_rank_and_no_design(no_map):
    table = studies.made_table(inputs=60)
    flat = dataclasses.replace(table.subject.records, shares=np.full((60, 3), 0.25))
    subject = dataclasses.replace(table.subject, records=flat)
    found = found_in(dataclasses.replace(table, subject=subject))
    assert found["exits"][0]["rank"]["areas"] == [None] * 3
    explained = found["exits"][0]["explained"]
    assert explained["areas"] is None
    assert explained["both"] is None
    assert explained["vector"] is not None
    assert "no label maps" in found["omitted"]["areas"]
    assert found["exits"][0]["between_inputs"] is None


def test_cross_validation_keeps_an_input_in_one_fold():
    # what only the input's number could tell is not predicted for new inputs
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(30), 6)
    y = rng.standard_normal(30)[units, None]
    x = np.eye(30)[units]
    assert cross_validated(x, y, units, seed=0)[0] < 0.1
    assert cross_validated(y, y, units, seed=0)[0] > 0.9


def test_between_inputs_are_the_components_of_variance():
    # 2 inputs x 2 latents: means 1 and 5, within variance 2; (16 / 2 - 2 / 2) / (7 + 2) = 7 / 9
    values, units = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
    share: Any = between_inputs(values, units)
    np.testing.assert_allclose(share, [7 / 9])
    assert isinstance(between_inputs(values, np.arange(4)), str)


def test_between_inputs_is_zero_for_noise():
    rng = np.random.default_rng(0)
    share: Any = between_inputs(rng.standard_normal((4000, 1)), np.repeat(np.arange(1000), 4))
    assert share[0] < 0.05
