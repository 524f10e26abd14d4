"""MegaPortraits (Drobyshev et al., ACM MM 2022, arXiv 2207.07621) as a staged generator.

A source says who is shown and a driver how::

    picture = G2D(P(warp_d(G3D(warp_s(E_app(source))))))

The stages are those of the decoder G2D, eight residual blocks and three doublings: exits leave
after P (tap 0) or after any of them. All that comes before is shared by every exit; what depends on
the source alone is computed once for a video. For departures see `megaportraits_modules`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax.errors import UserError
from fiancee_jax.models.layers import average_pool
from fiancee_jax.models.megaportraits_modules import (
    ENCODED,
    LIMITS,
    POSES,
    Head,
    PatchDiscriminator,
    Stage,
    Stem,
)
from fiancee_jax.models.staged import Discriminate, Inputs, RunGenerator, StagedGenerator
from fiancee_jax.models.volume import POSE

MULTIPLE = 8  # channels of light stages are a multiple of this
GRID = 16  # shorter side of the pictures that the predictor sees
COARSE = 4  # cells along a side of the pictures in the vector
SCALE, MARGIN = 5.0, 0.2  # of the contrast (Wang et al., 2018, CosFace), as in the paper


@dataclasses.dataclass(frozen=True)
class MegaPortraits(StagedGenerator):
    """Hyper-parameters; the defaults are the base model's.

    Attributes:
        width: channels of the decoder's residual blocks; each doubling halves them.
        blocks: residual blocks of the decoder.
        doublings: of the decoder; the volume's height and width are the picture's over 2^doublings.
        depth: slices of the volume.
        channels: of the volume.
        appearance_width: channels after the first layer of the appearance encoder.
        appearance_blocks: its residual blocks of the volume.
        encoder: width, levels and blocks for each level of the encoders of descriptor and motion.
        descriptor: numbers that describe the source as a whole (e_s).
        expression: numbers of an expression (z).
        warp_width: channels that a warp generator begins with.
        volume: channels of the 3D network's levels.
        critic: channels of the patch discriminator. `critic_scales`: how many there are.
        seen: what the predictor sees, and guide banks are searched by: coarse ``pictures`` of
            source and driver, or the ``descriptors`` that the encoders make of them (both of
            motion, and e_s). They are computed for every exit, so they cost nothing more.
        own: further frames that come with each source, for guides of form ``own``; 0: none.
        adversarial: weight of the hinge loss. `matching`: of feature matching.
        contrast: weight of the contrast of motion descriptors. `roll`: it is of pictures in the
            motion of other drivers of the batch, as published, which costs a second forward pass;
            without it of the batch's own, for data whose drivers are of other identities already.
        pose: weight of the head poses' error, for data that knows them; the backbone then also
            turns by the true ones while it is trained (the published model takes its pose encoder
            ready-made).
    """

    training_names = POSES
    encodes = True
    light_fields = ("seen", "own")
    layer_words = {  # noqa: RUF012 (a class variable)
        "conv_0": "residual blocks",
        "conv_1": "residual blocks",
        "skip": "skips",
        "planes": "volumes",
    }

    size: tuple[int, int] = (512, 512)
    width: int = 512
    blocks: int = 8
    doublings: int = 3
    depth: int = 16
    channels: int = 96
    appearance_width: int = 64
    appearance_blocks: int = 3
    encoder: tuple[int, int, int] = (64, 4, 2)
    descriptor: int = 512
    expression: int = 512
    warp_width: int = 512
    volume: tuple[int, ...] = (192, 384, 512)
    critic: tuple[int, ...] = (64, 128, 256, 512)
    critic_scales: int = 2
    seen: Literal["pictures", "descriptors"] = "descriptors"
    own: int = 0
    adversarial: float = 1.0
    matching: float = 40.0
    contrast: float = 2.0
    roll: bool = True
    pose: float = 5.0

    @property
    def input_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A source and a driver, and the source's further frames if there are any."""
        return ("source", "driver", "own") if self.own else ("source", "driver")

    @property
    def kept_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All but the driver."""
        return ("source", "own") if self.own else ("source",)

    # --- networks -------------------------------------------------------------------------
    @property
    def num_stages(self) -> int:
        """Residual blocks and doublings of the decoder."""
        return self.blocks + self.doublings

    def condition(self, inputs: Inputs) -> dict[str, Array]:
        """The pictures, their poses if known, and what has been encoded of them already."""
        names = (*self.input_names, *self.training_names, *ENCODED)
        return {name: inputs[name] for name in names if name in inputs}

    def stem(self) -> nn.Module:
        """Everything before the decoder."""
        return Stem(
            self.width,
            self.doublings,
            self.depth,
            self.channels,
            self.appearance_width,
            self.appearance_blocks,
            self.encoder,
            self.descriptor,
            self.expression,
            self.warp_width,
            self.volume,
            self.size,
        )

    def stage(self, index: int, *, width: float | None = None) -> nn.Module:
        """A residual block; from number `blocks` + 1 on it doubles the size first."""
        return Stage(self.features(index, width or 1.0), grow=index > self.blocks)

    def head(self) -> nn.Module:
        """To RGB."""
        return Head()

    def features(self, stage: int, width: float = 1.0) -> int:
        """Channels after a stage; light ones are a multiple of 8."""
        full = self.width >> max(0, stage - self.blocks)
        return (
            full if width == 1.0 else min(full, MULTIPLE * max(1, round(full * width / MULTIPLE)))
        )

    def stage_factor(self, stage: int) -> int:
        """Picture size over feature size."""
        return 2 ** (self.doublings - max(0, stage - self.blocks))

    def abstract_inputs(self, batch: int) -> Inputs:
        """Two pictures [batch, h, w, 3]."""
        picture = jax.ShapeDtypeStruct((batch, *self.size, 3), jnp.float32)
        shapes = {"source": picture, "driver": picture, **super().abstract_inputs(batch)}
        if self.own:
            shapes["own"] = jax.ShapeDtypeStruct((batch, self.own, *self.size, 3), jnp.float32)
        return shapes

    # --- guides ---------------------------------------------------------------------------
    def own_frames(
        self, inputs: Inputs
    ) -> tuple[Float[Array, "b k m"], Float[Array, "b m"], Float[Array, "b k h w 3"]] | None:
        """The source's further frames by their motion; None without any.

        Keys are head poses in units of their limits, and the direction of the expression.
        """
        if not self.own:
            return None
        keys = [motion_key(inputs[name]) for name in ("own_motion", "motion")]
        return keys[0], keys[1], inputs["own"]

    # --- predictor ------------------------------------------------------------------------
    def view(self, inputs: Inputs) -> tuple[Float[Array, "b h w 6"], Float[Array, "b d"]]:
        """Source and driver reduced, side by side; the vector is `seen`."""
        both = (jnp.concatenate([inputs["source"], inputs["driver"]], axis=-1) + 1) / 2
        small = average_pool(both, max(1, min(self.size) // GRID))
        if self.seen == "pictures":
            side = (len(both), COARSE, COARSE, 6)
            return small, jax.image.resize(small, side, "linear").reshape(len(both), -1)
        parts = [inputs[name] for name in ("source_motion", "motion", "descriptor")]
        return small, jnp.concatenate(parts, axis=-1).astype(jnp.float32)

    # --- adversary and other losses -------------------------------------------------------
    def discriminator(self) -> nn.Module:
        """Of patches, at several scales."""
        return PatchDiscriminator(self.critic, self.critic_scales)

    def generator_loss(
        self, discriminate: Discriminate, fake: Array, inputs: Inputs
    ) -> Float[Array, ""]:
        """Hinge: ``-D(fake)``, the mean over scales."""
        return -self.adversarial * _mean(discriminate(fake)["logits"], lambda x: x)

    def discriminator_losses(
        self, discriminate: Discriminate, fake: Array, real: Array, inputs: Inputs, key: Array
    ) -> dict[str, Array]:
        """Hinge: ``max(0, 1 + D(fake)) + max(0, 1 - D(real))``."""
        return {
            "d_fake": _mean(discriminate(fake)["logits"], lambda x: nn.relu(1 + x)),
            "d_real": _mean(discriminate(real)["logits"], lambda x: nn.relu(1 - x)),
        }

    def target_losses(
        self, discriminate: Discriminate, fake: Array, real: Array, inputs: Inputs
    ) -> dict[str, Array]:
        """Feature matching: mean absolute difference of the discriminator's hidden layers."""
        if not self.matching:
            return {}
        pairs = zip(discriminate(fake)["features"], discriminate(real)["features"], strict=True)
        apart = [jnp.mean(jnp.abs(a - jax.lax.stop_gradient(b))) for a, b in pairs]
        return {"g_match": self.matching * jnp.mean(jnp.stack(apart))}

    def own_losses(self, run: RunGenerator, images: Array, inputs: Inputs) -> dict[str, Array]:
        """The contrast of motion descriptors, and the head poses' error where they are known."""
        terms: dict[str, Array] = {}
        driver = run(_motion, inputs["driver"])
        if self.contrast:
            shown, wanted = images, driver
            if self.roll:
                turned = jnp.roll(inputs["driver"], 1, axis=0)
                shown = run(_picture, {"source": inputs["source"], "driver": turned})
                wanted = jnp.roll(driver, 1, axis=0)
            found = run(_motion, shown)[:, POSE:]
            terms["g_contrast"] = self.contrast * contrast(found, wanted[:, POSE:])
        if self.pose and "driver_pose" in inputs:
            pairs = (driver, "driver_pose"), (run(_motion, inputs["source"]), "source_pose")
            errors = [jnp.mean((found[:, :POSE] - inputs[name]) ** 2) for found, name in pairs]
            terms["g_pose"] = self.pose * sum(errors, jnp.float32(0))
        return terms

    # --- host side ------------------------------------------------------------------------
    def check(self) -> None:
        """Raises UserError if the sizes do not fit together."""
        step, least = 2**self.doublings, 2 ** (len(self.volume) + self.doublings)
        for side in self.size:
            if side <= 0 or side % max(step, least):
                raise UserError(
                    f"model.size is {list(self.size)}; with {self.doublings} doublings and "
                    f"{len(self.volume)} levels of the volume its sides must be divisible by "
                    f"{max(step, least)}."
                )
        if self.depth % 2 ** max(2, len(self.volume)) or self.blocks < 1:
            raise UserError(
                f"model.depth is {self.depth} and model.blocks {self.blocks}; take a depth that is "
                f"divisible by {2 ** max(2, len(self.volume))}, and at least one block."
            )

    def picture_of_inputs(self, inputs: Inputs) -> np.ndarray:
        """Source and driver side by side, [b, h, 2w, 3] uint8."""
        both = np.concatenate([inputs["source"], inputs["driver"]], axis=2)
        return np.clip((both + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def motion_key(motion: Float[Array, "... m"]) -> Float[Array, "... m"]:
    """What motions are compared by: the pose within its limits, the expression's direction."""
    pose, expression = motion[..., :POSE], motion[..., POSE:]
    limits = jnp.array(LIMITS).reshape((1,) * (motion.ndim - 1) + (POSE,))
    length = jnp.linalg.norm(expression, axis=-1, keepdims=True)
    return jnp.concatenate([pose / limits, expression / (length + 1e-6)], axis=-1)


def contrast(found: Float[Array, "b k"], wanted: Float[Array, "b k"]) -> Float[Array, ""]:
    """Pictures' motion descriptors should be their own driver's and no other's of the batch.

    ``-log(e^{s(cos_ii - m)} / (e^{s(cos_ii - m)} + sum_{j != i} e^{s cos_ij}))``, the mean over i.
    """
    unit = [x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6) for x in (found, wanted)]
    cosine = jnp.matmul(unit[0], unit[1].T, precision=jax.lax.Precision.HIGHEST)
    logits = SCALE * (cosine - MARGIN * jnp.eye(len(cosine)))
    return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits, axis=-1)))


def _mean(maps: list[Array], term: Discriminate) -> Array:
    return jnp.mean(jnp.stack([jnp.mean(term(x)) for x in maps]))


def _motion(backbone: nn.Module, picture: Array) -> Array:
    return backbone.stem.motion(picture)  # pyright: ignore[reportAttributeAccessIssue]


def _picture(backbone: nn.Module, condition: dict[str, Array]) -> Array:
    return backbone(condition, train=True)[0]
