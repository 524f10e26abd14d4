"""Records: what every exit of a model makes of every input, measured once.

Policies are replayed from these numbers without rendering anything again (`evaluation.replay`);
`evaluation.keeping` keeps them on disk.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax import cli, losses, metrics, rendering
from fiancee_jax.data import Batch, epoch
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.inference import Renderer, file_latent
from fiancee_jax.models import lpips
from fiancee_jax.models.staged import Inputs

BATCH = 16
DISTANCES = ("lpips_alex", "lpips_vgg", "l1", "psnr", "ssim")


class Judges(NamedTuple):
    """The networks that look at finished pictures; absent ones leave their columns empty.

    A pytree: `features` and `segment` are `jax.tree_util.Partial` of a function and its parameters,
    so that `keeping.fingerprint` knows these.

    Attributes:
        alex: LPIPS-alex. `vgg`: LPIPS-vgg.
        features: pictures [b, h, w, 3] -> [b, d] for the Frechet and the kernel distance; or None.
        segment: pictures -> class ids [b, h, w]; or None.
    """

    alex: lpips.LpipsParams
    vgg: lpips.LpipsParams
    features: Callable[[Any], Any] | None = None
    segment: Callable[[Any], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Records:
    """m records (an input with a z each) at n exits; the backbone is exit n.

    Attributes:
        names: of the inputs, [m]; an input with several z's appears several times in a row.
        distances: by name in `DISTANCES`, each [m, n], of an exit's picture to the backbone's of
            the same input and z. PSNR in dB, L1 in units of [-1, 1].
        predicted: predicted LPIPS-alex, [m, n]; NaN without a predictor.
        shares: mean of the predictor's grid over space, [m, k] (for label maps: class areas).
        edges: share of neighbouring cells of that grid that differ, [m]: crowdedness.
        vector: the family's vector (z), [m, d].
        features: of the pictures, [m, n, f] float32; None without a judge.
        real_features: of the real pictures, [r, f]; None without a judge or pictures.
        confusion: truth (label map) against the segmenter's reading, [m, n, k, k], pixels in the
            smallest unsigned type that holds a picture's (`count_type`); None without.
        real_confusion: the same of the split's real pictures, [k, k]; None.
        again_features: `features` of the backbone's pictures at other z's, [m, f]; None where it
            was not rendered again. again_confusion: `confusion` of these, [m, k, k]; None.
    """

    names: np.ndarray
    distances: dict[str, np.ndarray]
    predicted: np.ndarray
    shares: np.ndarray
    edges: np.ndarray
    vector: np.ndarray
    features: np.ndarray | None = None
    real_features: np.ndarray | None = None
    confusion: np.ndarray | None = None
    real_confusion: np.ndarray | None = None
    again_features: np.ndarray | None = None
    again_confusion: np.ndarray | None = None

    @property
    def lpips(self) -> np.ndarray:
        """LPIPS-alex [m, n]."""
        return self.distances["lpips_alex"]

    @property
    def units(self) -> np.ndarray:
        """Which input each record belongs to, [m]: what a bootstrap draws."""
        return np.unique(self.names, return_inverse=True)[1]


# --- measuring ----------------------------------------------------------------------------------
def measure(
    renderer: Renderer,
    source: Any,
    judges: Judges,
    *,
    seed: int = 0,
    latents: int = 1,
    photos: Sequence[Any] | None = (),
    again: bool = False,
    what: str = "inputs",
) -> Records:
    """Renders every exit once for each input (and z) and compares with the backbone's picture.

    Args:
        renderer: the model.
        source: an opened split.
        judges: networks that look at the pictures.
        seed: z of an input comes from this and its name, as in infer.py.
        latents: z's for each input.
        photos: opened splits whose pictures are the real ones for `real_features`; if there are
            none, those of `source`; None: no real pictures are looked at.
        again: also renders the backbone at the z's of the next seed.
        what: for the progress line.
    """
    rows: list[dict[str, np.ndarray]] = []
    reals: list[dict[str, np.ndarray]] = []
    with cli.Progress(what, len(source) * latents) as progress:
        for names, batch in batches(renderer, source):
            if batch.target is not None and photos is not None:
                reals.append(_real(renderer, judges, batch, len(names)))
            for k in range(latents):
                row = _rows(renderer, judges, names, batch, seed, k)
                if again:
                    row |= _again(renderer, judges, names, batch, seed + 1, k)
                rows.append(row)
                progress.advance(len(names))
    joined = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    order = np.argsort(joined["names"], kind="stable") if latents > 1 else slice(None)
    joined = {key: value[order] for key, value in joined.items()}
    real = {key: np.concatenate([r[key] for r in reals]) for key in (reals[0] if reals else {})}
    if photos and "features" in real:
        real["features"] = np.concatenate([_photo_features(renderer, judges, x) for x in photos])
    return Records(
        distances={name: joined.pop(name) for name in DISTANCES},
        real_features=real.get("features"),
        real_confusion=real["confusion"].sum(0, np.int64) if "confusion" in real else None,
        **joined,  # pyright: ignore[reportArgumentType]
    )


def batches(renderer: Renderer, source: Any) -> Iterator[tuple[list[str], Batch]]:
    """All inputs once, unaugmented; arrays are padded to full batches by repeating the last."""
    family = renderer.model.family
    for names, batch in epoch(source, family.size, BATCH, keys=family.input_names):
        fill = np.minimum(np.arange(BATCH), len(names) - 1)
        yield names, jax.tree.map(lambda x, fill=fill: x[fill], batch)


def latents_of(renderer: Renderer, names: list[str], seed: int, k: int) -> np.ndarray:
    """z [b, d] by (seed, name), the k-th of each name; the first is that of infer.py."""
    length = renderer.model.family.latent_dim
    found = [file_latent(seed, f"{name}#{k}" if k else name, length) for name in names]
    return np.stack(found + found[-1:] * (BATCH - len(found)))


def _rows(
    renderer: Renderer, judges: Judges, names: list[str], batch: Batch, seed: int, k: int
) -> dict[str, np.ndarray]:
    model, variables, count = renderer.model, renderer.variables, len(names)
    inputs = {**batch.inputs, "z": jnp.asarray(latents_of(renderer, names, seed, k))}
    inputs = rendering.encode(model, variables, inputs)
    pictures = _pictures(model, variables, inputs)
    nets = {"lpips_alex": judges.alex, "lpips_vgg": judges.vgg}
    target = {name: _features(net, pictures[-1]) for name, net in nets.items()}
    columns = [_compare(nets, target, x, pictures[-1]) for x in pictures]
    row = {key: _stacked([c[key] for c in columns], count) for key in columns[0]}
    row["ssim"] = _stacked([metrics.ssim(x, pictures[-1]) for x in pictures], count)
    row["psnr"] = _stacked([metrics.psnr(x, pictures[-1]) for x in pictures], count)
    row["predicted"] = _predicted(renderer, inputs)[:count]
    seen = {
        key: np.asarray(value)[:count] for key, value in _seen(model, variables, inputs).items()
    }
    row |= {**seen, "names": np.array(names)}
    if judges.features is not None:
        row["features"] = _stacked([judges.features(x) for x in pictures], count)
    if judges.segment is not None:
        read = _stacked([judges.segment(x) for x in pictures], count)
        row["confusion"] = _confusions(renderer, batch, read)
    return row


def _again(
    renderer: Renderer, judges: Judges, names: list[str], batch: Batch, seed: int, k: int
) -> dict[str, np.ndarray]:
    """What the judges say of the backbone's pictures at the z's of another seed."""
    inputs = {**batch.inputs, "z": jnp.asarray(latents_of(renderer, names, seed, k))}
    pictures = _backbone(renderer.model, renderer.variables, inputs)
    row: dict[str, np.ndarray] = {}
    if judges.features is not None:
        row["again_features"] = np.asarray(judges.features(pictures))[: len(names)]
    if judges.segment is not None:
        read = _stacked([judges.segment(pictures)], len(names))
        row["again_confusion"] = _confusions(renderer, batch, read)[:, 0]
    return row


def _photo_features(renderer: Renderer, judges: Judges, source: Any) -> np.ndarray:
    """Features of all real pictures of a split."""
    assert judges.features is not None
    found = batches(renderer, source)
    return np.concatenate([np.asarray(judges.features(b.target))[: len(n)] for n, b in found])


def _real(renderer: Renderer, judges: Judges, batch: Batch, count: int) -> dict[str, np.ndarray]:
    """What the judges say of the real pictures."""
    row: dict[str, np.ndarray] = {}
    if judges.features is not None:
        row["features"] = np.asarray(judges.features(batch.target))[:count]
    if judges.segment is not None:
        read = _stacked([judges.segment(batch.target)], count)
        row["confusion"] = _confusions(renderer, batch, read)[:, 0]
    return row


def _stacked(columns: list[Any], count: int) -> np.ndarray:
    return np.stack([np.asarray(c)[:count] for c in columns], axis=1)


def _confusions(renderer: Renderer, batch: Batch, read: np.ndarray) -> np.ndarray:
    """Confusion matrices [b, n, k, k] of the batch's label maps and readings [b, n, h, w]."""
    k = len(renderer.config.model.classes)
    labels = np.asarray(batch.inputs["labels"])[: len(read)]
    pairs = zip(labels, read, strict=True)
    found = [[metrics.confusion(truth, x, k) for x in readings] for truth, readings in pairs]
    return np.array(found, count_type(labels[0].size))


