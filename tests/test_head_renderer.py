"""Rendered heads: where points appear, what hides what, and masks."""

import concurrent.futures

import jax
import numpy as np
import pytest

from fiancee_jax.data.ground import GROUND
from fiancee_jax.data.head_parameters import MOTION_DIM, Motion, draw_identity, draw_motion
from fiancee_jax.data.head_renderer import project, render

SIZE = (64, 64)
JAW, SMILE, LIDS, GAZE_X = 6, 7, slice(10, 12), 12


def person(seed):
    return draw_identity(np.random.default_rng(seed))


@pytest.fixture(scope="module")
def model():
    """A bald head without glasses, with pure red irises, in light from everywhere."""
    who = person(0)
    white, red = np.ones(3, np.float32), np.array([1, 0, 0], np.float32)
    nothing = np.zeros((), np.float32)
    return who._replace(
        hair=who.hair._replace(volume=nothing - 0.1, curtain=nothing, extra_radius=nothing - 9),
        glasses=who.glasses._replace(thickness=nothing - 9),
        paint=who.paint._replace(
            iris=red, skin=0.5 * white, redness=nothing, beard=nothing, freckles=nothing
        ),
        light=who.light._replace(ambient=1.2 * white, colour=0 * white),
    )


def motion(**values):
    """Motions [1, 14]: zero but for pose and the expressions given."""
    vector = np.zeros((1, MOTION_DIM), np.float32)
    vector[0, :6] = values.pop("pose", 0)
    for key, value in values.items():
        vector[0, {"jaw": JAW, "smile": SMILE, "lids": LIDS, "gaze": GAZE_X}[key]] = value
    return Motion.of(vector)


def picture(who, how, size=SIZE, background=False):
    images, masks = render(jax.tree.map(lambda v: v[None], who), how, size, background)
    return images[0].astype(float), masks[0]


def redness(image):
    """How red each pixel of the upper part is: the lips below are red as well."""
    upper = np.arange(len(image)) < 0.58 * len(image)
    return np.maximum(image[..., 0] - 1.2 * image[..., 1] - 3, 0) * upper[:, None]


def centroid(weight):
    """x, y of a picture's weight, -1 to 1."""
    at = (np.arange(len(weight)) + 0.5) / len(weight) * 2 - 1
    return np.array([(weight * at[None]).sum(), (weight * at[:, None]).sum()]) / weight.sum()


def by_hand(points, pose):
    a, b, c = pose[:3].astype(np.float64)
    ry = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned = np.stack([rz @ rx @ ry @ point for point in points])
    return np.exp(pose[5]) * turned + np.array([[pose[3], pose[4], 0]])


def test_points_project_as_the_convention_says():
    rng = np.random.default_rng(0)
    pose, points = rng.normal(0, 0.5, 6).astype(np.float32), rng.normal(0, 1, (5, 3))
    got = project(points.astype(np.float32), pose)
    np.testing.assert_allclose(got, by_hand(points, pose), atol=1e-5)
    nose = np.array([[0, 0, 1]], np.float32)
    right, down = (
        np.array([0.3, 0, 0, 0, 0, 0], np.float32),
        np.array([0, 0.3, 0, 0, 0, 0], np.float32),
    )
    assert project(nose, right)[0, 0] > 0.2
    assert project(nose, down)[0, 1] > 0.2


@pytest.mark.parametrize(
    "pose",
    [
        (0, 0, 0, 0, 0, 0),
        (0.4, 0, 0, 0, 0, 0),
        (-0.3, 0.2, 0, 0.1, 0, 0),
        (0, -0.2, 0.3, 0, 0.1, 0.09),
    ],
)
def test_the_eyes_appear_where_the_pose_says(model, pose):
    pose = np.array(pose, np.float32)
    image, _ = picture(model, motion(pose=pose))
    apart = 0.165 * float(model.shape.eye_gap)
    irises = np.array([[-apart, 0.006, 0.4], [apart, 0.006, 0.4]])
    expected = by_hand(irises, pose)[:, :2].mean(0)
    np.testing.assert_allclose(centroid(redness(image)), expected, atol=0.05)


