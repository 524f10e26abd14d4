"""Which form of guide helps a light branch? Same backbone, exits and steps; the form differs.

    python train.py quickstart --workdir runs/quickstart --phases backbone
    python -m benchmarks.guide_forms --workdir runs/quickstart --out runs/guide_forms

Distances are LPIPS-alex and L1 to the backbone's picture on unseen inputs. Prints JSON lines and a
table; forms already trained in OUT are not trained again.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import tyro

from fiancee_jax import cli
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import Config, Exit, read_config
from fiancee_jax.exits import MultiExit
from fiancee_jax.training.run import train

FORMS = ("none", "zeros", "learnt", "palette", "image", "patch")
EXITS = (Exit(1, 0.25), Exit(3, 0.25))


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        workdir: holds the trained backbone.
        out: gets one workdir for each form and seed.
        steps: of branch training.
        seeds: seeds of bank, branches and inputs.
        forms: forms of guide.
    """

    workdir: pathlib.Path
    out: pathlib.Path
    steps: int = 300
    seeds: tuple[int, ...] = (0,)
    forms: tuple[str, ...] = FORMS


def main(options: Options) -> None:
    """Trains and measures every form."""
    base, rows = read_config(options.workdir), []
    for seed in options.seeds:
        for form in options.forms:
            config = variant(base, form, seed, options.steps)
            rows += measured(config, options.workdir, options.out / f"{form}-{seed}")
    for row in rows:
        print(json.dumps(row))
    headers = ("form", "seed", "exit", "share of full", "LPIPS-alex", "p90", "L1")
    cli.print_table(headers, [tuple(row.values()) for row in rows], f"after {options.steps} steps")


def variant(base: Config, form: Any, seed: int, steps: int) -> Config:
    """The config with another form of guide; two exits, both trained in every step."""
    branches = dataclasses.replace(base.branches, steps=steps, exits_per_step=0, measure=512)
    return dataclasses.replace(
        base,
        exits=EXITS,
        seed=seed,
        guides=dataclasses.replace(base.guides, form=form),
        branches=branches,
    )


def measured(config: Config, workdir: pathlib.Path, out: pathlib.Path) -> list[dict[str, Any]]:
    """Trains guides and branches on a copy of the backbone; what the menu says of each exit."""
    copy = out / "checkpoints" / "backbone"
    if not copy.is_dir():
        shutil.copytree(workdir.resolve() / "checkpoints" / "backbone", copy)
    train(config, out, phases=["guides", "branches"])
    store, full = Store(out), MultiExit.of(config).gmacs[-1]
    menu = store.extra("branches")["menu"]
    store.close()
    return [
        {
            "form": config.guides.form,
            "seed": config.seed,
            "exit": Exit(e["tap"], e["width"]).name,
            "share": round(e["gmacs"] / full, 4),
            "lpips": round(e["mean"], 4),
            "p90": round(e["p90"], 4),
            "l1": round(e["l1"], 4),
        }
        for e in menu
    ]


if __name__ == "__main__":
    main(tyro.cli(Options))
