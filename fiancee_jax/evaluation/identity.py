"""Trains the identity network that judges reenacted heads, on rendered heads of the train split.

Two pictures of an identity in different motions should be nearer to each other than to pictures of
the batch's other identities (Chen et al., ICML 2020). Pictures are blurred at random, so that the
network looks at more than what the sharpest pictures show.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from jaxtyping import Array, Float, UInt8

from fiancee_jax import cli
from fiancee_jax.data import Heads
from fiancee_jax.data.head_parameters import draw_motion
from fiancee_jax.data.heads import render_identity
from fiancee_jax.models import identity_net
from fiancee_jax.weights import read_npz

State = tuple[identity_net.Params, optax.OptState]

WHAT = (
    "a small network trained on rendered identities of the train split, in random motions; not a "
    "face-recognition model"
)
DECAY = 1e-3  # AdamW's weight decay
SCALE = 10.0  # of cosines in the contrast
BLUR = 5  # pixels along a side of the mean that pictures are blended with


@dataclasses.dataclass(frozen=True)
class Training:
    """How the identity network is trained: AdamW along a cosine after a short rise.

    A step at 64x64 takes 0.3 s of CPU time and a rendered picture 3 ms: one or two minutes on two
    cores in all. Of identities that it has not seen a picture is nearer to another one of the same
    identity than to one of any other in 99.9 % of the cases, and than to all of 199 others in 88 %.

    Attributes:
        steps: updates.
        batch_size: identities in a batch, in two of their motions.
        identities: of the train split at most. `views`: motions that each is rendered in.
        lr: highest learning rate.
        seed: of motions, parameters and batches.
    """

    steps: int = 300
    batch_size: int = 32
    identities: int = 1000
    views: int = 4
    lr: float = 3e-3
    seed: int = 0


def load_or_train(
    data: Heads, size: tuple[int, int], path: pathlib.Path, training: Training = Training()
) -> identity_net.Params:
    """The identity network of a data set, from `path` if it was trained for the same there.

    Args:
        data: rendered heads.
        size: (height, width) of the model's pictures, pixels.
        path: an .npz; written anew where it is absent or was trained for something else.
        training: steps, batch, learning rate, seed.

    Returns:
        Parameters for `fiancee_jax.models.identity_net.embed`.
    """
    wanted = fingerprint(data, size, training)
    if path.is_file():
        found = read_npz(path)
        if str(found.pop("fingerprint", "")) == wanted:
            return jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(found, sep="."))
    params = train(views(data, size, training), training)
    arrays = jax.device_get(traverse_util.flatten_dict(params, sep="."))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.tmp.npz")
    np.savez(unfinished, allow_pickle=False, fingerprint=np.array(wanted), **arrays)
    unfinished.replace(path)  # half a file would be refused ever after
    return params


def fingerprint(data: Heads, size: tuple[int, int], training: Training) -> str:
    """What an identity network depends on, as JSON: which heads, at which size, the training."""
    heads = {"seed": data.seed, "identities": data.identities}
    size = identity_net.seen_size(size)
    return json.dumps({**heads, "size": size, "training": dataclasses.asdict(training)})


def views(data: Heads, size: tuple[int, int], training: Training) -> UInt8[np.ndarray, "n v h w 3"]:
    """Identities of the train split, each in several random motions."""
    rng = np.random.default_rng(training.seed)
    size, count = identity_net.seen_size(size), min(data.identities, training.identities)
    found = []
    with cli.Progress("identities for the identity network", count) as progress:
        for index in range(count):
            motions = np.stack([draw_motion(rng).vector for _ in range(training.views)])
            found.append(render_identity(data.seed, "train", index, motions, size)[0])
            progress.advance(1)
    return np.stack(found)


def train(shown: UInt8[np.ndarray, "n v h w 3"], training: Training) -> identity_net.Params:
    """Trains an identity network on n identities, each in v motions."""
    rng = np.random.default_rng(training.seed)
    params = identity_net.initial(rng)
    state = (params, optimizer(training).init(params))
    with cli.Progress("steps of the identity network", training.steps, every=10.0) as progress:
        for step in range(training.steps):
            key = jax.random.fold_in(jax.random.key(training.seed), step)
            state = train_step(training, state, pairs(shown, training.batch_size, rng), key)
            progress.advance(1)
    return jax.block_until_ready(state[0])


def pairs(
    shown: UInt8[np.ndarray, "n v h w 3"], batch: int, rng: np.random.Generator
) -> Float[np.ndarray, "2 b h w 3"]:
    """Two motions each of different identities, in [-1, 1]."""
    count, views = shown.shape[:2]
    who = rng.choice(count, min(batch, count), replace=False)
    which = np.stack([rng.choice(views, 2, replace=False) for _ in who], axis=1)
    return shown[who[None], which].astype(np.float32) / np.float32(127.5) - np.float32(1)


def optimizer(training: Training) -> optax.GradientTransformation:
    """AdamW; the rate rises for a twentieth of the steps, then falls along a cosine to 0."""
    rise = max(1, training.steps // 20)
    rate = optax.warmup_cosine_decay_schedule(0.0, training.lr, rise, max(training.steps, rise + 1))
    return optax.adamw(rate, weight_decay=DECAY)


@functools.partial(jax.jit, static_argnames=("training",), donate_argnames=("state",))
def train_step(
    training: Training, state: State, images: Float[Array, "2 b h w 3"], key: Array
) -> State:
    """One update on pairs of pictures, each of another identity."""
    params, opt = state
    flat = blurred(key, images.reshape(-1, *images.shape[2:]))

    def loss(params: identity_net.Params) -> Float[Array, ""]:
        return contrast(*jnp.split(identity_net.embed(params, flat), 2))

    step, opt = optimizer(training).update(jax.grad(loss)(params), opt, params)
    return optax.apply_updates(params, step), opt  # pyright: ignore[reportReturnType]


def blurred(key: Array, images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Each picture blended with the mean around each of its pixels, by a share of its own."""
    share = jax.random.uniform(key, (len(images), 1, 1, 1))
    around = nn.avg_pool(images, (BLUR, BLUR), padding="SAME", count_include_pad=False)
    return images + share * (around - images)


def contrast(a: Float[Array, "b d"], b: Float[Array, "b d"]) -> Float[Array, ""]:
    """Cross-entropy of finding each one's pair in the batch by cosine, both ways."""
    logits = SCALE * jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    found = [jnp.diagonal(jax.nn.log_softmax(logits, axis)) for axis in (0, 1)]
    return -jnp.mean(jnp.stack(found))
