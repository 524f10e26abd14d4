"""Batches of label maps through a renderer: read ahead, routed, rendered, written."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax import rendering
from fiancee_jax.choice import Choice, under_budget
from fiancee_jax.data.labels import LabelFile, bad_ids, fit_labels
from fiancee_jax.errors import UserError
from fiancee_jax.files import write_png
from fiancee_jax.inference import Renderer, file_latent
from fiancee_jax.models.staged import Inputs
from fiancee_jax.pictures import to_uint8
from fiancee_jax.report import ExitLine, Picture

THUMBNAIL = 512  # longest side of the label maps in the page, pixels

Size = tuple[int, int]


class Batch(NamedTuple):
    """Files of one size; the arrays are padded to the full batch by repeating the last file.

    `labels` is on the host, `inputs` is what the networks take.
    """

    files: list[LabelFile]
    size: Size
    labels: np.ndarray
    inputs: Inputs


class Job:
    """One run of a renderer over files grouped by size: reads, routes and renders batches.

    Attributes:
        sizes: the files of each size (height, width) that pictures are rendered at.
        tables: GMACs of a picture by exit, [n], for each size.
        full: GMACs of the backbone alone for each size.
        failed: files that could not be read when it was their turn: name -> reason.
    """

    def __init__(
        self,
        renderer: Renderer,
        choice: Choice,
        sizes: dict[Size, list[LabelFile]],
        *,
        seed: int,
        batch_size: int,
    ) -> None:
        self.renderer, self.choice, self.sizes = renderer, choice, sizes
        self.seed, self.batch_size = seed, batch_size
        self.total = sum(map(len, sizes.values()))
        self.tables = {size: self._table(size) for size in sizes}
        self.full = {size: renderer.gmacs(size)[-1] for size in sizes}
        self.failed: dict[str, str] = {}

    @property
    def number(self) -> int | None:
        """The exit number that all take, if one was asked for."""
        return None if self.choice.exit is None else self.choice.number(self.renderer.model)

    def _table(self, size: Size) -> np.ndarray:
        """GMACs of a picture by exit, [n]; a fixed exit is not charged for the predictor."""
        model = rendering.sized(self.renderer.model, size)
        gmacs = np.asarray(model.gmacs)
        return gmacs + model.predictor_gmacs() if self.number is None else gmacs

    # --- budget ---------------------------------------------------------------------------
    def budget(self, size: Size) -> float:
        """The budget of a picture of this size: the same share of full for all sizes."""
        mean = sum(self.full[s] * len(files) for s, files in self.sizes.items()) / self.total
        return (self.choice.budget_gmacs or 0.0) * self.full[size] / mean

    def _own(self, size: Size) -> Choice:
        """The choice with this size's share of the budget."""
        if self.choice.budget_gmacs is None:
            return self.choice
        return dataclasses.replace(self.choice, budget_gmacs=self.budget(size))

    def check_budget(self) -> None:
        """Raises UserError if even the cheapest exit costs more than the budget."""
        if self.choice.budget_gmacs is None:
            return
        for size, table in self.tables.items():
            if self.budget(size) < table[0]:
                raise UserError(
                    f"budget-gmacs is {self.choice.budget_gmacs:g}, but for these maps the "
                    f"cheapest exit costs {self.mean(0):.4g} GMACs (the backbone "
                    f"{self.mean(-1):.4g}). Give more."
                )

    def mean(self, index: int) -> float:
        """Mean GMACs over all files if all took the exit of this index."""
        return sum(self.tables[s][index] * len(f) for s, f in self.sizes.items()) / self.total

    def exits_under_budget(
        self, size: Size, pool: concurrent.futures.Executor
    ) -> dict[str, int] | None:
        """A first pass over all files of a size: exits by name. None where files go alone."""
        if self.choice.budget_gmacs is None or self.choice.budget_over == "population":
            return None
        names, predicted = [], []
        for batch in self.batches(self.sizes[size], size, pool):
            names += [file.name for file in batch.files]
            predicted.append(self.predict(batch)[: len(batch.files)])
        distances, table = jnp.concatenate(predicted), jnp.asarray(self.tables[size], jnp.float32)
        exits = under_budget(distances, table, jnp.float32(self.budget(size)))
        return dict(zip(names, np.asarray(exits).tolist(), strict=True))

    # --- batches --------------------------------------------------------------------------
    def batches(
        self, files: Sequence[LabelFile], size: Size, pool: concurrent.futures.Executor
    ) -> Iterator[Batch]:
        """Batches of files of a size, the next one being read while the caller uses this one."""
        step = self.batch_size
        chunks = [files[i : i + step] for i in range(0, len(files), step)]
        ahead = pool.submit(self._read, chunks[0], size)
        for following in [*chunks[1:], None]:
            batch = ahead.result()
            if following is not None:
                ahead = pool.submit(self._read, following, size)
            yield batch

    def _read(self, files: Sequence[LabelFile], size: Size) -> Batch:
        """Those of the files that can be read, padded to a full batch."""
        family, seed = self.renderer.model.family, self.seed
        read = [(file, self._labels(file, size)) for file in files]
        good = [(file, labels) for file, labels in read if labels is not None]
        labels = [labels for _, labels in good] or [np.zeros(size, np.uint8)]
        names = [file.name for file, _ in good] or [""]
        latents = [file_latent(seed, name, family.latent_dim) for name in names]
        missing = self.batch_size - len(labels)
        stacked = np.stack(labels + labels[-1:] * missing)
        z = jnp.asarray(np.stack(latents + latents[-1:] * missing))
        inputs = family.check_inputs({"labels": stacked, "z": z})
        return Batch([file for file, _ in good], size, stacked, inputs)

    def _labels(self, file: LabelFile, size: Size) -> np.ndarray | None:
        """A map brought to size; None, and noted, if it has changed since it was checked."""
        if file.name in self.failed:
            return None
        try:
            labels = file.read()
        except UserError as error:
            self.failed[file.name] = str(error)
            return None
        wrong = bad_ids(labels, len(getattr(self.renderer.model.family, "classes", ())))
        if wrong or labels.shape != file.size:
            reason = wrong or f"is {labels.shape} now; it was {file.size} when it was checked"
            self.failed[file.name] = f"{file.path}: {reason}"
            return None
        return fit_labels(labels, size)

    def predict(self, batch: Batch) -> jax.Array:
        """Predicted distances of the whole batch, [b, n]; NaN without a predictor."""
        if not self.renderer.has_predictor:
            return jnp.full((len(batch.labels), self.renderer.model.num_exits), jnp.nan)
        return self.renderer.predict_checked(batch.inputs)

    def route(self, batch: Batch, chosen: dict[str, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """Exits [files] and predicted distances [files, n]."""
        count, predicted = len(batch.files), self.predict(batch)
        if chosen is not None:
            exits = np.array([chosen[file.name] for file in batch.files], np.int32)
        else:
            model = rendering.sized(self.renderer.model, batch.size)
            exits = np.asarray(self.renderer.choose(predicted, self._own(batch.size), model))
            exits = exits[:count]
        return exits, np.asarray(predicted)[:count]

    def images(self, batch: Batch, exits: np.ndarray) -> jax.Array:
        """Pictures [b, h, w, 3] in [-1, 1], padding included; nothing waits for them here."""
        if self.number is not None:
            return self.renderer.render_exit(batch.inputs, self.number)
        # Padding takes the exit after the last, which dispatch leaves idle: it costs nothing.
        last = self.renderer.model.num_exits
        idle = np.full(len(batch.labels) - len(exits), last + 1, np.int32)
        rows = jnp.asarray(np.concatenate([exits, idle]))
        return self.renderer.render_routed(batch.inputs, rows, exact=True)[0]

    # --- results --------------------------------------------------------------------------
    def pictures(self, batch: Batch, exits: np.ndarray, predicted: np.ndarray) -> list[Picture]:
        """What is to be said about each picture of a batch."""
        table, full = self.tables[batch.size], self.full[batch.size]
        return [
            Picture(file.name, int(e), tuple(map(float, p)), float(table[e - 1]), full)
            for file, e, p in zip(batch.files, exits, predicted, strict=True)
        ]

    def exit_lines(self, pictures: Sequence[Picture]) -> list[ExitLine]:
        """The model's exits with their mean costs and counts."""
        full = sum(picture.full_gmacs for picture in pictures) / len(pictures)
        lines = []
        for i, exit in enumerate((*self.renderer.model.exits, None)):
            name, tap, width = ("backbone", None, 1.0)
            if exit is not None:
                name, tap, width = exit.name, exit.tap, exit.width
            count, mean = sum(p.exit == i + 1 for p in pictures), self.mean(i)
            lines.append(ExitLine(i + 1, name, tap, width, mean, mean / full, count))
        return lines


# --- writing --------------------------------------------------------------------------------------
def write_picture(
    job: Job, out: pathlib.Path, batch: Batch, row: int, image: np.ndarray, shown: bool
) -> None:
    """Writes ``NAME.png``, and for the page the label map in its colours."""
    name = f"{batch.files[row].name}.png"
    write_png(out / name, to_uint8(image))
    if shown:
        step = math.ceil(max(batch.size) / THUMBNAIL)
        labels = {"labels": batch.labels[row : row + 1, ::step, ::step]}
        pixels = job.renderer.model.family.picture_of_inputs(labels)
        if pixels is not None:
            write_png(out / "_labels" / name, pixels[0])
