"""Rendered frames on their way to files, those of one batch at a time."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from fiancee_jax import cli
from fiancee_jax.files import write_png
from fiancee_jax.pictures import to_uint8
from fiancee_jax.report import Picture
from fiancee_jax.video.flicker import Meter


class Computed(NamedTuple):
    """A batch that is being computed.

    Attributes:
        pictures: what is to be said about its frames.
        images: [b, h, w, 3] in [-1, 1], padding included.
        full: the backbone's, if the flicker is measured.
    """

    pictures: list[Picture]
    images: jax.Array
    full: jax.Array | None


class Writer:
    """Writes ``NAME.png`` of every frame, and measures them if it is given the backbone's.

    Attributes:
        pictures: the frames so far, in order.
        distances: their LPIPS-alex to the backbone's, as far as measured.
        meter: measures the flicker.
    """

    def __init__(
        self, pool: concurrent.futures.Executor, progress: cli.Progress, out: pathlib.Path
    ) -> None:
        self.pictures: list[Picture] = []
        self.distances: list[float] = []
        self.meter = Meter()
        self._pool, self._progress, self._out = pool, progress, out
        self._writes: list[concurrent.futures.Future[None]] = []

    def add(self, batch: Computed) -> None:
        """Waits for the frames and for the files of the batch before, then writes these."""
        images = np.asarray(batch.images)
        self.wait()
        for picture, image in zip(batch.pictures, images, strict=False):  # without the padding
            path = self._out / f"{picture.name}.png"
            self._writes.append(self._pool.submit(write_png, path, to_uint8(image)))
        if batch.full is not None:
            exits = np.array([picture.exit for picture in batch.pictures])
            self.distances += self.meter.add(images, np.asarray(batch.full), exits).tolist()
        self.pictures += batch.pictures
        self._progress.advance(len(batch.pictures))

    def manifest(self, policy: str) -> str:
        """A line for each frame, with its measured distance where there is one."""
        lines = []
        for index, picture in enumerate(self.pictures):
            record = {"name": picture.name, "frame": index, **picture.record(), "policy": policy}
            if self.distances:
                record["lpips"] = round(self.distances[index], 6)
            lines.append(json.dumps(record) + "\n")
        return "".join(lines)

    def wait(self) -> None:
        """Raises what went wrong with the files of the last batch."""
        for write in self._writes:
            write.result()
        self._writes.clear()
