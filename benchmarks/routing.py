"""A mixed batch in one jit, against the sum of direct calls and against running every exit.

    make bench        or: python -m benchmarks.routing [--config quickstart] [--batch 32]

Weights are untrained: speed does not depend on them. Each figure is the median of `repeats` runs
after a warm-up; the methods are timed in turn, so that a drifting machine touches all alike.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from fiancee_jax import cli
from fiancee_jax.config import load_config
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.inference import render_exit, render_routed
from fiancee_jax.models.layers import fold_spectral, initialise


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: whose networks.
        batch: inputs in the mixed batch; they are spread evenly over the exits.
        repeats: timed runs of each method.
    """

    config: str = "quickstart"
    batch: int = 32
    repeats: int = 7


def main(options: Options) -> None:
    """Times the methods and prints them."""
    model, variables, inputs = prepare(options)
    exits = jnp.asarray(np.arange(options.batch) % model.num_exits + 1, jnp.int32)
    groups = [(k, np.flatnonzero(np.asarray(exits) == k)) for k in range(1, model.num_exits + 1)]
    parts = [(k, jax.tree.map(lambda x, i=index: x[i], inputs)) for k, index in groups]

    def ideal() -> Any:
        return [render_exit(model, variables, part, number) for number, part in parts]

    def everything() -> Any:
        return [render_exit(model, variables, inputs, k) for k in range(1, model.num_exits + 1)]

    def routed(exact: bool) -> Any:
        return render_routed(model, variables, inputs, exits, exact=exact)

    methods = {
        "direct calls, exit by exit (ideal)": ideal,
        "one jit, promote": lambda: routed(False),
        "one jit, exact": lambda: routed(True),
        "backbone for all": lambda: render_exit(model, variables, inputs, model.num_exits),
        "every exit for all (what vmap of a switch does)": everything,
    }
    report(methods, options)


def prepare(options: Options) -> tuple[MultiExit, Variables, Any]:
    """Untrained variables and random inputs."""
    config, rng = load_config(options.config), np.random.default_rng(0)
    family = config.model.with_classes(config.data.classes())
    model = MultiExit.of(dataclasses.replace(config, model=family))
    fresh = initialise(model.backbone_shapes, rng, 1.0)
    params = fold_spectral(fresh["params"], fresh["spectral"])
    bank = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype), model.bank_shapes)
    variables: Variables = {
        "backbone": {"params": params, "batch_stats": fresh["batch_stats"]},
        "bank": bank,
        "branches": {e.name: initialise(model.branch_shapes(e), rng, 1.0) for e in model.exits},
    }
    labels = rng.integers(0, len(family.classes), (options.batch, *family.size))
    z = rng.normal(size=(options.batch, family.latent_dim))
    inputs = {"labels": jnp.asarray(labels, jnp.int32), "z": jnp.asarray(z, jnp.float32)}
    return model, jax.device_put(variables), inputs


def report(methods: dict[str, Callable[[], Any]], options: Options) -> None:
    """Times all methods in turn; prints JSON lines and a table."""
    for name, run in methods.items():
        print(f"compiling: {name} (once)", flush=True)
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(options.repeats):
        for name, run in methods.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) * 1e3 for name, values in seconds.items()}
    base = next(iter(medians.values()))
    for name, ms in medians.items():
        record = {"method": name, "ms": round(ms, 2), "ratio": round(ms / base, 3)}
        print(json.dumps({**record, **dataclasses.asdict(options)}))
    rows = [(name, f"{ms:.1f}", f"{ms / base:.2f}") for name, ms in medians.items()]
    title = f"{options.config}, a mixed batch of {options.batch}, {jax.default_backend()}"
    cli.print_table(("method", "ms", "ratio"), rows, title)


if __name__ == "__main__":
    main(tyro.cli(Options))
