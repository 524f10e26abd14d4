import json
import time

import numpy as np
import pytest

from fiancee_jax.training import log
from fiancee_jax.training.log import Log, average


def slow(seconds):
    for number in range(4):
        time.sleep(seconds)
        yield number


@pytest.mark.parametrize(("loader", "step"), [(0.05, 0.0), (0.0, 0.05)])
def test_the_loaders_share_of_a_step_is_what_was_waited_for_it(tmp_path, loader, step):
    log = Log(tmp_path)
    log.begin("branches", 0, 4)
    batches = slow(loader)
    for _ in range(4):
        log.waiting(batches)
        time.sleep(step)
    log.write("branches", 4, 4, {"l1": 0.5})
    log.close()
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert record["l1"] == 0.5
    assert record["seconds_per_step"] >= 0.05
    assert (record["loader_share"] > 0.5) == (loader > step)


def test_averages_are_sums_over_counts_and_skip_what_was_never_measured():
    history = [{"a": (2.0, 1.0), "b": (0.0, 0.0)}, {"a": (4.0, 1.0), "b": (0.0, 0.0)}]
    assert average(history) == {"a": 3.0}
    assert np.isnan(average([{"a": (np.nan, 0.0)}])["a"])


def test_a_log_file_hears_of_long_phases_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(log.time, "perf_counter", lambda: now[0])
    one = Log(None)
    one.begin("predictor (measuring exits)", 0, 9)
    for step in range(1, 9):
        now[0] += 0.4 * log.SILENCE
        one.advance(step)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "predictor (measuring exits): step 0 of 9, compiling (once)"
    assert said[1:] == [f"predictor (measuring exits) {step}/9" for step in (3, 6)]
