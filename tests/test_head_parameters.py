"""Motions and identities: within their limits, deterministic, and clips are smooth."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.data.head_parameters import (
    HIGH,
    LOW,
    MOTION_DIM,
    Motion,
    draw_clip,
    draw_identity,
    draw_motion,
)


def rng(seed):
    return np.random.default_rng(seed)


def motions(count):
    return np.stack([draw_motion(rng([1, i])).vector for i in range(count)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_motions_stay_within_their_limits(seed):
    for vector in (draw_motion(rng(seed)).vector[None], draw_clip(rng(seed), 40).vector):
        assert vector.shape[1:] == (MOTION_DIM,) == (14,)
        assert vector.dtype == np.float32
        assert (vector >= LOW[None]).all()
        assert (vector <= HIGH[None]).all()


def test_most_heads_face_the_front_and_some_turn_far():
    yaw = np.degrees(np.abs(motions(400)[:, 0]))
    assert (yaw < 35).mean() > 0.7
    assert yaw.max() > 60


def test_every_expression_occurs():
    spread = motions(400)
    assert (np.ptp(spread[:, 6:], axis=0) > 0.9).all()
    assert (spread[:, 6] < 0.1).any()  # mouths are also shut
    assert (spread[:, 10] != spread[:, 11]).any()  # a wink


def test_a_vector_and_its_motion_are_the_same():
    clip = draw_clip(rng(3), 5)
    assert clip.pose.shape == (5, 6)
    assert clip.expression.shape == (5, 8)
    again = Motion.of(clip.vector)
    np.testing.assert_array_equal(again.pose, clip.pose)
    np.testing.assert_array_equal(again.expression, clip.expression)


def test_clips_are_smooth_and_move():
    for seed in range(10):
        vector = draw_clip(rng(seed), 200).vector
        steps = np.abs(np.diff(vector, axis=0)).max(0)
        assert steps[:3].max() < np.radians(5)
        assert steps[3:6].max() < 0.02
        assert steps[[6, 7, 8, 9, 12, 13]].max() < 0.3
        assert np.degrees(np.ptp(vector[:, 0])) > 5


def test_clips_speak_and_blink():
    vector = draw_clip(rng(0), 300).vector
    assert vector[:, 6].max() > 0.3
    assert vector[:, 6].min() < 0.05
    shut = vector[:, 10] > 0.8
    assert 0 < shut.mean() < 0.15
    np.testing.assert_array_equal(vector[:, 10], vector[:, 11])


def test_a_longer_clip_begins_alike():
    short, long = draw_clip(rng(4), 20).vector, draw_clip(rng(4), 90).vector
    np.testing.assert_allclose(long[:20], short, atol=1e-6)


def test_an_identity_depends_on_the_generator_alone():
    first, again, other = (jax.tree.leaves(draw_identity(rng(seed))) for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_all_styles_of_hair_and_glasses_occur():
    people = [draw_identity(rng([2, i])) for i in range(150)]
    assert {person.hair.volume < 0 for person in people} == {True, False}  # bald or not
    assert {float(person.hair.curtain) for person in people} == {0, 1}
    assert {person.hair.curl > 0.019 for person in people} == {True, False}
    assert {person.hair.extra_radius > 0 for person in people} == {True, False}
    assert 0.15 < np.mean([person.glasses.thickness > 0 for person in people]) < 0.45


def test_identities_stack():
    people = [draw_identity(rng(i)) for i in range(3)]
    batch = jax.tree.map(lambda *values: np.stack(values), *people)
    assert batch.paint.skin.shape == (3, 3)
    assert batch.shape.width.shape == (3,)
    lengths = np.linalg.norm(batch.light.direction, axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
