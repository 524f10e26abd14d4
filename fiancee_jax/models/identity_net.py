"""A small network from pictures of rendered heads to unit vectors that say whose head it is.

Trained on rendered identities in many motions (`fiancee_jax.evaluation.identity`), and on nothing
else: it is not a face-recognition model, and what it says of photographs means nothing. It has
0.30 M parameters and costs 0.04 GMACs at 64x64.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax.models.layers import initialise
from fiancee_jax.models.segmenter import Unit

WIDTHS = (32, 64, 128)  # channels at a half, a quarter and an eighth of the picture's size
EMBEDDING = 64  # numbers of a vector
SIDE = 64  # shorter side, pixels, to which larger pictures are reduced

Params = dict[str, Any]


class IdentityNet(nn.Module):
    """The network: a halving and a convolution for each width, mean over space, linear map."""

    features: int = EMBEDDING

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Pictures in [-1, 1] -> vectors of length 1."""
        x = images
        for level, width in enumerate(WIDTHS):
            x = Unit(width, 2, name=f"halve_{level}")(x)
            x = Unit(width, name=f"unit_{level}")(x)
        x = nn.Dense(self.features, name="out")(x.mean((1, 2)))
        return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)


def initial(rng: np.random.Generator) -> Params:
    """Fresh parameters, drawn on the host."""
    picture = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    shapes = jax.eval_shape(IdentityNet().init, jax.random.key(0), picture)
    return initialise(shapes["params"], rng, gain=2.0**0.5)  # ReLU halves the variance


def seen_size(size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) at which pictures of a size are looked at."""
    scale = min(1.0, SIDE / min(size))
    return round(size[0] * scale), round(size[1] * scale)


def embed(params: Params, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
    """Vectors of length 1 for pictures in [-1, 1]; a product of two is their cosine."""
    height, width = seen_size((images.shape[1], images.shape[2]))
    shape = (len(images), height, width, 3)
    if images.shape != shape:
        images = jax.image.resize(images, shape, "linear")
    found: Any = IdentityNet().apply({"params": params}, images)
    return found
