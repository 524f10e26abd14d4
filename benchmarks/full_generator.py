"""The whole generator of a config, dense against the lossless path: time, products, differences.

    python -m benchmarks.full_generator --data CAMVID [--config oasis_cityscapes]
    python -m benchmarks.full_generator --data CAMVID --size 64 128 --width 16    a quick try

Both paths make the same pictures (docs/performance.md); each is one jit of batch 1, timed in turn
on several street maps (`street_maps`) and on noise, where sparse must not lose. The lossless path
is label-sparse and has transformed kernels (`models.winograd`); it is timed without these too.
Weights are drawn (`drawn_generator`). Prints JSON lines and tables.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import drawn_generator as drawn
from benchmarks import floor, in_turn
from benchmarks.drawn_generator import Generator
from fiancee_jax import cli, lossless
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.phases import Precision
from fiancee_jax.rendering import render_exit

NOISE_LIMIT = 1.05  # sparse to dense where nothing can be saved


@dataclasses.dataclass(frozen=True)
class Options(Generator):
    """What is timed: a `Generator`, and how.

    Attributes:
        precision: of the networks' computation.
        repeats: timed rounds.
    """

    precision: Precision = "float32"
    repeats: int = 11


def main(options: Options) -> None:
    """Draws the weights, compares the pictures, then times both paths."""
    model, variables = drawn.prepare(options)
    streets, noise = drawn.streets(model, options), drawn.noise(model, options)
    say("pictures", **drawn.unsaturated(model, variables, streets))
    show_patterns(model, streets)
    model = dataclasses.replace(model, dtype=options.precision)
    for name, inputs in (("streets", streets), ("noise", noise)):
        say("largest difference", maps=name, **differences(model, variables, inputs))
    left = show_macs(model, {"streets": streets, "noise": noise})
    times = measure(model, variables, streets, noise, options.repeats)
    show_floor(model, lossless.levels(model.family, streets[0]), left, times)
    show_times(times, options)


# --- what is found ------------------------------------------------------------------------------
def differences(model: MultiExit, variables: Variables, inputs: list[Any]) -> dict[str, float]:
    """Largest absolute difference of both paths: pictures, and what the last tanh is given."""
    found = {}
    for name, one in (("picture", model), ("before_tanh", drawn.without_tanh(model))):
        paths = [(m, m.prepared(variables)) for m in (one, dataclasses.replace(one, sparse=True))]
        pairs = [[render_exit(*path, x, 1) for path in paths] for x in inputs]
        found[name] = max(float(jnp.abs(a - b).max()) for a, b in pairs)
    return found


def show_patterns(model: MultiExit, streets: list[Any]) -> None:
    """Distinct patterns by size, on each map and on average."""
    found = [lossless.levels(model.family, one)[0] for one in streets]
    for number, levels in enumerate(found):
        for level in levels:
            say("patterns", map=number, **level._asdict())
    rows = []
    for same in zip(*found, strict=True):
        means = [_share(same, name) for name in ("three", "five", "rows")]
        rows.append(("{}x{}".format(*same[0].size), *means))
    headers = ("size", "3x3 patterns", "5x5 patterns", "multiplied")
    cli.print_table(headers, rows, f"share of the pixels, mean of {len(found)} street maps")


def _share(levels: tuple[lossless.Level, ...], name: str) -> str:
    values = [getattr(level, name) for level in levels]
    if None in values:
        return "-"
    return f"{np.mean(values) / levels[0].pixels:.1%}"


def show_macs(model: MultiExit, inputs: dict[str, list[Any]]) -> float:
    """Counts both paths; returns GMACs left on an average street map."""
    dense, means = model.gmacs[-1], {}
    for name, some in inputs.items():
        each = [float(lossless.gmacs(model, one, 1)[0]) for one in some]
        means[name] = float(np.mean(each))
        counted = {"dense": round(dense, 3), "sparse": [round(x, 3) for x in each]}
        say("gmacs", maps=name, **counted, share=round(means[name] / dense, 4))
    return means["streets"]


def measure(
    model: MultiExit, variables: Variables, streets: list[Any], noise: list[Any], repeats: int
) -> dict[str, list[float]]:
    """Seconds of both paths on both kinds of maps, and of the search for patterns."""
    sparse = dataclasses.replace(model, sparse=True)
    search = jax.jit(lambda inputs: sparse.condition(inputs).patterns)

    prepared = sparse.prepared(variables)

    def run(model: MultiExit, inputs: list[Any], turn: int, made: Variables = variables) -> Any:
        one = inputs[turn % len(inputs)]
        return jax.block_until_ready(render_exit(model, made, one, 1))

    methods: dict[str, in_turn.Method] = {
        "dense, streets": functools.partial(run, model, streets),
        "sparse, streets": functools.partial(run, sparse, streets, made=prepared),
        "sparse without winograd, streets": functools.partial(run, sparse, streets),
        "dense, noise": functools.partial(run, model, noise),
        "sparse, noise": functools.partial(run, sparse, noise, made=prepared),
        "pattern search, streets": lambda t: jax.block_until_ready(
            search(streets[t % len(streets)])
        ),
    }
    for method in methods.values():
        method(0)
    return in_turn.seconds(methods, repeats)


def show_floor(
    model: MultiExit, levels: list[list[lossless.Level]], left: float, times: Any
) -> None:
    """The least time for what is left, beside the time it took."""
    rates = floor.rates()
    bytes_ = floor.moved(model.backbone_shapes["params"], levels[0])
    found = {
        "gmacs_left": round(left, 3),
        "gmacs_per_s": round(rates.gmacs, 1),
        "products_ms": round(1e3 * left / rates.gmacs, 2),
        "gbytes": round(bytes_ / 1e9, 4),
        "gbytes_per_s": round(rates.gbytes, 2),
        "bytes_ms": round(1e3 * bytes_ / 1e9 / rates.gbytes, 2),
        "took_ms": round(in_turn.median_ms(times, "sparse, streets"), 2),
    }
    say("floor", **found)


def show_times(times: dict[str, list[float]], options: Options) -> None:
    """Medians, and median ratios to the dense path on the same maps.

    Raises:
        SystemExit: sparse lost on noise.
    """
    rows = []
    for name in times:
        base = f"dense, {name.rpartition(', ')[2]}"
        ms, ratio = in_turn.median_ms(times, name), in_turn.ratio(times, name, base)
        say("time", method=name, ms=round(ms, 2), ratio=round(ratio, 4), repeats=options.repeats)
        rows.append((name, f"{ms:.1f}", f"{ratio:.3f}"))
    title = f"{options.config}, batch 1, {options.precision}, {jax.default_backend()}"
    cli.print_table(("method", "ms", "ratio to dense"), rows, title)
    lost = in_turn.ratio(times, "sparse, noise", "dense, noise")
    if lost > NOISE_LIMIT:
        raise SystemExit(f"sparse takes {lost:.3f} of dense on noise; at most {NOISE_LIMIT}")


def say(what: str, **values: Any) -> None:
    """A JSON line."""
    print(json.dumps({"what": what, **values}), flush=True)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
