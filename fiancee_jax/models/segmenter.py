"""A small U-Net from pictures to classes: the judge that reads label maps back from pictures.

Pictures enter as 2x2 patches and logits leave as such, so that nothing runs at full size; between
them two halvings and two doublings with skips (Ronneberger et al., MICCAI 2015) and group norm. It
has 0.43 M parameters and costs 0.15 GMACs at 64x96.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fiancee_jax.errors import UserError
from fiancee_jax.models.layers import initialise, upsample

WIDTHS = (32, 64, 128)  # channels at a half, a quarter and an eighth of the picture's size
GROUP = 8  # channels that are normalised together
MULTIPLE = 8  # of which a picture's sides must be

Params = dict[str, Any]


class Unit(nn.Module):
    """3x3 convolution, group norm, ReLU."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Returns [b, h / stride, w / stride, features]."""
        x = nn.Conv(self.features, (3, 3), self.stride, use_bias=False, name="conv")(x)
        return nn.relu(nn.GroupNorm(num_groups=None, group_size=GROUP, name="norm")(x))


class Segmenter(nn.Module):
    """The network."""

    classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b h w k"]:
        """Pictures in [-1, 1], sides divisible by 8 -> logits of the classes."""
        half = Unit(WIDTHS[0], name="half")(_patches(images))
        quarter = Unit(WIDTHS[1], name="quarter")(Unit(WIDTHS[1], 2, name="to_quarter")(half))
        x = Unit(WIDTHS[2], name="eighth")(Unit(WIDTHS[2], 2, name="to_eighth")(quarter))
        for level, skip in ((1, quarter), (0, half)):
            x = jnp.concatenate([upsample(x), skip], axis=-1)
            x = Unit(WIDTHS[level], name=f"up_{level}")(x)
        x = Unit(WIDTHS[0], name="last")(x)
        return _pixels(nn.Conv(4 * self.classes, (1, 1), name="logits")(x))


def _patches(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c4"]:
    """2x2 pixels -> channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def _pixels(x: Float[Array, "b h2 w2 c4"]) -> Float[Array, "b h w c"]:
    """Inverse of `_patches`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def initial(classes: int, rng: np.random.Generator) -> Params:
    """Fresh parameters, drawn on the host."""
    picture = jax.ShapeDtypeStruct((1, MULTIPLE, MULTIPLE, 3), jnp.float32)
    shapes = jax.eval_shape(Segmenter(classes).init, jax.random.key(0), picture)
    return initialise(shapes["params"], rng, gain=2.0**0.5)  # ReLU halves the variance


def logits(params: Params, images: Float[Array, "b h w 3"]) -> Float[Array, "b h w k"]:
    """Logits of pictures in [-1, 1]; the number of classes is that of the parameters.

    Raises:
        UserError: a side of the pictures is not divisible by 8.
    """
    height, width = images.shape[1:3]
    if height % MULTIPLE or width % MULTIPLE:
        raise UserError(
            f"The pictures are {height}x{width}; the segmenter expects sides divisible by "
            f"{MULTIPLE}. Choose such a size for the model, or crop the pictures."
        )
    net: Any = Segmenter(params["logits"]["bias"].shape[0] // 4)
    return net.apply({"params": params}, images)


@jax.jit
def predict(params: Params, images: Float[Array, "b h w 3"]) -> Int[Array, "b h w"]:
    """The likeliest class of every pixel, int32. Raises as `logits` does."""
    return jnp.argmax(logits(params, images), axis=-1).astype(jnp.int32)
