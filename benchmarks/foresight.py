"""How well could any predictor tell an input's distances? Even from what it never sees?

    python -m benchmarks.foresight --model runs/boxed --data CAMVID --out out/foresight

Ridge regression of log LPIPS-alex of every exit on statistics of finished pictures: means and
deviations, in logarithms, of what LPIPS-alex's first two layers see (128 of its first, 384 of its
second) in the backbone's picture, which is the truth that an exit is compared with, and in that of
exit 1, the cheapest. Fitted to the maps of the splits `train` and `predictor`, with several z's
each, unaugmented; the penalty is chosen on the last fifth of these maps. Judged on the split that
reports figures, beside the model's own predictor and a regression on class areas and z: rank
correlation with the measured distances. A router cannot keep what nothing foresees.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from fiancee_jax import cli
from fiancee_jax.data.folders import at_root
from fiancee_jax.evaluation import records, ridge
from fiancee_jax.evaluation.rows import spearman
from fiancee_jax.files import writable
from fiancee_jax.inference import Renderer, load
from fiancee_jax.models import lpips
from fiancee_jax.routing.policies import running_max

LAYERS = 2
PENALTIES = np.geomspace(1e-1, 1e6, 15)
LEAST = 1e-3  # added to statistics before their logarithm


@dataclasses.dataclass(frozen=True)
class Options:
    """What is foreseen.

    Attributes:
        model: a workdir of train.py, or the name of a model in the box.
        out: gets foresight.json.
        data: folder of its data set; None: where the model's config says.
        fitted: z's of each map that regressions are fitted to.
        judged: z's of each map that they are judged on.
    """

    model: str = "camvid"
    out: pathlib.Path = pathlib.Path("out/foresight")
    data: pathlib.Path | None = None
    fitted: int = 6
    judged: int = 4


class Seen(NamedTuple):
    """Of every input and z, in order: columns to regress on by name, distances and predictions."""

    columns: dict[str, np.ndarray]  # [m, k] each
    distance: np.ndarray  # [m, early exits], falling with cost
    predicted: np.ndarray  # likewise


def statistics(features: lpips.Features) -> jax.Array:
    """log means and log deviations of the channels of the first layers, [b, k]."""
    parts = [f(x, axis=(1, 2)) for x in features[:LAYERS] for f in (jnp.mean, jnp.std)]
    return jnp.log(jnp.concatenate(parts, axis=-1) + LEAST)


@jax.jit
def look(net: lpips.LpipsParams, pictures: list[jax.Array]) -> tuple[jax.Array, ...]:
    """Distances [b, early exits], and statistics of the first exit's and the last one's picture."""
    *early, full = [lpips.features(net, x) for x in pictures]
    apart = jnp.stack([lpips.distance_from_features(net, x, full) for x in early], axis=1)
    return running_max(apart), statistics(early[0]), statistics(full)


def seen(renderer: Renderer, sources: list[Any], latents: int) -> Seen:
    """Renders every input of some splits `latents` times at all exits."""
    net, rows = lpips.load("alex"), []
    with cli.Progress("pictures", latents * sum(map(len, sources))) as progress:
        for source in sources:
            for names, batch in records.batches(renderer, source):
                for k in range(latents):
                    z = jnp.asarray(records.latents_of(renderer, names, 0, k))
                    row = _row(renderer, net, batch.inputs, z)
                    rows.append([np.asarray(x)[: len(names)] for x in row])
                    progress.advance(len(names))
    distance, first, full, predicted, shares, vector = map(np.concatenate, zip(*rows, strict=True))
    columns = {
        "class areas and z": ridge.columns(shares, vector),
        "exit 1's picture": first,
        "the backbone's picture": full,
    }
    return Seen(columns, distance, predicted)


def _row(renderer: Renderer, net: lpips.LpipsParams, given: Any, z: jax.Array) -> list[jax.Array]:
    exits = range(1, renderer.model.num_exits + 1)
    pictures = [renderer(given, z=z, exit=i).images for i in exits]
    inputs = renderer.encode({**given, "z": z})
    grid, vector = renderer.model.view(renderer.variables, inputs)
    return [*look(net, pictures), renderer.predict(given, z), grid.mean((1, 2)), vector]


def foreseen(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """y [m, n] regressed on x [m, k], at other rows; the penalty is chosen on the last fifth.

    Columns have deviation 1, and no value further from the mean counts than the furthest fitted.
    """
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
    x, at = (x - mean) / scale, (at - mean) / scale
    at = np.clip(at, x.min(0), x.max(0))
    weights, bias = ridge.solve(x, y, len(x) * 4 // 5, PENALTIES)
    return at @ weights + bias


def main(options: Options) -> None:
    """Measures, prints, writes."""
    renderer, out = load(options.model), options.out.resolve()
    data, size = at_root(renderer.config.data, options.data), renderer.model.family.size
    splits = [data.open(split, size) for split in ("train", "predictor", "report")]
    writable(out)
    known = seen(renderer, splits[:2], options.fitted)
    new = seen(renderer, splits[2:], options.judged)
    guesses = {"the predictor": new.predicted[:, : new.distance.shape[1]]}
    for name, x in known.columns.items():
        guesses[name] = foreseen(x, np.log(known.distance), new.columns[name])
    found = {
        name: [spearman(guess[:, i], new.distance[:, i]) for i in range(guess.shape[1])]
        for name, guess in guesses.items()
    }
    (out / "foresight.json").write_text(json.dumps(found, indent=1) + "\n")
    exits = [f"exit {i}" for i in range(1, new.distance.shape[1] + 1)]
    table = [(n, *("-" if x is None else f"{x:.2f}" for x in v)) for n, v in found.items()]
    cli.print_table(("", *exits), table, "Rank correlation with measured distances, unseen maps")
    print(f"wrote {out / 'foresight.json'}")


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
