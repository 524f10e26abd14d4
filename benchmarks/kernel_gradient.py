"""The gradient of 3x3 convolutions in their kernel: XLA's own against that by bands of rows.

    python -m benchmarks.kernel_gradient [--repeats 5] [--batch 8]

The shapes of `camvid`'s branches (192x256, width 24) and smaller ones; float32, this machine.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks import in_turn
from fiancee_jax import cli
from fiancee_jax.models import kernel_gradient

SHAPES = (  # height, width, channels in, channels out
    (192, 256, 48, 24),
    (192, 256, 24, 24),
    (96, 128, 96, 48),
    (96, 128, 48, 48),
    (48, 64, 192, 96),
    (64, 64, 48, 24),
    (24, 32, 384, 192),
    (64, 64, 16, 16),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """How it is measured.

    Attributes:
        batch: pictures.
        repeats: interleaved rounds; medians are printed.
    """

    batch: int = 8
    repeats: int = 5


def main(options: Options) -> None:
    """Prints a table."""
    rng = np.random.default_rng(0)
    print("| size | channels | the convolution, ms | XLA's gradient | by bands | ratio | used |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for height, width, inside, outside in SHAPES:
        x, dy = (
            jax.numpy.asarray(
                rng.standard_normal((options.batch, height, width, c)).astype(np.float32)
            )
            for c in (inside, outside)
        )
        kernel = jax.numpy.zeros((3, 3, inside, outside))
        methods = {
            "convolution": _ready(kernel_gradient.plain, x, kernel),
            "xla": _ready(kernel_gradient.by_xla, x, dy),
            "bands": _ready(kernel_gradient.summed_by_bands, x, dy),
        }
        times = in_turn.seconds(methods, options.repeats)
        ms = {name: in_turn.median_ms(times, name) for name in methods}
        with kernel_gradient.by_bands():
            used = "yes" if kernel_gradient.suits(x, kernel) else "no"
        print(
            f"| {height}x{width} | {inside} to {outside} | {ms['convolution']:.0f} "
            f"| {ms['xla']:.0f} | {ms['bands']:.0f} "
            f"| {in_turn.ratio(times, 'bands', 'xla'):.2f} | {used} |",
            flush=True,
        )


def _ready(function: Any, *arrays: jax.Array) -> in_turn.Method:
    """Compiled and run once; a round runs it to its end."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arrays))
    return functools.partial(_run, compiled, arrays)


def _run(compiled: Any, arrays: tuple[jax.Array, ...], turn: int) -> Any:
    del turn
    return jax.block_until_ready(compiled(*arrays))


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
