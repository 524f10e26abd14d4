"""The networks of MegaPortraits (Drobyshev et al., 2022, section 3.1 and supplement).

Departures, where the paper's networks are others' or not described to the last layer: the encoders
of descriptor and motion are plain residual networks of the same blocks as everything else, and the
warp generators begin with a linear map of the codes to a small volume.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax.models.layers import Conv, average_pool, to_picture, upsample
from fiancee_jax.models.residual import (
    ResBlock,
    ResBlock3D,
    StandardConv,
    StandardConv3D,
    group_norm,
    grow_volume,
    pool_volume,
)
from fiancee_jax.models.volume import POSE, grid, look_up, posed, unposed

START = 4  # shorter side of the volume that a warp generator begins with, of an encoder's last map
ENCODED = (  # by `Stem.encode`
    "canonical",
    "descriptor",
    "source_motion",
    "own_motion",
    "motion",
    "latent",
)
POSES = ("source_pose", "driver_pose")  # of a condition in training, where they are known
FARTHEST, GENTLE = 0.5, 0.1  # of shifts: their limit, and how near 0 they begin
LIMITS = (1.6, 0.8, 0.8, 0.5, 0.5, 0.4)  # of a pose: radians, half picture sides, log scale


class Appearance(nn.Module):
    """E_app: a picture to a volume of features.

    7x7 convolution, a residual block and a pooling for each halving, 1x1 to depth x channels,
    residual blocks of the volume.
    """

    width: int
    halvings: int
    depth: int
    channels: int
    blocks: int

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"]) -> Float[Array, "b d h2 w2 c"]:
        """Returns [b, depth, h / 2^halvings, w / 2^halvings, channels]."""
        x = Conv(self.width, 7, name="first")(picture)
        for i in range(self.halvings):
            x = average_pool(ResBlock(self.width * 2 ** (i + 1), name=f"block_{i}")(x))
        x = nn.relu(group_norm(x, name="norm"))
        x = StandardConv(self.depth * self.channels, 1, name="to_volume")(x)
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, self.depth, self.channels).transpose(0, 3, 1, 2, 4)
        for i in range(self.blocks):
            x = ResBlock3D(self.channels, name=f"volume_{i}")(x)
        return x


class Encoder(nn.Module):
    """A picture to a vector: residual blocks with a pooling after each width, means, linear map.

    The means are of cells, `START` or more of them along the shorter side: one mean of everything
    would not say where in the picture something is.
    """

    width: int
    levels: int
    blocks: int
    features: int

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"]) -> Float[Array, "b k"]:
        """Returns [b, features] float32."""
        x = average_pool(Conv(self.width, 7 if self.width >= 64 else 3, name="first")(picture))
        for level in range(self.levels):
            for block in range(self.blocks):
                x = ResBlock(self.width * 2**level, name=f"block_{level}_{block}")(x)
            x = average_pool(x)
        x = nn.relu(group_norm(x, name="norm"))
        x = average_pool(x, _cells(x.shape[1], x.shape[2])).reshape(len(x), -1)
        return nn.Dense(self.features, name="out")(x.astype(jnp.float32))


def _cells(height: int, width: int) -> int:
    """The largest side of cells that fill the map and are at least `START` by `START`."""
    most = max(1, min(height, width) // START)
    return next(n for n in range(most, 0, -1) if height % n == 0 == width % n)


class Motion(nn.Module):
    """E_mtn: head pose and expression of a picture, [b, 6 + expression] float32.

    The pose comes first, within LIMITS; see `volume` for what its numbers mean.
    """

    width: int
    levels: int
    blocks: int
    expression: int

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"]) -> Float[Array, "b m"]:
        """Returns pose and expression side by side."""
        encoder = (self.width, self.levels, self.blocks)
        pose = jnp.tanh(Encoder(*encoder, POSE, name="pose")(picture))
        expression = Encoder(*encoder, self.expression, name="expression")(picture)
        return jnp.concatenate([pose * jnp.array(LIMITS)[None], expression], axis=-1)


class Warp(nn.Module):
    """W: a field of shifts from an expression and a descriptor, [b, d, h, w, 3].

    Adaptive residual blocks of a volume that doubles its height and width until they are `shape`'s,
    and its depth the first two times.
    """

    width: int
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, code: Float[Array, "b k"]) -> Float[Array, "b d h w 3"]:
        """Returns shifts in units of the volume's half sides, up to `FARTHEST`."""
        depth, height, width = self.shape
        doublings = (min(height, width) // START).bit_length() - 1
        deeper = min(2, doublings)
        start = (depth >> deeper, height >> doublings, width >> doublings)
        cells = start[0] * start[1] * start[2]
        x = nn.Dense(cells * self.width, dtype=code.dtype, name="start")(code)
        x = x.reshape(-1, *start, self.width)
        for i in range(doublings):
            x = ResBlock3D(max(8, self.width >> (i + 1)), name=f"block_{i}")(x, code)
            x = grow_volume(x, 2 if i < deeper else 1)
        x = nn.relu(group_norm(x, name="norm"))
        return FARTHEST * jnp.tanh(GENTLE * StandardConv3D(3, name="out")(x))


class VolumeNetwork(nn.Module):
    """G3D: a residual U-Net of the volume, from its channels through `features` and back."""

    features: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
        """Returns a volume of the same shape."""
        channels, skips = x.shape[-1], []
        for i, features in enumerate(self.features):
            skips.append(x)
            x = pool_volume(ResBlock3D(features, name=f"down_{i}")(x))
        for i, skip in reversed(list(enumerate(skips))):
            features = channels if i == 0 else self.features[i - 1]
            x = skip + ResBlock3D(features, still=True, name=f"up_{i}")(grow_volume(x))
        return ResBlock3D(channels, name="last")(x)


class Stem(nn.Module):
    """All that comes before the decoder: from source and driver to the features after P.

    A condition holds pictures by input name, and may hold what `encode` returned for it before:
    that is then not computed again. In training the volume turns by the true poses of source and
    driver where the condition has them, as the published model has its poses from a network that
    it does not train.
    """

    width: int
    halvings: int
    depth: int
    channels: int
    appearance_width: int
    appearance_blocks: int
    encoder: tuple[int, int, int]
    descriptor: int
    expression: int
    warp_width: int
    volume: tuple[int, ...]
    size: tuple[int, int]

    def setup(self) -> None:
        """Builds the networks."""
        height, width = (side >> self.halvings for side in self.size)
        shape = (self.depth, height, width)
        args = (self.appearance_width, self.halvings, self.depth, self.channels)
        self.appearance = Appearance(*args, self.appearance_blocks)
        self.describe = Encoder(*self.encoder, self.descriptor)
        self.motion = Motion(*self.encoder, self.expression)
        self.warp_source = Warp(self.warp_width, shape)
        self.warp_driver = Warp(self.warp_width, shape)
        self.refine = VolumeNetwork(self.volume)
        self.project = StandardConv(self.width, 1)

    def __call__(
        self, condition: dict[str, Array], *, train: bool = False
    ) -> Float[Array, "b h w c"]:
        """The features after P, [b, h / 2^halvings, w / 2^halvings, width]."""
        return self.encode(condition, POSES if train else ())["latent"]

    def encode(self, condition: dict[str, Array], known: tuple[str, ...] = ()) -> dict[str, Array]:
        """What all exits share; of a source alone only what depends on nothing else.

        Args:
            condition: see the class.
            known: the poses to take from the condition where it has them.

        Returns:
            canonical [b, d, h', w', c]: the source's volume, facing the viewer; descriptor [b, k];
            source_motion [b, m]; own_motion [b, k, m] of its further frames, if there are any; and
            with a driver motion [b, m] and latent, the features after P.
        """
        found = {name: condition[name] for name in ENCODED if name in condition}
        poses = [condition.get(name) if name in known else None for name in POSES]
        if "canonical" not in found:
            found |= self._source(condition["source"], poses[0])
        if "own" in condition and "own_motion" not in found:
            b, k, *picture = condition["own"].shape
            motions = self.motion(condition["own"].reshape(b * k, *picture))
            found["own_motion"] = motions.reshape(b, k, -1)
        if "driver" in condition and "latent" not in found:
            motion = self.motion(condition["driver"])
            found |= {"motion": motion, "latent": self._driven(found, motion, poses[1])}
        return found

    def _source(self, picture: Float[Array, "b h w 3"], pose: Array | None) -> dict[str, Array]:
        """The volume turned to face the viewer with a neutral expression (W_s, then G3D)."""
        volume, motion = self.appearance(picture), self.motion(picture)
        descriptor = self.describe(picture)
        points = posed(grid(volume.shape[1:4]), motion[:, :POSE] if pose is None else pose)
        shifts = self.warp_source(_code(motion, descriptor, picture))
        canonical = self.refine(look_up(volume, points + shifts))
        return {"canonical": canonical, "descriptor": descriptor, "source_motion": motion}

    def _driven(
        self, source: dict[str, Array], motion: Float[Array, "b m"], pose: Array | None
    ) -> Float[Array, "b h w c"]:
        """The canonical volume in the driver's motion (W_d), then P."""
        volume = source["canonical"]
        points = unposed(grid(volume.shape[1:4]), motion[:, :POSE] if pose is None else pose)
        shifts = self.warp_driver(_code(motion, source["descriptor"], volume))
        turned = look_up(volume, points + shifts)
        b, d, h, w, c = turned.shape
        return self.project(turned.transpose(0, 2, 3, 1, 4).reshape(b, h, w, d * c))


def _code(motion: Array, descriptor: Array, like: Array) -> Array:
    """What a warp generator is told: expression and descriptor, in the dtype of `like`."""
    return jnp.concatenate([motion[:, POSE:], descriptor], axis=-1).astype(like.dtype)


# --- the decoder, G2D -----------------------------------------------------------------------------
class Stage(nn.Module):
    """One residual block; with `grow` the features are first enlarged to twice their size."""

    features: int
    grow: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], condition: dict[str, Array], *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """Returns [b, h, w, features], or [b, 2h, 2w, features]."""
        del condition, train
        return ResBlock(self.features, name="block")(upsample(x) if self.grow else x)


