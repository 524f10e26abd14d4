"""Ablations: their variants, rows and figures, and one run each of the two ways to make a row."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from tiny import tiny_config, tiny_renderer, tiny_workdir

from benchmarks import ablations
from benchmarks.ablation import by_error, figures, predictor, rows, training, variants
from fiancee_jax import population
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import load_config, read_config
from fiancee_jax.config_check import check_config
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.training import guide_bank
from fiancee_jax.training.log import Log
from fiancee_jax.training.workspace import Workspace

SMALL = {"measure": 8, "batch_size": 4, "lpips_net": "alex"}


# --- variants -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", variants.ABLATIONS)
def test_every_variant_can_work_and_has_a_name_of_its_own(name):
    config = load_config("avatars" if name == "sources" else "quickstart")
    base = variants.common(config, steps=7, seed=1)
    found = variants.ABLATIONS[name]
    assert len({v.name for v in found}) == len(found)
    configs = [variant.change(base) for variant in found]
    for config in configs:
        check_config(config)
        assert (config.branches.steps, config.seed) == (7, 1)
    assert len({str(config) for config in configs}) == len(configs)  # each changes something


def test_a_bank_is_taken_over_from_a_variant_with_the_same():
    base = variants.common(load_config("quickstart"), steps=7, seed=1)
    for variant in variants.GUIDES:
        if variant.bank_of:
            (owner,) = [v for v in variants.GUIDES if v.name == variant.bank_of]
            shapes = [
                MultiExit.of(dataclasses.replace(v.change(base), exits=())).bank_shapes
                for v in (variant, owner)
            ]
            assert shapes[0] == shapes[1]
            assert variants.GUIDES.index(owner) < variants.GUIDES.index(variant)


# --- rows ---------------------------------------------------------------------------------------
def row(variant="a", seed=0, **rest) -> dict[str, Any]:
    return {"variant": variant, "seed": seed, "exit": "tap1_w25", "lpips": 0.1, **rest}


def test_rows_are_kept(tmp_path):
    path = tmp_path / "deep" / "x.json"
    assert rows.load(path) == []
    rows.append(path, [row()])
    rows.append(path, [row(seed=1), row("b")])
    assert rows.load(path) == [row(), row(seed=1), row("b")]
    assert len(path.read_text().splitlines()) == 5  # one line for each, so that changes show
    assert rows.has(rows.load(path), variant="a", seed=1)
    assert not rows.has(rows.load(path), variant="b", seed=1)


def test_spread_is_half_the_distance_of_the_extremes():
    found = rows.by_variant([row(lpips=0.1), row("b"), row(seed=1, lpips=0.16)], ("variant",))
    assert [len(group) for _, group in found] == [2, 1]
    assert rows.spread(found[0][1], "lpips") == "0.1300 ± 0.0300"
    assert rows.spread(found[1][1], "lpips", 2) == "0.10"


def test_markdown():
    assert rows.markdown(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"


@pytest.mark.parametrize("name", ["exits", "bank_size"])
def test_figures(tmp_path, name):
    found = [
        row(f"size-{10**tap}", seed, tap=tap, width=width, share=width + 0.1 * tap, lpips=0.1 / tap)
        for tap in (1, 2)
        for width in (0.25, 0.5)
        for seed in (0, 1)
    ]
    assert figures.draw(name, found, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert not figures.draw("guides", found, tmp_path / "y.png")


# --- the predictor's figures ----------------------------------------------------------------------
def test_an_oracle_takes_all_of_the_gap_and_a_blind_router_none():
    rng = np.random.default_rng(0)
    lpips = np.sort(rng.uniform(0.01, 0.1, (400, 3)), axis=1)[:, ::-1]
    lpips = np.pad(lpips[:, :2], ((0, 0), (0, 1)))
    gmacs = np.array([1.0, 2.0, 4.0])
    assert predictor.taken(lpips, lpips, gmacs, 0.0, 0.6) == pytest.approx(1)
    blind = np.tile(lpips.mean(0), (400, 1))
    assert predictor.taken(blind, lpips, gmacs, 0.0, 0.6) == pytest.approx(0, abs=0.02)
    noisy = lpips * np.exp(0.2 * rng.standard_normal(lpips.shape))
    between = predictor.taken(noisy, lpips, gmacs, 0.0, 0.6)
    assert 0.1 < between < 0.95
    assert predictor.taken(noisy, lpips, gmacs, 0.1, 0.6) < between - 0.05  # its cost counts


def test_spearman():
    a = np.array([3.0, 1.0, 2.0, 10.0])
    assert predictor.spearman(a, np.exp(a)) == pytest.approx(1)
    assert predictor.spearman(a, -a) == pytest.approx(-1)
    # ranks 2 0 1 3 against 0 1 2 3: 1 - 6 (4 + 1 + 1) / (4 * 15)
    assert predictor.spearman(a, np.arange(4.0)) == pytest.approx(0.4)


@pytest.mark.slow
def test_predictors_are_judged_on_rows_they_were_not_trained_on(monkeypatch):
    monkeypatch.setattr(predictor, "HELD", 32)
    model = MultiExit.of(tiny_config())
    rng = np.random.default_rng(0)
    grid = rng.dirichlet(np.ones(10), (96, 4, 4)).astype(np.float32)
    vector = rng.standard_normal((96, 4)).astype(np.float32)
    distance = 0.05 * np.exp(0.5 * vector[:, :1] + np.array([[0.0, -0.3]]))
    measured = predictor.Measured(model, grid, vector, distance, distance)
    (first, second) = predictor.judged(predictor._ridge(measured, 64)[0], 0.0, measured)
    assert (first["exit"], second["exit"]) == tuple(e.name for e in model.exits)
    assert first["r2_log"] > 0.95
    assert first["spearman"] > 0.95
    assert first["taken_75"] > 0.9
    phase = dataclasses.replace(
        predictor.BASE, inputs=64, steps=40, channels=2, hidden=4, members=1, batch_size=16
    )
    made, gmacs, _ = predictor._trained(measured, phase, 0)
    assert made.shape == (32, 2)
    assert gmacs > 0


# --- whole runs -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished tiny workdir, with branches that are measured on few inputs."""
    config = tiny_config()
    phase = dataclasses.replace(config.branches, **SMALL)
    folder = tmp_path_factory.mktemp("workdir")
    tiny_workdir(folder, tiny_renderer(branches=phase))
    return folder


