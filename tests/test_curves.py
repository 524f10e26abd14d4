import dataclasses
import json

import numpy as np
import pytest
from studies import GMACS, made_records, made_subject, made_table

from fiancee_jax.evaluation import curves, replay, ridge
from fiancee_jax.evaluation.table import Promise


def test_curves_of_every_policy():
    records = made_records()
    fitted = ridge.fit_both(ridge.Targets(records.shares, records.vector, records.lpips[:, :-1]))
    names = ("no_guides", "zero_guides", "students")
    table = made_table({name: made_subject(seed=i) for i, name in enumerate(names)}, fitted)
    found = curves.curves(table)
    assert set(found) == {
        *("learned", "lambda", "oracle", "mixture", "exits", "ridge", "ridge_products"),
        *names,
    }
    for points in found.values():
        for point in points:
            assert point["share"] == pytest.approx(point["gmacs"] / 8)
    oracle = {round(p["share"], 6): p["lpips"] for p in found["oracle"]}
    mixture = [(p["share"], p["lpips"]) for p in found["mixture"]]
    shares, distances = np.array(sorted(oracle)), [oracle[s] for s in sorted(oracle)]
    for share, distance in mixture[1:-1]:
        assert np.interp(share, shares, distances) < distance  # an oracle beats every mixture


def test_reliability_has_bins_of_equal_size():
    records = made_records(inputs=100)
    found = curves.reliability(records.predicted, records.lpips)
    assert [part["exit"] for part in found] == [1, 2, 3]
    bins = found[0]["bins"]
    assert len(bins) == 10
    order = np.argsort(records.predicted[:, 0])[:10]
    assert bins[0]["measured"] == pytest.approx(records.lpips[order, 0].mean())
    assert [b["predicted"] for b in bins] == sorted(b["predicted"] for b in bins)


def test_promises_beside_what_happened():
    table = made_table(noise=0.3)
    raw, kept, backbone = curves.promises(table)
    assert (raw["confidence"], kept["confidence"], backbone["confidence"]) == (None, 0.8, 0.95)
    assert raw["violations"] > kept["violations"] > backbone["violations"] == 0
    assert backbone["share"] == pytest.approx(1 + 0.01 / 8)
    assert raw["blocks"] == 60


def test_settings_of_promises_are_numbers():
    table = dataclasses.replace(made_table(), calibrated={0.1: [Promise(0.5, np.inf)]})
    raw, every = curves.promises(table)
    assert raw["tau"] == 0.1
    assert every["tau"] == np.finfo(np.float32).max
    assert json.loads(json.dumps(every))["tau"] == 3.4028234663852886e38
    assert every["share"] == pytest.approx((1 + 0.01) / 8)


def test_settings_are_drawn_as_they_came_out():
    table = made_table(inputs=30, noise=2.0)  # estimates that hardly help: not a convex curve
    records = table.subject.records
    for point in curves.curves(table)["lambda"]:
        taken = replay.lagrangian(records.predicted, GMACS, point["setting"])
        assert point["lpips"] == pytest.approx(replay.mean_of(taken, records.lpips))
        assert point["gmacs"] == pytest.approx(replay.mean_cost(taken, GMACS) + 0.01)
