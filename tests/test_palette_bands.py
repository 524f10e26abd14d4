"""Palettes of OASIS by vertical band."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config

from fiancee_jax.models.oasis import Oasis, _bands
from fiancee_jax.training import checks

PLAIN = Oasis(size=(8, 4), classes=("sky", "sea"), blocks=3)
BANDED = dataclasses.replace(PLAIN, palette_bands=2)
LABELS = np.random.default_rng(0).integers(0, 2, (3, 8, 4))
INPUTS = {"labels": jnp.asarray(LABELS, jnp.int32)}


def test_bands_fade_linearly_between_their_middles():
    # two bands of 8 rows have their middles at 2 and 6; rows are at 0.5, 1.5, ...
    expected = [1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8, 0, 0]
    np.testing.assert_allclose(_bands(8, 2)[:, 0], expected, atol=1e-6)
    for count in (1, 2, 3, 5):
        np.testing.assert_allclose(_bands(8, count).sum(1), np.ones(8), atol=1e-6)


def test_painting_mixes_the_two_nearest_bands():
    palette = np.random.default_rng(1).uniform(-1, 1, (3, 4, 3)).astype(np.float32)
    painted = np.asarray(BANDED.paint(jnp.asarray(palette), INPUTS))
    top = np.asarray(_bands(8, 2))[:, 0]
    for b, y, x in ((0, 0, 0), (1, 2, 3), (2, 5, 1)):
        label = LABELS[b, y, x]  # palettes hold all classes of the first band, then of the second
        expected = top[y] * palette[b, label] + (1 - top[y]) * palette[b, 2 + label]
        np.testing.assert_allclose(painted[b, y, x], expected, atol=1e-6)


def test_summaries_are_means_over_class_and_band():
    images = np.random.default_rng(2).uniform(-1, 1, (3, 8, 4, 3)).astype(np.float32)
    colours, share = (np.asarray(x) for x in BANDED.summarise(jnp.asarray(images), INPUTS))
    assert colours.shape == (3, 4, 3)
    weights = np.asarray(_bands(8, 2))
    for band in range(2):
        for label in range(2):
            mask = (label == LABELS) * weights[None, :, band, None]
            total = mask.sum((1, 2))
            expected = (images * mask[..., None]).sum((1, 2)) / total[:, None]
            np.testing.assert_allclose(colours[:, 2 * band + label], expected, atol=1e-5)
            np.testing.assert_allclose(share[:, 2 * band + label], total / 32, atol=1e-6)
    plain = PLAIN.summarise(jnp.asarray(images), INPUTS)[1]
    np.testing.assert_allclose(share.reshape(3, 2, 2).sum(1), plain, atol=1e-6)


def test_a_fading_picture_is_caught_by_bands_alone():
    fade = np.linspace(-0.5, 0.5, 8, dtype=np.float32).reshape(1, 8, 1, 1)
    images = jnp.asarray(np.broadcast_to(fade, (3, 8, 4, 3)))

    def error(family):
        return np.abs(family.paint(family.summarise(images, INPUTS)[0], INPUTS) - images).mean()

    assert error(BANDED) < 0.6 * error(PLAIN)


@pytest.mark.parametrize(
    ("field", "value", "stays"),
    [("palette_bands", 2, True), ("light_block", "inception", True), ("width", 32, False)],
)
def test_a_backbone_serves_other_light_stages_and_palettes(field, value, stays):
    old = tiny_config()
    new = dataclasses.replace(old, model=dataclasses.replace(old.model, **{field: value}))
    lines = checks.changes("backbone", old, new)
    assert (lines == []) == stays
    assert checks.changes("branches", old, new)  # trained anew in any case
