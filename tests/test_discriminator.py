"""The U-Net against the published implementation's logits and losses."""

import json

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import oasis_torch
import pytest

from fiancee_jax import losses
from fiancee_jax.models.discriminator import Discriminator, Down, Up
from fiancee_jax.weights import read_torch


@pytest.fixture(scope="module")
def published(fixtures_dir):
    """Arrays NHWC, the published losses, and D as a jitted function with the published weights."""
    folder = fixtures_dir / "oasis"
    about = json.loads((folder / "square.json").read_text())
    module = Discriminator(tuple(about["discriminator_channels"][1:]), about["semantic_nc"])
    variables = oasis_torch.discriminator(read_torch(folder / "square_D.pth"))
    with np.load(folder / "square_io.npz") as archive:
        arrays = {k: archive[k] for k in archive.files}
    arrays = {k: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for k, a in arrays.items()}
    apply = jax.jit(module.apply)
    return arrays, about["losses"], lambda x: apply(variables, x)


@pytest.mark.parametrize(("picture", "logits"), [("image", "d_fake"), ("real", "d_real")])
def test_logits_are_the_published_ones(published, picture, logits):
    arrays, _, discriminate = published
    ours = discriminate(arrays[picture])
    np.testing.assert_allclose(ours, arrays[logits], atol=1e-4, rtol=0)
    assert arrays[logits].std() > 0.01


def test_labelmix_loss_is_the_published_one(published):
    arrays, expected, discriminate = published
    mask = jnp.asarray(arrays["labelmix_mask"])[..., None]
    mixed = discriminate(losses.mix(mask, arrays["real"], arrays["image"]))
    loss = losses.labelmix_loss(mixed, arrays["d_real"], arrays["d_fake"], mask)
    assert float(loss) == pytest.approx(expected["labelmix_mse"], rel=1e-3)


@pytest.mark.parametrize("blocks", [1, 3])
def test_logits_have_the_size_of_the_picture(blocks):
    module = Discriminator((4, 6, 6)[:blocks], 5)
    image = jax.ShapeDtypeStruct((2, 8, 16, 3), jnp.float32)
    logits, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
    assert logits.shape == (2, 8, 16, 6)
    assert variables["params"]["last"]["kernel"].shape == (1, 1, 64, 6)
    assert "last" not in variables["spectral"]


def test_shortcuts_resize():
    # with zero kernels in conv1 and conv2 only the shortcut is left
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype(np.float32)
    small = x.reshape(1, 2, 2, 2, 2, 3).mean((2, 4))
    for module, resized in ((Down(2, first=True), small), (Up(2), x.repeat(2, 1).repeat(2, 2))):
        params = by_hand.filled(module.init, x, scale=0.0)["params"]
        params["conv_s"] = by_hand.filled(module.init, x)["params"]["conv_s"]
        y = jax.jit(module.apply)({"params": params}, x)
        np.testing.assert_allclose(y, by_hand.conv(params["conv_s"], resized), atol=1e-5)


def test_only_later_blocks_activate_their_input():
    # with conv1 zero but for its centre, dx depends on lrelu(x), or on x in the first block
    x = -np.ones((1, 2, 2, 1), np.float32)
    centre = np.zeros((3, 3, 1, 1), np.float32)
    centre[1, 1] = 1
    for first in (True, False):
        params = {k: {"kernel": centre, "bias": np.zeros(1)} for k in ("conv1", "conv2")}
        y = jax.jit(Down(1, first=first).apply)({"params": params}, x)
        # 0.2 for each activation on the way, plus the pooled shortcut
        assert y.item() == pytest.approx((-0.2 if first else -0.04) - 1, rel=1e-6)
