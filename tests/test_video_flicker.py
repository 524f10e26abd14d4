"""Temporal LPIPS of videos whose flicker is known, whole and in blocks."""

import dataclasses

import numpy as np
import pytest

from fiancee_jax.models.lpips import lpips
from fiancee_jax.video.flicker import Meter, measure, steps

T, SIZE = 7, (32, 32)
EXITS = np.array([1, 1, 2, 2, 2, 1, 1])


@pytest.fixture(scope="module")
def videos():
    """A backbone's video that moves a little, and a routed one that differs more at exit 1."""
    rng = np.random.default_rng(0)
    full = 0.5 * rng.uniform(-1, 1, (1, *SIZE, 3)) + 0.05 * rng.normal(size=(T, *SIZE, 3))
    other = 0.2 * rng.normal(size=(1, *SIZE, 3)) * (EXITS == 1)[:, None, None, None]
    return np.clip(full + other, -1, 1).astype(np.float32), full.astype(np.float32)


def test_steps_are_distances_of_neighbours(videos):
    frames, _ = videos
    found = steps(frames)
    assert found.shape == (T - 1,)
    for t in range(T - 1):
        expected = lpips(frames[t][None], frames[t + 1][None])
        np.testing.assert_allclose(found[t : t + 1], expected, rtol=1e-4)


def test_what_is_measured_is_what_it_says(videos):
    frames, full = videos
    found, rendered, backbone = measure(frames, full, EXITS), steps(frames), steps(full)
    assert found.rendered == pytest.approx(rendered.mean(), rel=1e-5)
    assert found.backbone == pytest.approx(backbone.mean(), rel=1e-5)
    assert found.distance == pytest.approx(float(lpips(frames, full).mean()), rel=1e-5)
    assert found.added == pytest.approx(found.rendered - found.backbone)
    assert found.ratio == pytest.approx(found.rendered / found.backbone)
    assert found.switches == 2
    more, switched = rendered - backbone, np.array([0, 1, 0, 0, 1, 0], bool)
    assert found.at_switches == pytest.approx(more[switched].mean(), rel=1e-4)
    assert found.elsewhere == pytest.approx(more[~switched].mean(), rel=1e-4, abs=1e-7)
    assert more[switched].min() > 2 * more[~switched].max()


def test_the_backbone_itself_adds_nothing(videos):
    full = videos[1]
    found = measure(full, full, np.full(T, 3))
    assert (found.added, found.ratio, found.distance) == (0, 1, 0)
    assert (found.switches, found.at_switches, found.elsewhere) == (0, None, 0)
    assert measure(full, full, np.arange(T)).elsewhere is None


def test_a_backbone_that_stands_still_has_no_ratio(videos):
    frames, full = videos
    still = np.repeat(full[:1], T, axis=0)
    found = measure(frames, still, EXITS)
    assert (found.backbone, found.ratio) == (0, None)
    assert found.added == found.rendered > 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_padded_blocks_are_the_whole(videos, size):
    frames, full = videos
    whole, meter, distances = measure(frames, full, EXITS), Meter(), []
    for start in range(0, T, size):
        rows = np.arange(start, start + 3).clip(max=T - 1)
        garbage = np.where(np.arange(len(rows)) < len(EXITS[start : start + size]), 1, -1)
        block = frames[rows] * garbage[:, None, None, None].astype(np.float32)
        distances.append(meter.add(block, full[rows], EXITS[start : start + size]))
    np.testing.assert_allclose(np.concatenate(distances), lpips(frames, full), rtol=1e-4)
    expected = dataclasses.asdict(whole)
    assert dataclasses.asdict(meter.flicker) == pytest.approx(expected, rel=1e-4, abs=1e-7)
