"""What does one fused step change against the published one? Same start, same data, in turns.

    python -m benchmarks.fused_step --out runs/fused_step [--steps 1500]

The quickstart generator on procedural landscapes (64x64) by the published loss alone (no own
latents). Both runs start from the same weights and take the same batches; their steps alternate, so
that a busy machine slows both alike. The averaged models are measured on held-out maps at random z,
see `quality`; `accuracy` is that of the *other* run's discriminator. The row `real` is one half of
the real pictures against the other half: what chance alone does.

Writes OUT/fused_step.jsonl as it goes, then OUT/fused_step.png and OUT/samples.png; prints a table.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality import Held, distances, halves
from fiancee_jax import cli
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import load_config
from fiancee_jax.pictures import grid, to_uint8
from fiancee_jax.training import backbone
from fiancee_jax.training.averaged import averaged
from fiancee_jax.training.log import Log
from fiancee_jax.training.run import resolve
from fiancee_jax.training.workspace import Workspace

STEPS = ("published", "fused")
WARM_UP = 5  # steps that are not timed
SHOWN = 8  # maps in samples.png

Curves = dict[str, list[dict[str, float]]]
Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        out: gets figures and records.
        steps: of training; the learning rate falls along a cosine to 0 in them.
        seed: of weights, order and latents.
        maps: held-out maps that are measured (at most 600, in batches of 32).
        evaluations: how often they are, evenly spread.
    """

    out: pathlib.Path
    steps: int = 1500
    seed: int = 0
    maps: int = 576
    evaluations: int = 5


def main(options: Options) -> None:
    """Trains both, measures them as they go, and writes everything down."""
    options.out.mkdir(parents=True, exist_ok=True)
    work = workspace(options)
    held, (steps, states) = Held(work, options.maps), start(work)
    curves: Curves = {name: [] for name in STEPS}
    rows: Rows = []
    marks = np.linspace(0, options.steps, options.evaluations + 1).round().astype(int)[1:]
    loader = work.loader("train", work.config.backbone.batch_size, "backbone")
    with (options.out / "fused_step.jsonl").open("w", buffering=1) as file:
        for index in range(options.steps):
            batch, key = work.put(next(loader)), work.key("backbone", index)
            for name in STEPS if index % 2 else STEPS[::-1]:
                states[name], record = timed(steps[name], states[name], batch, key)
                curves[name].append(record)
                print(json.dumps({"run": name, "step": index + 1, **record}), file=file)
            if index + 1 in marks:
                for row in evaluate(work, held, states, index + 1):
                    rows.append(row)
                    print(json.dumps(row), file=file)
                    print(json.dumps(row), flush=True)
    report(options, curves, rows)
    draw(options, curves, rows)
    draw_samples(options, work, held, states)


def workspace(options: Options) -> Workspace:
    """Quickstart without its own latents, and without checkpoints."""
    config = load_config("quickstart")
    phase = dataclasses.replace(config.backbone, steps=options.steps, own_latent=0.0)
    config = resolve(dataclasses.replace(config, backbone=phase, seed=options.seed))
    return Workspace(config, options.out, Store(options.out), Log(None))


def start(work: Workspace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both steps, and the same fresh state for each."""
    steps, states = {}, {}
    for name in STEPS:
        phase: Any = dataclasses.replace(work.config.backbone, step=name)  # pyright: ignore[reportArgumentType]
        steps[name] = backbone.make_step(work.model, phase)
        state = backbone.init_state(work.model, phase, work.rng("backbone"))
        states[name] = jax.device_put(state, work.replicated)
    return steps, states


def timed(step: Any, state: Any, batch: Any, key: Any) -> tuple[Any, dict[str, float]]:
    """One step: the new state; its seconds and losses."""
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(step(state, batch, key, None))
    seconds = time.perf_counter() - began
    terms = {name: round(float(value), 5) for name, (value, _) in metrics.items()}
    d = sum(value for name, value in terms.items() if name.startswith("d_"))
    return state, {"seconds": round(seconds, 5), "G": terms["g_adv"], "D": round(d, 5), **terms}


def evaluate(work: Workspace, held: Held, states: dict[str, Any], step: int) -> Rows:
    """A row for each run and one for the real pictures."""
    real, rows = held.summary(held.real), []
    for name, judge in zip(STEPS, STEPS[::-1], strict=True):
        pictures = held.made(averaged(work, states[name]))
        found = distances(held.summary(pictures), real)
        rows.append({"run": name, **found, "accuracy": held.accuracy(states[judge], pictures)})
    seen = np.mean([held.accuracy(states[name], held.real) for name in STEPS])
    rows.append({"run": "real", **distances(*halves(real)), "accuracy": float(seen)})
    return [
        {k: round(v, 4) if isinstance(v, float) else v for k, v in {**row, "step": step}.items()}
        for row in rows
    ]


# --- what is written ----------------------------------------------------------------------------
def report(options: Options, curves: Curves, rows: Rows) -> None:
    """A table of the last evaluation, with the median time of a step."""
    table = []
    for row in rows[-3:]:
        seconds = [record["seconds"] for record in curves.get(row["run"], [])[WARM_UP:]]
        median = f"{np.median(seconds):.3f}" if seconds else ""
        table.append((row["run"], median, row["colour"], row["features"], row["accuracy"]))
    headers = ("run", "s/step (median)", "colour", "features", "accuracy")
    title = f"after {options.steps} steps, seed {options.seed}, {jax.default_backend()}"
    cli.print_table(headers, table, title)


def draw(options: Options, curves: Curves, rows: Rows) -> None:
    """``fused_step.png``: losses, and the distances to real pictures."""
    figure, window = Figure(figsize=(9, 6), layout="constrained"), max(1, options.steps // 50)
    (losses, measures) = figure.subplots(2, 2)
    for axes, loss in zip(losses, ("G", "D"), strict=True):
        for name, records in curves.items():
            values = smooth([record[loss] for record in records], window)
            axes.plot(np.arange(1, len(values) + 1), values, label=name)
        _finish(axes, f"loss of {loss} (mean of {window} steps)")
    for axes, measure in zip(measures, ("colour", "features"), strict=True):
        for name in (*STEPS, "real"):
            mine = [row for row in rows if row["run"] == name]
            axes.plot([r["step"] for r in mine], [r[measure] for r in mine], label=name)
        _finish(axes, f"{measure}: distance to real pictures")
    figure.savefig(options.out / "fused_step.png", dpi=100)


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Means over the last `window` values (fewer at the start)."""
    sums, ends = np.cumsum([0.0, *values]), np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step")
    axes.legend(fontsize=8)


def draw_samples(options: Options, work: Workspace, held: Held, states: dict[str, Any]) -> None:
    """``samples.png``: map, real picture and both models' pictures at the same z."""
    first = held.batches[0]
    columns = {"map": work.model.family.picture_of_inputs(first.inputs), "real": first.target}
    columns |= {name: held.made(averaged(work, states[name]))[0] for name in STEPS}
    shown = [to_uint8(x) if x.dtype != np.uint8 else x for x in columns.values()]
    rows = [[pictures[i] for pictures in shown] for i in range(SHOWN)]
    grid(rows, list(columns), scale=2).save(options.out / "samples.png")


if __name__ == "__main__":
    main(tyro.cli(Options))
