"""Batches of a driver's frames through a renderer: read ahead, routed, rendered."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax.data.frames import Clip
from fiancee_jax.inference import Renderer, file_latent
from fiancee_jax.models.staged import Inputs
from fiancee_jax.report import ExitLine, Picture
from fiancee_jax.routing import video
from fiancee_jax.routing.video import Policy


class Batch(NamedTuple):
    """Frames `start` to ``start + count``; `inputs` are padded by repeating the last."""

    start: int
    count: int
    inputs: Inputs


class Job:
    """One run of a renderer over a clip: frames are read, routed and rendered in their order.

    Attributes:
        once: GMACs of what is computed of the source once for the clip.
        table: GMACs of a frame by exit, [n], without these; a fixed exit is not charged for the
            predictor.
        full: GMACs of the backbone alone for a frame.
    """

    def __init__(
        self, renderer: Renderer, clip: Clip, policy: Policy, *, seed: int, batch_size: int
    ) -> None:
        self.renderer, self.clip, self.policy = renderer, clip, policy
        self.seed, self.batch_size = seed, batch_size
        self.once, _ = renderer.model.encoding_gmacs()
        gmacs = np.asarray(renderer.model.gmacs) - self.once
        self.full = float(gmacs[-1])
        self.table = gmacs if policy.exit else gmacs + renderer.model.predictor_gmacs()
        self._state = policy.start(renderer.model.num_exits)
        self._planned: tuple[np.ndarray, np.ndarray] | None = None

    # --- inputs ---------------------------------------------------------------------------
    def batches(self, pool: concurrent.futures.Executor) -> Iterator[Batch]:
        """All batches, the frames of the next being decoded while the caller uses this one."""
        total = len(self.clip.frames)
        starts = range(0, total, self.batch_size)
        chunks = [range(i, min(i + self.batch_size, total)) for i in starts]
        ahead = [pool.submit(self.clip.read, i) for i in chunks[0]]
        for chunk, following in itertools.zip_longest(chunks, chunks[1:], fillvalue=range(0)):
            frames = [future.result() for future in ahead]
            ahead = [pool.submit(self.clip.read, i) for i in following]
            yield Batch(chunk.start, len(chunk), self._encoded(frames))

    @functools.cached_property
    def _kept(self) -> Inputs:
        """The source and what the model computes of it, repeated for a batch; and z."""
        given = {"source": _floats([self.clip.source])}
        if self.clip.own is not None:
            given["own"] = _floats([self.clip.own])
        kept = self.renderer.encode(given)
        length = self.renderer.model.family.latent_dim
        z = file_latent(self.seed, self.clip.path.stem, length) if length else np.zeros(0)
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x, (self.batch_size, *x.shape[1:])),
            {**kept, "z": jnp.asarray(z[None], jnp.float32)},
        )

    def _encoded(self, frames: list[np.ndarray]) -> Inputs:
        """The batch, with what all exits share of it."""
        padded = frames + frames[-1:] * (self.batch_size - len(frames))
        return self.renderer.encode({**self._kept, "driver": _floats(padded)})

    # --- routes ---------------------------------------------------------------------------
    def plan(self, pool: concurrent.futures.Executor, budget_gmacs: float) -> None:
        """A first pass over the clip: the best exits that cost this per frame on average."""
        predicted = np.concatenate([self._predict(batch) for batch in self.batches(pool)])
        options = self.policy.options
        limit = video.lowest_threshold(predicted, self.table, budget_gmacs, options)
        policy = Policy(max_lpips=limit, options=options)
        exits, _ = policy.route(self._state, predicted, self.table)
        self._planned = exits, predicted

    def route(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Exits [count] and predicted distances [count, n]; batches must come in order."""
        if self._planned is not None:
            exits, predicted = (x[batch.start : batch.start + batch.count] for x in self._planned)
            return exits, predicted
        predicted = self._predict(batch)
        exits, self._state = self.policy.route(self._state, predicted, self.table)
        return exits, predicted

    def _predict(self, batch: Batch) -> np.ndarray:
        """Predicted distances [count, n]; NaN without a predictor."""
        if not self.renderer.has_predictor:
            return np.full((batch.count, self.renderer.model.num_exits), np.nan, np.float32)
        return np.asarray(self.renderer.predict_checked(batch.inputs))[: batch.count]

    # --- pictures -------------------------------------------------------------------------
    def images(self, batch: Batch, exits: np.ndarray) -> jax.Array:
        """Frames [b, h, w, 3] in [-1, 1], padding included; nothing waits for them here."""
        if self.policy.exit:
            return self.renderer.render_exit(batch.inputs, self.policy.exit)
        # Padding takes the exit after the last, which dispatch leaves idle: it costs nothing.
        last = self.renderer.model.num_exits
        idle = np.full(self.batch_size - batch.count, last + 1, np.int32)
        rows = jnp.asarray(np.concatenate([exits, idle]))
        return self.renderer.render_routed(batch.inputs, rows, exact=True)[0]

    def backbone(self, batch: Batch) -> jax.Array:
        """The backbone's frames of the batch."""
        return self.renderer.render_exit(batch.inputs, self.renderer.model.num_exits)

    def pictures(self, batch: Batch, exits: np.ndarray, predicted: np.ndarray) -> list[Picture]:
        """What is to be said about each frame of a batch."""
        frames = self.clip.frames[batch.start : batch.start + batch.count]
        return [
            Picture(f.name, int(e), tuple(map(float, p)), float(self.table[e - 1]), self.full)
            for f, e, p in zip(frames, exits, predicted, strict=True)
        ]

    def exit_lines(self, pictures: Sequence[Picture]) -> list[ExitLine]:
        """The model's exits with their costs for a frame and counts."""
        lines = []
        for i, exit in enumerate((*self.renderer.model.exits, None)):
            name, tap, width = ("backbone", None, 1.0)
            if exit is not None:
                name, tap, width = exit.name, exit.tap, exit.width
            gmacs, count = float(self.table[i]), sum(p.exit == i + 1 for p in pictures)
            lines.append(ExitLine(i + 1, name, tap, width, gmacs, gmacs / self.full, count))
        return lines


def _floats(pictures: list[np.ndarray]) -> jax.Array:
    """Pictures [..., h, w, 3] uint8 as [b, ..., h, w, 3] in [-1, 1]."""
    return jnp.asarray(np.stack(pictures).astype(np.float32) / np.float32(127.5) - np.float32(1))
