"""A trained model at work: routed batches on the lossless path against the dense backbone.

    python -m benchmarks.routed --model camvid --data CAMVID --max-lpips 0.04 0.05 0.06 0.075

Label maps of the split that reports figures, a z each, in full batches. A routed call is all of
`renderer(...)`: checks, predictor, promotion. GMACs are counted twice, as the dense path would
spend them and as the lossless one does on these very maps (`fiancee_jax.lossless`), the predictor's
with both; GFLOP/s divide the second by time. Ratios of time compare neighbours, batch by batch.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import in_turn
from fiancee_jax import cli, lossless
from fiancee_jax.data.folders import at_root
from fiancee_jax.data.loader import epoch
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Rendered, Renderer, load
from fiancee_jax.models.staged import Inputs

DENSE = "backbone, dense"

Method = Callable[[Inputs], Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        model: a workdir of train.py, or the name of a model in the box.
        data: folder of its data set; None: where the model's config says.
        max_lpips: thresholds.
        batch: pictures in a call.
        batches: calls of each method, on other maps.
        seed: of z.
    """

    model: str = "camvid"
    data: pathlib.Path | None = None
    max_lpips: tuple[float, ...] = (0.04, 0.05, 0.06, 0.075)
    batch: int = 16
    batches: int = 6
    seed: int = 0


def inputs_of(renderer: Renderer, options: Options) -> list[Inputs]:
    """Batches of checked inputs with their z.

    Raises:
        UserError: the split has too few label maps.
    """
    data = at_root(renderer.config.data, options.data)
    family = renderer.model.family.with_classes(data.classes())
    source = data.open("report", family.size)
    if len(source) < options.batch:
        raise UserError(f"{len(source)} label maps for a batch of {options.batch}; give fewer.")
    rng, found = np.random.default_rng(options.seed), []
    for names, batch in epoch(source, family.size, options.batch, keys=family.input_names):
        if len(names) < options.batch or len(found) == options.batches:
            break
        z = rng.standard_normal((options.batch, family.latent_dim), dtype=np.float32)
        found.append(renderer.encode({**family.check_inputs(batch.inputs), "z": jnp.asarray(z)}))
    return found


# --- what is called -----------------------------------------------------------------------------
def methods(renderer: Renderer, dense: Renderer, options: Options) -> dict[str, Method]:
    """A batch to its pictures, by the name of the row."""
    full = renderer.model.num_exits
    found: dict[str, Method] = {
        DENSE: lambda inputs: dense.render_exit(inputs, full),
        "backbone, lossless": lambda inputs: renderer.render_exit(inputs, full),
    }
    for number, exit in enumerate(renderer.model.exits, start=1):
        found[exit.name] = lambda inputs, n=number: renderer.render_exit(inputs, n)
    for limit in options.max_lpips:
        found[f"max_lpips {limit:g}"] = lambda inputs, t=limit: _routed(renderer, inputs, t).images
    return found


def _routed(renderer: Renderer, inputs: Inputs, limit: float) -> Rendered:
    """What a user calls."""
    given = {name: inputs[name] for name in renderer.model.family.input_names} or None
    return renderer(given, z=inputs["z"], max_lpips=limit)


# --- what it costs ------------------------------------------------------------------------------
def costs(
    renderer: Renderer, batches: Sequence[Inputs], options: Options
) -> dict[str, tuple[float, float]]:
    """Mean GMACs of a picture on the dense path and on the lossless one, by the name of the row."""
    model, full = renderer.model, renderer.model.num_exits
    numbers = range(1, full + 1)
    left = np.stack(
        [np.concatenate([lossless.gmacs(model, b, n) for b in batches]) for n in numbers], axis=1
    )  # [pictures, n]
    found = {DENSE: (model.gmacs[-1],) * 2, "backbone, lossless": (model.gmacs[-1], left[:, -1])}
    for i, exit in enumerate(model.exits):
        found[exit.name] = (model.gmacs[i], left[:, i])
    for limit in options.max_lpips:
        parts = [_routed(renderer, inputs, limit) for inputs in batches]
        ran = np.concatenate([np.asarray(part.exits) for part in parts])
        spent = np.concatenate([np.asarray(part.gmacs) for part in parts])
        taken = left[np.arange(len(ran)), ran - 1] + model.predictor_gmacs()
        found[f"max_lpips {limit:g}"] = (spent, taken)
    return {name: (float(np.mean(a)), float(np.mean(b))) for name, (a, b) in found.items()}


def main(options: Options) -> None:
    """Times all methods in turn and prints a table."""
    renderer, dense = load(options.model, sparse=True), load(options.model, sparse=False)
    batches = inputs_of(renderer, options)
    calls = methods(renderer, dense, options)
    for name, call in calls.items():
        print(f"compiling: {name} (once)", flush=True)
        jax.block_until_ready(call(batches[0]))
    timed = {
        name: lambda turn, call=call: jax.block_until_ready(call(batches[turn]))
        for name, call in calls.items()
    }
    seconds = in_turn.seconds(timed, len(batches))
    spent, rows = costs(renderer, batches, options), []
    for name in calls:
        counted, left = (value / spent[DENSE][0] for value in spent[name])
        each, ratio = in_turn.median_ms(seconds, name), in_turn.ratio(seconds, DENSE, name)
        rate = 2 * spent[name][1] * options.batch / each * 1e3
        record = {"of": name, "gmacs": counted, "lossless": left, "ms": each / options.batch}
        record |= {"times_as_fast": ratio, "gflops": rate}
        print(json.dumps({k: round(v, 4) if k != "of" else v for k, v in record.items()}))
        cells = (f"{each / options.batch:.1f}", f"{ratio:.2f}", f"{rate:.0f}")
        rows.append((name, f"{counted:.3f}", f"{left:.3f}", *cells))
    headers = ("", "GMACs of dense", "and lossless", "ms", "times as fast", "GFLOP/s")
    cli.print_table(headers, rows, f"{len(batches)} batches of {options.batch}, a picture")


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
