"""OASIS (Sushko et al., ICLR 2021): label map and z to picture, as a staged generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from fiancee_jax import losses
from fiancee_jax.classes import VOID, agreed
from fiancee_jax.colors import class_colors
from fiancee_jax.config import Exit
from fiancee_jax.errors import UserError
from fiancee_jax.models import class_blocks, patterns
from fiancee_jax.models.discriminator import Discriminator
from fiancee_jax.models.layers import average_pool
from fiancee_jax.models.oasis_modules import Condition, Head, LightBlock, Stage, Stem
from fiancee_jax.models.staged import Discriminate, Inputs, PyTree, StagedGenerator

ATTENDED = 16  # light stages of at most so many rows take the transformer, if it is chosen


@dataclasses.dataclass(frozen=True)
class Oasis(StagedGenerator):
    """Hyper-parameters of an OASIS generator and its discriminator.

    Attributes:
        size: (height, width) of the pictures, pixels; divisible by 2^(blocks - 1), and by
            2^len(discriminator_channels) for training.
        classes: names of the label classes by id; filled in from the data set. The class named
            "void", if any, carries no loss. `classes.unnamed` are stand-ins that a data set with as
            many classes renames.
        width: c, the channels after the last stage; published: 64.
        hidden: SPADE's hidden channels; published: 128 (2c is OASIS's proportion).
        z_dim: length of z; published: 64.
        blocks: SPADE blocks = stages; published: 6. Fewer drop stages of 16c at the front.
        discriminator_channels: features after each encoder block of the discriminator.
        discriminator_last: features after its last decoder block; published: 64 at any width.
        min_channels: light stages are never thinner than this.
        lambda_labelmix: weight of the LabelMix term; published: 10 (Cityscapes 5).
        light_block: of the light stages. ``inception``: 1x1, 3x3 and two 3x3 convolutions side by
            side; ``transformer``: self-attention in stages of at most 16 rows, SPADE above;
            ``class``: one gamma and beta for each class instead of SPADE (`class_blocks`).
        palette_bands: a palette holds so many colours for each class, from the top of the picture
            to its bottom, between which it fades.
        view_borders: the predictor sees how many borders between labels a cell has, beside its
            classes' shares: class blocks differ from SPADE there and nowhere else.
    """

    input_names: ClassVar[tuple[str, ...]] = ("labels",)
    composes: ClassVar[bool] = True
    layer_words: ClassVar[Mapping[str, str]] = {
        "shared": "SPADE label convs",
        "gamma_beta": "gamma and beta",
        "class_hidden": "SPADE label convs",
        "class_gamma_beta": "gamma and beta",
        "conv_0": "block convolutions",
        "conv_1": "block convolutions",
        "conv_s": "block convolutions",
        "fc": "stem",
        "conv_img": "head",
    }
    light_fields: ClassVar[tuple[str, ...]] = (
        "min_channels",
        "light_block",
        "palette_bands",
        "view_borders",
    )

    size: tuple[int, int] = (256, 256)
    classes: tuple[str, ...] = ()
    width: int = 64
    hidden: int = 128
    z_dim: int = 64
    blocks: int = 6
    discriminator_channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512)
    discriminator_last: int = 64
    min_channels: int = 8
    lambda_labelmix: float = 10.0
    light_block: LightBlock = "spade"
    palette_bands: int = 1
    view_borders: bool = False

    @property
    def num_stages(self) -> int:
        """One stage for each SPADE block."""
        return self.blocks

    @property
    def latent_dim(self) -> int:
        """Length of z."""
        return self.z_dim

    @property
    def num_classes(self) -> int:
        """Label classes, void included."""
        return len(self.classes)

    @property
    def void(self) -> int | None:
        """Id of the class without loss, or None."""
        return self.classes.index(VOID) if VOID in self.classes else None

    # --- networks -------------------------------------------------------------------------
    def features(self, stage: int, width: float = 1.0) -> int:
        """Channels after `stage` (0 = stem): 16c, 16c, 16c, 8c, 4c, 2c, c, scaled by `width`.

        ``class`` blocks keep them; theirs is the width of `middle`.
        """
        multiple = (16, 16, 16, 8, 4, 2, 1)[-(self.blocks + 1) :][stage]
        width = 1.0 if self.light_block == "class" else width
        return self._light(multiple * self.width, width)

    def middle(self, stage: int, width: float = 1.0) -> int:
        """Channels between the two convolutions of a ``class`` block."""
        return self._light(min(self.features(stage - 1), self.features(stage)), width)

    def _light(self, channels: int, width: float) -> int:
        if width == 1.0:
            return channels
        return min(channels, max(self.min_channels, round(channels * width)))

    def stage_factor(self, stage: int) -> int:
        """Picture size over feature size after `stage`; the stem has the size of stage 1."""
        return 2 ** (self.blocks - max(stage, 1))

    def stem(self) -> nn.Module:
        """See `StagedGenerator.stem`."""
        return Stem(self.features(0), self.num_classes)

    def stage(self, index: int, *, width: float | None = None) -> nn.Module:
        """See `StagedGenerator.stage`; hidden channels of ``class`` blocks are nearly free."""
        low = self.size[0] // self.stage_factor(index) <= ATTENDED
        plain = width is None or (self.light_block == "transformer" and not low)
        thin = width is None or self.light_block == "class"
        return Stage(
            index,
            self.features(index, width or 1.0),
            self.hidden if thin else self._light(self.hidden, width or 1.0),
            self.num_classes,
            spectral=width is None,
            block="spade" if plain else self.light_block,
            middle=self.middle(index, width or 1.0),
        )

    @property
    def light_at_full_width(self) -> bool:
        """``class`` blocks have no label convolutions, which are four fifths of OASIS's cost."""
        return self.light_block == "class"

    def inherited(self, exit: Exit, fresh: PyTree, backbone: PyTree) -> PyTree:
        """Branches of ``class`` blocks begin as the backbone's own stages (`class_blocks`)."""
        if self.light_block != "class":
            return fresh
        return class_blocks.inherited(self, exit, fresh, backbone)

    def head(self) -> nn.Module:
        """See `StagedGenerator.head`."""
        return Head()

    def condition(self, inputs: Inputs) -> Condition:
        """The map at every stage's size; torch's nearest down-sampling is ``[:, ::s, ::s]``."""
        factors = [self.stage_factor(i) for i in range(1, self.blocks + 1)]
        return Condition(inputs["z"], tuple(inputs["labels"][:, ::s, ::s] for s in factors))

    def sparse_condition(self, inputs: Inputs) -> Condition:
        """The same with the distinct label patterns of every map (see `sparse_spade`)."""
        condition = self.condition(inputs)
        strides = [self.stage_factor(i) for i in range(1, self.blocks + 1)]
        levels = zip(condition.labels, strides, strict=True)
        found = tuple(patterns.find(x, self.num_classes, stride) for x, stride in levels)
        return condition._replace(patterns=found)

    def abstract_inputs(self, batch: int) -> Inputs:
        """Shapes of a batch: labels [b, h, w] int32 and z [b, z_dim] float32."""
        labels = jax.ShapeDtypeStruct((batch, *self.size), jnp.int32)
        return {"labels": labels, **super().abstract_inputs(batch)}

    def picture_size(self, inputs: Inputs) -> tuple[int, int]:
        """That of the label maps."""
        return inputs["labels"].shape[1:3]

    # --- guides ---------------------------------------------------------------------------
    @property
    def palette_shape(self) -> tuple[int, int]:
        """A colour for each band and class, the bands one after the other."""
        return self.palette_bands * self.num_classes, 3

    def summarise(
        self, images: Float[Array, "b h w 3"], inputs: Inputs
    ) -> tuple[Float[Array, "b k 3"], Float[Array, "b k"]]:
        """Mean colour [b, bands * classes, 3] and share of the pixels of each class by band."""
        onehot = jax.nn.one_hot(inputs["labels"], self.num_classes)
        bands = _bands(images.shape[1], self.palette_bands)
        pixels = jnp.einsum("bhwk,hn->bnk", onehot, bands, precision="highest")
        sums = jnp.einsum("bhwk,bhwc,hn->bnkc", onehot, images, bands, precision="highest")
        colors = sums / jnp.maximum(pixels, 1e-6)[..., None]
        share = pixels / (images.shape[1] * images.shape[2])
        return colors.reshape(-1, *self.palette_shape), share.reshape(-1, self.palette_shape[0])

    def paint(self, palette: Float[Array, "b k 3"], inputs: Inputs) -> Float[Array, "b h w 3"]:
        """``palette[label]`` for every pixel, fading from band to band."""
        labels = inputs["labels"]
        palette = palette.reshape(-1, self.palette_bands, self.num_classes, 3)
        if self.palette_bands == 1:
            return jax.vmap(lambda colors, row: colors[row])(palette[:, 0], labels)
        bands = _bands(labels.shape[1], self.palette_bands)
        rows = jnp.einsum("bnkc,hn->bhkc", palette, bands, precision="highest")
        return jax.vmap(jax.vmap(lambda colors, row: colors[row]))(rows, labels)

    # --- predictor ------------------------------------------------------------------------
    def view(self, inputs: Inputs) -> tuple[Float[Array, "b h w c"], Float[Array, "b d"]]:
        """Class shares on a grid of 8 x 8 pixel cells (one cell per 2x2 of stage n-2), and z.

        With `view_borders` a last channel holds the share of a cell's pixels whose label is another
        than that of the next pixel to the right or below.
        """
        labels = inputs["labels"]
        seen = jax.nn.one_hot(labels, self.num_classes)
        if self.view_borders:
            right, below = (jnp.roll(labels, -1, axis) for axis in (2, 1))
            right, below = (
                right.at[:, :, -1].set(labels[:, :, -1]),
                below.at[:, -1].set(labels[:, -1]),
            )
            borders = (labels != right) | (labels != below)
            seen = jnp.concatenate([seen, borders[..., None].astype(seen.dtype)], axis=-1)
        return average_pool(seen, min(8, 2 ** (self.blocks - 1))), inputs["z"]

    @property
    def view_names(self) -> tuple[str, ...]:
        """What the channels of the view's grid are called."""
        return (*self.classes, "borders") if self.view_borders else self.classes

    def composed(self, key: Array, inputs: Inputs) -> Inputs:
        """Left of a random column a map itself, right of it the next map of the batch.

        Whole columns, so that what is above what stays true: sky over houses over road.
        """
        labels = inputs["labels"]
        seam = jax.random.randint(key, (len(labels), 1, 1), 1, labels.shape[2])
        left = jnp.arange(labels.shape[2])[None, None] < seam
        return {**inputs, "labels": jnp.where(left, labels, jnp.roll(labels, 1, axis=0))}

    # --- adversary ------------------------------------------------------------------------
    def discriminator(self) -> nn.Module:
        """The U-Net of `discriminator.Discriminator`."""
        return Discriminator(self.discriminator_channels, self.num_classes, self.discriminator_last)

    def _weights(self, inputs: Inputs) -> Float[Array, "n"]:
        return losses.class_weights(inputs["labels"], self.num_classes, self.void)

    def generator_loss(
        self, discriminate: Discriminate, fake: Array, inputs: Inputs
    ) -> Float[Array, ""]:
        """L_G: D should see the right class in every pixel (OASIS, eq. 3)."""
        return losses.real_loss(discriminate(fake), inputs["labels"], self._weights(inputs))

    def discriminator_losses(
        self, discriminate: Discriminate, fake: Array, real: Array, inputs: Inputs, key: Array
    ) -> dict[str, Array]:
        """L_D in its three terms: fake, real and LabelMix (OASIS, eq. 1 and 4)."""
        mask = losses.labelmix_mask(key, inputs["labels"], self.num_classes)
        logits_fake, logits_real = discriminate(fake), discriminate(real)
        logits_mixed = discriminate(losses.mix(mask, real, fake))
        labelmix = losses.labelmix_loss(logits_mixed, logits_real, logits_fake, mask)
        return {
            "d_fake": losses.fake_loss(logits_fake),
            "d_real": losses.real_loss(logits_real, inputs["labels"], self._weights(inputs)),
            "d_labelmix": self.lambda_labelmix * labelmix,
        }

    # --- host side ------------------------------------------------------------------------
    def with_classes(self, classes: tuple[str, ...]) -> Oasis:
        """Resolved for a data set: it has the same names, or gives names to unnamed classes."""
        return dataclasses.replace(self, classes=agreed(self.classes, classes))

    def check(self) -> None:
        """Raises UserError if sizes, channels and blocks do not fit together."""
        divisor = 2 ** (self.blocks - 1)
        if not 2 <= self.blocks <= 6:
            raise UserError(f"model.blocks is {self.blocks}; OASIS takes 2 to 6.")
        if any(side <= 0 or side % divisor for side in self.size):
            raise UserError(
                f"model.size is {list(self.size)}, but with {self.blocks} blocks both sides must "
                f"be divisible by {divisor}: try {[_round(s, divisor) for s in self.size]}."
            )
        counts = ("width", "hidden", "z_dim", "min_channels", "discriminator_last", "palette_bands")
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.discriminator_channels or min(self.discriminator_channels) < 1:
            raise UserError(
                f"model.discriminator_channels is {list(self.discriminator_channels)}; give the "
                "channels after each of its blocks, at least one block."
            )
        count = len(self.discriminator_channels)
        if any(side % 2**count for side in self.size):
            raise UserError(
                f"model.size is {list(self.size)}, but a discriminator of {count} blocks pools "
                f"{count} times and needs sides divisible by {2**count}: take fewer "
                f"model.discriminator_channels, or size {[_round(s, 2**count) for s in self.size]}."
            )

    def check_inputs(self, inputs: Any) -> Inputs:
        """Checks labels [b, h, w] integers in 0..classes-1 with sides divisible by 2^(blocks-1)."""
        if isinstance(inputs, dict) and "labels" not in inputs:
            raise UserError(f"inputs must hold 'labels' (label maps); found {sorted(inputs)}.")
        labels = inputs["labels"] if isinstance(inputs, dict) else inputs
        if not isinstance(labels, jax.Array):
            labels = np.asarray(labels)
        if labels.ndim != 3 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(
                "label maps must be integers of shape [batch, height, width]; found "
                f"{labels.dtype} of shape {list(labels.shape)}. One map needs labels[None]."
            )
        divisor = 2 ** (self.blocks - 1)
        if any(side == 0 or side % divisor for side in labels.shape[1:]):
            raise UserError(
                f"label maps are {labels.shape[1]}x{labels.shape[2]}; height and width must be "
                f"divisible by {divisor}. Crop or resize them (infer.py does so by itself)."
            )
        if not isinstance(labels, Tracer):
            self._check_ids(np.asarray(labels))
        rest = (
            {k: v for k, v in inputs.items() if k != "labels"} if isinstance(inputs, dict) else {}
        )
        return {**rest, "labels": jnp.asarray(labels, jnp.int32)}

    def _check_ids(self, labels: np.ndarray) -> None:
        bad = np.unique(labels[(labels < 0) | (labels >= self.num_classes)])
        if bad.size:
            raise UserError(
                f"label maps hold class ids {bad[:10].tolist()}, but the model knows ids 0 to "
                f"{self.num_classes - 1}: {', '.join(self.classes)}. Map the others to these."
            )

    def picture_of_inputs(self, inputs: Inputs) -> np.ndarray:
        """Label maps in their class colours, [b, h, w, 3] uint8."""
        return class_colors(self.classes)[np.asarray(inputs["labels"])]


def _round(side: int, divisor: int) -> int:
    return max(divisor, round(side / divisor) * divisor)


def _bands(height: int, count: int) -> Float[Array, "h n"]:
    """Each row's share in each band: linear between the bands' middles, constant beyond."""
    rows = (np.arange(height) + 0.5) / height * count - 0.5
    distance = np.abs(rows.clip(0, count - 1)[:, None] - np.arange(count)[None])
    return jnp.asarray(np.maximum(1 - distance, 0), jnp.float32)
