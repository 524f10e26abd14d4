"""Trains one variant upon the frozen backbone and reads what its branches' menu says."""

from __future__ import annotations

import pathlib
import time
from typing import Any

from benchmarks.ablation.rows import Row
from benchmarks.ablation.variants import Variant
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import Config
from fiancee_jax.exits import MultiExit
from fiancee_jax.training.derive import derive
from fiancee_jax.training.run import resolve


def rows_of(
    ablation: str, variant: Variant, config: Config, workdir: pathlib.Path, out: pathlib.Path
) -> list[Row]:
    """Trains a variant (resumed if it was interrupted); a row for each of its exits.

    Args:
        ablation: its name.
        variant: changes the config.
        config: `variants.common` of the base.
        workdir: holds the backbone.
        out: the folder of the ablation's workdirs.
    """
    changed = resolve(variant.change(config))
    began = time.monotonic()
    source, phases = workdir, ["guides", "branches"]
    if variant.bank_of:
        source, phases = folder(out, variant.bank_of, config), ["branches"]
    mine = folder(out, variant.name, config)
    derive(source, mine, changed, phases)
    seconds = round(time.monotonic() - began)
    names = {"ablation": ablation, "variant": variant.name, "seed": config.seed}
    return [
        {**names, **row, "steps": changed.branches.steps, "seconds": seconds}
        for row in menu_rows(changed, mine)
    ]


def folder(out: pathlib.Path, variant: str, config: Config) -> pathlib.Path:
    """A variant's workdir: one for each seed and number of steps."""
    return out / f"{variant}-seed{config.seed}-steps{config.branches.steps}"


def menu_rows(config: Config, workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Every exit of a workdir as measured on unseen inputs."""
    store, full = Store(workdir), MultiExit.of(config).gmacs[-1]
    menu = store.extra("branches")["menu"]
    store.close()
    return [
        {
            "exit": f"tap{e['tap']}_w{round(100 * e['width'])}",
            "tap": e["tap"],
            "width": e["width"],
            "gmacs": e["gmacs"],
            "share": round(e["gmacs"] / full, 4),
            "lpips": round(e["mean"], 5),
            "p10": round(e["p10"], 5),
            "p90": round(e["p90"], 5),
            "l1": round(e["l1"], 5),
        }
        for e in menu
    ]
