"""Two processes against one, from the same states: losses and gradients of a step.

    python -m benchmarks.agreement --out runs/agreement

One process with four fake devices trains all phases of a small model and keeps 20 states of each.
From every one of them it makes one more step, and so do two processes with two devices each; losses
must agree to 1e-5, gradients to 1e-4 of their norm. Both also run freely from the start, which is
drawn and not judged: rounding grows under Adam and a GAN. Writes ``agreement.json`` and ``.png``.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import socket
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

from benchmarks.saved import arrays
from fiancee_jax import cli
from fiancee_jax.config import Config, load_config, write_config
from fiancee_jax.errors import UserError
from fiancee_jax.training.run import resolve

ROOT = pathlib.Path(__file__).resolve().parents[1]
STATES, EVERY, DEVICES = 20, 5, 4
PHASES = ("backbone", "branches", "predictor")
MOMENTUM = {"backbone": 0.0, "branches": 0.0, "predictor": 0.9}  # Adam's first, of `small`
LOSSES, GRADIENTS = 1e-5, 1e-4  # allowed
SKIPPED = ("phase", "step", "seconds_per_step", "loader_share")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        out: folder for all workdirs, replaced if it is one of an earlier run.
    """

    out: pathlib.Path


def small() -> Config:
    """All phases of quickstart at 32x32, every fifth step of which is kept."""
    base = load_config("quickstart")
    steps = STATES * EVERY + 1
    replace = dataclasses.replace
    config = replace(
        base,
        model=replace(base.model, size=(32, 32), width=4, hidden=8),
        backbone=replace(base.backbone, steps=steps, batch_size=8, schedule="constant"),
        branches=replace(base.branches, steps=steps, batch_size=8, measure=32),
        predictor=replace(base.predictor, inputs=64, steps=steps, batch_size=16),
        calibration=replace(base.calibration, inputs=16),
        logging=replace(
            base.logging, every=1, checkpoint_every=EVERY, preview_every=1000, keep=STATES + 1
        ),
    )
    return resolve(config)


# --- running ------------------------------------------------------------------------------------
def run(count: int, work: list[tuple[pathlib.Path, str, int]], log: pathlib.Path) -> None:
    """Trains workdirs on so many hosts, which together have four devices.

    Raises:
        UserError: one failed.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    words = [str(word) for item in work for word in item]
    processes = []
    for i in range(count):
        joining = f"{address},{i},{count}" if count > 1 else "-"
        command = ["-m", "benchmarks.one_host", joining, str(DEVICES // count), *words]
        with log.with_suffix(f".{i}.txt").open("w") as file:
            processes.append(
                subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=file, stderr=file)
            )
    if any([process.wait() for process in processes]):
        raise UserError(f"a process failed; its words are in {log}.*.txt")


def prepare(whole: pathlib.Path, folder: pathlib.Path) -> list[tuple[pathlib.Path, str, int]]:
    """A workdir for each phase and state, which has that state as its last."""
    work = []
    for i, phase in enumerate(PHASES):
        for step in range(EVERY, STATES * EVERY + 1, EVERY):
            workdir = folder / f"{phase}_{step}"
            workdir.mkdir(parents=True)
            before = [name for name in ("backbone", "guides", "branches") if name != phase]
            for name in before[: i + 1] if i else []:
                link(whole, workdir, name)
            shutil.copytree(
                whole / "checkpoints" / phase / str(step),
                workdir / "checkpoints" / phase / str(step),
            )
            for name in ("config.json", "predictor_targets.npz"):
                shutil.copy(whole / name, workdir / name)
            work.append((workdir, phase, step + 1))
    return work


def link(whole: pathlib.Path, workdir: pathlib.Path, phase: str) -> None:
    """The last checkpoint of a phase that is finished."""
    last = max((whole / "checkpoints" / phase).iterdir(), key=lambda path: int(path.name))
    shutil.copytree(last, workdir / "checkpoints" / phase / last.name)


# --- comparing ----------------------------------------------------------------------------------
def losses(workdir: pathlib.Path, phase: str) -> dict[int, dict[str, float]]:
    """What was recorded, by step; norms of gradients are left to `gradients`."""
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {
        record["step"]: {
            name: value
            for name, value in record.items()
            if name not in SKIPPED and not name.endswith(("gradient", "update"))
        }
        for record in records
        if record["phase"] == phase
    }


def gradients(workdir: pathlib.Path, phase: str, step: int) -> dict[str, np.ndarray]:
    """The gradients of a step by optimiser, from Adam's first moment before and after it."""
    before, after = (_moments(workdir / "checkpoints" / phase / str(s)) for s in (step - 1, step))
    b = MOMENTUM[phase]
    return {name: (after[name] - b * before[name]) / (1 - b) for name in after}


