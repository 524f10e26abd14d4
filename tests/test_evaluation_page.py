"""The page of an evaluation: self-contained, escaped, small, and plain about what is not there."""

import copy
import json

import numpy as np
import pytest
from measured import measured_table
from test_report import Reader
from tiny import CLASSES, tiny_renderer

from fiancee_jax.evaluation import contrasts, curves, hardness, page, page_pictures, run, words

HOSTILE = '<script>x</script> & "$'
REASON = "no <b>segmenter</b>"


class Named:
    """A source under other names."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, i):
        return {**self.source[i], "name": f"{HOSTILE} {i}"}


@pytest.fixture(scope="module")
def world():
    """A renderer with hostile class names, its inputs, what was measured, and what was found."""
    renderer = tiny_renderer(classes=(HOSTILE, *CLASSES[1:]))
    source = Named(renderer.config.data.open("report", (32, 32)))
    table = measured_table(renderer, source)
    found = {
        "config": "tiny",
        "model": "runs/<tiny>",
        "command": "python -m fiancee_jax evaluate --model 'a b'",
        "data": {"kind": "Landscapes", "seed": 0},
        "split": "report",
        "inputs": len(source),
        "latents": 1,
        "seed": 0,
        "environment": {"jax": "0"},
        "full_gmacs": table.full_gmacs,
        "predictor_gmacs": table.subject.predictor_gmacs,
        "training_seed": 0,
        "max_lpips": [0.1],
        "max_lpips_from": "predictor_targets",
        "exchangeable": True,
        "exchangeable_why": "both are drawn alike",
        "exits": exits(table),
        "rows": [row.columns(0.1, table.full_gmacs, 0) for row in table.rows(0.1)],
        "absent": {"students": "not <trained>"},
        "gaps": contrasts.gaps(table, 0.1),
        "gaps_in_violations": contrasts.gaps_in_violations(table, 0.1),
        "comparisons": contrasts.comparisons(table, 0.1),
        "curves": curves.curves(table),
        "reliability": curves.reliability(
            table.subject.records.predicted, table.subject.records.lpips
        ),
        "promises": curves.promises(table),
        "real": {},
        "timing": vars(table.subject.times),
    }
    for row in found["rows"]:
        row["why_empty"]["miou"] = REASON
    found["hardness"] = hardness.hardness(renderer, table, source, 0)
    return renderer, source, table, found


def exits(table):
    gmacs, lpips = table.subject.gmacs, table.subject.records.lpips
    return [
        {
            "number": i + 1,
            "name": f"exit<{i}>",
            "tap": None if i + 1 == len(gmacs) else 1,
            "width": 0.5,
            "gmacs": float(g),
            "share": float(g / gmacs[-1]),
            **dict.fromkeys(
                ("lpips_alex_mean", "lpips_alex_p10", "lpips_alex_p90"), lpips[:, i].mean()
            ),
        }
        for i, g in enumerate(gmacs)
    ]


@pytest.fixture(scope="module")
def html(world, tmp_path_factory):
    renderer, source, table, found = world
    out = tmp_path_factory.mktemp("page")
    found = json.loads(json.dumps(run.plain(found)))  # as the file holds it
    page.write(out, found, renderer, table, source, 0)
    return (out / "index.html").read_text("utf-8")


@pytest.fixture(scope="module")
def reader(html):
    return Reader(html)


def test_page_asks_nobody_for_anything(html):
    assert "http" not in html
    assert "<script" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html
    assert len(html.encode()) < page.LIMIT


def test_links_and_pictures_are_local(reader):
    assert reader.values("a", "href") == ["evaluation.json"]
    pictures = reader.values("img", "src")
    assert all(src.startswith("data:image/") for src in pictures)
    # 3 easiest and 3 hardest: input, two exits, backbone; nine of the plane of z and its input
    assert len(pictures) == 6 * 4 + 9 + 1


def test_hostile_names_are_only_text(reader):
    assert HOSTILE in reader.text
    assert "runs/<tiny>" in reader.text
    assert "exit<0>" in reader.text
    assert "not <trained>" in reader.text


def test_empty_cells_say_why_beside_them_and_below(reader):
    titles = [attrs["title"] for tag, attrs in reader.tags if tag == "td" and "title" in attrs]
    assert titles.count(REASON) > 5
    assert f"{REASON}." in reader.text  # the footnote


def test_page_says_what_was_found(reader, world):
    found = world[3]
    for sentence in words.headline(found):
        assert sentence in reader.text
    learned = words.row(found, 0.1, "learned")
    assert learned is not None
    assert words.percent(learned["share"]) in reader.text
    assert found["command"] in reader.text
    assert "calibrated router, confidence 0.9" in reader.text
    assert "One training seed (0)" in reader.text
    assert "over the predictor\u2019s training inputs." in reader.text
    assert "of what an oracle saves that breaks it as often" in reader.text
    assert "Is the promise kept?" in reader.text
    assert "In the shaded half the promise was kept" in reader.text


def test_what_is_not_exchangeable_is_no_promise(world, tmp_path, monkeypatch):
    renderer, source, table, found = world
    other = copy.deepcopy(found)
    other.update(exchangeable=False, exchangeable_why="other drives")
    for promise in other["promises"]:
        promise.update(violations=1.0, violations_interval=[0.9, 1.0])
    rendered = {"records": [np.zeros((6, 8, 8, 3))] * 3, "inputs": [None] * 6}
    monkeypatch.setattr(page_pictures, "render", lambda *_: rendered)
    monkeypatch.setattr(page_pictures, "latent", lambda *_: None)
    page.write(tmp_path, other, renderer, table, source, 0)
    html = (tmp_path / "index.html").read_text()
    text = Reader(html).text
    assert "Confidence asked for, and what came of it" in text
    assert "Nothing is promised for these inputs: other drives." in text
    assert "Asked for: at most" in text
    assert "asked for: broken at most" in text  # the chart
    assert "Is the promise kept" not in text
    assert "In the shaded half" not in text
    after = html[html.index("Confidence asked for, and") :]
    assert '<td class="worse">' not in after[: after.index("Easy and hard")]


def test_pairs_of_unequal_cost_are_marked(world):
    pair = {"b": "student_1", "threshold": 0.1, "a_gmacs": 1.1, "b_gmacs": 1.0,
            "equal_gmacs": False, "lpips_interval": [0, 1], "violation_interval": None}  # fmt: skip
    same = {**pair, "a_gmacs": 1.01, "equal_gmacs": True}
    marked = page.numbers({**world[3], "comparisons": []})["comparisons"]
    assert marked == []
    found = page._comparisons({"comparisons": [pair, same], "rows": []})
    assert [c["apart"].split() for c in found] == [["(10.0", "%", "apart)"], []]


def test_pages_that_would_be_too_large_take_smaller_pictures(world, tmp_path, monkeypatch):
    renderer, source, table, found = world
    sides = []
    rendered = {
        "records": [np.zeros((6, 32, 32, 3))] * 3,
        "inputs": [None] * 6,
        "plane": np.zeros((9, 32, 32, 3)),
        "mapped": None,
    }
    monkeypatch.setattr(page_pictures, "render", lambda *_: rendered)
    monkeypatch.setattr(page_pictures, "latent", lambda found, rendered, side: sides.append(side))
    monkeypatch.setattr(page, "LIMIT", 10)
    page.write(tmp_path, found, renderer, table, source, 0)
    assert sides == list(page.SIDES)


def test_photos_fit():
    assert page_pictures.photo(np.zeros((40, 80, 3)), 20).startswith("data:image/webp;base64,")
    noise = np.random.default_rng(0).uniform(-1, 1, (64, 64, 3))
    assert len(page_pictures.photo(noise, 16)) < len(page_pictures.photo(noise, 64))


def test_a_bare_evaluation_is_no_error(world, tmp_path, monkeypatch):
    renderer, source, table, found = world
    bare = copy.deepcopy(found)
    bare.update(gaps=[], gaps_in_violations=[], comparisons=[], absent={})
    bare["promises"] = [p for p in bare["promises"] if p["confidence"] is None]
    for exit in bare["reliability"]:
        for b in exit["bins"]:
            b["predicted"] = float("nan")
    bare["hardness"]["latent_map"] = None
    bare["hardness"]["omitted"]["latent_map"] = "z has fewer than two coordinates"
    rendered = {"records": [np.zeros((6, 8, 8, 3))] * 3, "inputs": [None] * 6}
    monkeypatch.setattr(page_pictures, "render", lambda *_: rendered)
    page.write(tmp_path, bare, renderer, table, source, 0)
    text = Reader((tmp_path / "index.html").read_text()).text
    assert "The model is not calibrated" in text
    assert "No predictor has been trained" in text
    assert "z has fewer than two coordinates." in text
    assert "over a plane of z" not in text