class Head(nn.Module):
    """Group norm, ReLU, 3x3 to RGB, tanh: the paper's sigmoid, in the range [-1, 1].

    The norm has no parameters, so that a head of zeros can learn.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], base: Float[Array, "b h w 3"] | None = None
    ) -> Float[Array, "b h w 3"]:
        """Returns a picture in [-1, 1]."""
        return to_picture(Conv(3, name="conv")(nn.relu(group_norm(x, affine=False))), base)


# --- the adversary --------------------------------------------------------------------------------
class PatchDiscriminator(nn.Module):
    """Patch discriminators of a picture and of its reduced copies (Wang et al., 2018, pix2pixHD).

    Attributes:
        channels: of the convolutions of each scale, all but the first with group norm.
        scales: each sees the picture at half the size of the one before.
    """

    channels: tuple[int, ...]
    scales: int

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> dict[str, list[Array]]:
        """Returns ``logits``, one map for each scale, and ``features``, all hidden layers."""
        found: dict[str, list[Array]] = {"logits": [], "features": []}
        for scale in range(self.scales):
            x = average_pool(image, 2**scale) if scale else image
            for i, features in enumerate(self.channels):
                x = Conv(features, name=f"conv_{scale}_{i}")(x)
                x = group_norm(x, name=f"norm_{scale}_{i}") if i else x
                x = nn.leaky_relu(x, 0.2)
                found["features"].append(x)
                x = average_pool(x)
            found["logits"].append(Conv(1, name=f"logit_{scale}")(x))
        return found
