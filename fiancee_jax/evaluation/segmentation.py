"""Trains the segmenter that judges pictures by their label maps, on real pictures alone.

A made picture that shows its label map is one in which a network that has seen only real pictures
finds that map again: mIoU of made pictures, beside that of real ones, which is its ceiling.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from fiancee_jax import cli, metrics
from fiancee_jax.classes import VOID
from fiancee_jax.config import Config, to_dict
from fiancee_jax.data import Augment, Batch, Cached, Source, batches, epoch
from fiancee_jax.errors import UserError
from fiancee_jax.losses import pixel_cross_entropy
from fiancee_jax.models import segmenter
from fiancee_jax.weights import read_npz

State = tuple[segmenter.Params, optax.OptState]

COUNTED = 256  # training maps from which the classes' shares are taken
DECAY = 1e-3  # AdamW's weight decay
BRIGHTNESS, CONTRAST, SATURATION = 0.2, (0.7, 1.4), (0.6, 1.5)  # of the jitter, pictures in [0, 1]


@dataclasses.dataclass(frozen=True)
class Training:
    """How the segmenter is trained: AdamW along a cosine after a short rise.

    A step at 64x96 takes 0.1 s of CPU time, so all of them two to four minutes on two cores. mIoU
    on real pictures: 0.37 on CamVid's val (0.54 on the 221 photos it learns from), 0.63 on the
    landscapes at 64x64 (1500 steps).
    """

    steps: int = 2000
    batch_size: int = 8
    lr: float = 3e-3
    seed: int = 0


def load_or_train(
    config: Config, path: pathlib.Path, training: Training = Training()
) -> segmenter.Params:
    """The segmenter of a config's data set, from `path` if it was trained for the same there.

    Args:
        config: a resolved config of a family whose input is label maps.
        path: an .npz; written anew where it is absent or was trained for something else.
        training: steps, batch, learning rate, seed.

    Returns:
        Parameters for `fiancee_jax.models.segmenter.predict`.

    Raises:
        UserError: the family has no label maps, the data set has no pictures, or no class but void.
    """
    _check(config)
    wanted = fingerprint(config, training)
    if path.is_file():
        found = read_npz(path)
        if str(found.pop("fingerprint", "")) == wanted:
            return _unflat(found)
    source = Cached(config.data.open("train", config.model.size))
    if "image" not in source[0]:
        raise UserError(
            "The data set has label maps without pictures; a segmenter learns from real pictures. "
            "Give a data set with pictures, or leave the mIoU out."
        )
    params = train(config, source, training)
    arrays = {name: np.asarray(value) for name, value in _flat(params).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.tmp.npz")
    np.savez(unfinished, allow_pickle=False, fingerprint=np.array(wanted), **arrays)
    unfinished.replace(path)  # half a file would be refused ever after
    return params


def fingerprint(config: Config, training: Training) -> str:
    """What a segmenter depends on, as JSON: data set, size, classes, augmentation, training."""
    plain = to_dict(config)
    plain = {name: plain[name] for name in ("data", "augment")}
    plain |= {"size": list(config.model.size), "classes": list(config.data.classes())}
    return json.dumps({**plain, "training": dataclasses.asdict(training)}, sort_keys=True)


def train(config: Config, source: Source, training: Training) -> segmenter.Params:
    """Trains a segmenter on `source`, elements with pictures and label maps."""
    names, size = config.data.classes(), config.model.size
    weights = jnp.asarray(class_weights(source, len(names), void_of(names)))
    params = segmenter.initial(len(names), np.random.default_rng(training.seed))
    state = (params, optimizer(training).init(params))
    stream = batches(
        source,
        size=size,
        batch_size=training.batch_size,
        seed=training.seed,
        keys=("labels",),
        augment=Augment(flip=True, min_scale=getattr(config.augment, "min_scale", 1.0)),
    )
    with cli.Progress("steps of the segmenter", training.steps, every=30.0) as progress:
        for step in range(training.steps):
            key = jax.random.fold_in(jax.random.key(training.seed), step)
            state = train_step(training, state, next(stream), weights, key)
            progress.advance(1)
    return jax.block_until_ready(state[0])


def real_confusion(
    config: Config, params: segmenter.Params, split: str = "report", batch_size: int = 32
) -> Int[np.ndarray, "k k"]:
    """Confusion of the segmenter on the real pictures of a split, see `metrics.confusion`."""
    source = config.data.open(split, config.model.size)
    found = epoch(source, config.model.size, batch_size, keys=("labels",))
    count = len(config.data.classes())
    total = np.zeros((count, count), np.int64)
    for _, batch in found:
        predicted = np.asarray(segmenter.predict(params, jnp.asarray(batch.target)))
        total += metrics.confusion(batch.inputs["labels"], predicted, count)
    return total


def void_of(names: tuple[str, ...]) -> int | None:
    """The id of the class without loss; None where there is none."""
    return names.index(VOID) if VOID in names else None


def class_weights(source: Source, count: int, void: int | None) -> Float[np.ndarray, "k"]:
    """Inverse roots of the classes' shares of the pixels, their mean over pixels 1; void's is 0.

    Full inverse frequency would let a pole outweigh the road by a hundredfold.
    """
    rows = np.unique(np.linspace(0, len(source) - 1, COUNTED).round().astype(int))
    counts = [np.bincount(source[int(i)]["labels"].ravel(), minlength=count) for i in rows]
    pixels = np.sum(counts, axis=0).astype(np.float64)
    if void is not None:
        pixels[void] = 0
    shares = pixels / max(pixels.sum(), 1)
    weights = np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-12)), 0)
    return (weights / max(np.sum(shares * weights), 1e-12)).astype(np.float32)


def optimizer(training: Training) -> optax.GradientTransformation:
    """AdamW; the rate rises for a twentieth of the steps, then falls along a cosine to 0."""
    rise = max(1, training.steps // 20)
    rate = optax.warmup_cosine_decay_schedule(0.0, training.lr, rise, max(training.steps, rise + 1))
    return optax.adamw(rate, weight_decay=DECAY)


@functools.partial(jax.jit, static_argnames=("training",), donate_argnames=("state",))
def train_step(
    training: Training, state: State, batch: Batch, weights: Float[Array, "k"], key: Array
) -> State:
    """One update on a batch of real pictures with their label maps."""
    params, opt = state
    labels, images = batch.inputs["labels"], jitter(key, batch.target)

    def loss(params: segmenter.Params) -> Float[Array, ""]:
        return pixel_cross_entropy(segmenter.logits(params, images), labels, weights[labels])

    step, opt = optimizer(training).update(jax.grad(loss)(params), opt, params)
    return optax.apply_updates(params, step), opt  # pyright: ignore[reportReturnType]


def jitter(key: Array, images: Any) -> Float[Array, "b h w 3"]:
    """Pictures in [-1, 1] with another brightness, contrast and saturation each."""
    import dm_pix as pix

    def one(key: Array, x: Any) -> Any:
        first, second, third = jax.random.split(key, 3)
        x = pix.random_brightness(first, x, BRIGHTNESS)
        x = pix.random_contrast(second, x, *CONTRAST)
        return jnp.clip(pix.random_saturation(third, jnp.clip(x, 0, 1), *SATURATION), 0, 1)

    keys = jax.random.split(key, len(images))
    return 2 * jax.vmap(one)(keys, (jnp.asarray(images) + 1) / 2) - 1


def _check(config: Config) -> None:
    names = set(config.data.classes()) - {VOID}
    if "labels" not in config.model.input_names or not names:
        inputs = ", ".join(config.model.input_names) or "z alone"
        raise UserError(
            f"A segmenter compares label maps; the model's inputs are {inputs}, and the data set "
            f"has {len(names)} classes. Leave the mIoU out for this model."
        )


def _flat(params: segmenter.Params) -> dict[str, Any]:
    return {
        f"{path[0].key}.{'.'.join(part.key for part in path[1:])}": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def _unflat(arrays: dict[str, np.ndarray]) -> segmenter.Params:
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        *parents, leaf = name.split(".")
        node = functools.reduce(lambda node, key: node.setdefault(key, {}), parents, tree)
        node[leaf] = jnp.asarray(value)
    return tree
