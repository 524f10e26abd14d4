"""Checkpoints of a workdir."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import hypothesis
import hypothesis.strategies
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fiancee_jax.checkpoint import Store, command
from fiancee_jax.errors import UserError

MODEL = {
    "params": {"a": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}},
    "batch_stats": {},
}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "run")
    yield store
    store.close()


def save(store, phase="backbone", step=1, model=MODEL, train=None, **extra):
    store.save(phase, step, model=model, train=train or {}, extra=extra)


def train_state():
    params = MODEL["params"]
    return {"step": jnp.int32(7), "params": params, "opt": optax.adam(1e-3).init(params)}


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.map(lambda x: x.dtype, a) == jax.tree.map(lambda x: x.dtype, b)


def test_round_trip_of_all_three_items(store):
    state = train_state()
    save(store, train=state, finished=True, menu=[{"tap": 1, "width": 0.25}])
    store.wait()
    assert_equal_trees(store.model("backbone"), MODEL)
    like = jax.tree.map(jnp.zeros_like, state)
    assert_equal_trees(store.train("backbone", like), state)
    assert store.extra("backbone") == {"finished": True, "menu": [{"tap": 1, "width": 0.25}]}
    assert store.latest("backbone") == 1
    assert store.finished("backbone")


def test_another_process_reads_what_was_written(store, tmp_path):
    save(store, finished=False)
    store.close()
    other = Store(tmp_path / "run")
    assert_equal_trees(other.model("backbone"), MODEL)
    assert not other.finished("backbone")
    other.close()


def test_a_bank_without_arrays_is_kept(store):
    save(store, "guides", model={})
    store.wait()
    assert store.model("guides") == {}
    assert store.train("guides", {}) == {}


def test_a_relative_path_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("runs/here")
    save(store)
    monkeypatch.chdir("/")  # resolved when it was made, not when it is used
    store.wait()
    assert_equal_trees(store.model("backbone"), MODEL)
    store.close()
    assert (tmp_path / "runs" / "here" / "checkpoints" / "backbone" / "1").is_dir()


def test_only_the_last_two_are_kept(store):
    for step in (1, 2, 3, 4):
        save(store, step=step, model={"x": jnp.float32(step)}, at=step)
    store.close()
    steps = sorted(p.name for p in (store.root / "backbone").iterdir() if p.name.isdigit())
    assert steps == ["3", "4"]
    assert store.latest("backbone") == 4
    assert float(store.model("backbone")["x"]) == 4
    assert store.extra("backbone") == {"at": 4}


def test_multiples_stay_beside_the_last(tmp_path):
    store = Store(tmp_path, keep=1, keep_every=4)
    for step in range(2, 12, 2):
        save(store, step=step)
    store.close()
    steps = {p.name for p in (store.root / "backbone").iterdir()}
    assert steps == {"4", "8", "10"}


def test_saving_a_step_again_replaces_it(store):
    save(store, model={"x": jnp.float32(1)}, finished=False)
    save(store, model={"x": jnp.float32(2)}, finished=True)
    store.wait()
    assert float(store.model("backbone")["x"]) == 2
    assert store.finished("backbone")


def test_set_aside_keeps_the_old(store):
    assert store.set_aside("branches") is None
    for turn in (1, 2):
        save(store, "branches", model={"x": jnp.float32(turn)})
        aside = store.set_aside("branches")
        assert aside == store.root / f"branches.old-{turn}"
        assert (aside / "1").is_dir()
        assert store.latest("branches") is None
        assert not store.finished("branches")
    save(store, "branches", model={"x": jnp.float32(3)})
    store.wait()
    assert float(store.model("branches")["x"]) == 3


def test_phases_do_not_meet(store):
    save(store, "backbone", step=5)
    assert store.latest("branches") is None
    store.wait()
    assert store.latest("backbone") == 5
    assert not (store.root / "branches").exists()  # asking leaves no trace


@pytest.mark.parametrize("read", ["extra", "model"])
def test_a_phase_that_is_missing_names_the_command(store, read):
    with pytest.raises(UserError) as error:
        getattr(store, read)("branches")
    workdir = store.root.parent
    assert str(error.value) == (
        f"{workdir} holds no checkpoint of the phase 'branches'. Run: python train.py CONFIG "
        f"--workdir {workdir} --phases backbone guides branches"
    )
    assert not (store.root / "branches").exists()


def test_the_command_names_the_workdir_where_it_has_a_config(tmp_path):
    folder = tmp_path / "a run"
    folder.mkdir()
    new = f"python train.py camvid --workdir '{folder}' --phases backbone guides"
    assert command(folder, "guides", "camvid") == new
    (folder / "config.json").write_text("{}")
    assert command(folder, "backbone") == f"python train.py '{folder}' --phases backbone"


def test_train_is_restored_onto_the_devices_that_are_asked_for(store):
    save(store, train={"x": jnp.arange(8.0)})
    store.wait()
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec())
    like = {"x": jax.device_put(jnp.zeros(8), sharding)}
    restored = store.train("backbone", like)["x"]
    np.testing.assert_array_equal(restored, np.arange(8.0))
    assert restored.sharding == sharding


def test_what_was_saved_on_several_devices_is_read_on_one(store):
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    model = jax.device_put(MODEL, NamedSharding(mesh, PartitionSpec()))
    save(store, model=model)
    store.wait()
    restored = store.model("backbone")
    assert_equal_trees(restored, MODEL)
    assert restored["params"]["a"]["bias"].devices() == {jax.devices()[0]}


def test_extra_is_plain_json(store):
    @dataclasses.dataclass
    class Entry:
        tap: int

    extra = {"menu": [dataclasses.asdict(Entry(1))], "loader": json.dumps({"at": 3})}
    save(store, **extra)
    store.wait()
    assert store.extra("backbone") == extra


# --- damage -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """Steps 1 and 2 of a phase; `x` is the step."""
    folder = tmp_path_factory.mktemp("two") / "run"
    store = Store(folder)
    for step in (1, 2):
        tree = {"x": jnp.full(5, step, jnp.float32)}
        store.save("backbone", step, model=tree, train=tree, extra={"step": step})
    store.close()
    return folder


def step_read(folder):
    """Which step everything that is read comes from."""
    store = Store(folder)
    found = {
        store.latest("backbone"),
        store.extra("backbone")["step"],
        int(store.model("backbone")["x"][0]),
        int(store.train("backbone", {"x": jnp.zeros(5)})["x"][0]),
    }
    store.close()
    (step,) = found
    return step


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(data=hypothesis.strategies.data())
def test_a_damaged_step_is_passed_over(two_steps, data):
    with tempfile.TemporaryDirectory() as copy:
        folder = pathlib.Path(copy) / "run"
        shutil.copytree(two_steps, folder)
        assert step_read(folder) == 2
        step = folder / "checkpoints" / "backbone" / "2"
        files = sorted(path for path in step.rglob("*") if path.is_file() and path.stat().st_size)
        path = data.draw(hypothesis.strategies.sampled_from(files))
        content = bytearray(path.read_bytes())
        place = data.draw(hypothesis.strategies.integers(0, len(content) - 1))
        if data.draw(hypothesis.strategies.booleans()):
            path.write_bytes(content[:place])
        else:
            content[place] ^= 1 << data.draw(hypothesis.strategies.integers(0, 7))
            path.write_bytes(content)
        assert step_read(folder) == 1


def test_a_damaged_step_is_named_and_set_aside_by_the_next_save(two_steps, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(two_steps, folder)
    (folder / "checkpoints" / "backbone" / "2" / "extra" / "metadata").write_text("{")
    store = Store(folder)
    assert store.latest("backbone") == 1
    assert store.latest("backbone") == 1
    (record,) = caplog.records
    assert "step 2 of the phase 'backbone' is damaged (extra/metadata is not as" in record.message
    save(store, step=2, again=True)
    store.close()
    assert Store(folder).extra("backbone") == {"again": True}
    assert (folder / "checkpoints" / "damaged" / "backbone-2-1").is_dir()


def test_what_rendering_never_reads_is_not_checked(two_steps, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(two_steps, folder)
    step = folder / "checkpoints" / "backbone" / "2"
    files = [path for path in (step / "train").rglob("*") if path.is_file()]
    files[0].write_bytes(b"other")
    assert Store(folder).latest("backbone") == 1
    assert Store(folder, trains=False).latest("backbone") == 2
    (step / "extra" / "metadata").write_text("{")
    assert Store(folder, trains=False).latest("backbone") == 1


def test_without_any_good_step_the_phase_is_missing(two_steps, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(two_steps, folder)
    for step in ("1", "2"):
        shutil.rmtree(folder / "checkpoints" / "backbone" / step / "model")
    with pytest.raises(UserError, match="holds no checkpoint of the phase 'backbone'"):
        Store(folder).model("backbone")
    assert len(caplog.records) == 2


FULL_DISK = """
import resource, signal, sys
import numpy as np
from fiancee_jax.checkpoint import Store
from fiancee_jax.errors import UserError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store, rng = Store(sys.argv[1]), np.random.default_rng(0)
store.save("backbone", 1, model={"x": rng.normal(size=9)}, train={}, extra={"step": 1})
store.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.save("backbone", 2, model={"x": rng.normal(size=90_000)}, train={}, extra={"step": 2})
    store.wait()
