"""How well the gradients of `agreement` are defined: every weight is moved by its last bit.

    python -m benchmarks.agreement --out runs/agreement
    python -m benchmarks.conditioning --out runs/agreement [--steps 85 90 95]

One process, nothing else changed: a gradient that answers with more than its rounding lies at a
kink (of L1, a ReLU, a pooling), and two programs that round differently cannot agree on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import tyro

from fiancee_jax import cli
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import read_config
from fiancee_jax.training import backbone
from fiancee_jax.training.log import Log
from fiancee_jax.training.workspace import Workspace

LAST_BIT = 2.0**-24  # of a float32, relative
MOVES = 8


@dataclasses.dataclass(frozen=True)
class Options:
    """Which states are looked at.

    Attributes:
        out: folder of `agreement`.
        steps: states of the backbone's phase.
    """

    out: pathlib.Path
    steps: tuple[int, ...] = tuple(range(5, 101, 5))


def answers(workdir: pathlib.Path, step: int) -> list[float]:
    """Relative changes of the generator's gradient at one state, for `MOVES` random signs."""
    shutil.rmtree(workdir / "checkpoints" / "backbone" / str(step + 1), ignore_errors=True)
    config = read_config(workdir)
    with contextlib.closing(Store(workdir)) as store:
        work = Workspace(config, workdir, store, Log(None, quiet=True))
        with jax.set_mesh(work.mesh):
            return _answers(work, step)


def _answers(work: Workspace, step: int) -> list[float]:
    phase, model, store = work.config.backbone, work.model, work.store
    fresh = work.place(backbone.init_state(model, phase, work.rng("backbone")))
    state: Any = jax.device_get(store.train("backbone", fresh))
    loader = work.loader("train", phase.batch_size, "backbone")
    loader.set_state(store.extra("backbone")["loader"])
    batch, key = work.put(next(loader)), work.key("backbone", step)
    net, update = work.perceptual(phase.perceptual_net), backbone.make_step(model, phase)

    def gradient(params: Any) -> np.ndarray:
        """Adam's first moment, whose decay is 0 here."""
        new, _ = update(work.place({**state, "params": params}), batch, key, net)
        leaves = jax.tree.leaves(jax.device_get(new["opt_g"][0].mu))
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    base, rng = gradient(state["params"]), np.random.default_rng(0)

    def moved(x: np.ndarray) -> np.ndarray:
        return (x * (1 + LAST_BIT * rng.choice([-1, 1], x.shape))).astype(np.float32)

    found = [gradient(jax.tree.map(moved, state["params"])) for _ in range(MOVES)]
    return [float(np.linalg.norm(x - base) / np.linalg.norm(base)) for x in found]


def main(options: Options) -> None:
    """Prints a row for each state."""
    rows = []
    with cli.Progress("states", len(options.steps)) as progress:
        for step in options.steps:
            with tempfile.TemporaryDirectory() as folder:
                workdir = pathlib.Path(folder) / "state"
                shutil.copytree(options.out / "one" / f"backbone_{step}", workdir)
                found = answers(workdir, step)
            rows.append((step, f"{min(found):.1e}", f"{max(found):.1e}"))
            progress.advance(1)
    cli.print_table(("state", "least change", "largest"), rows)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
