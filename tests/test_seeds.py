"""benchmarks.seeds: one table over several evaluations."""

import json
import pathlib
from typing import Any

import pytest

from benchmarks import seeds
from fiancee_jax.errors import UserError


def gap(policy: str, limit: float, taken: float) -> dict[str, Any]:
    return {
        "policy": policy,
        "threshold": limit,
        "mixture": 0.4,
        "gain": 0.1 * taken,
        "gain_interval": [0.05 * taken, 0.2 * taken],
        "taken": taken,
        "taken_interval": [taken - 0.1, taken + 0.1],
    }


def document(taken: float) -> dict[str, Any]:
    limits = [0.04, 0.05]
    row = {"policy": "learned", "share": 0.5, "violation_rate": 0.125}
    return {
        "max_lpips": limits,
        "rows": [{**row, "threshold": limit} for limit in limits],
        "gaps": [gap("learned", 0.04, taken), gap("learned", 0.05, taken + 0.2)],
    }


def test_each_threshold_has_a_line_and_absent_policies_a_dash() -> None:
    lines = seeds.each("out/seed0", document(0.4))
    assert [line["max_lpips"] for line in lines] == ["0.04", "0.05"]
    assert lines[0]["share of full"] == "0.500"
    assert lines[0]["above"] == "12.5%"
    assert lines[0]["gap taken: learned"] == "40% (30% to 50%)"
    assert lines[0]["gap taken: ridge"] == "-"


def test_seeds_are_averaged_after_thresholds() -> None:
    """Means over thresholds are .5 and .7, so .6 with half the range .1; of .4 mixed, a tenth."""
    table = seeds.over_seeds([document(0.4), document(0.6)])
    assert "| learned | 0.600 ± 0.100 | 0.150 ± 0.025 | 20.00 |" in table
    assert "lambda" not in table


def test_evaluations_are_read_from_folders(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(document(0.4)))
    seeds.main((tmp_path,))
    assert "0.5" in capsys.readouterr().out


def test_a_folder_without_an_evaluation_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"no evaluation\.json in"):
        seeds.read(tmp_path)
