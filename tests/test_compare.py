"""The verbs compare, demo and train-demo: thresholds beside the backbone; mistakes said at once."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_renderer

from fiancee_jax import compare, demo
from fiancee_jax.data import Landscapes
from fiancee_jax.errors import UserError


@pytest.fixture
def labels(tmp_path):
    """Three maps of the model's size."""
    folder, source = tmp_path / "labels", Landscapes().open("report", (32, 32))
    folder.mkdir()
    for i in range(3):
        Image.fromarray(source[i]["labels"]).save(folder / f"{i}.png")
    return folder


def test_thresholds_are_measured_against_the_backbone(labels, tmp_path, capsys):
    renderer, out = tiny_renderer(), tmp_path / "out"
    strict, loose = compare.compare(renderer, "tiny", labels, out, (0.0, 10.0))
    assert strict.exits == [0, 0, 3]
    assert strict.predicted == 0
    assert strict.measured < 1e-3  # the same pictures, but for rounding
    assert strict.share == pytest.approx(1, abs=0.1)
    assert loose.exits == [3, 0, 0]
    assert loose.measured > 10 * strict.measured
    assert loose.share < strict.share
    written = json.loads((out / "compare.json").read_text())
    assert [row["max_lpips"] for row in written] == [0.0, 10.0]
    with Image.open(out / "compare.png") as sheet:
        assert min(sheet.size) > 3 * 32
    assert "LPIPS measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [((), "max-lpips is empty"), ((0.1, -1.0), "max_lpips is -1"), ((0.1, np.nan), "is nan")],
)
def test_impossible_thresholds_are_refused_first(labels, tmp_path, thresholds, message):
    with pytest.raises(UserError, match=message):
        compare.compare(tiny_renderer(), "tiny", labels, tmp_path / "out", thresholds)
    assert not (tmp_path / "out").exists()


def _called(monkeypatch, *names):
    calls = []
    for name in names:
        monkeypatch.setattr(demo, name, lambda *a, name=name: calls.append((name, *a)))
    return calls


def _sizes(folder):
    sizes = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            sizes.append(image.size)
    return sizes


def test_demo_draws_streets_and_renders_them_with_the_box(tmp_path, monkeypatch):
    calls, renderer = _called(monkeypatch, "compare"), tiny_renderer()
    monkeypatch.setattr(demo.inference, "load", lambda name: {"camvid": renderer}[name])
    demo.demo(tmp_path / "out")
    maps = tmp_path / "out" / "label_maps"
    height, width = renderer.model.family.size
    assert _sizes(maps) == [(width, height)] * demo.STREETS
    assert calls == [("compare", renderer, "camvid", maps, tmp_path / "out", demo.MAX_LPIPS)]


def test_train_demo_draws_unseen_maps_then_trains_and_compares(tmp_path, monkeypatch):
    calls = _called(monkeypatch, "train", "compare")
    monkeypatch.setattr(demo.inference, "load", lambda workdir: workdir)
    run, out = tmp_path / "run", tmp_path / "out"
    demo.train_demo(run, out)
    assert _sizes(out / "label_maps") == [(64, 64)] * demo.LANDSCAPES
    assert calls == [
        ("train", "quickstart", run),
        ("compare", run, str(run), out / "label_maps", out, demo.LANDSCAPES_MAX_LPIPS),
    ]


def test_train_demo_tries_its_output_folder_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "train", lambda *_: pytest.fail("trained first"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write into the output folder .*Give --out"):
        demo.train_demo(tmp_path / "run", tmp_path / "file" / "out")
