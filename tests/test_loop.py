"""The training loop on a number that grows: resume, signals, what is not finite, roll-back."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config

from fiancee_jax.checkpoint import Store
from fiancee_jax.config import Logging
from fiancee_jax.errors import Interrupted, NonFiniteError
from fiancee_jax.training import predictor
from fiancee_jax.training.log import Log, mean
from fiancee_jax.training.loop import fit
from fiancee_jax.training.workspace import Workspace

DATA = np.arange(64, dtype=np.float32)


def run(folder, step_fn, steps, data=DATA, logs=False, **logging):
    """Trains a number; `step_fn` says how."""
    config = tiny_config(logging=Logging(**{"every": 1, "checkpoint_every": 1, **logging}))
    work = Workspace(config, folder, Store(folder), Log(folder if logs else None))
    rows = predictor.Rows((data,), 4, seed=0)
    state = jax.device_put({"x": jnp.zeros(4)}, work.replicated)
    try:
        with work.interruption:
            return fit(work, "backbone", state, step_fn, rows, steps, model_of=lambda s: s)
    finally:
        work.store.close()
        work.log.close()


def add(state, batch, key):
    """Depends on the state, the data and the key, so that any of them out of place shows."""
    change = jnp.asarray(batch[0]) + jax.random.normal(key, (4,))
    return {"x": 0.9 * state["x"] + change}, {"loss": mean(state["x"].sum())}


def count(state, batch, key):
    return {"x": state["x"] + 1}, {"loss": mean(state["x"][0])}


def saved(folder):
    return np.asarray(Store(folder).model("backbone")["x"])


# --- resume ---------------------------------------------------------------------------------------
def test_a_phase_that_is_cut_short_is_finished(tmp_path):
    def step(state, batch, key):
        if int(state["x"][0]) == 3:
            raise KeyboardInterrupt
        return count(state, batch, key)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, step, 5)
    assert not Store(tmp_path).finished("backbone")
    run(tmp_path, step, 2)
    assert Store(tmp_path).finished("backbone")
    assert saved(tmp_path)[0] == 3


def test_a_model_without_a_place_in_the_data_starts_at_its_beginning(tmp_path):
    """An imported one: its checkpoint holds weights, but nothing of the loader."""
    store, imported = Store(tmp_path), {"x": jnp.full(4, 7.0)}
    store.save("backbone", 1, model=imported, train=imported, extra={"finished": True})
    store.close()
    seen = []

    def step(state, batch, key):
        seen.append(np.asarray(batch[0]))
        return count(state, batch, key)

    run(tmp_path, step, 2)
    assert saved(tmp_path)[0] == 8
    first = next(predictor.Rows((DATA,), 4, seed=0))
    np.testing.assert_array_equal(seen, first)


def test_steps_that_run_again_are_recorded_once(tmp_path):
    class Killed(BaseException):
        pass

    def dies(state, batch, key):
        if (tmp_path / "metrics.jsonl").read_text().count("\n") == 5:
            raise Killed
        return add(state, batch, key)

    with pytest.raises(Killed):
        run(tmp_path, dies, 8, logs=True, checkpoint_every=4)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "backbone", "st')
    run(tmp_path, add, 8, logs=True, checkpoint_every=4)
    records = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
    assert [r["step"] for r in records] == list(range(1, 9))


# --- signals --------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_it_came_in(tmp_path, number):
    def step(state, batch, key):
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        calls.append(key)
        return add(state, batch, key)

    calls: list[jax.Array] = []
    with pytest.raises(Interrupted, match="after step 3, which is saved") as caught:
        run(tmp_path / "cut", step, 6, checkpoint_every=100)
    assert caught.value.number == number
    assert Store(tmp_path / "cut").latest("backbone") == 3
    assert not Store(tmp_path / "cut").finished("backbone")
    run(tmp_path / "cut", add, 6)
    run(tmp_path / "whole", add, 6)
    np.testing.assert_array_equal(saved(tmp_path / "cut"), saved(tmp_path / "whole"))


def test_a_signal_in_the_last_step_finishes_the_phase_and_no_other_begins(tmp_path):
    def step(state, batch, key):
        os.kill(os.getpid(), signal.SIGTERM)
        return count(state, batch, key)

    with pytest.raises(Interrupted, match="after step 1, which is saved"):
        run(tmp_path, step, 1)
    assert Store(tmp_path).finished("backbone")


# --- what is not finite ---------------------------------------------------------------------------
@pytest.mark.parametrize(("loss", "weight"), [(np.nan, 1.0), (1.0, np.inf)])
def test_what_is_not_finite_is_not_saved(tmp_path, loss, weight):
    def step(state, batch, key):
        return {"x": 0 * state["x"] + weight}, {"loss": mean(loss)}

    with pytest.raises(NonFiniteError, match=r"(loss|the model) became non-finite.*by step 2"):
        run(tmp_path, step, 4, every=100, checkpoint_every=2)
    assert Store(tmp_path).latest("backbone") is None


def poisoned(rows, keys):
    """`add`, but the data of one batch gives nan; notes what it is given."""

    def step(state, batch, key):
        rows.append(np.asarray(batch[0]))
        keys.append(np.asarray(jax.random.key_data(key)))
        state, metrics = add(state, batch, key)
        bad = len(rows) == 4
        return state, {"loss": mean(np.nan if bad else 1.0)} | ({} if bad else metrics)

    return step


def test_it_rolls_back_to_other_data_and_keys(tmp_path, capsys):
    rows: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    run(tmp_path, poisoned(rows, keys), 6, logs=True, checkpoint_every=2, roll_backs=1)
    records = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
    assert [r["step"] for r in records] == list(range(1, 7))
    said = capsys.readouterr().out
    assert "loss became non-finite in phase 'backbone' by step 4. Rolled back to step 2" in said
    assert len(rows) == 4 + 4  # steps 3 and 4 once more
    expected = [next(r)[0] for r in [predictor.Rows((DATA,), 4, seed=0)] for _ in range(8)]
    np.testing.assert_array_equal(rows, expected)  # the data goes on, none comes again
    assert len(np.unique(keys, axis=0)) == 8
    store = Store(tmp_path)
    assert store.finished("backbone")
    assert store.extra("backbone")["rolled_back"] == 1


def test_it_rolls_back_no_more_often_than_allowed(tmp_path):
    def step(state, batch, key):
        bad = len(calls) >= 2
        calls.append(key)
        return count(state, batch, key)[0], {"loss": mean(np.inf if bad else 1.0)}

    calls: list[jax.Array] = []
    with pytest.raises(NonFiniteError, match="last good checkpoint \\(step 2\\) is untouched"):
        run(tmp_path, step, 6, roll_backs=2)
    assert len(calls) == 2 + 3


def test_without_a_checkpoint_there_is_nothing_to_roll_back_to(tmp_path):
    def step(state, batch, key):
        return state, {"loss": mean(np.nan)}

    with pytest.raises(NonFiniteError, match="none of this phase"):
        run(tmp_path, step, 6, roll_backs=2)
