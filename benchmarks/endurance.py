"""Kills training and rendering at random moments and compares with what nothing disturbed leaves.

    python -m benchmarks.endurance --out runs/endurance

Training: a small model goes through all phases; ``kill -9`` at a random moment, the same command
again, until it is done. Checkpoints must then be bit-identical to those of an undisturbed run, the
records and samples the same, and no file more or less. Rendering a folder likewise: pictures,
manifest and page. Writes ``endurance.json``; exit status 1 if anything differs.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import tyro
from PIL import Image

from benchmarks.saved import arrays
from fiancee_jax import cli
from fiancee_jax.config import PHASES
from fiancee_jax.data import Landscapes
from fiancee_jax.digests import NAME as DIGESTS
from fiancee_jax.errors import UserError

T = TypeVar("T")

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZE = (32, 32)
SMALL = {
    "model.size": SIZE,
    "model.width": 4,
    "model.hidden": 8,
    "backbone.steps": 240,
    "backbone.batch-size": 4,
    "branches.steps": 160,
    "branches.batch-size": 4,
    "branches.measure": 32,
    "predictor.inputs": 256,
    "predictor.steps": 300,
    "predictor.batch-size": 16,
    "calibration.inputs": 64,
    "logging.every": 5,
    "logging.checkpoint-every": 12,
    "logging.preview-every": 60,
}
LOG = "log.txt"
TIMES = ("seconds_per_step", "loader_share")  # of a record: no two runs agree on them
UNLIKE = ("tensorboard", "checkpoints", ".lock")  # compared in another way, or not at all


@dataclasses.dataclass(frozen=True)
class Options:
    """What is killed how often.

    Attributes:
        out: folder for all runs and ``endurance.json``; what it holds of earlier ones is replaced.
        kills: of training, at least.
        render_kills: of rendering, at least.
        longest: seconds after which a process is killed at the latest.
        maps: label maps in the folder that is rendered.
        seed: of the moments.
    """

    out: pathlib.Path
    kills: int = 30
    render_kills: int = 10
    longest: float = 30.0
    maps: int = 4000
    seed: int = 0


# --- killing ------------------------------------------------------------------------------------
def run(command: Sequence[str], log: pathlib.Path, after: float | None = None) -> bool:
    """Runs a Python program, killed after so many seconds; whether it ended by itself.

    Raises:
        UserError: it failed.
    """
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            status = process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
    if status:
        raise UserError(f"{' '.join(command)} ended with status {status}; its words are in {log}.")
    return True


def disturbed(
    command: Sequence[str],
    log: pathlib.Path,
    moments: Iterator[float],
    kills: int,
    said: Callable[[], T],
) -> list[T]:
    """Runs a program until it is done, killed at `moments`; what was `said` about each kill.

    After so many kills it is left alone; a moment after its end kills nothing.
    """
    about: list[T] = []
    while not run(command, log, next(moments) if len(about) < kills else None):
        about.append(said())
        print(f"killed {len(about)} times, at {about[-1]}", flush=True)
    return about


def _phase(log: pathlib.Path) -> str:
    """The phase that the last words of training are about."""
    firsts = (line.split(" ")[0].rstrip(":") for line in reversed(log.read_text().splitlines()))
    return next((first for first in firsts if first in PHASES), "start")


# --- comparing ----------------------------------------------------------------------------------
def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """What differs between two folders, of training or of rendering; none if nothing does."""
    found = [
        f"{name}: in one folder only" for name in sorted(set(_files(one)) ^ set(_files(other)))
    ]
    for name in sorted(set(_files(one)) & set(_files(other))):
        if _content(one / name) != _content(other / name):
            found.append(f"{name}: differs")
    steps = _steps(one), _steps(other)
    if steps[0] != steps[1]:
        found.append(f"checkpoints: {steps[0]} and {steps[1]}")
    for step in sorted(set(steps[0]) & set(steps[1])):
        folders = one / "checkpoints" / step, other / "checkpoints" / step
        found += [f"{step}/{what}" for what in _unlike_arrays(*folders)]
    return found


def _files(folder: pathlib.Path) -> list[str]:
    """Files that must be the same in two runs, and any that somebody has left half written."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [str(name) for name in names if name.parts[0] not in UNLIKE or "tmp" in str(name)]


def _content(path: pathlib.Path) -> Any:
    """Records without times, config without its own path, all else as it is."""
    if path.name == "metrics.jsonl":
        records = map(json.loads, path.read_text().splitlines())
        return [{k: v for k, v in record.items() if k not in TIMES} for record in records]
    return path.read_bytes()


