"""How much memory `infer.py` holds while it renders a large folder (Linux).

    python -m benchmarks.memory --model runs/demo --out docs/results/memory

Draws label maps of the model's size, renders them by `infer.py` and reads the process's resident
memory (``/proc/PID/status``) while pictures appear. Writes ``memory.json`` and ``memory.png``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import tyro
from matplotlib.figure import Figure
from PIL import Image

from fiancee_jax import cli
from fiancee_jax.data import Landscapes
from fiancee_jax.errors import UserError
from fiancee_jax.inference import find_model, load

ROOT = pathlib.Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is rendered.

    Attributes:
        model: a workdir of `quickstart`, or of another model of landscapes.
        out: folder for what was found.
        maps: label maps in the folder; `DISTINCT` of them are different.
        max_lpips: threshold.
        every: seconds between two readings.
    """

    model: str
    out: pathlib.Path
    maps: int = 10_000
    max_lpips: float = 0.055
    every: float = 0.5


DISTINCT = 256
SAID_EVERY = 1000  # pictures


def draw(folder: pathlib.Path, maps: int, size: tuple[int, int]) -> None:
    """Label maps; from `DISTINCT` on they are hard links to the first ones, under other names."""
    scenes = Landscapes(report=min(maps, DISTINCT)).open("report", size)
    for i in range(maps):
        path = folder / f"scene_{i:06}.png"
        if i < DISTINCT:
            Image.fromarray(scenes[i]["labels"]).save(path)
        else:
            os.link(folder / f"scene_{i % DISTINCT:06}.png", path)


def mebibytes(process: int) -> dict[str, float] | None:
    """Resident memory of a process now and at most; None once it has ended."""
    try:
        lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    found = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in found:
        return None
    return {name: int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}


def watch(command: list[str], out: pathlib.Path, every: float) -> list[tuple[int, float, float]]:
    """Runs a program; (pictures in `out`, MiB now, MiB at most) again and again until it ends.

    Raises:
        UserError: it failed.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        readings, said = [], 0
        while process.poll() is None:
            found = mebibytes(process.pid)
            if found is not None:
                count = sum(1 for _ in out.glob("*.png")) if out.is_dir() else 0
                readings.append((count, found["VmRSS"], found["VmHWM"]))
                if count >= said + SAID_EVERY:
                    said = count
                    print(f"{count:,} pictures, {found['VmRSS']:.0f} MiB", flush=True)
            time.sleep(every)
        log.seek(0)
        if process.returncode:
            raise UserError(f"infer.py ended with status {process.returncode}: {log.read()}")
    return readings


def figure(readings: list[tuple[int, float, float]]) -> Figure:
    """Memory over pictures."""
    chart = Figure(figsize=(6, 3.2), layout="constrained")
    axes = chart.subplots()
    pictures, now, most = np.array(readings).T
    axes.plot(pictures, now, label="resident now")
    axes.plot(pictures, most, label="at most so far", linewidth=1)
    axes.set(xlabel="pictures rendered", ylabel="MiB", ylim=(0, 1.25 * most.max()))
    axes.legend(frameon=False, loc="lower right")
    return chart


def main(options: Options) -> None:
    """Renders, reads, says at each quarter of the folder."""
    model = str(find_model(options.model))
    with tempfile.TemporaryDirectory() as folder:
        labels, pictures = pathlib.Path(folder, "labels"), pathlib.Path(folder, "pictures")
        labels.mkdir()
        draw(labels, options.maps, load(model).model.family.size)
        print(f"rendering {options.maps:,} label maps ...", flush=True)
        command = [sys.executable, "infer.py", "--model", model, "--labels", str(labels)]
        command += ["--out", str(pictures), "--max-lpips", str(options.max_lpips)]
        readings = watch(command, pictures, options.every)
    rendering = [reading for reading in readings if reading[0]]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "memory.json").write_text(json.dumps(rendering))
    figure(rendering).savefig(options.out / "memory.png", dpi=120)
    rows = []
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        found = next((r for r in rendering if r[0] >= share * options.maps), rendering[-1])
        rows.append((f"{found[0]:,}", f"{found[1]:.0f}", f"{found[2]:.0f}"))
    cli.print_table(("pictures", "MiB now", "MiB at most"), rows)
    print(f"wrote {options.out / 'memory.json'} and memory.png")


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
