"""Wall-clock saving against GMACs saving of early exits, over mixes of exits.

    python -m benchmarks.savings --evaluation docs/results/camvid-small/evaluation.json

Times every exit alone, dense and label-sparse, and takes the mixes that a router chose in an
evaluation: each exit's share of the inputs at three thresholds. Both savings are against the full
generator of the same path, GMACs of the label-sparse one as `fiancee_jax.lossless` counts them on
the very maps; exits are matched by their names.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
import tyro

from benchmarks import in_turn, untrained
from benchmarks.routing import warm
from fiancee_jax import cli, lossless
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.inference import load
from fiancee_jax.rendering import render_exit

PATHS = ("dense", "sparse")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: whose networks, with untrained weights; or `model`.
        model: a trained model (workdir or name) in place of a config.
        size: height and width in place of the config's.
        width: in place of the config's; hidden channels are twice that.
        batch: pictures in a call.
        evaluation: an evaluation.json whose learned router gives the mixes.
        repeats: timed runs of each exit.
        data: folder data set whose training maps are rendered; else the config's own maps are.
    """

    config: str = "oasis_cityscapes"
    model: str | None = None
    size: tuple[int, int] | None = None
    width: int | None = None
    batch: int = 1
    evaluation: pathlib.Path | None = None
    repeats: int = 7
    data: pathlib.Path | None = None


def main(options: Options) -> None:
    """Times the exits and prints two tables."""
    if options.model is not None:
        renderer = load(options.model)
        model, variables = renderer.model, renderer.variables
        options = dataclasses.replace(options, config=renderer.config.name)
    else:
        model, variables = untrained.networks(
            options.config, size=options.size, width=options.width
        )
    inputs = untrained.inputs_of(options.config, model, options.batch, options.data)
    methods = {}
    for path in PATHS:
        chosen = dataclasses.replace(model, sparse=path == "sparse")
        render = functools.partial(render_exit, chosen, chosen.prepared(variables), inputs)
        for number in range(1, model.num_exits + 1):
            methods[f"{path} {number}"] = functools.partial(render, number)
    seconds = in_turn.seconds(warm(methods), options.repeats)
    for path in PATHS:
        numbers = range(1, model.num_exits + 1)
        took = np.array([seconds[f"{path} {n}"] for n in numbers])
        gmacs = np.array(model.gmacs)
        if path == "sparse":
            gmacs = np.array([lossless.gmacs(model, inputs, n).mean() for n in numbers])
        _exits(path, model, gmacs, took, options)
        for name, mix in _mixes(options, model).items():
            _mix(path, name, np.asarray(mix), gmacs, took)


def _exits(
    path: str, model: MultiExit, gmacs: np.ndarray, took: np.ndarray, options: Options
) -> None:
    rows = []
    names = [*(exit.name for exit in model.exits), "backbone"]
    for name, count, seconds in zip(names, gmacs, took, strict=True):
        each = float(np.median(seconds)) / options.batch
        share, wall = count / gmacs[-1], float(np.median(seconds / took[-1]))
        record = {"path": path, "exit": name, "gmacs": round(count, 4), "ms": round(1e3 * each, 2)}
        rate = 2 * count / each
        found = {"share": round(share, 4), "wall": round(wall, 4), "gflops": round(rate, 1)}
        print(json.dumps({**record, **found}))
        numbers = (
            f"{count:.3f}",
            f"{share:.3f}",
            f"{1e3 * each:.1f}",
            f"{wall:.3f}",
            f"{rate:.0f}",
        )
        rows.append((name, *numbers))
    headers = ("exit", "GMACs", "of full", "ms", "of full", "GFLOP/s")
    cli.print_table(headers, rows, f"{path}, batch {options.batch}, {jax.default_backend()}")


def _mix(path: str, name: str, mix: np.ndarray, gmacs: np.ndarray, took: np.ndarray) -> None:
    """1 - mean cost / full cost, in wall time (median over rounds) and in GMACs."""
    wall = float(np.median(1 - mix @ took / took[-1]))
    saved = 1 - float(mix @ gmacs) / gmacs[-1]
    record = {"path": path, "mix": name, "exits": np.round(mix, 3).tolist()}
    figures = {"gmacs_saved": saved, "wall_saved": wall, "ratio": wall / saved}
    print(json.dumps({**record, **{k: round(float(v), 4) for k, v in figures.items()}}), flush=True)


def _mixes(options: Options, model: MultiExit) -> dict[str, list[float]]:
    """Shares of the exits, cheapest first.

    Raises:
        UserError: the evaluated model has an exit that this one has not.
    """
    names = [*(exit.name for exit in model.exits), "backbone"]
    if options.evaluation is None:
        return {"even": [1 / len(names)] * len(names)}
    found = json.loads(options.evaluation.read_text())
    known = [exit["name"] for exit in found["exits"]]
    if unknown := set(known) - set(names):
        raise UserError(
            f"{options.evaluation} is of a model with the exits {', '.join(sorted(unknown))}, "
            f"which this one has not: {', '.join(names)}. Give the evaluation of such a model."
        )
    mixes = {}
    for row in found["rows"]:
        if row["policy"] == "learned" and row["threshold"] is not None:
            share = dict(zip(known, row["exits"], strict=True))
            mix = [share.get(name, 0.0) for name in names]
            mixes[f"max_lpips {row['threshold']:g}"] = [x / sum(mix) for x in mix]
    return mixes


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
