"""What is hard: hair styles, features of a pair, groups, and what the router spends on them."""

import numpy as np
import pytest
from made_heads import COSTS, made_found, made_who

from fiancee_jax.data import head_hair
from fiancee_jax.evaluation import reenactment_hardness as hard
from fiancee_jax.evaluation.reenactment_rows import chosen

LIMITS = (0.05, 0.12)


@pytest.fixture(scope="module")
def measured():
    return made_found()


@pytest.fixture(scope="module")
def found(measured):
    return hard.hardness(measured, "cross", made_who()[1], COSTS, LIMITS)


@pytest.mark.parametrize("style", hard.STYLES)
def test_styles_are_known_by_their_hair(style, monkeypatch):
    drawn = head_hair._STYLES[style]
    monkeypatch.setattr(head_hair, "_STYLES", dict.fromkeys(head_hair._STYLES, drawn))
    rng = np.random.default_rng(0)
    names = {hard.hair_style(head_hair.draw_hair(rng)) for _ in range(40)}
    assert names == ({"bob", "long"} & {style} or {style})


def test_all_styles_are_listed():
    assert set(hard.STYLES) == set(head_hair._STYLES)


def test_features_by_hand(measured):
    who = made_who()[1]
    known = hard.features(measured, who)
    assert all(value.shape == (40,) for value in known.values())
    motion = measured["motion"][3]
    assert known["yaw"][3] == pytest.approx(np.degrees(abs(motion[0])), rel=1e-5)
    assert known["jaw"][3] == motion[6]
    assert known["lids"][3] == pytest.approx(motion[10:12].mean())
    assert known["gaze"][3] == pytest.approx(np.hypot(*motion[12:14]))
    worn = [x.glasses.thickness > 0 for x in who]
    assert known["glasses"].tolist() == [float(x) for x in worn]
    assert 0 < sum(worn) < 40
    assert np.all(known["hair_volume"] >= 0)
    measured = dict(measured, source_pose=measured["motion"][:, :6])
    np.testing.assert_allclose(hard.features(measured, who)["turn"], 0, atol=1e-3)


def test_distances_and_the_routers_spending_rise_with_yaw(found):
    assert found["features"][0] == "yaw"
    first, backbone = found["exits"][0]["rank"], found["exits"][-1]["rank"]
    assert first["to_backbone"]["yaw"] == pytest.approx(1)
    assert first["to_truth"]["yaw"] > 0.9
    assert backbone["to_backbone"]["yaw"] is None  # always 0
    assert abs(first["to_truth"]["jaw"]) < 0.5
    assert [router["max_lpips"] for router in found["routers"]] == list(LIMITS)
    assert found["routers"][0]["rank"]["yaw"] > 0.8
    gmacs = [group["routed"][0]["gmacs"] for group in found["yaw"]]
    assert gmacs == sorted(gmacs)
    assert gmacs[0] < gmacs[-1]


def test_groups_hold_all_pairs_once_and_their_means(found, measured):
    assert [group["name"] for group in found["yaw"]] == ["0-15", "15-30", "30-45", ">45"]
    for name in ("yaw", "hair", "glasses"):
        assert sum(group["count"] for group in found[name]) == 40
    far = np.abs(measured["motion"][:, 0]) > np.radians(45)
    group, taken = found["yaw"][-1], chosen(measured, "cross", 0.05)[far]
    assert group["count"] == far.sum()
    to_truth = measured["cross.lpips_alex"][far].mean(0)[:3]
    assert group["to_truth"] == pytest.approx(to_truth.tolist())
    assert group["routed"][0]["exit"] == pytest.approx(taken.mean() + 1)
    assert group["routed"][0]["gmacs"] == pytest.approx(COSTS.exits[taken].mean() + 0.1)


def test_groups_of_none_are_left_out(measured):
    ahead = dict(measured, motion=0 * measured["motion"])
    assert list(hard.grouped(ahead, made_who()[1])["yaw"]) == ["0-15"]