def quick(monkeypatch):
    """`variants.common` for tests: fewer inputs are measured."""
    common = variants.common

    def less(base, steps, seed):
        config = common(base, steps, seed)
        return dataclasses.replace(config, branches=dataclasses.replace(config.branches, measure=8))

    monkeypatch.setattr(ablations, "common", less)


@pytest.mark.slow
def test_an_ablation_writes_rows_and_makes_none_twice(workdir, tmp_path, monkeypatch, capsys):
    quick(monkeypatch)
    options = ablations.Options(
        "guides", workdir, tmp_path / "out", tmp_path / "results", 1, (3,), ("none",)
    )
    ablations.main(options)
    found = json.loads((tmp_path / "results" / "guides.json").read_text())
    assert [(r["ablation"], r["variant"], r["seed"], r["exit"], r["steps"]) for r in found] == [
        ("guides", "none", 3, "tap1_w25", 1)
    ]
    assert found[0]["lpips"] > 0
    assert "| none | tap1_w25 |" in capsys.readouterr().out
    monkeypatch.setattr(training, "derive", lambda *_: pytest.fail("trained again"))
    ablations.main(options)
    assert json.loads((tmp_path / "results" / "guides.json").read_text()) == found
    with pytest.raises(UserError, match=r"'nine'.*choose from none"):
        ablations.main(dataclasses.replace(options, only=("nine",)))


@pytest.mark.slow
def test_a_bank_by_error_holds_the_worst_candidates(workdir, monkeypatch):
    base = read_config(workdir)
    config = variants.guides(size=3, neighbours=2)(base)
    errors = np.zeros(3 * population.CANDIDATES * guide_bank.MAPS)
    errors[[5 * guide_bank.MAPS, 7 * guide_bank.MAPS + 1, 2 * guide_bank.MAPS + 3]] = 4, 3, 2
    real = by_error._errors
    monkeypatch.setattr(by_error, "_errors", lambda work, entries: errors)
    bank = by_error._bank(config, workdir)
    store = Store(workdir)
    work = Workspace(config, workdir, store, Log(None))
    records = guide_bank.records(work, guide_bank.MAPS, 12)
    share = records["share"].reshape(12, guide_bank.MAPS, -1).mean(1)
    np.testing.assert_allclose(bank["share"], share[[5, 7, 2]], atol=1e-6)
    measured = real(work, 12)
    store.close()
    assert measured.shape == (12 * guide_bank.MAPS,)
    assert (measured > 0).all()