def test_the_gaze_moves_the_irises(model):
    left, right = (picture(model, motion(gaze=value))[0] for value in (-1, 1))
    moved = centroid(redness(right)) - centroid(redness(left))
    assert 0.06 < moved[0] < 0.16
    assert abs(moved[1]) < 0.02


def test_in_profile_the_head_hides_the_far_eye(model):
    left, right = (0, 1), (1, 0)  # the eye that is open; yaw turns the right one away

    def seen(yaw, lids):
        pose = np.array([yaw, 0, 0, 0, 0, 0], np.float32)
        return redness(picture(model, motion(pose=pose, lids=lids))[0]).sum()

    assert seen(0, right) == pytest.approx(seen(0, left), rel=0.2)
    assert seen(1.2, right) < 0.1 * seen(0, right)
    assert seen(1.2, left) > 0.25 * seen(0, left)


def test_shut_lids_hide_the_eyes(model):
    opened, shut = (redness(picture(model, motion(lids=value))[0]).sum() for value in (0, 1))
    assert opened > 100
    assert shut < 0.02 * opened


def test_an_open_mouth_is_dark_and_lengthens_the_face(model):
    (shut, _), (opened, _) = (picture(model, motion(jaw=value)) for value in (0, 1))
    middle = slice(44, 48), slice(30, 34)
    assert opened[middle].mean() < 0.75 * shut[middle].mean()
    chin = slice(52, 56), slice(28, 36)
    assert np.abs(opened[chin] - shut[chin]).mean() > 5


def test_a_smile_changes_the_mouth_and_not_the_eyes(model):
    (sad, _), (glad, _) = (picture(model, motion(smile=value)) for value in (-1, 1))
    change = np.abs(sad - glad).mean(-1)
    assert change[41:47, 26:38].mean() > 3
    assert change[26:32].mean() < 0.5


def test_the_mask_is_where_the_picture_is_not_ground():
    for seed in range(4):
        who, how = person(seed), Motion.of(draw_motion(np.random.default_rng(seed)).vector[None])
        image, mask = picture(who, how)
        assert set(np.unique(mask)) == {0, 1}
        assert 0.2 < mask.mean() < 0.75
        assert (image[mask == 0] == GROUND).all()
        assert (image[mask == 1] == GROUND).all(-1).mean() < 0.01


def test_a_backdrop_changes_no_mask_and_nothing_of_the_head(model):
    plain, mask = picture(model, motion())
    framed, same = picture(model, motion(), background=True)
    np.testing.assert_array_equal(mask, same)
    assert np.abs(framed[mask == 0] - GROUND).mean() > 5
    inside = mask.astype(bool)
    for axis in (0, 1):
        for way in (-1, 1):
            inside &= np.roll(mask, way, axis) == 1
    assert inside.sum() > 100
    assert np.abs(framed - plain)[inside].mean() < 1


def test_a_wide_picture_shows_more_at_the_same_size(model):
    wide, wide_mask = picture(model, motion(), (64, 80))
    square, mask = picture(model, motion())
    assert wide.shape == (64, 80, 3)
    assert (wide_mask[:, 8:72] != mask).mean() < 0.01
    assert np.abs(wide[:, 8:72] - square).mean() < 1


def test_the_head_fills_two_thirds_of_the_height(model):
    _, mask = picture(model, motion())
    top = np.flatnonzero(mask.any(1))[0]
    assert 0.6 < 1 - 2 * top / 64 < 0.75  # of the way from the middle to the upper edge
    assert mask[-1].mean() > 0.8  # shoulders


def test_people_look_different():
    images = [picture(person(seed), motion())[0] for seed in range(6)]
    for i in range(6):
        for j in range(i):
            assert np.abs(images[i] - images[j]).mean() > 3


def test_threads_get_what_one_alone_gets():
    people = [person(seed) for seed in range(4)]
    batch = jax.tree.map(lambda *values: np.stack(values), *people)
    hows = Motion.of(np.zeros((4, MOTION_DIM)))
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: render(batch, hows, SIZE), range(3)))
    for images, _ in results:
        np.testing.assert_array_equal(images, results[0][0])
    np.testing.assert_array_equal(results[0][0][2], picture(people[2], motion())[0])
