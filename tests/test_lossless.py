"""What the sparse path costs, against counts by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax import lossless
from fiancee_jax.config import Exit, Guides, PredictorPhase
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.dcgan import Dcgan
from fiancee_jax.models.oasis import Oasis

Z, CLASSES, HIDDEN = 3, 4, 6
FAMILY = Oasis(
    size=(32, 64),
    classes=("a", "b", "c", "d"),
    width=2,
    hidden=HIDDEN,
    z_dim=Z,
    blocks=2,
    min_channels=1,
)  # 8 channels; 4 at 16x32, which is not searched; 2 at 32x64
SEG = Z + CLASSES


def model(**changes):
    exits = (Exit(1, 0.5),)
    family = dataclasses.replace(FAMILY, **changes)
    return MultiExit(family, exits, Guides(form="none"), PredictorPhase())


def street():
    labels = np.zeros((2, 32, 64), np.int32)
    labels[:, 20:] = 1
    labels[0, 8:19, 5:31] = 2
    labels[1, 3:9, 40:] = 3
    return labels


def windows(labels, radius):
    """Distinct neighbourhoods of one map."""
    padded = np.pad(labels, radius, constant_values=CLASSES)
    side = 2 * radius + 1
    found = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return len(np.unique(found.reshape(-1, side * side), axis=0))


def stage(pixels, rows, fan_in, fan_out, hidden=HIDDEN):
    """MACs of one SPADE block whose gamma and beta take `rows` vectors, with its shortcut."""
    spades = sum(9 * Z * hidden + rows * 9 * hidden * 2 * c for c in (fan_in, fan_in, fan_out))
    return spades + pixels * (fan_in * fan_out + 9 * fan_in * fan_out + 9 * fan_out * fan_out)


def by_hand(rows, last=2, hidden=HIDDEN):
    """GMACs where the second stage has `last` channels."""
    small, large = 16 * 32, 32 * 64
    stem, head = small * 9 * SEG * 8, large * 9 * last * 3
    return (stem + stage(small, small, 8, 4) + stage(large, rows, 4, last, hidden) + head) / 1e9


def rounded(count):
    return -(-count // 128) * 128  # 2048 pixels: chunks of 2048 / 16


def test_backbone_by_hand():
    labels = street()
    expected = [by_hand(rounded(windows(one, 1))) for one in labels]
    found = lossless.gmacs(model(), {"labels": jnp.asarray(labels)}, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_class_blocks_are_left_with_their_convolutions():
    """Where patterns are found what a pixel takes is looked up; small maps do it densely."""
    family = dataclasses.replace(FAMILY, light_block="class")
    whole = MultiExit(family, (Exit(0, 1.0), Exit(1, 1.0)), Guides(form="none"), PredictorPhase())
    small, large = 16 * 32, 32 * 64

    def block(pixels, fan_in, fan_out, by_pixel):
        tables = sum(CLASSES * (SEG * HIDDEN + HIDDEN * 2 * c) for c in (fan_in, fan_in, fan_out))
        looks = 9 * CLASSES + CLASSES * 2 * (2 * fan_in + fan_out)
        convolutions = fan_in * fan_out + 9 * fan_in * fan_out + 9 * fan_out * fan_out
        return tables + pixels * (convolutions + by_pixel * looks)

    ends = small * 9 * SEG * 8 + large * 9 * 2 * 3
    last = block(large, 4, 2, by_pixel=False)
    labels = street()
    by_number = dict(zip(whole.exits, (1, 2), strict=True))
    found = lossless.gmacs(whole, {"labels": labels}, by_number[Exit(0, 1.0)])
    expected = ends + block(small, 8, 4, by_pixel=True) + last
    np.testing.assert_allclose(found, [expected / 1e9] * 2, rtol=1e-12)
    found = lossless.gmacs(whole, {"labels": labels}, by_number[Exit(1, 1.0)])
    expected = ends + stage(small, small, 8, 4) + last
    np.testing.assert_allclose(found, [expected / 1e9] * 2, rtol=1e-12)


def test_a_branch_counts_its_stages_from_its_tap():
    """Half the channels and half the hidden ones in the second stage."""
    labels = street()
    expected = [by_hand(rounded(windows(one, 1)), 1, HIDDEN // 2) for one in labels]
    found = lossless.gmacs(model(), {"labels": labels}, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_noise_saves_the_label_convolutions_only():
    labels = np.random.default_rng(0).integers(0, CLASSES, (1, 32, 64), dtype=np.int32)
    found = lossless.gmacs(model(), {"labels": labels}, 2)
    np.testing.assert_allclose(found, by_hand(32 * 64), rtol=1e-12)
    saved = 3 * (16 * 32 + 32 * 64 - 2 * Z / SEG) * 9 * SEG * HIDDEN / 1e9
    np.testing.assert_allclose(model().gmacs[-1] - found, saved, rtol=1e-9)


def test_levels_hold_the_patterns_of_each_picture():
    labels = street()
    for one, (small, large) in zip(
        labels, lossless.levels(FAMILY, {"labels": labels}), strict=True
    ):
        assert small == lossless.Level((16, 32), None, None, 16 * 32)
        three, five = windows(one, 1), windows(one, 2)
        assert large == lossless.Level((32, 64), three, five, rounded(three))


def test_inputs_may_have_another_size():
    wide = np.concatenate([street(), street()], axis=2)
    found = lossless.gmacs(model(), {"labels": wide}, 2)
    same = lossless.gmacs(model(size=(32, 128)), {"labels": wide}, 2)
    np.testing.assert_array_equal(found, same)


def test_a_family_without_label_maps_saves_nothing():
    dcgan = MultiExit(Dcgan(), (), Guides(form="none"), PredictorPhase())
    z = np.zeros((3, dcgan.family.latent_dim), np.float32)
    found = lossless.gmacs(dcgan, {"z": z}, 1)
    assert found == pytest.approx(np.full(3, dcgan.gmacs[-1]))
