"""The guide bank: retrieval, construction and every form of guide."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_config

from fiancee_jax import guides
from fiancee_jax.config import Guides
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.oasis import Oasis

FAMILY = Oasis(size=(8, 16), classes=("sky", "sea", "land"), width=2, hidden=4, z_dim=4, blocks=3)
RNG = np.random.default_rng(0)


def base(guide):
    assert guide.features is None
    return np.asarray(guide.base)


def features(guide):
    assert guide.base is None
    return np.asarray(guide.features)


# --- nearest ------------------------------------------------------------------------------------
nearest = jax.jit(guides.nearest, static_argnums=2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 5.0]))
def test_nearest_is_brute_force(seed, offset):
    rng = np.random.default_rng(seed)
    keys = (rng.standard_normal((20, 3)) + offset).astype(np.float32)
    queries = (rng.standard_normal((6, 3)) + offset).astype(np.float32)
    found = np.asarray(nearest(keys, queries, 4))
    distance = ((queries[:, None].astype(float) - keys[None]) ** 2).sum(-1)
    expected = np.sort(distance, 1)[:, :4]
    np.testing.assert_allclose(np.take_along_axis(distance, found, 1), expected, atol=1e-4)
    assert all(len(set(row)) == 4 for row in found)


def test_a_key_is_its_own_nearest():
    keys = RNG.standard_normal((20, 3)).astype(np.float32)
    np.testing.assert_array_equal(nearest(keys, keys, 1)[:, 0], np.arange(20))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_distances_to_keys_have_the_highest_precision(dtype):
    keys, queries = jax.ShapeDtypeStruct((20, 3), "float32"), jax.ShapeDtypeStruct((6, 3), dtype)
    program = jax.make_jaxpr(lambda k, q: guides.nearest(k, q, 4))(keys, queries).jaxpr
    (product,) = [e for e in program.eqns if e.primitive.name == "dot_general"]
    assert product.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2
    assert product.outvars[0].aval.dtype == jnp.float32


# --- palettes -----------------------------------------------------------------------------------
def records_of(z, labels, images, form: Any = "palette"):
    inputs = {"labels": jnp.asarray(labels, jnp.int32), "z": jnp.asarray(z, jnp.float32)}
    images = jnp.asarray(images, jnp.float32)
    return guides.summarise(Guides(form=form), FAMILY, images, inputs, {})


def batch(count, classes=3):
    labels = RNG.integers(0, classes, (count, 8, 16))
    images = RNG.uniform(-0.9, 0.9, (count, 8, 16, 3))
    return RNG.standard_normal((count, 4)), labels, images


def test_bank_of_one_picture_per_entry_is_what_was_measured():
    z, labels, images = batch(6, classes=2)  # class 2 is never seen
    records = records_of(z, labels, images)
    bank = guides.build(Guides(), records, maps=1)
    np.testing.assert_allclose(bank["palette"], records["palette"], atol=1e-6)
    np.testing.assert_allclose(bank["share"], records["share"], atol=1e-6)
    np.testing.assert_allclose(bank["keys"], z @ bank["projection"], atol=1e-5)
    for b in range(6):
        for c in range(2):
            mean = images[b][labels[b] == c].mean(0)
            np.testing.assert_allclose(bank["palette"][b, c], mean, atol=1e-5)
    for c in range(2):  # mean over all pixels of the class in all pictures
        np.testing.assert_allclose(bank["mean"][c], images[labels == c].mean(0), atol=1e-5)
    np.testing.assert_array_equal(bank["mean"][2], np.zeros(3))
    assert all(a.dtype == np.float32 for a in bank.values())


def test_maps_of_one_entry_are_pooled_by_their_pixels():
    z, labels, images = batch(6)
    z = z.reshape(2, 3, 4)[:, :1].repeat(3, 1).reshape(6, 4)
    bank = guides.build(Guides(), records_of(z, labels, images), maps=3)
    assert bank["keys"].shape[0] == 2
    for e in range(2):
        part = slice(3 * e, 3 * e + 3)
        for c in range(3):
            mask = labels[part] == c
            mean = images[part][mask].mean(0)
            np.testing.assert_allclose(bank["palette"][e, c], mean, atol=1e-5)
            assert bank["share"][e, c] == pytest.approx(mask.mean(), rel=1e-5)


def test_palette_guide_paints_each_class_in_its_colour():
    z, labels, images = batch(6)
    records = records_of(z, labels, images)
    bank = guides.build(Guides(), records, maps=1)
    inputs = {"labels": jnp.asarray(labels[:2], jnp.int32), "z": jnp.asarray(z[:2], jnp.float32)}
    options = Guides(neighbours=1)
    guide = guides.retrieve(options, FAMILY, bank, inputs, {})
    expected = np.stack([np.asarray(records["palette"])[b][labels[b]] for b in range(2)])
    np.testing.assert_allclose(base(guide), expected, atol=0.01)  # up to PRIOR


def test_palette_guide_averages_neighbours_by_share():
    z, labels, images = batch(6, classes=2)
    bank = guides.build(Guides(), records_of(z, labels, images), maps=1)
    bank = {**bank, "share": np.array(bank["share"])}
    bank["share"][0, 1] = 0  # entry 0 has not seen class 1
    inputs = {"labels": jnp.ones((1, 8, 16), jnp.int32), "z": jnp.zeros((1, 4))}
    guide = guides.retrieve(Guides(neighbours=3), FAMILY, bank, inputs, {})
    chosen = np.argsort((bank["keys"] ** 2).sum(1))[:3]
    share = bank["share"][chosen, 1]
    total = share @ bank["palette"][chosen, 1] + guides.PRIOR * bank["mean"][1]
    np.testing.assert_allclose(
        base(guide)[0, 0, 0], total / (share.sum() + guides.PRIOR), rtol=1e-4
    )


def test_a_class_that_no_neighbour_has_seen_takes_its_mean_colour():
    z, labels, images = batch(6)
    bank = guides.build(Guides(), records_of(z, labels, images), maps=1)
    bank = {**bank, "share": bank["share"] * np.array([1.0, 1.0, 0.0], np.float32)}
    inputs = {"labels": jnp.full((1, 8, 16), 2, jnp.int32), "z": jnp.zeros((1, 4))}
    guide = guides.retrieve(Guides(neighbours=3), FAMILY, bank, inputs, {})
    np.testing.assert_allclose(base(guide)[0, 3, 5], bank["mean"][2], rtol=1e-5)


def test_keys_follow_the_direction_of_z_that_moves_colours():
    # the colour of class 1 depends on z[2] alone
    rng = np.random.default_rng(1)
    z = rng.standard_normal((200, 4))
    palette = np.full((200, 3, 3), 0.2) + 0.01 * rng.standard_normal((200, 3, 3))
    palette[:, 1] += 0.3 * z[:, 2:3] * np.array([1.0, 0.5, -0.5])
    records = {"vector": z, "palette": palette, "share": np.full((200, 3), 1 / 3)}
    bank = guides.build(Guides(), records, maps=1)
    first = bank["projection"][:, 0]
    assert abs(first[2]) > 0.99 * np.linalg.norm(first)
    rest = np.linalg.norm(bank["projection"][:, 1:])
    assert rest < 0.05 * np.linalg.norm(first)
    # so the entry that is fetched agrees in z[2], whatever the others are
    queries = rng.standard_normal((50, 4)).astype(np.float32)
    index = nearest(bank["keys"], queries @ bank["projection"], 1)[:, 0]
    assert np.abs(z[index, 2] - queries[:, 2]).mean() < 0.1


def test_frequent_classes_weigh_more_in_the_keys():
    # two classes, moved by z[0] and z[1] alike; the second covers a hundredth of the picture
    rng = np.random.default_rng(1)
    z = rng.standard_normal((200, 4))
    palette = np.stack([0.3 * z[:, :1].repeat(3, 1), 0.3 * z[:, 1:2].repeat(3, 1)], 1)
    records = {"vector": z, "palette": palette, "share": np.tile([0.99, 0.01], (200, 1))}
    weight = np.linalg.norm(guides.build(Guides(), records, maps=1)["projection"], axis=1)
    assert weight[0] / weight[1] == pytest.approx(99**0.5, rel=0.05)
    assert weight[2:].max() < 0.05 * weight[0]


def labelled(z, labels):
    return {"labels": jnp.asarray(labels, jnp.int32), "z": jnp.asarray(z, jnp.float32)}


def test_a_concatenated_palette_is_the_added_one_elsewhere():
    z, labels, images = batch(6)
    bank = guides.build(Guides(), records_of(z, labels, images), maps=1)
    inputs = labelled(z, labels)
    added = guides.retrieve(Guides(neighbours=2), FAMILY, bank, inputs, {})
    joined = guides.retrieve(Guides(neighbours=2, join="concat"), FAMILY, bank, inputs, {})
    np.testing.assert_array_equal(features(joined), base(added))
    both = guides.retrieve(Guides(neighbours=2, join="both"), FAMILY, bank, inputs, {})
    np.testing.assert_array_equal(both.base, base(added))
    np.testing.assert_array_equal(both.features, base(added))


def test_random_retrieval_ignores_the_keys_and_is_always_the_same_for_an_input():
    z, labels, images = batch(40)
    z = np.arange(160.0).reshape(40, 4) / 7  # far apart: each is its own nearest
    form = Guides(form="random", size=40, neighbours=1)
    bank = guides.build(form, records_of(z, labels, images), maps=1)
    uniform = np.zeros((40, 8, 16), int)
    found = base(guides.retrieve(form, FAMILY, bank, labelled(z, uniform), {}))[:, 0, 0]
    colours = bank["palette"][:, 0]
    owner = ((found[:, None] - colours[None]) ** 2).sum(-1).argmin(1)
    assert np.abs(found - colours[owner]).max() < 0.02  # colours of entries of the bank
    assert (owner == np.arange(40)).sum() < 6  # 1 of 40 by chance
    assert len(set(owner)) > 15
    again = base(guides.retrieve(form, FAMILY, bank, labelled(z[::-1], uniform), {}))[:, 0, 0]
    np.testing.assert_array_equal(again[::-1], found)


@pytest.mark.parametrize("population", ["random", "kmeans", "kcenter", "balanced"])
def test_a_bank_keeps_whole_entries_of_the_candidates(population):
    z, labels, images = batch(12)
    form = Guides(size=5, population=population)
    records = records_of(z, labels, images)
    everything = guides.build(Guides(size=12), records, maps=1)
    bank = guides.build(form, records, maps=1)
    where = [int(np.argmin(((everything["keys"] - k) ** 2).sum(1))) for k in bank["keys"]]
    assert len(set(where)) == 5
    for name in ("keys", "palette", "share"):
        np.testing.assert_allclose(bank[name], everything[name][where], atol=1e-5)


# --- pictures -----------------------------------------------------------------------------------
def test_image_form_fetches_the_nearest_entrys_reduced_picture():
    z, labels, images = batch(6)
    form = Guides(form="image")
    bank = guides.build(form, records_of(z, labels, images, "image"), maps=1)
    inputs = {"labels": jnp.asarray(labels[4:], jnp.int32), "z": jnp.asarray(z[4:], jnp.float32)}
    guide = guides.retrieve(form, FAMILY, bank, inputs, {})
    expected = images[4:].reshape(2, 2, 4, 4, 4, 3).mean((2, 4))
    np.testing.assert_allclose(features(guide), expected, atol=1e-5)


@pytest.mark.parametrize("cell", [1, 2])
def test_patch_form_gives_back_the_picture_it_was_built_from(cell):
    form = Guides(form="patch", cell=cell, size=1000)
    images = jnp.asarray(RNG.uniform(-1, 1, (2, 8, 16, 3)), jnp.float32)
    taps = {1: jnp.asarray(RNG.standard_normal((2, 2, 4, 5)), jnp.float32)}
    records = guides.summarise(form, FAMILY, images, {}, taps)
    bank = guides.build(form, records, maps=1)
    assert bank["cells"].shape == (16, cell, cell, 3)
    guide = guides.retrieve(form, FAMILY, bank, {}, taps)
    side = 4 // cell  # the tap is a quarter of the picture's size
    reduced = np.asarray(images).reshape(2, 8 // side, side, 16 // side, side, 3).mean((2, 4))
    np.testing.assert_allclose(features(guide), reduced, atol=1e-6)
    # cells go where their features are, not where they came from
    swapped = guides.retrieve(form, FAMILY, bank, {}, {1: taps[1][:, :, ::-1]})
    cells = reduced.reshape(2, 2, cell, 4, cell, 3)[:, :, :, ::-1].reshape(reduced.shape)
    np.testing.assert_allclose(features(swapped), cells, atol=1e-6)


def test_patch_bank_of_limited_size_draws_on_all_pictures():
    form = Guides(form="patch", cell=1, size=16)
    images = jnp.broadcast_to(jnp.arange(8.0).reshape(8, 1, 1, 1), (8, 8, 16, 3))
    taps = {1: jnp.asarray(RNG.standard_normal((8, 2, 4, 5)), jnp.float32)}
    bank = guides.build(form, guides.summarise(form, FAMILY, images, {}, taps), maps=1)
    assert len(bank["keys"]) == 16
    assert len(np.unique(np.asarray(bank["cells"]))) > 4  # the first 16 cells are of 2 pictures


def test_patch_keys_are_scaled_to_unit_deviation():
    form = Guides(form="patch", cell=1, size=1000)
    tap = RNG.standard_normal((4, 2, 4, 3)) * np.array([1.0, 10.0, 0.1]) + 3
    images = jnp.zeros((4, 8, 16, 3))
    records = guides.summarise(form, FAMILY, images, {}, {1: jnp.asarray(tap, jnp.float32)})
    bank = guides.build(form, records, maps=1)
    np.testing.assert_allclose(np.asarray(bank["keys"]).std(0), np.ones(3), rtol=1e-3)


@pytest.mark.parametrize("key", ["vector", "colours"])
def test_patches_are_found_by_their_features_and_the_inputs_vector(key):
    z, labels, images = batch(8)
    form = Guides(form="patch", cell=2, size=1000, key=key)
    tap = RNG.standard_normal((4, 2, 4, 5)).repeat(2, 0)  # two pictures of each: z tells them apart
    taps = {1: jnp.asarray(tap, jnp.float32)}
    inputs = labelled(z, labels)
    records = guides.summarise(form, FAMILY, jnp.asarray(images, jnp.float32), inputs, taps)
    bank = guides.build(form, records, maps=1)
    rank = 4 if key == "vector" else min(guides.RANK, 4)
    assert bank["keys"].shape == (64, 5 + rank)
    variance = (bank["keys"]).var(0)
    np.testing.assert_allclose(variance[:5].sum(), variance[5:].sum(), rtol=0.05)
    guide = guides.retrieve(form, FAMILY, bank, inputs, taps)
    reduced = np.asarray(images).reshape(8, 4, 2, 8, 2, 3).mean((2, 4))
    np.testing.assert_allclose(features(guide), reduced, atol=1e-5)


# --- controls -----------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["zeros", "learnt", "none"])
def test_controls_have_no_bank(form):
    assert guides.build(Guides(form=form), {}, maps=1) == {}
    assert guides.abstract_bank(Guides(form=form), FAMILY, {}, 8) == {}


def test_zeros_have_the_shape_of_pictures_and_no_content():
    taps = {1: jnp.ones((2, 2, 4, 5)), 2: jnp.ones((2, 4, 8, 5))}
    guide = guides.retrieve(Guides(form="zeros"), FAMILY, {}, {}, taps)
    np.testing.assert_array_equal(features(guide), np.zeros((2, 2, 4, 3)))


@pytest.mark.parametrize("form", ["learnt", "none"])
def test_nothing_is_retrieved(form):
    guide = guides.retrieve(Guides(form=form), FAMILY, {}, {}, {})
    assert guide == (None, None)


def test_random_entries():
    chosen = guides.random_entries(np.random.default_rng(0), 7, 50, 4)
    assert chosen.shape == (50, 4)
    assert set(chosen.reshape(-1)) == set(range(7))
    again = guides.random_entries(np.random.default_rng(0), 7, 50, 4)
    np.testing.assert_array_equal(chosen, again)


# --- shapes -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("form", "key"),
    [("palette", "trunk"), ("random", "trunk"), ("image", "trunk")]
    + [("patch", key) for key in ("trunk", "vector", "colours")],
)
@pytest.mark.parametrize("classes", [3, 10])
def test_abstract_bank_has_the_shapes_of_a_built_one(form, key, classes):
    family = dataclasses.replace(
        FAMILY, classes=tuple(f"c{i}" for i in range(classes)), z_dim=20
    )  # of 20 directions, three classes move at most nine
    form = Guides(form=form, size=12, cell=2, key=key)
    taps = {1: jnp.zeros((12, 2, 4, 5))}
    inputs = {"labels": jnp.zeros((12, 8, 16), jnp.int32), "z": jnp.ones((12, 20))}
    records = guides.summarise(form, family, jnp.ones((12, 8, 16, 3)), inputs, taps)
    built = guides.build(form, records, maps=1)
    abstract = guides.abstract_bank(form, family, taps, 20)
    assert {k: v.shape for k, v in abstract.items()} == {k: v.shape for k, v in built.items()}


def test_retrieval_of_palettes_is_nearly_free():
    model = MultiExit.of(tiny_config())
    # z [4] @ projection [4, 4]; that @ 16 keys; 4 neighbours x 10 classes x 3 channels averaged
    assert model.retrieval_gmacs() == pytest.approx((16 + 64 + 120) / 1e9)
    assert model.retrieval_gmacs() < 1e-3 * model.gmacs[0]
