"""How rendering grows with resolution, batch and bank size.

    python -m benchmarks.growth --config camvid_small [--what resolution batch bank]

Resolution and batch: the full generator and the cheapest exit, label-sparse, on street maps; milli-
seconds for each picture, and against what one pixel costs at the first size. Bank: one exact
retrieval for a batch of queries from 10 to 100,000 entries of palettes. Devices are in
`benchmarks.devices`. Weights are untrained.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import in_turn, untrained
from benchmarks.routing import warm
from fiancee_jax import cli
from fiancee_jax.guides import nearest
from fiancee_jax.rendering import render_exit, sized

SIDES = (64, 128, 256, 512, 1024)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
ENTRIES = (10, 100, 1_000, 10_000, 100_000)
KEYS, QUERIES, NEIGHBOURS = 64, 16, 8

What = Literal["resolution", "batch", "bank"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: whose networks.
        what: which growth.
        largest: pixels along a side of the largest square picture.
        repeats: timed runs of each.
        data: folder data set whose training maps are rendered; else the config's own maps are.
    """

    config: str = "camvid_small"
    what: tuple[What, ...] = ("resolution", "batch", "bank")
    largest: int = 1024
    repeats: int = 5
    data: pathlib.Path | None = None


def main(options: Options) -> None:
    """Runs the chosen ones."""
    chosen = {"resolution": resolution, "batch": batch, "bank": bank}
    for what in options.what:
        chosen[what](options)


def resolution(options: Options) -> None:
    """Square pictures, one at a time."""
    rows = []
    for side in (s for s in SIDES if s <= options.largest):
        rows.append(_render(options, (side, side), 1, f"{side}x{side}"))
    _table(rows, f"{options.config}, batch 1", "size")


def batch(options: Options) -> None:
    """More pictures in a call, at the config's size."""
    rows = [_render(options, None, count, str(count)) for count in BATCHES]
    _table(rows, options.config, "batch")


def _render(
    options: Options, size: tuple[int, int] | None, count: int, name: str
) -> dict[str, Any]:
    model, variables = untrained.networks(options.config, size=size)
    model = dataclasses.replace(model, sparse=True)
    variables = model.prepared(variables)
    tiles = 2 if max(model.family.size) <= 512 else 4  # two maps of CamVid fill no more
    inputs = untrained.inputs_of(options.config, model, count, options.data, tiles)
    numbers = {"full": model.num_exits, "exit 1": 1}
    methods = {
        f"{k}, {name}": functools.partial(render_exit, model, variables, inputs, n)
        for k, n in numbers.items()
    }
    seconds = in_turn.seconds(warm(methods), options.repeats)
    row: dict[str, Any] = {"of": name}
    gmacs = sized(model, model.family.size).gmacs
    for key, number in numbers.items():
        ms = in_turn.median_ms(seconds, f"{key}, {name}") / count
        row |= {f"{key} ms": ms, f"{key} GFLOP/s": 2 * gmacs[number - 1] / ms * 1e3}
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}))
    return row


def _table(rows: list[dict[str, Any]], title: str, first: str) -> None:
    names = list(rows[0])[1:]
    cells = [(row["of"], *(f"{row[name]:.1f}" for name in names)) for row in rows]
    cli.print_table((first, *names), cells, f"{title}, per picture, dense-count GFLOP/s")


def bank(options: Options) -> None:
    """One exact retrieval of the nearest keys."""
    rng, find = np.random.default_rng(0), jax.jit(nearest, static_argnums=2)
    queries = jnp.asarray(rng.standard_normal((QUERIES, KEYS)), jnp.float32)
    rows = []
    for entries in ENTRIES:
        keys = jnp.asarray(rng.standard_normal((entries, KEYS)), jnp.float32)
        methods = {str(entries): lambda k=keys, n=entries: find(k, queries, min(n, NEIGHBOURS))}
        ms = in_turn.median_ms(in_turn.seconds(warm(methods), options.repeats), str(entries))
        print(json.dumps({"entries": entries, "queries": QUERIES, "ms": round(ms, 4)}))
        rows.append((f"{entries:,}", f"{ms / QUERIES * 1e3:.1f}", f"{keys.nbytes / 2**20:.2f}"))
    cli.print_table(("entries", "microseconds a query", "MiB of keys"), rows)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