def _moments(folder: pathlib.Path) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {}
    for path, leaf in arrays(folder / "train").items():
        optimiser, moment, _ = jax.tree_util.keystr(path).partition("['mu']")
        if moment:
            found.setdefault(optimiser, []).append(np.ravel(leaf).astype(np.float64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def compare(one: pathlib.Path, two: pathlib.Path, phase: str) -> dict[str, Any]:
    """Largest differences over the states of a phase."""
    loss, gradient, count = 0.0, 0.0, 0
    for step in range(EVERY + 1, STATES * EVERY + 2, EVERY):
        folders = [folder / f"{phase}_{step - 1}" for folder in (one, two)]
        a, b = (losses(folder, phase)[step] for folder in folders)
        assert a.keys() == b.keys()
        loss = max(loss, *(abs(a[k] - b[k]) / max(abs(a[k]), 1e-12) for k in a))
        a, b = (gradients(folder, phase, step) for folder in folders)
        assert a.keys() == b.keys()
        norms = {k: np.linalg.norm(a[k]) for k in a}
        assert all(norm > 0 for norm in norms.values())
        gradient = max(gradient, *(np.linalg.norm(a[k] - b[k]) / norms[k] for k in a))
        count += 1
    return {"phase": phase, "states": count, "losses": loss, "gradients": float(gradient)}


def figure(one: pathlib.Path, two: pathlib.Path, path: pathlib.Path) -> None:
    """How far the losses of two free runs are apart, by step."""
    chart = Figure(figsize=(6, 3.4), layout="constrained")
    axes = chart.subplots()
    for phase in PHASES:
        a, b = losses(one, phase), losses(two, phase)
        apart = [
            max(abs(a[step][k] - b[step][k]) / max(abs(a[step][k]), 1e-12) for k in a[step])
            for step in sorted(a)
        ]
        axes.plot(sorted(a), np.maximum(apart, 1e-9), label=phase)
    axes.set(yscale="log", xlabel="step", ylabel="largest relative difference of a loss")
    axes.set_title("Free runs of one process and of two: rounding grows", fontsize=9)
    axes.legend(frameon=False)
    chart.savefig(path, dpi=120)


def main(options: Options) -> None:
    """Trains, compares, says."""
    out = options.out.resolve()
    if out.exists() and any(out.iterdir()) and not (out / "one").is_dir():
        raise UserError(f"{out} holds something else; give --out a new folder.")
    shutil.rmtree(out, ignore_errors=True)
    config, folders = small(), {1: out / "one", 2: out / "two"}
    for count, folder in folders.items():
        (folder / "whole").mkdir(parents=True)
        write_config(config, folder / "whole")
        print(f"all phases, {count} processes ...", flush=True)
        run(count, [(folder / "whole", "all", 0)], folder / "whole.log")
    for count, folder in folders.items():
        print(f"one step from each of {STATES * len(PHASES)} states, {count} processes", flush=True)
        run(count, prepare(folders[1] / "whole", folder), folder / "states.log")
    found = [compare(folders[1], folders[2], phase) for phase in PHASES]
    (out / "agreement.json").write_text(json.dumps(found, indent=1))
    figure(folders[1] / "whole", folders[2] / "whole", out / "agreement.png")
    rows = [(f["phase"], f["states"], f"{f['losses']:.1e}", f"{f['gradients']:.1e}") for f in found]
    cli.print_table(("two processes against one", "states", "losses", "gradients"), rows)
    print(f"wrote {out / 'agreement.json'} and agreement.png")
    if any(f["losses"] > LOSSES or f["gradients"] > GRADIENTS for f in found):
        raise SystemExit(1)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
