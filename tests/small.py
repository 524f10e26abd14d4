"""A generator family whose steps compile in seconds, and one training step of it.

Adam's first moment has beta1 = 0 here, so after a step ``opt_g[0].mu`` is G's gradient itself.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax.config import BackbonePhase, Exit, Guides, PredictorPhase
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.layers import Conv, batch_norm, to_picture, upsample
from fiancee_jax.models.staged import StagedGenerator
from fiancee_jax.training import backbone

PHASE = BackbonePhase(batch_size=2, step="fused", init_gain=1.0, lr_g=1e-3, lr_d=1e-3)
STEPS = ("fused", "published")


class SmallStem(nn.Module):
    size: tuple[int, int]

    @nn.compact
    def __call__(self, condition, *, train=False):
        z = condition["z"]
        return Conv(8)(jnp.broadcast_to(z[:, None, None, :], (len(z), *self.size, z.shape[-1])))


class SmallStage(nn.Module):
    features: int
    norms: bool

    @nn.compact
    def __call__(self, x, condition, *, train=False):
        x = Conv(self.features, spectral=self.norms)(upsample(x))
        x = batch_norm(x, train, name="norm") if self.norms else x
        return nn.relu(Conv(self.features, spectral=self.norms)(x))


class SmallHead(nn.Module):
    @nn.compact
    def __call__(self, x, base=None):
        return to_picture(Conv(3, name="conv_img")(x), base)


@dataclasses.dataclass(frozen=True)
class Small(StagedGenerator):
    """z -> picture, with batch norm and spectral norm or without; no inputs but z."""

    norms: bool = True
    size: tuple[int, int] = (16, 16)
    num_stages: Any = 2
    latent_dim: Any = 8

    def stem(self):
        return SmallStem((self.size[0] // 4, self.size[1] // 4))

    def stage(self, index, *, width=None):
        return SmallStage(self.features(index, width or 1.0), self.norms and width is None)

    def head(self):
        return SmallHead()

    def features(self, stage, width=1.0):
        return round(8 * width)

    def stage_factor(self, stage):
        return 2 ** (2 - stage)

    def discriminator(self):
        return nn.Sequential([Conv(4, spectral=self.norms), nn.relu, Conv(1, spectral=self.norms)])

    def generator_loss(self, discriminate, fake, inputs):
        return jnp.mean(nn.softplus(-discriminate(fake)))

    def discriminator_losses(self, discriminate, fake, real, inputs, key):
        return {
            "d_fake": jnp.mean(nn.softplus(discriminate(fake))),
            "d_real": jnp.mean(nn.softplus(-discriminate(real))),
            "d_mix": jnp.mean(discriminate(fake + real) ** 2),
        }


SMALL, PLAIN = (
    MultiExit(Small(norms=norms), (Exit(1, 0.5),), Guides(form="none"), PredictorPhase())
    for norms in (True, False)
)


def with_phase(**changes: Any) -> BackbonePhase:
    return dataclasses.replace(PHASE, **changes)


def unconditional(b=2, size=16, seed=0):
    """Pictures and latents, no inputs."""
    return batch_of(b, size, seed)._replace(inputs={})


def batch_of(b=2, size=16, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, (b, size, size)).astype(np.int32)
    target = rng.uniform(-1, 1, (b, size, size, 3)).astype(np.float32)
    return Batch({"labels": labels}, target, rng.normal(size=(b, 8)).astype(np.float32))


def after_one_step(phase, batch, model=SMALL):
    """State before, state after and metrics of one step; the same start for every phase."""
    state = backbone.init_state(model, phase, np.random.default_rng(0))
    before = jax.tree.map(np.asarray, state)
    after, metrics = backbone.make_step(model, phase)(state, batch, jax.random.key(3), None)
    return before, jax.tree.map(np.asarray, after), metrics


def gradient(state, opt="opt_g"):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(state[opt][0].mu)])


def assert_same_gradients(a, b):
    for opt in ("opt_g", "opt_d"):
        x, y = gradient(a, opt), gradient(b, opt)
        np.testing.assert_allclose(x, y, atol=2e-4 * np.abs(y).max(), rtol=1e-3)
        assert np.abs(y).max() > 1e-4


def assert_same_metrics(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name][0], b[name][0], rtol=1e-4)
