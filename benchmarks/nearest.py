"""Has a model learnt its photos by heart? Each generated picture beside the nearest training photo.

    python -m benchmarks.nearest --model camvid --data CAMVID --out out/nearest

The backbone renders the label maps of the split that reports figures and, as a control, those of
its training photos, a z each. Near is near in EfficientNet-lite0's features (as FD-EffLite0 uses
them), cosine distance; a photo counts with its mirror image, as training saw both. Real photos of
the reporting split measure how near unseen street scenes lie by themselves: pictures that were
copies would be nearer than these. For training maps it also says how often the nearest photo is the
map's own. OUT/nearest.png shows the nearest pairs of all, photos included: for your eyes, not to be
passed on where the photos must not be.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

from fiancee_jax import cli
from fiancee_jax.data.folders import at_root
from fiancee_jax.evaluation import records
from fiancee_jax.files import writable
from fiancee_jax.inference import Renderer, load
from fiancee_jax.models import efficientnet
from fiancee_jax.pictures import grid, to_uint8

BATCH = 16
SHOWN = 6  # pairs of the picture, for each set


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        model: a workdir of train.py, or the name of a model in the box.
        out: gets nearest.json and nearest.png.
        data: folder of its data set; None: where the model's config says.
    """

    model: str = "camvid"
    out: pathlib.Path = pathlib.Path("out/nearest")
    data: pathlib.Path | None = None


def looked_at(renderer: Renderer, source: Any) -> tuple[np.ndarray, np.ndarray]:
    """A split's photos and the backbone's pictures of its inputs, [n, h, w, 3] in [-1, 1]."""
    photos, pictures = [], []
    with cli.Progress("pictures", len(source)) as progress:
        for names, batch in records.batches(renderer, source):
            z = jnp.asarray(records.latents_of(renderer, names, 0, 0))
            rendered = renderer(batch.inputs, z=z, exit="full").images
            for kept, part in ((photos, batch.target), (pictures, rendered)):
                kept.append(np.asarray(part)[: len(names)])
            progress.advance(len(names))
    return np.concatenate(photos), np.concatenate(pictures)


def directions(params: Any, pictures: np.ndarray) -> np.ndarray:
    """Features of unit length, [n, d]."""
    found = []
    with cli.Progress("pictures looked at", len(pictures)) as progress:
        for first in range(0, len(pictures), BATCH):
            part = pictures[first : first + BATCH]
            padded = np.concatenate([part, np.repeat(part[-1:], BATCH - len(part), axis=0)])
            seen = efficientnet.features(params, jnp.asarray(padded))
            found.append(np.asarray(seen)[: len(part)])
            progress.advance(len(part))
    x = np.concatenate(found)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def distances(a: np.ndarray, b: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Cosine distances of rows of `a` to rows of `b`, each the less of it and its mirror image."""
    return 1 - np.maximum(a @ b.T, a @ mirrored.T)


def quantiles(nearest: np.ndarray) -> dict[str, float]:
    """Of the distance to the nearest photo."""
    p5, median, least = *np.percentile(nearest, [5, 50]), nearest.min()
    return {"median": float(median), "p5": float(p5), "least": float(least)}


def main(options: Options) -> None:
    """Measures, prints, writes."""
    renderer, out = load(options.model), options.out.resolve()
    data, size = at_root(renderer.config.data, options.data), renderer.model.family.size
    train, report = (data.open(split, size) for split in ("train", "report"))
    writable(out)
    params, (known, copies) = efficientnet.load(), looked_at(renderer, train)
    unseen, pictures = looked_at(renderer, report)
    seen = [directions(params, x) for x in (known, known[:, :, ::-1])]
    sets = {
        "pictures of unseen maps": pictures,
        "pictures of training maps": copies,
        "unseen photos": unseen,
    }
    found, rows, captions = {}, [], []
    for name, pictures in sets.items():
        apart = distances(directions(params, pictures), *seen)
        which, nearest = apart.argmin(1), apart.min(1)
        found[name] = quantiles(nearest)
        if "training" in name:
            found[name]["own_photo"] = float((which == np.arange(len(which))).mean())
        order = np.argsort(nearest)[:SHOWN]
        rows += [[to_uint8(pictures[i]) for i in order], [to_uint8(known[which[i]]) for i in order]]
        captions += [[name] * len(order), [f"nearest photo, {nearest[i]:.3f}" for i in order]]
    grid(rows, captions=captions, scale=max(1, round(160 / size[1]))).save(out / "nearest.png")
    (out / "nearest.json").write_text(json.dumps(found, indent=1) + "\n")
    table = [(n, *(f"{v[k]:.3f}" for k in ("median", "p5", "least"))) for n, v in found.items()]
    cli.print_table(("", "median", "p5", "least"), table, "Distance to the nearest training photo")
    own = found["pictures of training maps"]["own_photo"]
    print(f"the nearest photo is the training map's own: {own:.1%}")
    print(f"wrote {out / 'nearest.json'}\nwrote {out / 'nearest.png'}")


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
