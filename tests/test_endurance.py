"""Killed at random moments and continued, nothing differs; and a difference would be found."""

import json
import shutil

import numpy as np
import pytest

from benchmarks import endurance
from benchmarks.endurance import Options, differences
from fiancee_jax.checkpoint import Store

MODEL = {"branches": {"kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}}


@pytest.fixture
def two_runs(tmp_path):
    """Folders of two runs that are the same."""
    one, other = tmp_path / "one", tmp_path / "other"
    store = Store(one)
    store.save("branches", 3, model=MODEL, train={"step": np.int32(3)}, extra={"finished": True})
    store.close()
    (one / "metrics.jsonl").write_text('{"step": 3, "loss": 0.5, "seconds_per_step": 1.0}\n')
    shutil.copytree(one, other)
    return one, other


def change_time(folder):
    (folder / "metrics.jsonl").write_text('{"step": 3, "loss": 0.5, "seconds_per_step": 9.0}\n')


def change_loss(folder):
    (folder / "metrics.jsonl").write_text('{"step": 3, "loss": 0.6, "seconds_per_step": 1.0}\n')


def change_last_bit(folder):
    kernel = MODEL["branches"]["kernel"].copy()
    kernel[1, 2] = np.nextafter(kernel[1, 2], np.float32(2))
    store = Store(folder)
    model, train = {"branches": {"kernel": kernel}}, {"step": np.int32(3)}
    store.save("branches", 3, model=model, train=train, extra={"finished": True})
    store.close()


def leave_half_a_checkpoint(folder):
    (folder / "checkpoints" / "branches" / "4.orbax-checkpoint-tmp").mkdir()


def lose_the_seal(folder):
    (folder / "checkpoints" / "branches" / "3" / endurance.DIGESTS).unlink()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda folder: None, []),
        (change_time, []),
        (change_loss, ["metrics.jsonl: differs"]),
        (change_last_bit, ["branches/3/model['branches']['kernel']"]),
        (lambda folder: (folder / "extra.png").touch(), ["extra.png: in one folder only"]),
        (lose_the_seal, ["branches/3/not sealed"]),
        (leave_half_a_checkpoint, ["checkpoints: "]),
    ],
)
def test_differences(two_runs, change, found):
    change(two_runs[1])
    told = differences(*two_runs)
    assert len(told) == len(found)
    assert all(said.startswith(start) for said, start in zip(told, found, strict=True))


SHORT = {
    "backbone.steps": 40,
    "branches.steps": 24,
    "branches.measure": 8,
    "predictor.inputs": 32,
    "predictor.steps": 40,
    "calibration.inputs": 16,
}


@pytest.mark.slow
def test_nothing_differs_after_kills(tmp_path, monkeypatch):
    monkeypatch.setattr(endurance, "SMALL", {**endurance.SMALL, **SHORT})
    options = Options(tmp_path, kills=3, render_kills=2, longest=15.0, maps=300)
    endurance.main(options)
    found = json.loads((tmp_path / "endurance.json").read_text())
    assert found["training"]["kills"] >= 3
    assert found["rendering"]["kills"] >= 2
    assert found["training"]["differences"] == found["rendering"]["differences"] == []
