"""A family without label maps and without z, of two pictures: nothing generic needs more.

A source says what is shown and a driver how, as in face reenactment. It keeps no batch statistics
and no spectral norm, and takes the contract's defaults for inputs and guides.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.checkpoint import Store
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
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.inference import Renderer
from fiancee_jax.models.layers import Conv, average_pool, leaky_relu, to_picture, upsample
from fiancee_jax.models.staged import StagedGenerator
from fiancee_jax.training.run import train

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

    def stage(self, index, *, width=1.0):
        return Stage(self.features(index, width))

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


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    """Trained through all phases; not read by `load`, which knows the package's families only."""
    workdir = train(CONFIG, tmp_path_factory.mktemp("runs") / "reenact")
    store = Store(workdir)
    names = {"backbone": "backbone", "bank": "guides", "branches": "branches"}
    variables = {k: store.model(v) for k, v in {**names, "predictor": "predictor"}.items()}
    kept = [e for e in store.extra("branches")["menu"] if not e["dropped"]]
    store.close()
    exits = tuple(Exit(e["tap"], e["width"]) for e in kept)
    return Renderer(CONFIG, MultiExit.of(CONFIG, exits), variables, kept)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    names = ("source", "driver")
    return {name: rng.uniform(-1, 1, (3, *SIZE, 3)).astype(np.float32) for name in names}


def test_it_renders_at_any_depth_without_key_or_z(renderer, inputs):
    limit = float(np.median(renderer.predict(inputs, None)[:, 0]))
    for policy in ({"exit": "full"}, {"exit": 1}, {"max_lpips": limit}, {"budget_gmacs": 1.0}):
        r = renderer(inputs, **policy)
        assert r.images.shape == (3, *SIZE, 3)
        assert np.isfinite(r.images).all()
    assert set(renderer.variables["backbone"]) == {"params"}


def test_its_inputs_are_checked(renderer, inputs):
    with pytest.raises(UserError, match="the input 'driver' is missing"):
        renderer({"source": inputs["source"]}, exit=1)
    with pytest.raises(UserError, match=r"found 3 source, 2 driver"):
        renderer({**inputs, "driver": inputs["driver"][:2]}, exit=1)


def test_both_pictures_reach_every_exit(renderer, inputs):
    for name in inputs:
        changed = {**inputs, name: -inputs[name]}
        for exit in (1, "full"):
            moved = renderer(changed, exit=exit).images - renderer(inputs, exit=exit).images
            assert np.abs(moved).max() > 0
