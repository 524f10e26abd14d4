"""Phase 2: the guide bank, from training inputs and the frozen backbone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fiancee_jax import guides, population
from fiancee_jax.data import collate
from fiancee_jax.data.transforms import augment
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.hosts import gathered
from fiancee_jax.models.staged import Inputs
from fiancee_jax.training.workspace import Workspace

MAPS = 4  # inputs that share one z, so that most parts (of OASIS: classes) are seen with it
BATCH = 32


@functools.partial(jax.jit, static_argnames=("model",))
def summarise(model: MultiExit, variables: Variables, inputs: Inputs) -> guides.Bank:
    """What the backbone makes of the inputs, as a bank's records."""
    inputs = model.encode(variables, inputs)
    images, taps = model.full(variables, inputs)
    return guides.summarise(model.guides, model.family, images, inputs, taps)


def run(work: Workspace) -> None:
    """Builds the bank and saves it; a form without a bank saves an empty one."""
    form, model = work.config.guides, work.model
    bank: guides.Bank = {}
    # Palettes are of several inputs at one z, where there are both.
    several = form.form in guides.PAINTED and model.family.input_names and model.family.latent_dim
    maps = MAPS if several else 1
    if form.form in guides.KEPT:
        entries = form.size * (1 if form.population == "random" else population.CANDIDATES)
        bank = guides.build(form, records(work, maps, entries), maps)
    size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(bank))
    report = {"bytes": size, "retrieval_gmacs": model.retrieval_gmacs()}
    work.log.say(
        f"guides: form {form.form}, {form.size if bank else 0} entries, {size / 2**20:.2f} MiB, "
        f"retrieval {report['retrieval_gmacs']:.3g} GMACs"
    )
    work.store.save("guides", 1, model=bank, train={}, extra={"finished": True, **report})
    work.store.wait()


def records(work: Workspace, maps: int, entries: int) -> guides.Bank:
    """Records of random entries: consecutive groups of `maps` inputs share one z."""
    variables, found = work.frozen("backbone"), []
    work.log.begin("guides", 0, -(-entries * maps // BATCH))
    for inputs, count in drawn(work, maps, entries):
        found.append(_first(gathered(summarise(work.model, variables, inputs)), count))
        work.log.advance(len(found))
    work.log.end()
    return {k: np.concatenate([r[k] for r in found]) for k in found[0]}


def drawn(work: Workspace, maps: int, entries: int) -> Iterator[tuple[Inputs, int]]:
    """The inputs of random entries in batches, and how many of a batch (its first) count."""
    source, rng = work.source("train"), work.rng("guides")
    chosen = guides.random_entries(rng, len(source), entries, maps).reshape(-1)
    latents = np.repeat(rng.standard_normal((entries, work.model.family.latent_dim)), maps, 0)
    for start in range(0, len(chosen), BATCH):
        part = slice(start, start + BATCH)
        z = np.resize(latents[part], (BATCH, latents.shape[1])).astype(np.float32)
        yield {**_inputs(work, source, chosen[part]), "z": z}, len(chosen[part])


def _inputs(work: Workspace, source: Any, indices: np.ndarray) -> Inputs:
    full = np.resize(indices, BATCH)  # the last batch repeats its samples: one shape, one compile
    elements = [augment(source[int(i)], None, work.config.model.size) for i in full]
    return collate(elements, work.config.model.input_names).inputs


def _first(rows: guides.Bank, count: int) -> guides.Bank:
    """Records of the first `count` pictures (forms with several records per picture included)."""
    return {k: v[: len(v) // BATCH * count] for k, v in rows.items()}
