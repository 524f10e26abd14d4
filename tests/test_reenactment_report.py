"""`python -m fiancee_jax reenact` from a workdir to its numbers, pictures and tables."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_workdir
from tiny_heads import heads_renderer

from fiancee_jax.__main__ import main
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import identity, reenactment, reenactment_report
from fiancee_jax.models import lpips

SHORT = identity.Training(steps=2, batch_size=4, views=2)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    tiny_workdir(folder, heads_renderer())
    return folder


@pytest.fixture(scope="module")
def found(workdir, tmp_path_factory):
    out, load = tmp_path_factory.mktemp("out"), lpips.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity.load_or_train, "__defaults__", (SHORT,))
        patch.setattr(reenactment_report.lpips, "load", lambda _: load("alex"))  # VGG is slow
        patch.setattr(reenactment, "BATCH", 8)
        command = ["reenact", "--model", str(workdir), "--out", str(out), "--limit", "6"]
        main(command)
        with pytest.MonkeyPatch.context() as again:
            again.setattr(reenactment, "measure", lambda *_: pytest.fail("measured again"))
            main([*command, "--max-lpips", "0", "1000"])
    return out


def read(out):
    return json.loads((out / "reenactment.json").read_text())


def test_a_second_run_with_other_thresholds_measures_nothing_again(found):
    result = read(found)
    assert (result["max_lpips"], result["max_lpips_from"]) == ([0.0, 1000.0], "options")
    assert all((found / name).is_file() for name in reenactment_report.WRITTEN)


def test_every_key_is_documented(found):
    result = read(found)
    documented = set(re.findall(r"\w+", reenactment_report.__doc__ or ""))
    assert not set(result) - documented
    assert (result["pairs"], result["identities"]) == (6, 6)
    assert (result["split"], result["data"]["kind"]) == ("report", "Heads")
    assert result["command"].endswith("--limit 6 --seed 0 --max-lpips 0.0 1000.0")
    for kind in ("self", "cross"):
        assert set(result[kind]) == {"rows", "hardness"}


def test_thresholds_lead_to_the_backbone_and_to_the_cheapest_exit(found):
    for kind in ("self", "cross"):
        rows = {(row["row"], row["max_lpips"]): row for row in read(found)[kind]["rows"]}
        for limit, fixed in ((0.0, "backbone"), (1000.0, "exit_1")):
            routed, same = rows["routed", limit], rows[fixed, None]
            assert routed["exits"] == same["exits"]
            assert routed["truth"] == same["truth"]
            assert routed["gmacs"] > same["gmacs"]  # the predictor


def test_the_sheet_shows_both_kinds(found):
    with Image.open(found / "reenactment.png") as image:
        assert image.width > 6 * 6 * 32  # six pictures, enlarged
        assert image.height > 10 * 6 * 32


def test_thresholds_come_from_the_predictors_targets(workdir):
    study = reenactment_report.open_study(heads_renderer(), "tiny", 4)
    lpips_ = np.tile([0.1, 0.1, 0.0, 0.2], (4, 1))
    found = {"names": np.array(["a"] * 4)}
    for kind in ("self", "cross"):
        found |= {f"{kind}.lpips_to_backbone": lpips_, f"{kind}.predicted": lpips_[:, :3]}
    wanted = reenactment_report.thresholds(study, workdir, found, ())
    assert wanted == ((0.1,), "inputs")
    grid, vector = np.zeros((3, 2, 2, 6)), np.zeros((3, 4))
    target = np.full((3, 2), 0.3)
    np.savez(workdir / "predictor_targets.npz", grid=grid, vector=vector, target=target)
    wanted = reenactment_report.thresholds(study, workdir, found, ())
    assert wanted == ((0.3,), "predictor_targets")


def test_impossible_thresholds_are_refused_first(tmp_path):
    with pytest.raises(UserError, match=r"max-lpips is \[-1.0\]"):
        main(["reenact", "--model", "nothing", "--out", str(tmp_path), "--max-lpips", "-1"])
