"""Training steps per second of every phase, and the loader's share of them.

    python -m benchmarks.phases --config quickstart --steps 30 [--precision bfloat16]

Trains a config for a few steps of each phase in a temporary workdir, as train.py does, and reads
what it logged: the first line, which compiled, is left out. A loader's share near 0 means that a
step never waits for data.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
import tyro

from fiancee_jax import cli
from fiancee_jax.config import Config, load_config
from fiancee_jax.phases import Precision
from fiancee_jax.training.run import train

LINES = 3  # of the log for each phase; the first is left out
PHASES = ("backbone", "guides", "branches", "predictor")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: name of a config.
        steps: of each phase.
        precision: of the networks' computation in backbone and branches; else the config's.
        data_root: in place of the config's folder, if it has one.
    """

    config: str = "quickstart"
    steps: int = 30
    precision: Precision | None = None
    data_root: str | None = None


def main(options: Options) -> None:
    """Trains, prints JSON lines and a table."""
    config = short(load_config(options.config), options)
    if options.data_root is not None:
        data = dataclasses.replace(config.data, root=options.data_root)  # pyright: ignore[reportCallIssue]
        config = dataclasses.replace(config, data=data)
    with tempfile.TemporaryDirectory() as folder:
        train(config, folder, phases=PHASES)
        lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    rows = []
    for phase in ("backbone", "branches", "predictor"):
        found = [r for r in records if r["phase"] == phase][1:]
        step = float(np.median([r["seconds_per_step"] for r in found]))
        share = float(np.mean([r["loader_share"] for r in found]))
        size = getattr(config, phase).batch_size
        precision = getattr(getattr(config, phase), "precision", "float32")
        record = {"config": config.name, "phase": phase, "precision": precision}
        record["steps_per_s"] = round(1 / step, 2)
        print(json.dumps({**record, "loader_share": round(share, 4), "batch": size}))
        rows.append((phase, size, f"{1 / step:.2f}", f"{size / step:.1f}", f"{100 * share:.1f} %"))
    headers = ("phase", "batch", "steps/s", "pictures/s", "waiting for the loader")
    cli.print_table(headers, rows, config.name)


def short(config: Config, options: Options) -> Config:
    """The same steps, few of them, and little measuring beside them."""
    few: dict[str, Any] = {"steps": options.steps}
    computed = few if options.precision is None else {**few, "precision": options.precision}
    return dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, **computed, recollect=1),
        branches=dataclasses.replace(config.branches, **computed, measure=8),
        predictor=dataclasses.replace(config.predictor, **few, inputs=64),
        logging=dataclasses.replace(config.logging, every=max(1, options.steps // LINES)),
    )


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
