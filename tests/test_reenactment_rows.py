"""Rows of reenactment: costs in parts, means of the exits taken, anchors."""

import numpy as np
import pytest
from made_heads import COSTS, made_found, made_who
from tiny_heads import heads_renderer

from fiancee_jax.evaluation import reenactment_rows as table
from fiancee_jax.evaluation.reenactment_rows import Costs

LIMITS = (0.05, 0.12)


@pytest.fixture(scope="module")
def found():
    return made_found()


def rows_of(found, kind):
    return {(r["row"], r["max_lpips"]): r for r in table.rows(found, kind, COSTS, LIMITS, seed=0)}


def test_costs_are_counted_by_scope():
    model = heads_renderer().model
    costs = Costs.of(model)
    decoder = [
        macs
        for scope, macs in model.exit_macs(None).items()
        if any(word in scope for word in ("project", "stages_", "head"))
    ]
    assert costs.decoder[-1] == pytest.approx(sum(decoder) / 1e9)
    assert costs.project == pytest.approx(8 * 8 * (4 * 8) * 32 / 1e9)  # P: 1x1, volume to width
    assert costs.once + costs.shared + costs.decoder[-1] - costs.project == pytest.approx(
        costs.exits[-1]
    )
    assert np.all(np.diff(costs.decoder) > 0)


def test_savings_by_hand():
    np.testing.assert_allclose(COSTS.decoder, [1.5, 2.5, 4.5])
    assert COSTS.document()["decoder"] == COSTS.decoder.tolist()
    found = COSTS.columns(7.0)
    assert found["decoder_gmacs"] == 1.5
    assert found["saved"] == {
        "model": pytest.approx(0.3),
        "frame": 0.5,
        "decoder": pytest.approx(2 / 3),
    }
    assert set(COSTS.columns(10.0)["saved"].values()) == {0.0}


def test_every_row_is_there_in_order(found):
    rows = list(rows_of(found, "self"))
    exits = [("exit_1", None), ("exit_2", None), ("backbone", None)]
    assert rows == [*exits, ("routed", 0.05), ("routed", 0.12), ("copy", None)]


def test_routed_rows_are_means_of_the_exits_taken(found):
    rows = rows_of(found, "cross")
    predicted = found["cross.predicted"]
    taken = [int(np.flatnonzero(p <= 0.05)[0]) for p in predicted]
    assert set(taken) == {0, 1, 2}
    row = rows["routed", 0.05]
    expected = np.mean([found["cross.psnr_masked"][i, k] for i, k in enumerate(taken)])
    assert row["truth_masked"]["psnr"]["mean"] == pytest.approx(expected)
    assert row["gmacs"] == pytest.approx(COSTS.exits[taken].mean() + COSTS.predictor)
    assert row["exits"] == [taken.count(k) / 40 for k in range(3)]
    assert row["saved"] == COSTS.columns(row["gmacs"])["saved"]
    assert rows["routed", 0.12]["gmacs"] < row["gmacs"]


def test_fixed_rows_and_the_copied_source(found):
    rows = rows_of(found, "cross")
    for name, column in (("exit_1", 0), ("exit_2", 1), ("backbone", 2), ("copy", 3)):
        row = rows[name, None]
        for key in ("identity", "driver", "pose_error", "lpips_to_backbone"):
            assert row[key]["mean"] == pytest.approx(found[f"cross.{key}"][:, column].mean())
        low, high = row["truth"]["lpips_alex"]["interval"]
        assert low < row["truth"]["lpips_alex"]["mean"] < high
        apart = found["cross.lpips_alex"][:, column] - found["cross.lpips_alex"][:, 2]
        assert row["above_backbone"]["mean"] == pytest.approx(apart.mean())
    assert rows["exit_1", None]["exits"] == [1, 0, 0]
    assert rows["exit_1", None]["gmacs"] == 7.0  # no predictor runs
    assert rows["copy", None]["gmacs"] is rows["copy", None]["saved"] is None


def test_what_cannot_be_had_is_null(found):
    assert rows_of(found, "self")["exit_1", None]["driver"] is None
    without = {key: value for key, value in found.items() if "pose_error" not in key}
    assert rows_of(without, "self")["exit_1", None]["pose_error"] is None
    assert table.anchors(without, made_who()[0], seed=0)["truth_pose_error"] is None


def test_anchors_by_hand(found):
    who = made_who()[0]
    anchors = table.anchors(found, who, seed=0)
    truth, source = found["truth_vector"], found["source_vector"]
    same = [a @ b for a, b in zip(truth, source, strict=True)]
    others = [source[who != i] @ a for a, i in zip(truth, who, strict=True)]
    assert anchors["same_identity"]["mean"] == pytest.approx(np.mean(same))
    assert anchors["other_identity"]["mean"] == pytest.approx(np.mean([np.mean(x) for x in others]))
    below = [s > x for s, x in zip(same, others, strict=True)]
    assert anchors["told_apart"] == pytest.approx(np.concatenate(below).mean())
    driver = (truth * found["cross.driver_vector"]).sum(1).mean()
    assert anchors["driver"]["mean"] == pytest.approx(driver)
    assert anchors["truth_pose_error"]["mean"] == pytest.approx(found["truth_pose_error"].mean())