except UserError as error:
    print(error)
    print(store.latest("backbone"), store.extra("backbone"))
"""


def test_a_full_disk_is_one_message_and_the_last_step_stays(tmp_path):
    """A limit on the size of files stands for the disk's."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    message, kept = done.stdout.splitlines()
    assert message.startswith("step 2 of the phase 'backbone' could not be saved in ")
    assert "File too large (step 1 is the last good)" in message
    assert "Make room" in message
    assert kept == "1 {'step': 1}"
    assert Store(tmp_path / "run").extra("backbone") == {"step": 1}


READ_ONLY = """
import ctypes, os, pathlib, sys

if "again" not in sys.argv:  # root writes anywhere, but for a process without these capabilities
    for capability in (1, 2, 3):  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    os.execv(sys.executable, [sys.executable, *sys.argv, "again"])

import numpy as np
from fiancee_jax.checkpoint import Store
from fiancee_jax.errors import UserError

root = pathlib.Path(sys.argv[1])
store = Store(root)
store.save("backbone", 1, model={"x": np.ones(9)}, train={}, extra={"step": 1})
store.wait()
for folder in (root / "checkpoints" / "backbone", root / "checkpoints"):
    folder.chmod(0o555)
if os.access(root / "checkpoints", os.W_OK):
    print("writes all the same")
    sys.exit()
try:
    store.save("backbone", 2, model={"x": np.ones(9)}, train={}, extra={"step": 2})
    store.wait()
except UserError as error:
    print(error)
    print(store.latest("backbone"), store.extra("backbone"))
"""


def test_a_folder_that_became_read_only_is_one_message_and_the_last_step_stays(tmp_path):
    (tmp_path / "script.py").write_text(READ_ONLY)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run")]
    path = os.pathsep.join(
        [str(pathlib.Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    for folder in (tmp_path / "run" / "checkpoints").glob("**"):
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    if "writes all the same" in done.stdout:
        pytest.skip("this process writes even where permissions forbid it")
    message, kept = done.stdout.splitlines()
    assert message.startswith("step 2 of the phase 'backbone' could not be saved in ")
    assert "Permission denied (step 1 is the last good)" in message
    assert kept == "1 {'step': 1}"
    assert Store(tmp_path / "run").extra("backbone") == {"step": 1}
