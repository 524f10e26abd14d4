"""The demo: train `quickstart`, draw label maps it has never seen, render them at three depths."""

from __future__ import annotations

import pathlib

from PIL import Image

from fiancee_jax import inference
from fiancee_jax.compare import compare
from fiancee_jax.data import Landscapes
from fiancee_jax.errors import UserError
from fiancee_jax.training.run import train

MAX_LPIPS = (0.04, 0.055, 0.075)
MAPS = 48


def demo(workdir: pathlib.Path, out: pathlib.Path) -> None:
    """Trains into `workdir` what is not trained yet; all there is to look at goes to `out`."""
    labels = out / "label_maps"
    draw_label_maps(labels, MAPS)  # first, so that a folder that cannot be written is said at once
    train("quickstart", workdir)
    compare(inference.load(workdir), str(workdir), labels, out, MAX_LPIPS)


def draw_label_maps(folder: pathlib.Path, count: int) -> None:
    """Unseen procedural label maps of 64x64, from another seed than any training."""
    source = Landscapes(report=count, seed=2023).open("report", (64, 64))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(source[i]["labels"]).save(folder / f"scene_{i:03d}.png")
    except OSError as error:
        raise UserError(
            f"cannot write into the output folder {folder}: {error.strerror or error}. Give --out "
            "a folder that can be made or written."
        ) from None
