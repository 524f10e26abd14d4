"""Materials: chosen by signs of the latent, deterministic; the usual ground is as it ever was."""

import itertools

import numpy as np
import pytest

from fiancee_jax.data import materials, palette
from fiancee_jax.data.landscapes import CLASSES, Landscapes, render
from fiancee_jax.errors import UserError

GROUND = [CLASSES.index(name) for name in materials.Ground._fields]
BANDS = np.repeat(np.arange(10, dtype=np.uint8), 3)[:, None].repeat(16, 1)  # all ten classes
SIGNS = np.array(list(itertools.product((1.0, -1.0), repeat=4)))


def latent(signs):
    return np.concatenate([np.zeros(8), signs])


def means(count, latents):
    """Mean colour of each class in the picture of each latent, [n, 10, 3]."""
    pictures = [render(BANDS, z, 0, count).astype(float) for z in latents]
    return np.array([[p[k == BANDS].mean(0) for k in range(10)] for p in pictures])


def explained(x, y):
    """R^2 of the linear map from x [n, d] (and a constant) to y [n, 3]."""
    x = np.column_stack([np.ones(len(x)), x])
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - (rest**2).sum() / ((y - y.mean(0)) ** 2).sum()


def test_one_material_paints_as_before_there_were_several():
    # Mean colours measured with the version that had no materials.
    expected = [
        [112.9, 154.7, 220.8],
        [210.5, 210.0, 217.4],
        [172.9, 155.7, 141.2],
        [251.2, 249.0, 253.2],
        [137.9, 103.8, 49.6],
        [125.1, 132.2, 75.9],
        [151.3, 123.3, 69.9],
        [85.5, 99.8, 85.4],
        [180.9, 163.0, 135.4],
        [154.6, 138.9, 125.9],
    ]
    np.testing.assert_allclose(means(1, [np.zeros(8)])[0], expected, atol=0.2)


def test_the_default_has_one_material_and_eight_numbers():
    assert Landscapes().materials == 1
    assert materials.choose(np.zeros(8), 1) is materials.USUAL
    assert palette.mood(np.zeros(8)).ground is materials.USUAL
    assert Landscapes().open("train", (16, 16))[0]["latent"].shape == (8,)


def test_scenes_keep_their_maps_and_their_first_eight_numbers():
    one, four = (Landscapes(materials=n).open("train", (32, 32)) for n in (1, 4))
    for i in range(4):
        np.testing.assert_array_equal(one[i]["labels"], four[i]["labels"])
        np.testing.assert_array_equal(one[i]["latent"], four[i]["latent"][:8])
        assert four[i]["latent"].shape == (12,)
        assert four[i]["latent"].dtype == np.float32


def test_scenes_are_deterministic():
    first, again = (Landscapes(materials=4).open("report", (24, 24)) for _ in range(2))
    _ = again[4]
    for key in ("labels", "image", "latent"):
        np.testing.assert_array_equal(first[3][key], again[3][key])


def test_the_latents_last_four_are_drawn_like_the_others():
    source = Landscapes(train=400, materials=4).open("train", (8, 8))
    last = np.array([source[i]["latent"][8:] for i in range(400)], np.float64)
    np.testing.assert_allclose(last.mean(0), 0, atol=0.2)  # four standard errors
    np.testing.assert_allclose(last.std(0), 1, atol=0.15)


@pytest.mark.parametrize("count", [2, 4])
def test_only_the_signs_choose(count):
    for signs in SIGNS:
        near, far = (materials.choose(latent(signs * s), count) for s in (0.01, 5.0))
        assert all(a is b for a, b in zip(near, far, strict=True))


@pytest.mark.parametrize("count", [2, 4])
def test_every_class_takes_each_of_its_materials_equally_often(count):
    grounds = [materials.choose(latent(signs), count) for signs in SIGNS]
    for name in materials.Ground._fields:
        kinds = [id(getattr(ground, name)) for ground in grounds]
        assert sorted(kinds.count(k) for k in set(kinds)) == [16 // count] * count


def test_classes_choose_by_themselves():
    # Two classes that chose alike would have 4 pairs of materials; all but rock and sand have 8+.
    grounds = [materials.choose(latent(signs), 4) for signs in SIGNS]
    for a, b in itertools.combinations(materials.Ground._fields, 2):
        pairs = {(id(getattr(g, a)), id(getattr(g, b))) for g in grounds}
        assert len(pairs) == (4 if (a, b) == ("rock", "sand") else 16 if disjoint(a, b) else 8)


def disjoint(a, b):
    return not set(materials.CHOICES[a].dims) & set(materials.CHOICES[b].dims)


def test_of_two_materials_no_single_sign_tells_which():
    grounds = [materials.choose(latent(signs), 2) for signs in SIGNS]
    for name in materials.Ground._fields:
        first = np.array([getattr(g, name) is getattr(grounds[0], name) for g in grounds])
        np.testing.assert_array_equal(SIGNS.T @ (2.0 * first - 1), 0)


def test_materials_of_a_class_look_different():
    colours = means(4, [latent(signs) for signs in SIGNS])[:, GROUND]
    for k, name in enumerate(materials.Ground._fields):
        # The light is the same in all: as many looks as materials, at least 20 of 255 apart.
        chosen = [id(getattr(materials.choose(latent(s), 4), name)) for s in SIGNS]
        looks = np.array([colours[chosen.index(c), k] for c in dict.fromkeys(chosen)])
        apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(looks, 2)]
        assert min(apart) > 20, name


def test_with_materials_no_linear_map_of_the_latent_tells_the_colours():
    z = np.random.default_rng(0).standard_normal((400, 12))
    pattern = np.eye(16)[(z[:, 8:] < 0) @ [8, 4, 2, 1]][:, 1:]
    one, four = means(1, z[:, :8])[:, GROUND], means(4, z)[:, GROUND]
    share_one, share_four, share_told = (
        np.mean([explained(x, colours[:, k]) for k in range(7)])
        for x, colours in ((z[:, :8], one), (z, four), (np.column_stack([z, pattern]), four))
    )
    assert share_one > 0.65  # measured: .71
    assert share_four < 0.35  # measured: .28
    assert share_told > 0.9  # measured: .94; the pattern of the signs is all that was missing


@pytest.mark.parametrize("count", [0, 3, 5])
def test_bad_counts_are_named(count):
    with pytest.raises(UserError, match=rf"data.materials is {count}.*1, 2 or 4"):
        Landscapes(materials=count).open("train", (16, 16))


@pytest.mark.parametrize("signs", SIGNS[[0, 5, 10, 15]])
def test_every_map_can_be_painted_with_them(signs):
    for label in range(10):
        image = render(np.full((16, 24), label, np.uint8), latent(signs), 0, 4)
        assert 10 < image.mean() < 250
