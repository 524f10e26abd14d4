"""Pictures as training goes on: the same held-out inputs, one column for each exit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fiancee_jax.data import Batch, collate
from fiancee_jax.data.transforms import augment
from fiancee_jax.exits import Variables
from fiancee_jax.hosts import gathered, is_first
from fiancee_jax.pictures import grid, to_uint8
from fiancee_jax.rendering import render_exit
from fiancee_jax.training.workspace import Workspace

ROWS = 6
Preview = Callable[[Any, int], None]


def backbone(work: Workspace) -> Preview:
    """Draws input, real picture and the backbone's picture."""
    batch, inputs = _inputs(work)
    number = work.model.num_exits

    def draw(model: Any, step: int) -> None:
        images = render_exit(work.model, {"backbone": model}, inputs, number)
        _save(work, "backbone", step, batch, {"backbone": gathered(images)})

    return draw


def branches(work: Workspace, frozen: Variables) -> Preview:
    """Draws input and the picture of every exit."""
    batch, inputs = _inputs(work)
    batch = batch._replace(target=None)
    names = [*(e.name for e in work.model.exits), "backbone"]

    def draw(model: Any, step: int) -> None:
        variables = {**frozen, "branches": model}
        pictures = {
            name: gathered(render_exit(work.model, variables, inputs, number))
            for number, name in enumerate(names, start=1)
        }
        _save(work, "branches", step, batch, pictures)

    return draw


def _inputs(work: Workspace) -> tuple[Batch, Any]:
    source = work.source("report")
    rows = np.linspace(0, len(source) - 1, ROWS).astype(int)
    size = work.config.model.size
    elements = [augment(source[int(i)], None, size) for i in rows]
    batch = collate(elements, work.model.family.input_names)
    z = jax.random.normal(work.key("preview", 0), (ROWS, work.model.family.latent_dim))
    if work.config.backbone.own_latent > 0 and batch.latent is not None:
        z = batch.latent
    return batch, jax.device_put({**batch.inputs, "z": z}, work.replicated)


def _save(
    work: Workspace, phase: str, step: int, batch: Batch, pictures: dict[str, np.ndarray]
) -> None:
    if not is_first():
        return
    columns: dict[str, np.ndarray] = {}
    shown = work.model.family.picture_of_inputs(batch.inputs)
    if shown is not None:
        columns["input"] = shown
    if batch.target is not None:
        columns["real"] = to_uint8(batch.target)
    columns |= {name: to_uint8(images) for name, images in pictures.items()}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    folder = work.workdir / "samples"
    folder.mkdir(exist_ok=True)
    grid(rows, list(columns)).save(folder / f"{phase}_{step:06d}.png")