def count_type(pixels: int) -> Any:
    """uint16 for pictures of up to 65535 pixels, else uint32: thousands of records have k x k."""
    return np.uint16 if pixels <= np.iinfo(np.uint16).max else np.uint32


def _predicted(renderer: Renderer, inputs: Inputs) -> np.ndarray:
    if not renderer.has_predictor:
        return np.full((BATCH, renderer.model.num_exits), np.nan, np.float32)
    return np.asarray(rendering.predict(renderer.model, renderer.variables, inputs))


@functools.partial(jax.jit, static_argnames=("model",))
def _pictures(model: MultiExit, variables: Variables, inputs: Inputs) -> list[Any]:
    return model.pictures(variables, inputs)


@functools.partial(jax.jit, static_argnames=("model",))
def _backbone(model: MultiExit, variables: Variables, inputs: Inputs) -> Any:
    return model.picture(variables, inputs, model.num_exits)


_features = jax.jit(lpips.features)


@jax.jit
def _compare(nets: Any, target: Any, picture: Any, full: Any) -> dict[str, Any]:
    perceptual = {
        name: lpips.distance_from_features(net, lpips.features(net, picture), target[name])
        for name, net in nets.items()
    }
    return {**perceptual, "l1": losses.l1(picture, full)}


@functools.partial(jax.jit, static_argnames=("model",))
def _seen(model: MultiExit, variables: Variables, inputs: Inputs) -> dict[str, Any]:
    grid, vector = model.view(variables, inputs)
    areas = grid[..., :-1] if "borders" in model.family.view_names else grid
    down = jnp.abs(areas[:, 1:] - areas[:, :-1]).sum(-1) / 2
    across = jnp.abs(areas[:, :, 1:] - areas[:, :, :-1]).sum(-1) / 2
    count = max(1, int(np.prod(down.shape[1:])) + int(np.prod(across.shape[1:])))
    edges = (down.sum((1, 2)) + across.sum((1, 2))) / count
    return {"shares": grid.mean((1, 2)), "edges": edges, "vector": vector}
