"""A bank of the entries on which a first branch errs most; the branches are then trained anew."""

from __future__ import annotations

import pathlib
import time

import numpy as np

from benchmarks.ablation.rows import Row
from benchmarks.ablation.training import folder, menu_rows
from fiancee_jax import guides, population
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import Config
from fiancee_jax.hosts import gathered
from fiancee_jax.training import guide_bank, measure
from fiancee_jax.training.derive import derive
from fiancee_jax.training.log import Log
from fiancee_jax.training.run import resolve
from fiancee_jax.training.workspace import Workspace


def rows_of(config: Config, workdir: pathlib.Path, out: pathlib.Path) -> list[Row]:
    """As `training.rows_of`, for the population ``error``.

    Args:
        config: with the first branch's bank: a random one of the same size.
        workdir: holds the backbone.
        out: holds the first branch, the variant ``random``; gets ``error``.
    """
    began, config = time.monotonic(), resolve(config)
    first, mine = (folder(out, name, config) for name in ("random", "error"))
    derive(workdir, first, config, ("guides", "branches"))
    if not (mine / "checkpoints" / "guides").is_dir():
        _save(mine, _bank(config, first))
    derive(workdir, mine, config, ("guides", "branches"))
    rest = {"steps": config.branches.steps, "seconds": round(time.monotonic() - began)}
    names = {"ablation": "population", "variant": "error", "seed": config.seed}
    return [{**names, **row, **rest} for row in menu_rows(config, mine)]


def _bank(config: Config, first: pathlib.Path) -> guides.Bank:
    """The bank of the candidates with the largest mean distance at the first branch."""
    store = Store(first)
    work = Workspace(config, first, store, Log(None))
    entries = config.guides.size * population.CANDIDATES
    errors = _errors(work, entries).reshape(entries, guide_bank.MAPS).mean(1)
    worst = np.argsort(-errors)[: config.guides.size]
    records = guide_bank.records(work, guide_bank.MAPS, entries)
    store.close()
    rows = (worst[:, None] * guide_bank.MAPS + np.arange(guide_bank.MAPS)).reshape(-1)
    kept = {name: values[rows] for name, values in records.items()}
    return guides.build(config.guides, kept, guide_bank.MAPS)


def _errors(work: Workspace, entries: int) -> np.ndarray:
    """LPIPS-alex of the only exit on every candidate picture."""
    net, variables = work.perceptual("alex"), work.frozen("backbone", "guides", "branches")
    found = []
    for inputs, count in guide_bank.drawn(work, guide_bank.MAPS, entries):
        lpips, _ = gathered(measure.distances(work.model, variables, inputs, net))
        found.append(lpips[:count, 0])
    return np.concatenate(found)


def _save(workdir: pathlib.Path, bank: guides.Bank) -> None:
    store = Store(workdir)
    store.save("guides", 1, model=bank, train={}, extra={"finished": True})
    store.wait()
    store.close()
