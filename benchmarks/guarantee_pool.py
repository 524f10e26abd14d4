"""Fresh landscapes through all exits of a trained model, once: the pool of benchmarks.guarantee.

    python -m benchmarks.guarantee_pool --workdir runs/quickstart --out runs/guarantee_pool

Scenes come from a seed of their own, so nothing in the workdir has seen them. Written in parts of
100 maps; run it again and it goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time

import jax
import numpy as np
import tyro
from jaxtyping import Float

from fiancee_jax import inference
from fiancee_jax.data import Cached
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer
from fiancee_jax.models import lpips
from fiancee_jax.training.calibration import draw_latents, measure, pairs

PART = 100  # maps in one file
LATENTS = 16


@dataclasses.dataclass(frozen=True)
class Options:
    """What is recorded.

    Attributes:
        workdir: a trained model of procedural landscapes.
        out: folder of the pool.
        maps: fresh maps, rounded up to hundreds; each with 16 latents.
        batch: pictures in one call.
        seed: of the scenes; any but the data set's own.
    """

    workdir: pathlib.Path
    out: pathlib.Path
    maps: int = 3000
    batch: int = 32
    seed: int = 20260731


@dataclasses.dataclass(frozen=True)
class Pool:
    """Recorded maps.

    Attributes:
        predicted: LPIPS of each early exit, [maps, 16, e].
        distances: as measured.
        gmacs: of a routed picture by exit, [e + 1], the predictor included.
        full: GMACs of the backbone alone.
    """

    predicted: Float[np.ndarray, "i k e"]
    distances: Float[np.ndarray, "i k e"]
    gmacs: Float[np.ndarray, "n"]
    full: float


def main(options: Options) -> None:
    """Records what is not there yet."""
    renderer = inference.load(options.workdir)
    options.out.mkdir(parents=True, exist_ok=True)
    parts, begun = range(-(-options.maps // PART)), time.monotonic()
    for part in parts:
        path = options.out / f"part_{part:04d}.npz"
        if path.is_file():
            continue
        predicted, distances = record(renderer, options, part)
        unfinished = path.with_suffix(".tmp.npz")
        gmacs = {"gmacs": np.asarray(renderer.table(), np.float64), "full": renderer.gmacs()[-1]}
        np.savez(unfinished, predicted=predicted, distances=distances, **gmacs)
        unfinished.replace(path)
        seconds = round(time.monotonic() - begun)
        print(json.dumps({"part": part, "of": len(parts), "seconds": seconds}), flush=True)


def record(
    renderer: Renderer, options: Options, part: int
) -> tuple[Float[np.ndarray, "i k e"], Float[np.ndarray, "i k e"]]:
    """Predicted and measured distances of one part; a function of the seed and its number."""
    model, net = renderer.model, jax.device_put(lpips.load("alex"))
    data = dataclasses.replace(
        renderer.config.data, calibration=(part + 1) * PART, seed=options.seed
    )
    source = Cached(data.open("calibration", model.family.size))
    rng = np.random.default_rng([options.seed, part])
    latents = draw_latents(rng, PART, LATENTS, model.family)
    indices = np.arange(part * PART, (part + 1) * PART)
    rows = [
        measure(model, renderer.variables, inputs, net)
        for inputs in pairs(source, indices, latents, model.family, options.batch)
    ]
    shape = (PART, LATENTS, len(model.exits))
    columns = zip(*rows, strict=True)
    predicted, distances = (np.concatenate(c)[: PART * LATENTS].reshape(shape) for c in columns)
    return predicted, distances


def read(folder: pathlib.Path) -> Pool:
    """All parts that have been recorded."""
    paths = sorted(folder.glob("part_????.npz"))
    if not paths:
        raise UserError(
            f"{folder} holds no pool; make one with python -m benchmarks.guarantee_pool"
        )
    parts = [np.load(path) for path in paths]
    predicted, distances = (
        np.concatenate([part[name] for part in parts]) for name in ("predicted", "distances")
    )
    return Pool(predicted, distances, parts[0]["gmacs"], float(parts[0]["full"]))


if __name__ == "__main__":
    main(tyro.cli(Options))
