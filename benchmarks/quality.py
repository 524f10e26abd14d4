"""How far made pictures are from real ones of the same label maps, without tying z to anything.

* colour: Frechet distance between the class colours of made and of real pictures. For each class a
  Gaussian is fitted to its mean colour over all pictures that show it (mean and 3x3 covariance, so
  variety counts); squared distances are averaged by the classes' areas. A picture's range is 2.
* features: Frechet distance between Gaussians with diagonal covariance, fitted to the spatial means
  of all LPIPS-alex features: textures and shapes.
* accuracy: share of the pixels in which a discriminator sees the map's class; its channel "fake" is
  left out.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax.data.loader import epoch
from fiancee_jax.exits import MultiExit
from fiancee_jax.metrics import frechet_distance
from fiancee_jax.models import lpips
from fiancee_jax.training.adversarial import discriminate
from fiancee_jax.training.workspace import Workspace

BATCH = 32
LEAST = 0.01  # share of a picture that a class must have for its colour to count

Summary = tuple[np.ndarray, np.ndarray, np.ndarray]  # colours [n, k, 3], areas [n, k], features


class Held:
    """Held-out maps with their real pictures.

    Args:
        work: config, data, devices.
        maps: how many; rounded down to whole batches of 32.
    """

    def __init__(self, work: Workspace, maps: int) -> None:
        self.work, self.net = work, work.perceptual("alex")
        size, keys = work.config.model.size, work.model.family.input_names
        found = [batch for _, batch in epoch(work.source("report"), size, BATCH, keys=keys)]
        self.batches = found[: maps // BATCH]
        self.real = [np.asarray(batch.target) for batch in self.batches]

    def made(self, variables: Any) -> list[np.ndarray]:
        """A backbone's pictures; z is the same whatever the variables."""
        model, pictures = self.work.model, []
        for i, batch in enumerate(self.batches):
            z = jax.random.normal(self.work.key("preview", i), (BATCH, model.family.latent_dim))
            pictures.append(np.asarray(_render(model, variables, {**batch.inputs, "z": z})))
        return pictures

    def summary(self, pictures: list[np.ndarray]) -> Summary:
        """What `distances` compares."""
        pairs = zip(pictures, self.batches, strict=True)
        rows = [_summarise(self.work.model, self.net, x, b.inputs) for x, b in pairs]
        colors, areas, features = (np.concatenate(column) for column in zip(*rows, strict=True))
        return colors.astype(np.float64), areas.astype(np.float64), features.astype(np.float64)

    def accuracy(self, state: Any, pictures: list[np.ndarray]) -> float:
        """By the discriminator of a training state."""
        kept = {name: state[name] for name in ("d_params", "d_spectral")}
        pairs = zip(pictures, self.batches, strict=True)
        shares = [_accuracy(self.work.model, kept, x, b.inputs["labels"]) for x, b in pairs]
        return float(np.mean(shares))


def halves(summary: Summary) -> tuple[Summary, Summary]:
    """Every second picture, and the others: what chance alone does to the distances."""
    first, second = (tuple(x[i::2] for x in summary) for i in (0, 1))
    return first, second  # pyright: ignore[reportReturnType]


def distances(a: Summary, b: Summary) -> dict[str, float]:
    """`colour` and `features`, both as distances, not squares."""
    areas = (a[1].mean(0) + b[1].mean(0)) / 2
    total, weight = 0.0, 0.0
    for k, area in enumerate(areas):
        one, two = (x[0][x[1][:, k] >= LEAST, k] for x in (a, b))
        if min(len(one), len(two)) > 8:  # fewer say nothing of a covariance
            total, weight = total + area * frechet_distance(one, two), weight + area
    moments = [(x[2].mean(0), x[2].std(0)) for x in (a, b)]
    features = sum(np.sum((p - q) ** 2) for p, q in zip(*moments, strict=True))
    return {"colour": (total / weight) ** 0.5, "features": float(features) ** 0.5}


@functools.partial(jax.jit, static_argnames=("model",))
def _render(model: MultiExit, variables: Any, inputs: Any) -> Float[Array, "b h w 3"]:
    return model.full({"backbone": variables}, inputs)[0]


@functools.partial(jax.jit, static_argnames=("model",))
def _summarise(model: MultiExit, net: Any, images: Any, inputs: Any) -> Any:
    pooled = [jnp.mean(f, axis=(1, 2)) for f in lpips.features(net, images)]
    return *model.family.summarise(images, inputs), jnp.concatenate(pooled, axis=-1)


@functools.partial(jax.jit, static_argnames=("model",))
def _accuracy(model: MultiExit, state: Any, images: Any, labels: Any) -> Float[Array, ""]:
    logits = discriminate(model, state["d_params"], [state["d_spectral"]])(images)
    return jnp.mean(jnp.argmax(logits[..., 1:], axis=-1) == labels)
