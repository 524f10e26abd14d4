"""A mixed batch in one jit, against its ideal: direct calls on exactly the samples of each exit.

    make bench
    python -m benchmarks.routing --config camvid_small --size 192 256 --width 32

The ideal calls each exit's compiled program on exactly its samples, in chunks of the same
micro-batch (the last one smaller), without a predictor. Beside it: everything padded to the deepest
exit, every exit for every sample (what vmap of a switch does), and the predictor alone. Weights are
untrained: speed does not depend on them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import in_turn, untrained
from fiancee_jax import cli
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.models.staged import Inputs
from fiancee_jax.rendering import predict, render_exit, render_routed, sized
from fiancee_jax.routing.dispatch import micro_batch_size


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: whose networks.
        size: height and width in place of the config's.
        width: in place of the config's; hidden channels are twice that.
        batch: inputs in the mixed batch.
        only: names of mixes; all if left out.
        dense: the dense path in place of the label-sparse one.
        repeats: timed runs of each method.
        data: folder data set whose training maps are rendered; else the config's own maps are.
    """

    config: str = "quickstart"
    size: tuple[int, int] | None = None
    width: int | None = None
    batch: int = 32
    only: tuple[str, ...] = ()
    dense: bool = False
    repeats: int = 7
    data: pathlib.Path | None = None


def mixes(batch: int, exits: int) -> dict[str, np.ndarray]:
    """Exit numbers [batch] of four mixes.

    `worst`: every exit but the cheapest has one sample, which pads a micro-batch of its own.
    """
    rng, numbers = np.random.default_rng(0), np.arange(1, exits + 1)
    cheap = 0.5**numbers
    worst = np.ones(batch, int)
    worst[: exits - 1] = numbers[1:]
    return {
        "even": np.arange(batch) % exits + 1,
        "mostly cheap": rng.choice(numbers, batch, p=cheap / cheap.sum()),
        "mostly dear": exits + 1 - rng.choice(numbers, batch, p=cheap / cheap.sum()),
        "worst": worst,
    }


def main(options: Options) -> None:
    """Times the methods on every mix and prints them."""
    model, variables = untrained.networks(options.config, size=options.size, width=options.width)
    model = dataclasses.replace(model, sparse=not options.dense)
    variables = model.prepared(variables)
    inputs = untrained.inputs_of(options.config, model, options.batch, options.data)
    gmacs = sized(model, model.family.size).gmacs
    micro = micro_batch_size(options.batch, gmacs, jax.default_backend())
    cached: Any = render_routed
    for name, exits in mixes(options.batch, model.num_exits).items():
        if options.only and name not in options.only:
            continue
        methods = _methods(model, variables, inputs, exits, micro)
        _report(name, methods, micro, options)
    print(f"traces of the routed program, two modes: {cached._cache_size()}")
    _whole(model, variables, inputs, options)


def _methods(
    model: MultiExit, variables: Variables, inputs: Inputs, exits: np.ndarray, micro: int
) -> dict[str, Callable[[], Any]]:
    chunks = []
    for number in np.unique(exits):
        rows = np.flatnonzero(exits == number)
        for start in range(0, len(rows), micro):
            part = jax.tree.map(lambda x, r=rows[start : start + micro]: x[r], inputs)
            chunks.append((int(number), part))
    asked = jnp.asarray(exits, jnp.int32)
    routed = functools.partial(render_routed, model, variables, inputs, asked, micro_batch=micro)
    return {
        "ideal": lambda: [render_exit(model, variables, part, k) for k, part in chunks],
        "exact": lambda: routed(exact=True),
        "promote": lambda: routed(exact=False),
    }


def warm(methods: dict[str, Callable[[], Any]]) -> dict[str, in_turn.Method]:
    """Calls each once, which compiles it; then they wait for what they compute."""
    for name, method in methods.items():
        print(f"compiling: {name} (once)", flush=True)
        jax.block_until_ready(method())
    return {k: lambda _, m=m: jax.block_until_ready(m()) for k, m in methods.items()}


def _report(name: str, methods: dict[str, Callable[[], Any]], micro: int, options: Options) -> None:
    seconds = in_turn.seconds(warm(methods), options.repeats)
    rows = []
    for method in methods:
        ms, ratio = in_turn.median_ms(seconds, method), in_turn.ratio(seconds, method, "ideal")
        record = {"mix": name, "method": method, "ms": round(ms, 2), "ratio": round(ratio, 3)}
        print(json.dumps({**record, "micro_batch": micro, "batch": options.batch}), flush=True)
        rows.append((method, f"{ms:.1f}", f"{ratio:.3f}"))
    title = f"{options.config}, mix {name!r} of {options.batch}, micro-batches of {micro}"
    cli.print_table(("method", "ms", "ratio"), rows, title)


def _whole(model: MultiExit, variables: Variables, inputs: Inputs, options: Options) -> None:
    """All samples at the deepest exit, at every exit, and through the predictor alone."""
    chunk = jax.tree.map(lambda x: x[: min(8, options.batch)], inputs)
    count = len(chunk["z"])
    numbers = range(1, model.num_exits + 1)
    methods = {
        "deepest exit for all": lambda: render_exit(model, variables, chunk, model.num_exits),
        "every exit for all": lambda: [render_exit(model, variables, chunk, k) for k in numbers],
        "predictor": lambda: predict(model, variables, chunk),
    }
    seconds, rows = in_turn.seconds(warm(methods), options.repeats), []
    for method in methods:
        each = in_turn.median_ms(seconds, method) / count
        ratio = in_turn.ratio(seconds, method, "deepest exit for all")
        print(json.dumps({"method": method, "ms": round(each, 3), "ratio": round(ratio, 4)}))
        rows.append((method, f"{each:.2f}", f"{ratio:.4f}"))
    cli.print_table(("method", "ms per picture", "of the deepest"), rows)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
