"""The demos: street layouts by the model in the box, or a model trained here on landscapes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fiancee_jax import inference
from fiancee_jax.compare import compare
from fiancee_jax.data import Landscapes, streets
from fiancee_jax.errors import UserError
from fiancee_jax.training.run import train

Maps = Iterable[UInt8[np.ndarray, "h w"]]

BOX, STREETS = "camvid", 24
MAX_LPIPS = (0.02, 0.025, 0.03)
LANDSCAPES, LANDSCAPES_MAX_LPIPS = 48, (0.04, 0.055, 0.075)
SEED = 2023  # no training draws from it


def demo(out: pathlib.Path) -> None:
    """Renders drawn street layouts with the model in the box; all there is to look at is in `out`.

    Raises:
        UserError: the box is absent or damaged, or `out` cannot be written.
    """
    renderer = inference.load(BOX)
    size = renderer.model.family.size
    rng = np.random.default_rng(SEED)
    save_maps(out / "label_maps", (streets.draw_street(rng, size) for _ in range(STREETS)))
    compare(renderer, BOX, out / "label_maps", out, MAX_LPIPS)


def train_demo(workdir: pathlib.Path, out: pathlib.Path) -> None:
    """Trains `quickstart` into `workdir` unless it is, and renders unseen landscapes into `out`.

    Raises:
        UserError: `out` or `workdir` cannot be written.
    """
    source = Landscapes(report=LANDSCAPES, seed=SEED).open("report", (64, 64))
    maps = (source[i]["labels"] for i in range(LANDSCAPES))
    save_maps(out / "label_maps", maps)  # first: a folder that cannot be written is said at once
    train("quickstart", workdir)
    renderer = inference.load(workdir)
    compare(renderer, str(workdir), out / "label_maps", out, LANDSCAPES_MAX_LPIPS)


def save_maps(folder: pathlib.Path, maps: Maps) -> None:
    """Label maps as 8-bit PNG, scene_000.png and so on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, labels in enumerate(maps):
            Image.fromarray(labels).save(folder / f"scene_{i:03d}.png")
    except OSError as error:
        raise UserError(
            f"cannot write into the output folder {folder}: {error.strerror or error}. Give --out "
            "a folder that can be made or written."
        ) from None