def _steps(workdir: pathlib.Path) -> list[str]:
    """PHASE/STEP of all checkpoints, with whatever else lies there."""
    folder = workdir / "checkpoints"
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))


def _unlike_arrays(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """Items and leaves of one saved step that are not bit-identical."""
    found = []
    if (one / "extra" / "metadata").read_bytes() != (other / "extra" / "metadata").read_bytes():
        found.append("extra")
    if not all((folder / DIGESTS).is_file() for folder in (one, other)):
        found.append("not sealed")
    for item in ("model", "train"):
        leaves = [arrays(folder / item) for folder in (one, other)]
        if leaves[0].keys() != leaves[1].keys():
            found.append(f"{item}: other arrays")
        for path in leaves[0].keys() & leaves[1].keys():
            a, b = (each[path] for each in leaves)
            if (a.shape, a.dtype, a.tobytes()) != (b.shape, b.dtype, b.tobytes()):
                found.append(f"{item}{jax.tree_util.keystr(path)}")
    return found


# --- both tasks ---------------------------------------------------------------------------------
def moments(options: Options, salt: int) -> Iterator[float]:
    """Seconds until each kill, without end."""
    rng = random.Random(f"{options.seed} {salt}")
    while True:
        yield rng.uniform(0.0, options.longest)


def train_command(**changes: Any) -> list[str]:
    """Trains the small model; `changes` are other values of `SMALL`."""
    flags = ((f"--{name}", value) for name, value in {**SMALL, **changes}.items())
    words = ((flag, *(value if isinstance(value, tuple) else (value,))) for flag, value in flags)
    return ["train.py", "quickstart", *(str(word) for flag in words for word in flag)]


def training(options: Options) -> dict[str, Any]:
    """Kills training; the counts of what it was about, and differences."""
    whole, log, command = options.out / "whole", options.out / LOG, train_command()
    run([*command, "--workdir", str(whole)], log)
    about, found, times, turn = [], [], moments(options, 0), 0
    while len(about) < options.kills:
        turn += 1
        workdir = options.out / f"killed_{turn}"
        left = options.kills - len(about)
        words = [*command, "--workdir", str(workdir)]
        about += disturbed(words, log, times, left, lambda: _phase(log))
        found += [f"{workdir.name}: {difference}" for difference in differences(whole, workdir)]
        print(f"run {turn}: {len(found)} differences so far", flush=True)
    return {"kills": len(about), "runs": turn, "about": Counter(about), "differences": found}


def rendering(options: Options) -> dict[str, Any]:
    """Kills rendering by the model that was just trained; how many pictures there were then."""
    labels, log = options.out / "labels", options.out / LOG
    labels.mkdir()
    scenes = Landscapes(report=options.maps).open("report", SIZE)
    for i in range(options.maps):
        Image.fromarray(scenes[i]["labels"]).save(labels / f"scene_{i:06}.png")
    command = ["infer.py", "--model", str(options.out / "whole"), "--labels", str(labels), "--out"]
    whole = options.out / "rendered"
    run([*command, str(whole)], log)
    about, runs, found, times = [], 0, [], moments(options, 1)
    while len(about) < options.render_kills:
        runs += 1
        out, left = options.out / f"rendered_{runs}", options.render_kills - len(about)
        words = [*command, str(out)]
        about += disturbed(words, log, times, left, lambda out=out: len(list(out.glob("*.png"))))
        found += [f"{out.name}: {difference}" for difference in differences(whole, out)]
        print(f"run {runs}: {len(found)} differences so far", flush=True)
    counts = {"kills": len(about), "runs": runs, "maps": options.maps}
    return {**counts, "pictures": about, "differences": found}


def main(options: Options) -> None:
    """Both, and a table."""
    if options.out.exists() and any(options.out.iterdir()) and not (options.out / LOG).exists():
        raise UserError(f"{options.out} holds something else; give --out a new folder.")
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    began = time.monotonic()
    results = {"training": training(options), "rendering": rendering(options)}
    minutes = round((time.monotonic() - began) / 60, 1)
    path = options.out / "endurance.json"
    path.write_text(json.dumps({**results, "seed": options.seed, "minutes": minutes}, indent=1))
    rows = [
        (name, found["kills"], found["runs"], len(found["differences"]))
        for name, found in results.items()
    ]
    cli.print_table(("killed -9", "times", "runs", "differences"), rows)
    print(f"wrote {path}")
    if any(row[-1] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
