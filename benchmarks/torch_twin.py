"""Our generator against the same one in PyTorch: the same weights, machine and moment.

    pip install -r requirements-bench.txt
    python -m benchmarks.torch_twin --data CAMVID [--config oasis_cityscapes]
    python -m benchmarks.torch_twin --data CAMVID --size 64 128 --width 16    a quick try

PyTorch runs `torch_oasis`, channels last, in eval mode, with as many threads as JAX has cores:
eagerly and compiled, in float32 and bfloat16. In float32 its pictures must be ours to 1e-4 before
anything is timed. All run in turn, batch 1, on several street maps. Prints JSON lines and a table.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks import drawn_generator as drawn
from benchmarks import in_turn
from benchmarks.drawn_generator import Generator
from fiancee_jax import cli
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.rendering import render_exit

AGREED = 1e-4  # largest difference of pictures in float32
BASE = "torch eager float32"
DENSE = "jax dense float32"

Render = Callable[[Any], np.ndarray]  # our inputs -> pictures [b, h, w, 3]


@dataclasses.dataclass(frozen=True)
class Options(Generator):
    """What is timed: a `Generator`, and how.

    Attributes:
        repeats: timed rounds.
        compile: also time torch.compile, which takes minutes to start at full size.
    """

    repeats: int = 11
    compile: bool = True


def main(options: Options) -> None:
    """Loads the same weights into both, compares the pictures, then times them."""
    twin = _torch_oasis()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    version = twin.set_threads(threads or 1)
    say(torch=version, jax=jax.__version__, threads=threads, backend=jax.default_backend())
    model, variables = drawn.prepare(options)
    streets = drawn.streets(model, options)
    say(**drawn.unsaturated(model, variables, streets))
    methods = ours(model, variables) | theirs(twin, model, variables, options.compile)
    started = start(methods, streets)
    check(started, streets)
    report(started, streets, options)


def _torch_oasis() -> Any:
    try:
        return importlib.import_module("benchmarks.torch_oasis")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(
            "PyTorch is not installed, and this compares with it. Install the extra: "
            "pip install -r requirements-bench.txt"
        ) from None


# --- weights ------------------------------------------------------------------------------------
def published(backbone: Any) -> dict[str, np.ndarray]:
    """A backbone's variables {params, batch_stats} under the names of published state dicts.

    The inverse of `models.oasis_published.generator` where spectral norm is folded in.
    """
    params, stats = jax.device_get((backbone["params"], backbone["batch_stats"]))
    found = _conv("fc", params["stem"]["fc"]) | _conv("conv_img", params["head"]["conv_img"])
    for stage, inside in params.items():
        if stage not in ("stem", "head"):
            for name, leaf in inside["block"].items():
                full = f"body.{stage.removeprefix('stages_')}.{name}"
                if name.startswith("conv"):
                    found |= _conv(full, leaf)
                else:
                    found |= _spade(full, leaf, stats[stage]["block"][name]["norm"])
    return found


def _spade(name: str, params: Any, stats: Any) -> dict[str, np.ndarray]:
    halves = {k: np.split(x, 2, axis=-1) for k, x in params["gamma_beta"].items()}
    found = _conv(f"{name}.mlp_shared.0", params["shared"])
    for index, part in enumerate(("mlp_gamma", "mlp_beta")):
        found |= _conv(f"{name}.{part}", {k: x[index] for k, x in halves.items()})
    return found | {f"{name}.first_norm.running_{k}": stats[k] for k in ("mean", "var")}


def _conv(name: str, leaf: Any) -> dict[str, np.ndarray]:
    found = {f"{name}.weight": np.ascontiguousarray(leaf["kernel"].transpose(3, 2, 0, 1))}
    return found | ({f"{name}.bias": leaf["bias"]} if "bias" in leaf else {})


# --- methods ------------------------------------------------------------------------------------
def ours(model: MultiExit, variables: Variables) -> dict[str, Render]:
    """This package's paths."""
    sparse = dataclasses.replace(model, sparse=True)
    models = {
        DENSE: model,
        "jax sparse float32": sparse,
        "jax sparse bfloat16": dataclasses.replace(sparse, dtype="bfloat16"),
    }

    def run(model: MultiExit, variables: Variables, inputs: Any) -> np.ndarray:
        return np.asarray(render_exit(model, variables, inputs, 1))

    return {k: functools.partial(run, m, m.prepared(variables)) for k, m in models.items()}


def theirs(twin: Any, model: MultiExit, variables: Variables, compile: bool) -> dict[str, Render]:
    """PyTorch's."""
    state = published(variables["backbone"])
    found: dict[str, Render] = {}

    def run(net: Any, plain: Any, inputs: Any) -> np.ndarray:
        labels, z = jax.device_get((inputs["labels"], inputs["z"]))
        return twin.picture(net, *twin.tensors(labels, z, plain))

    for name, half in (("float32", False), ("bfloat16", True)):
        plain = twin.build(model.family, state, half)
        found[f"torch eager {name}"] = functools.partial(run, plain, plain)
        if compile:
            found[f"torch compile {name}"] = functools.partial(run, twin.compiled(plain), plain)
    return found


def start(methods: dict[str, Render], streets: list[Any]) -> dict[str, Render]:
    """Runs everything once; those of torch.compile may be missing, for a reason that is said."""
    started = {}
    for name, method in methods.items():
        print(f"starting {name}", flush=True)
        try:
            method(streets[0])
        except Exception as error:
            if not name.startswith("torch compile"):
                raise
            say(method=name, skipped=f"{type(error).__name__}: {error}"[:400])
        else:
            started[name] = method
    return started


def check(started: dict[str, Render], streets: list[Any]) -> None:
    """Compares every method's pictures with ours of the dense path.

    Raises:
        SystemExit: one in float32 makes other pictures.
    """
    reference = [started[DENSE](one) for one in streets]
    for name, method in started.items():
        pairs = zip(reference, map(method, streets), strict=True)
        errors = np.stack([np.abs(a - b) for a, b in pairs])
        largest, mean = float(errors.max()), float(errors.mean())
        say(method=name, largest_difference=largest, mean_difference=mean)
        if name.endswith("float32") and largest > AGREED:
            raise SystemExit(f"{name} differs from {DENSE} by {largest:.2g}; at most {AGREED}")


def report(started: dict[str, Render], streets: list[Any], options: Options) -> None:
    """Times all in turn; prints medians and ratios to PyTorch's eager float32 and our dense."""
    timed = {
        name: (lambda turn, run=run: run(streets[turn % len(streets)]))
        for name, run in started.items()
    }
    times = in_turn.seconds(timed, options.repeats)
    rows = []
    for name in times:
        ms = in_turn.median_ms(times, name)
        ratios = [in_turn.ratio(times, name, base) for base in (BASE, DENSE)]
        to_torch, to_dense = (round(x, 4) for x in ratios)
        say(method=name, ms=round(ms, 2), to_torch=to_torch, to_dense=to_dense)
        rows.append((name, f"{ms:.1f}", *(f"{x:.3f}" for x in ratios)))
    title = f"{options.config}, batch 1, {options.repeats} rounds on {len(streets)} street maps"
    cli.print_table(("method", "ms", f"to {BASE}", f"to {DENSE}"), rows, title)


def say(**values: Any) -> None:
    """A JSON line."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
