"""Losses as pure functions of arrays. Names follow OASIS (Sushko et al., 2021), section 3."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def class_weights(
    labels: Int[Array, "b h w"], num_classes: int, void: int | None
) -> Float[Array, "n"]:
    """Inverse class frequency over the batch (OASIS, eq. 2).

    ``w_c = B*H*W / (present classes * pixels of c)``; 0 for void and for absent classes. Void is
    neither counted among the present classes nor given a weight.

    Args:
        labels: class ids.
        num_classes: number of label classes, void included.
        void: id of the class without loss, or None.
    """
    pixels = jnp.bincount(labels.reshape(-1), length=num_classes).astype(jnp.float32)
    if void is not None:
        pixels = pixels.at[void].set(0.0)
    present = jnp.sum(pixels > 0)
    weights = labels.size / (jnp.maximum(present, 1) * jnp.maximum(pixels, 1.0))
    return jnp.where(pixels > 0, weights, 0.0)


def pixel_cross_entropy(
    logits: Float[Array, "b h w n"],
    target: Int[Array, "b h w"],
    weights: Float[Array, "b h w"] | None = None,
) -> Float[Array, ""]:
    """Mean over all pixels of ``weight * CE(logits, target)``; zero weights count in the mean."""
    log_p = jax.nn.log_softmax(logits)
    ce = -jnp.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]
    return jnp.mean(ce if weights is None else ce * weights)


def real_loss(
    logits: Float[Array, "b h w n"], labels: Int[Array, "b h w"], weights: Float[Array, "c"]
) -> Float[Array, ""]:
    """(N+1)-class loss towards the labels: D on real pictures, G on its own (OASIS, eq. 1)."""
    return pixel_cross_entropy(logits, labels + 1, weights[labels])


def fake_loss(logits: Float[Array, "b h w n"]) -> Float[Array, ""]:
    """(N+1)-class loss towards class "fake" = 0, unweighted (OASIS, eq. 1)."""
    return pixel_cross_entropy(logits, jnp.zeros(logits.shape[:-1], jnp.int32))


def labelmix_mask(
    key: Array, labels: Int[Array, "b h w"], num_classes: int
) -> Float[Array, "b h w 1"]:
    """LabelMix: a fair coin per class and batch; 1 takes the real picture (OASIS, section 3.2)."""
    coins = jax.random.bernoulli(key, shape=(num_classes,)).astype(jnp.float32)
    return coins[labels][..., None]


def mix(mask: Array, real: Array, fake: Array) -> Array:
    """``M * real + (1 - M) * fake``, for pictures and for logits alike."""
    return mask * real + (1 - mask) * fake


def labelmix_loss(
    logits_mixed: Array, logits_real: Array, logits_fake: Array, mask: Array
) -> Float[Array, ""]:
    """Consistency of D under LabelMix: mean squared difference of logits (OASIS, eq. 4)."""
    return jnp.mean((logits_mixed - mix(mask, logits_real, logits_fake)) ** 2)


def l1(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Mean absolute difference per sample."""
    return jnp.mean(jnp.abs(a - b), axis=(1, 2, 3))
