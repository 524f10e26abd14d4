"""Measuring reenactment: every column against direct calls, masks, poses."""

import dataclasses
import types

import jax
import numpy as np
import pytest
import reenact
from tiny_heads import heads_renderer

from fiancee_jax import metrics
from fiancee_jax.evaluation import reenactment
from fiancee_jax.evaluation.reenactment import KINDS, Judges, degrees_apart
from fiancee_jax.exits import MultiExit
from fiancee_jax.models import identity_net, lpips

SIZE, PAIRS, BATCH = (32, 32), 3, 8


@pytest.fixture(scope="module")
def judges():
    """LPIPS-alex in both places, with other heads in the second: VGG takes seconds a call."""
    alex = lpips.load("alex")
    twice = dataclasses.replace(alex, heads=tuple(2 * head for head in alex.heads))
    net = identity_net.initial(np.random.default_rng(0))
    return Judges(alex, twice, jax.tree_util.Partial(identity_net.embed, net))


@pytest.fixture(scope="module")
def sources():
    data = heads_renderer().config.data
    opened = {k: dataclasses.replace(data, cross=x).open("report", SIZE) for k, x in KINDS.items()}
    return {kind: [source[i] for i in range(PAIRS)] for kind, source in opened.items()}


@pytest.fixture(scope="module")
def found(judges, sources):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reenactment, "BATCH", BATCH)
        return reenactment.measure(heads_renderer(), sources, judges)


def scaled(pictures):
    return np.stack(pictures).astype(np.float32) / 127.5 - 1


def all_of(sources, key, kind="cross"):
    return scaled([element[key] for element in sources[kind]])


def test_kinds_differ_by_the_driver_alone(sources):
    for own, other in zip(sources["self"], sources["cross"], strict=True):
        np.testing.assert_array_equal(own["driver"], own["image"])
        assert np.any(own["driver"] != other["driver"])
        for key in set(own) - {"driver", "name"}:
            np.testing.assert_array_equal(own[key], other[key])


def test_columns_are_those_of_direct_calls(found, sources):
    truth, source = all_of(sources, "image"), all_of(sources, "source")
    inputs = {"source": source, "driver": all_of(sources, "driver")}
    full = heads_renderer()(inputs, exit="full")
    first = heads_renderer()(inputs, exit=1)
    for column, pictures in ((0, first.images), (-2, full.images), (-1, source)):
        for key, measure in (("psnr", metrics.psnr), ("ssim", metrics.ssim)):
            expected = measure(pictures, truth)
            np.testing.assert_allclose(found[f"cross.{key}"][:, column], expected, rtol=1e-3)
        near = lpips.lpips(pictures, truth)
        np.testing.assert_allclose(found["cross.lpips_alex"][:, column], near, rtol=1e-3)
        np.testing.assert_allclose(found["cross.lpips_vgg"][:, column], 2 * near, rtol=1e-3)
        apart = np.abs(pictures - truth).mean((1, 2, 3))
        np.testing.assert_allclose(found["cross.l1"][:, column], apart, rtol=1e-3)
    base = lpips.lpips(first.images, full.images)
    np.testing.assert_allclose(found["cross.lpips_to_backbone"][:, 0], base, rtol=1e-3)
    np.testing.assert_array_equal(found["cross.lpips_to_backbone"][:, -2], 0)
    np.testing.assert_allclose(found["cross.predicted"], first.predicted_lpips, atol=1e-5)


def test_shapes_and_what_is_known(found, sources):
    assert found["names"].tolist() == [element["name"] for element in sources["self"]]
    np.testing.assert_array_equal(found["motion"][1], sources["self"][1]["motion"])
    np.testing.assert_array_equal(found["source_pose"][1], sources["self"][1]["source_pose"])
    columns = heads_renderer().model.num_exits + 1
    for kind in KINDS:
        for key in ("lpips_vgg_masked", "l1_masked", "ssim_masked", "identity", "pose_error"):
            assert found[f"{kind}.{key}"].shape == (PAIRS, columns)
    assert found["truth_pose_error"].shape == (PAIRS, 1)


def test_identities_are_cosines(found):
    same = (found["truth_vector"] * found["source_vector"]).sum(1)
    for kind in KINDS:
        np.testing.assert_allclose(found[f"{kind}.identity"][:, -1], same, atol=1e-5)
    np.testing.assert_allclose(found["self.driver_vector"], found["truth_vector"], atol=1e-5)
    leak = (found["source_vector"] * found["cross.driver_vector"]).sum(1)
    np.testing.assert_allclose(found["cross.driver"][:, -1], leak, atol=1e-5)


def test_ground_outside_the_mask_does_not_count(judges, sources):
    rng = np.random.default_rng(0)
    truth, mask = all_of(sources, "image"), np.stack([e["mask"] for e in sources["self"]]) > 0
    mask = mask[..., None]
    noise = rng.uniform(-1, 1, truth.shape).astype(np.float32)
    fill = np.arange(BATCH) % PAIRS  # the shapes that have been compiled

    def compared(pictures):
        see = [reenactment._see(judges, x[fill], mask[fill]) for x in (pictures, truth)]
        vector = see[0].vector
        return reenactment._compare(judges, mask[fill], *see, see[1], vector)

    outside, inside = compared(np.where(mask, truth, noise)), compared(np.where(mask, noise, truth))
    assert np.all(outside["psnr_masked"] == metrics.MAX_PSNR)
    assert np.max(outside["lpips_alex_masked"]) < 1e-4 < np.min(outside["lpips_alex"])
    np.testing.assert_allclose(outside["ssim_masked"], 1, atol=1e-4)
    apart = np.where(mask, np.abs(noise - truth), 0).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    np.testing.assert_allclose(inside["l1_masked"][:PAIRS], apart, rtol=1e-4)
    squared = np.where(mask, (noise - truth) ** 2, 0).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    decibels = 10 * np.log10(4 / squared)
    np.testing.assert_allclose(inside["psnr_masked"][:PAIRS], decibels, rtol=1e-4)


def test_degrees_between_poses():
    level = np.zeros((3, 6), np.float32)
    turned = np.zeros((3, 6), np.float32)
    turned[0, 0], turned[1, 1] = np.radians(30), np.radians(-90)
    turned[2, 3:] = 1  # neither shift nor scale is a turn
    np.testing.assert_allclose(degrees_apart(level, turned), [30, 90, 0], atol=1e-3)
    np.testing.assert_allclose(degrees_apart(turned, level), [30, 90, 0], atol=1e-3)


def test_families_without_a_motion_encoder_have_no_pose_error():
    renderer = types.SimpleNamespace(model=MultiExit.of(reenact.CONFIG), variables={})
    picture = np.zeros((2, *SIZE, 3), np.float32)
    pose = np.zeros((2, 6), np.float32)
    assert reenactment._pose_errors(renderer, pose, "error", [picture]) == {}  # pyright: ignore
