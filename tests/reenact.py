"""Tiny families of a source and a driver, as in face reenactment, without z.

`Reenact` says no more than it must: no batch statistics, no spectral norm, the contract's defaults
for inputs and guides. `Encoder` encodes what all exits share, the source's part by itself.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax.config import (
    BackbonePhase,
    BranchesPhase,
    CalibrationPhase,
    Config,
    Exit,
    Guides,
    Logging,
    PredictorPhase,
)
from fiancee_jax.data import Augment
from fiancee_jax.models.layers import Conv, average_pool, leaky_relu, to_picture, upsample
from fiancee_jax.models.staged import StagedGenerator

SIZE = (32, 32)


class Stem(nn.Module):
    @nn.compact
    def __call__(self, condition, *, train=False):
        return nn.relu(Conv(8)(average_pool(condition, 8)))


class Stage(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, condition, *, train=False):
        x = nn.GroupNorm(num_groups=2)(Conv(self.features)(upsample(x)))
        return leaky_relu(x)


class Head(nn.Module):
    @nn.compact
    def __call__(self, x, base=None):
        return to_picture(Conv(3)(x), base)


class Critic(nn.Module):
    @nn.compact
    def __call__(self, image):
        return Conv(1)(leaky_relu(Conv(4)(average_pool(image, 4))))


@dataclasses.dataclass(frozen=True)
class Reenact(StagedGenerator):
    """Three doublings of the source and the driver, side by side in the channels."""

    input_names = ("source", "driver")
    size: tuple[int, int] = SIZE
    num_stages = 3  # pyright: ignore[reportAssignmentType]

    def condition(self, inputs):
        return jnp.concatenate([inputs["source"], inputs["driver"]], axis=-1)

    def stem(self):
        return Stem()

    def stage(self, index, *, width=None):
        return Stage(self.features(index, width or 1.0))

    def head(self):
        return Head()

    def features(self, stage, width=1.0):
        return round(8 * width)

    def stage_factor(self, stage):
        return 2 ** (3 - stage)

    def abstract_inputs(self, batch):
        picture = jax.ShapeDtypeStruct((batch, *self.size, 3), jnp.float32)
        return {"source": picture, "driver": picture, **super().abstract_inputs(batch)}

    def view(self, inputs):
        both = (self.condition(inputs) + 1) / 2
        return average_pool(both, 8), average_pool(both, 16).reshape(len(both), -1)

    def discriminator(self):
        return Critic()

    def generator_loss(self, discriminate, fake, inputs):
        return jnp.mean((discriminate(fake) - 1) ** 2)

    def discriminator_losses(self, discriminate, fake, real, inputs, key):
        real, fake = discriminate(real), discriminate(fake)
        return {"d_fake": jnp.mean(fake**2), "d_real": jnp.mean((real - 1) ** 2)}

    def picture_of_inputs(self, inputs):
        both = np.concatenate([inputs["source"], inputs["driver"]], axis=2)
        return np.asarray((both + 1) * 127.5, np.uint8)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Pairs of random pictures; the target is their mean."""

    count: int = 8

    def classes(self):
        return ()

    def open(self, split, size):
        return self

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        source, driver = np.random.default_rng(index).integers(0, 255, (2, 40, 40, 3), np.uint8)
        mean = ((source.astype(int) + driver) // 2).astype(np.uint8)
        return {"name": str(index), "source": source, "driver": driver, "image": mean}


CONFIG = Config(
    name="reenact",
    model=Reenact(),
    data=Noise(),
    augment=Augment(),
    exits=(Exit(1, 0.5), Exit(2, 0.5)),
    guides=Guides(size=8, neighbours=2),
    backbone=BackbonePhase(steps=2, batch_size=4, recollect=1),
    branches=BranchesPhase(steps=2, batch_size=4, lpips_net="alex", measure=4, adversarial=0.1),
    predictor=PredictorPhase(inputs=8, steps=2, batch_size=4, channels=4, hidden=8, holdout=0.5),
    calibration=CalibrationPhase(inputs=2),
    logging=Logging(every=2, preview_every=2, checkpoint_every=2),
)


# --- what all exits share, encoded --------------------------------------------------------------
class EncoderStem(nn.Module):
    """Appearance of the source and motion of the driver; neither is computed again if given."""

    def setup(self):
        self.appearance, self.motion = Conv(8), Conv(8)

    def encode(self, condition):
        networks = {"appearance": ("source", self.appearance), "motion": ("driver", self.motion)}
        return {
            name: nn.relu(network(average_pool(condition[picture], 8)))
            for name, (picture, network) in networks.items()
            if picture in condition and name not in condition
        }

    def __call__(self, condition, *, train=False):
        encoded = {**condition, **self.encode(condition)}
        return encoded["appearance"] + encoded["motion"]


@dataclasses.dataclass(frozen=True)
class Encoder(Reenact):
    """`Reenact` whose stem is the sum of two encodings."""

    kept_names = ("source",)
    encodes = True

    def condition(self, inputs):
        names = ("source", "driver", "appearance", "motion")
        return {name: inputs[name] for name in names if name in inputs}

    def stem(self):
        return EncoderStem()

    def view(self, inputs):
        grid = jnp.concatenate([inputs["appearance"], inputs["motion"]], axis=-1)
        return jnp.clip(grid, 0, 1), grid.mean((1, 2))
