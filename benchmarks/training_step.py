"""Backbone training steps of a config at its real size, on whatever device JAX finds.

    python -m benchmarks.training_step --config oasis_cityscapes --batch-size 1 --steps 1
    python -m benchmarks.training_step --config oasis_cityscapes --precision bfloat16 --steps 200

Label maps are random blocks and pictures are noise: a step's time and memory do not depend on
what they show, its losses do. Prints a JSON line for each step, then seconds per step (median
without the first, which compiles), pictures per second and memory.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from typing import Any, Literal

import jax
import numpy as np
import tyro

from fiancee_jax.config import load_config
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit
from fiancee_jax.training import backbone

BLOCK = 32  # pixels along a side of one block of a label map


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed; fields left out are the config's own.

    Attributes:
        config: name of a config whose model names or counts its classes.
        steps: how many; 0 only compiles.
        batch_size: pictures in a step.
        precision: of the networks' computation.
        step: kind of step.
        accumulate: micro-batches in a step.
        remat: recompute activations in the backward pass.
    """

    config: str = "oasis_cityscapes"
    steps: int = 1
    batch_size: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    step: Literal["published", "fused"] | None = None
    accumulate: int | None = None
    remat: bool | None = None


def main(options: Options) -> None:
    """Compiles and runs the steps."""
    config = load_config(options.config)
    names = ("batch_size", "precision", "step", "accumulate", "remat")
    given = {k: getattr(options, k) for k in names if getattr(options, k) is not None}
    phase = dataclasses.replace(config.backbone, own_latent=0.0, **given)
    model = MultiExit.of(config, ())
    rng = np.random.default_rng(0)
    state = jax.device_put(backbone.init_state(model, phase, rng))
    batch = jax.device_put(random_batch(model, phase.batch_size, rng))
    key = jax.random.key(0)
    print(f"compiling ({jax.devices()[0].device_kind})", flush=True)
    started = time.monotonic()
    step = backbone.make_step(model, phase).lower(state, batch, key, None).compile()
    print(
        json.dumps({"compile_s": round(time.monotonic() - started, 1), **memory(step)}), flush=True
    )
    seconds = []
    for number in range(options.steps):
        started = time.monotonic()
        state, metrics = step(state, batch, jax.random.fold_in(key, number), None)
        losses = {k: float(total / count) for k, (total, count) in metrics.items()}
        seconds.append(time.monotonic() - started)
        line = {"step": number + 1, "s": round(seconds[-1], 3), **losses}
        print(json.dumps(line), flush=True)
    if not all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(state["ema"])):
        raise SystemExit("the weights are not finite")
    median = statistics.median(seconds[1:] or seconds or [float("nan")])
    print(json.dumps(summary(config.name, phase, median)), flush=True)


def random_batch(model: MultiExit, size: int, rng: np.random.Generator) -> Batch:
    """Maps of random blocks and pictures of noise."""
    height, width = model.family.size
    classes = len(model.family.classes)  # pyright: ignore[reportAttributeAccessIssue]
    blocks = rng.integers(0, classes, (size, -(-height // BLOCK), -(-width // BLOCK)))
    labels = blocks.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, :height, :width].astype(np.int32)
    target = rng.uniform(-1, 1, (size, height, width, 3)).astype(np.float32)
    return Batch({"labels": labels}, target)


def memory(compiled: Any) -> dict[str, float]:
    """GiB of a compiled step: its arguments (state, batch) and what it needs besides."""
    found = compiled.memory_analysis()
    sizes = {"arguments": found.argument_size_in_bytes, "temporary": found.temp_size_in_bytes}
    return {f"{name}_gib": round(size / 2**30, 2) for name, size in sizes.items()}


def summary(name: str, phase: Any, median: float) -> dict[str, Any]:
    """The last line."""
    kept = ("batch_size", "precision", "step", "accumulate", "remat")
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "config": name,
        "device": jax.devices()[0].device_kind,
        **{k: getattr(phase, k) for k in kept},
        "median_s": round(median, 4),
        "pictures_per_s": round(phase.batch_size / median, 3),
        "peak_gib": None if peak is None else round(peak / 2**30, 2),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
