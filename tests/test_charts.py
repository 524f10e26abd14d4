"""Charts: SVG that stands in a page, follows its theme and asks nobody for anything."""

import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from fiancee_jax.evaluation import charts, hardness_charts

HOSTILE = "<script>alert('$x$')</script> & \"$"


def points(scale=1.0, share=0.2):
    return [
        {"share": s, "lpips": scale * (1 - s), "setting": 0.0, "gmacs": s}
        for s in np.linspace(share, 1, 5)
    ]


CURVES = {
    "exits": points(1.1),
    **{name: points(1 - i / 20) for i, name in enumerate(charts.WORDS)},
}
BINS = [{"predicted": 0.1, "measured": 0.12, "p10": 0.05, "p90": 0.2}] * 3
PROMISES = [
    {"threshold": t, "confidence": c, "violations": 0.1, "violations_interval": [0.05, 0.2]}
    for t in (0.05, 0.1)
    for c in (0.8, 0.9)
]


def rank(value):
    return {"areas": [value, None], "crowdedness": 0.01, "vector": [0.3], "vector_norm": 0.4}


HARDNESS = {
    "features": {"areas": [HOSTILE, "absent"], "vector": ["z 1"]},
    "exits": [
        {
            "exit": number,
            "rank": rank(-0.5),
            "explained": {"areas": 0.2, "vector": None, "both": None, "products": -0.4},
        }
        for number in (1, 2, "mean")
    ],
}
MAP = {"steps": [-1.0, 0.0, 1.0], "lpips_alex": [[0.1, 0.2, 0.3]] * 3}
CHOICES = [{"policy": p, "by_difficulty": [0.2, 0.5, 0.9]} for p in ("learned", "oracle")]

ALL = {
    "curves": lambda: charts.quality_compute(CURVES, [(0.5, 0.1)], width=900, height=400),
    "narrow": lambda: charts.quality_compute(CURVES, width=350, height=400),
    "reliability": lambda: charts.reliability(BINS, 2, 0.3),
    "promises": lambda: charts.promises(PROMISES),
    "ranks": lambda: hardness_charts.ranks(HARDNESS),
    "explained": lambda: hardness_charts.explained(HARDNESS["exits"]),
    "by_difficulty": lambda: hardness_charts.by_difficulty(CHOICES, 0.1),
    "heat": lambda: hardness_charts.heat(MAP, (0, 1, 2)),
}


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter("text")]


@pytest.mark.parametrize("name", ALL)
def test_charts_are_well_formed_and_self_contained(name):
    svg = ALL[name]()
    root = ET.fromstring(svg)  # every < and & is escaped
    assert root.tag == "svg"
    assert root.get("aria-label")
    assert "http" not in svg
    assert "<style" not in svg
    assert "<script" not in svg
    assert len(svg) < 40_000


@pytest.mark.parametrize("name", ALL)
def test_no_light_colour_is_left_in_the_drawing(name):
    colors = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", ALL[name]()))
    assert colors <= {"#ffffff", "#000000"}  # the crosses on the heat map


def test_ids_that_are_referred_to_are_there():
    svg = ALL["curves"]()
    ids = set(re.findall(r' id="([^"]*)"', svg))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg)) <= ids


def test_every_policy_is_named_and_exits_are_numbered():
    for name in ("curves", "narrow"):
        shown = texts(ALL[name]())
        assert set(charts.WORDS.values()) <= set(shown)
        assert {"1", "2", "3", "4"} <= set(shown)
        assert "5" not in shown  # the backbone is the corner
    assert "calibrated routers" in texts(ALL["curves"]())


def test_names_stand_in_the_order_of_the_curves():
    shown = texts(
        charts.quality_compute(
            {"oracle": points(0.5), "learned": points(0.7), "mixture": points(0.9)},
            width=900,
            height=400,
        )
    )
    names = [text for text in shown if text in charts.WORDS.values()]
    assert names == ["blind mixture", "learned router", "oracle"]


def test_numbers_in_words_keep_their_digits():
    found = [{**promise, "threshold": 0.0394} for promise in PROMISES]
    assert "max_lpips 0.0394" in texts(charts.promises(found))


def test_absent_policies_are_not_drawn():
    shown = texts(
        charts.quality_compute({"mixture": points(), "students": []}, width=900, height=400)
    )
    assert "blind mixture" in shown
    assert "students" not in shown


def test_names_of_classes_are_only_text():
    svg = ALL["ranks"]()
    assert HOSTILE in texts(svg)
    assert "absent" not in texts(svg)  # it has no rank


def test_designs_that_could_not_be_fitted_are_left_out():
    shown = texts(ALL["explained"]())
    assert "class areas" in shown
    assert "both" not in shown


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    assert ALL["curves"]() == ALL["curves"]()  # the same picture, byte for byte
    assert dict(matplotlib.rcParams) == before


def test_palettes_have_a_light_and_a_dark_colour_each_its_own():
    light = [pair[0] for pair in charts.PALETTE.values()]
    assert len(set(light)) == len(light)  # a colour stands for one variable
    assert all(
        re.fullmatch("#[0-9a-f]{6}", color) for pair in charts.PALETTE.values() for color in pair
    )
