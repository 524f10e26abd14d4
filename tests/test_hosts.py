"""Several hosts: who is asked to join whom; and two processes that train as one."""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config, tiny_renderer, tiny_workdir

from fiancee_jax import hosts
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import (
    BackbonePhase,
    BranchesPhase,
    CalibrationPhase,
    Logging,
    PredictorPhase,
    write_config,
)
from fiancee_jax.data import Landscapes
from fiancee_jax.errors import UserError
from fiancee_jax.training.run import resolve

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def joined(monkeypatch):
    """How JAX was asked to join."""
    calls: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: calls.append(options))
    return calls


def test_alone_unless_something_says_otherwise(joined):
    hosts.start("", {})
    hosts.start("", {"SLURM_NTASKS": "1", "TPU_WORKER_HOSTNAMES": "localhost"})
    assert joined == []


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "2"},
        {"OMPI_COMM_WORLD_SIZE": "16"},
        {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"},
    ],
)
def test_clusters_are_joined_as_jax_finds_them(joined, environment):
    hosts.start("", environment)
    assert joined == [{}]


def test_the_environment_may_say_all(joined):
    environment = {
        "JAX_COORDINATOR_ADDRESS": "a:1",
        "JAX_NUM_PROCESSES": "3",
        "JAX_PROCESS_ID": "2",
    }
    hosts.start("", environment)
    assert joined == [{"coordinator_address": "a:1", "num_processes": 3, "process_id": 2}]


def test_the_flag_says_where_and_who(joined):
    hosts.start("10.0.0.1:1234,1,4", {})
    hosts.start("auto", {})
    address = "10.0.0.1:1234"
    assert joined == [{"coordinator_address": address, "num_processes": 4, "process_id": 1}, {}]


@pytest.mark.parametrize("asked", ["a", "a,0,1", "a:1,0", "a:1,x,2", "a:1,-1,2", "a:1,2,2"])
def test_flags_that_cannot_be(joined, asked):
    with pytest.raises(UserError, match="--hosts"):
        hosts.start(asked, {})
    assert joined == []


def test_hosts_that_cannot_be_joined(monkeypatch):
    def fails(**options):
        raise RuntimeError("deadline exceeded\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(UserError, match="cannot be joined: deadline exceeded Start the same"):
        hosts.start("a:1,0,2")


def test_one_host_is_the_first_and_waits_for_nobody():
    assert hosts.is_first()
    hosts.meet("here")
    tree = hosts.gathered({"a": jnp.ones(3), "b": np.zeros(2)})
    np.testing.assert_array_equal(tree["a"], np.ones(3))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_parts_are_the_whole_without_overlap(monkeypatch, count):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    parts = []
    for index in range(count):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts += hosts.part(range(11))
    assert sorted(parts) == list(range(11))


def test_several_hosts_are_named(monkeypatch):
    assert hosts.named("pictures") == "pictures"
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    assert hosts.named("pictures") == "pictures of host 1 of 4"


# --- two processes -------------------------------------------------------------------------------
def small_config():
    """All phases, a few steps each."""
    learning = {"step": "fused", "lr_g": 1e-3, "lr_d": 1e-3, "recollect": 1, "init_gain": 1.0}
    config = tiny_config(
        z_dim=8,
        backbone=BackbonePhase(steps=4, batch_size=4, **learning),
        branches=BranchesPhase(steps=3, batch_size=4, lpips_net="alex", measure=4),
        predictor=PredictorPhase(inputs=16, steps=4, batch_size=8, channels=4, hidden=8),
        calibration=CalibrationPhase(inputs=2),
        logging=Logging(every=1, preview_every=2, checkpoint_every=2),
    )
    return resolve(config)


def run(folder, workdir, count, *phases):
    """Trains the config in `folder` on so many hosts; raises with what they said if one fails."""
    program = [str(HERE / "one_of_several.py"), str(folder)]
    return together([[*program, joining, str(workdir), *phases] for joining in joined_by(count)])


def joined_by(count):
    """How each of so many hosts is asked to join the others."""
    if count == 1:
        return [""]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [f"localhost:{port},{i},{count}" for i in range(count)]


def together(commands, **environment):
    """Runs Python commands at once; what each said, or raises with it if one fails."""
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**kept, "PYTHONPATH": paths, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for command in commands
    ]
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(commands), "\n".join(said)
    return said


def metrics(workdir):
    """What was recorded, by phase and step, but for times."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    skipped = ("phase", "step", "seconds_per_step", "loader_share")
    return {
        (line["phase"], line["step"]): {k: v for k, v in line.items() if k not in skipped}
        for line in lines
    }


@pytest.mark.slow
def test_two_hosts_train_as_one_and_each_continues_the_others_run(tmp_path):
    config = small_config()
    write_config(config, tmp_path)
    run(tmp_path, tmp_path / "one", 1)
    said = run(tmp_path, tmp_path / "two", 2)
    assert "written to" in said[0]
    assert "written to" not in said[1]  # one speaks for all
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(one) > 8
    assert_near(one, two)
    for first, second in ((1, 2), (2, 1), (2, 4)):
        folder, workdir = tmp_path / f"cut{first}{second}", tmp_path / f"run{first}{second}"
        folder.mkdir()
        cut = dataclasses.replace(config.backbone, steps=2)
        write_config(dataclasses.replace(config, backbone=cut), folder)
        run(folder, workdir, first, "backbone")
        run(tmp_path, workdir, second)
        assert Store(workdir).finished("calibration")
        assert_near(one, metrics(workdir))


def assert_near(one, other):
    """The same records: sums in another order, a few steps on."""
    assert one.keys() == other.keys()
    for at in one:
        assert other[at] == pytest.approx(one[at], rel=2e-3, abs=1e-6), at


@pytest.mark.slow
def test_two_hosts_render_a_folder_as_one(tmp_path):
    scenes = Landscapes(report=16)
    (tmp_path / "labels").mkdir()
    for i in range(11):
        labels = scenes.open("report", (32, 32))[i]["labels"]
        Image.fromarray(labels).save(tmp_path / "labels" / f"scene_{i:02}.png")
    (tmp_path / "model").mkdir()
    tiny_workdir(tmp_path / "model", tiny_renderer())
    said = {}
    for count in (1, 2):
        command = [str(HERE.parent / "infer.py"), "--model", str(tmp_path / "model")]
        command += ["--labels", str(tmp_path / "labels"), "--out", str(tmp_path / str(count))]
        command += ["--batch-size", "4", "--budget-gmacs", "0.02"]
        commands = [[*command, "--hosts", joining] for joining in joined_by(count)]
        said[count] = together(commands, JAX_PLATFORMS="cpu")
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / n).rglob("*") if path.is_file()}
        for n in ("1", "2")
    )
    assert two == one
    assert "11 pictures in" in said[2][0]
    assert "11 pictures in" not in said[2][1]  # one speaks for all
