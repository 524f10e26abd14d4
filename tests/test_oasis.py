"""OASIS: the published picture, the published sizes, and what the host refuses."""

# NumPy arrays are given where JAX's are asked for:
# pyright: reportArgumentType=false

import dataclasses
import json

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import oasis_torch
import pytest

from fiancee_jax import losses
from fiancee_jax.config import Guides, PredictorPhase
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.branches import Backbone
from fiancee_jax.models.layers import BASE_LIMIT, fold_spectral
from fiancee_jax.models.oasis import Condition, Head, Oasis
from fiancee_jax.weights import read_torch

TINY = Oasis(
    size=(16, 32),
    classes=("void", "sky", "sea"),
    width=2,
    hidden=4,
    z_dim=3,
    blocks=4,
    discriminator_channels=(4, 4),
)


def named(count, void=True):
    """`count` class names, the first of them void."""
    return ("void" if void else "c0", *(f"c{i}" for i in range(1, count)))


# --- the published implementation ---------------------------------------------------------------
@pytest.fixture(scope="module")
def published(fixtures_dir):
    """(family, variables, inputs, picture) of the published PyTorch code."""
    about = json.loads((fixtures_dir / "oasis" / "square.json").read_text())
    size = (about["crop_size"], about["crop_size"])
    family = Oasis(
        size=size,
        classes=named(about["semantic_nc"]),
        width=about["channels_G"],
        hidden=128,
        z_dim=about["z_dim"],
        blocks=about["num_res_blocks"],
    )
    arrays = np.load(fixtures_dir / "oasis" / "square_io.npz")
    tensors = read_torch(fixtures_dir / "oasis" / "square_EMA.pth")
    inputs = {"labels": jnp.asarray(arrays["labels"], jnp.int32), "z": jnp.asarray(arrays["z"])}
    picture = arrays["image"].transpose(0, 2, 3, 1)
    return family, oasis_torch.generator(tensors), inputs, picture


@pytest.mark.parametrize("folded", [False, True])
def test_generator_makes_the_published_picture(published, folded):
    family, variables, inputs, picture = published
    if folded:
        params = fold_spectral(variables["params"], variables["spectral"])
        variables = {"params": params, "batch_stats": variables["batch_stats"]}
    condition = family.condition(inputs)
    image, taps = jax.jit(Backbone(family).apply)(variables, condition)
    np.testing.assert_allclose(image, picture, atol=1e-4, rtol=0)
    assert np.std(picture) > 0.05  # a saturated or empty picture would prove little
    assert [taps[i].shape[1:] for i in range(1, 7)] == [
        (2, 2, 64), (4, 4, 64), (8, 8, 32), (16, 16, 16), (32, 32, 8), (64, 64, 4)
    ]  # fmt: skip


def test_our_tree_has_the_published_names_and_shapes(published):
    family, variables, _, _ = published
    fresh = MultiExit(family, (), Guides(form="none"), PredictorPhase()).backbone_shapes
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda a: a.shape, fresh)


# --- shapes -------------------------------------------------------------------------------------
@pytest.mark.parametrize("blocks", [2, 4, 5, 6])
def test_channels_and_factors_halve_at_the_end(blocks):
    family = dataclasses.replace(TINY, blocks=blocks, width=3)
    assert [family.features(i) for i in range(blocks + 1)] == [
        3 * c for c in (16, 16, 16, 8, 4, 2, 1)[6 - blocks :]
    ]
    assert family.stage_factor(0) == family.stage_factor(1) == 2 ** (blocks - 1)
    assert family.stage_factor(blocks) == 1


def test_light_channels_keep_the_minimum_and_never_exceed_the_full():
    family = dataclasses.replace(TINY, width=4, min_channels=8)
    assert [family.features(i, 0.25) for i in range(5)] == [16, 8, 8, 8, 4]
    assert [family.features(i) for i in range(5)] == [64, 32, 16, 8, 4]


def test_labels_are_downsampled_as_torch_does():
    labels = np.arange(2 * 16 * 32).reshape(2, 16, 32)
    condition = TINY.condition({"labels": labels, "z": np.zeros((2, 3))})
    assert isinstance(condition, Condition)
    for level, step in enumerate((8, 4, 2, 1)):
        # torch's nearest: source index = floor(target index * step)
        np.testing.assert_array_equal(condition.labels[level], labels[:, ::step, ::step])


def test_with_size_keeps_everything_else():
    assert TINY.with_size((8, 8)) == dataclasses.replace(TINY, size=(8, 8))


# --- head ---------------------------------------------------------------------------------------
def test_base_passes_through_a_zero_head():
    x = np.ones((1, 2, 2, 5), np.float32)
    variables = by_hand.filled(Head().init, x, scale=0.0)
    base = np.array([-1.0, -0.97, -0.5, 0.0, 0.3, 0.97, 0.99, 1.0, 0.1, 0.2, 0.4, 0.6], np.float32)
    base = base.reshape(1, 2, 2, 3)
    image, bare = jax.jit(lambda v: (Head().apply(v, x, base), Head().apply(v, x)))(variables)
    np.testing.assert_allclose(image, base.clip(-BASE_LIMIT, BASE_LIMIT), atol=1e-6)
    np.testing.assert_array_equal(bare, np.zeros((1, 2, 2, 3)))


def test_base_limit_keeps_gradients_alive():
    # d tanh at the limit: 1 - 0.97^2, about 6 % of the slope in the middle
    slope = jax.grad(lambda y: jnp.tanh(y + jnp.arctanh(BASE_LIMIT)))(0.0)
    assert float(slope) == pytest.approx(1 - 0.97**2, rel=1e-3)


# --- palettes -----------------------------------------------------------------------------------
def test_summarise_means_each_class_and_paint_puts_it_back():
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 3, (2, 16, 32)).astype(np.int32)
    images = rng.uniform(-1, 1, (2, 16, 32, 3)).astype(np.float32)
    palette, share = TINY.summarise(images, {"labels": labels})
    for b in range(2):
        for c in range(3):
            mask = labels[b] == c
            assert share[b, c] == pytest.approx(mask.mean())
            expected = images[b][mask].mean(0) if mask.any() else np.zeros(3)
            np.testing.assert_allclose(palette[b, c], expected, atol=1e-6)
    painted = TINY.paint(palette, {"labels": labels})
    assert painted.shape == images.shape
    expected = np.stack([np.asarray(palette)[b][labels[b]] for b in range(2)])
    np.testing.assert_array_equal(painted, expected)


def test_composed_has_whole_columns_of_two_neighbours():
    labels = np.stack([np.full((4, 64), i, np.int32) for i in range(3)])
    found = Oasis().composed(jax.random.key(0), {"labels": jnp.asarray(labels), "other": 1})
    seams = []
    for i, one in enumerate(np.asarray(found["labels"])):
        assert (one == one[:1]).all()
        seams.append(int((one[0] == i).sum()))
        assert one[0].tolist() == [i] * seams[-1] + [(i - 1) % 3] * (64 - seams[-1])
    assert all(1 <= seam <= 63 for seam in seams)
    assert len(set(seams)) == 3
    assert found["other"] == 1


def test_view_is_class_shares_of_cells_and_z():
    labels = np.zeros((1, 16, 32), np.int32)
    labels[0, :4, 8:16] = 2
    z = np.ones((1, 3), np.float32)
    grid, vector = TINY.view({"labels": labels, "z": z})
    assert grid.shape == (1, 2, 4, 3)
    np.testing.assert_array_equal(grid[0, 0, 1], [0.5, 0, 0.5])
    np.testing.assert_array_equal(grid[0, 1, 1], [1, 0, 0])
    np.testing.assert_array_equal(vector, z)
    two = dataclasses.replace(TINY, blocks=2)
    assert two.view({"labels": labels, "z": z})[0].shape == (1, 8, 16, 3)


def test_view_may_have_borders():
    family = dataclasses.replace(TINY, view_borders=True)
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, (2, 32, 64)).astype(np.int32)
    labels[1, :, :32] = 2
    grid, _ = family.view({"labels": labels, "z": np.zeros((2, family.z_dim), np.float32)})
    right = np.pad(labels[:, :, 1:] != labels[:, :, :-1], ((0, 0), (0, 0), (0, 1)))
    below = np.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (0, 1), (0, 0)))
    cell = 32 // grid.shape[1]
    shares = (right | below).reshape(2, 32 // cell, cell, 64 // cell, cell).mean((2, 4))
    np.testing.assert_allclose(grid[..., -1], shares, atol=1e-6)
    assert family.view_names == (*family.classes, "borders")
    assert grid.shape[-1] == len(family.view_names)
    plain, _ = TINY.view({"labels": labels, "z": np.zeros((2, family.z_dim), np.float32)})
    np.testing.assert_array_equal(grid[..., :-1], plain)


# --- adversary ----------------------------------------------------------------------------------
def test_loss_terms_are_those_of_the_losses_module():
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, 3, (2, 4, 4)), jnp.int32)
    real, fake = (jnp.asarray(rng.uniform(-1, 1, (2, 4, 4, 3)), jnp.float32) for _ in range(2))
    matrix = jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)
    inputs, key = {"labels": labels}, jax.random.key(3)

    def discriminate(x):
        return (x**2) @ matrix

    def ours():
        terms = TINY.discriminator_losses(discriminate, fake, real, inputs, key)
        return {**terms, "g_adv": TINY.generator_loss(discriminate, fake, inputs)}

    def expected():
        weights = losses.class_weights(labels, 3, void=0)
        mask = losses.labelmix_mask(key, labels, 3)
        mixed = discriminate(jnp.where(mask == 1, real, fake))
        apart = jnp.where(mask == 1, discriminate(real), discriminate(fake))
        return {
            "d_fake": losses.fake_loss(discriminate(fake)),
            "d_real": losses.real_loss(discriminate(real), labels, weights),
            "d_labelmix": 10 * jnp.mean((mixed - apart) ** 2),
            "g_adv": losses.real_loss(discriminate(fake), labels, weights),
        }

    a, b = jax.jit(ours)(), jax.jit(expected)()
    assert 0 < float(jax.jit(lambda: losses.labelmix_mask(key, labels, 3))().mean()) < 1
    assert {k: float(v) for k, v in a.items()} == pytest.approx(
        {k: float(v) for k, v in b.items()}, rel=1e-5
    )


def test_a_pixelwise_discriminator_has_no_labelmix_loss():
    # LabelMix asks that D(mix) = mix(D): true of anything that looks at one pixel only
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, 3, (2, 4, 4)), jnp.int32)
    real, fake = (jnp.asarray(rng.uniform(-1, 1, (2, 4, 4, 3)), jnp.float32) for _ in range(2))
    inputs, key = {"labels": labels}, jax.random.key(3)

    def discriminate(x):
        return jnp.concatenate([x**2, x[..., :1]], -1)

    terms = jax.jit(lambda: TINY.discriminator_losses(discriminate, fake, real, inputs, key))()
    assert float(terms["d_labelmix"]) < 1e-10


def test_discriminator_has_the_familys_channels():
    family = dataclasses.replace(TINY, discriminator_last=6)
    image = jax.ShapeDtypeStruct((1, 16, 32, 3), jnp.float32)
    net = family.discriminator()
    logits, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), image)
    assert logits.shape == (1, 16, 32, 4)
    assert variables["params"]["down_1"]["conv2"]["kernel"].shape == (3, 3, 4, 4)
    assert variables["params"]["last"]["kernel"].shape == (1, 1, 6, 4)


# --- the host -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["void", "Void", "unknown"])
def test_void_goes_by_name(name):
    family = dataclasses.replace(TINY, classes=("a", name, "b"))
    assert family.void == (1 if name == "void" else None)
    assert family.num_classes == 3


def test_with_classes():
    bare = dataclasses.replace(TINY, classes=())
    assert bare.with_classes(("a", "b")).classes == ("a", "b")
    assert TINY.with_classes(TINY.classes) == TINY
    with pytest.raises(UserError, match=r"\['a', 'b'\].*\['void', 'sky', 'sea'\].*leave"):
        TINY.with_classes(("a", "b"))


def test_check_accepts_what_works():
    TINY.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": 1}, "OASIS takes 2 to 6"),
        ({"blocks": 7}, "OASIS takes 2 to 6"),
        ({"size": (20, 32)}, r"divisible by 8: try \[16, 32\]"),
        ({"size": (16, 0)}, r"divisible by 8: try \[16, 8\]"),
        ({"size": (72, 96), "blocks": 6}, r"6 blocks .* divisible by 32: try \[64, 96\]"),
        (
            {"discriminator_channels": (4,) * 5},
            r"pools 5 times .* divisible by 32.*size \[32, 32\]",
        ),
        ({"discriminator_channels": ()}, "discriminator_channels"),
        ({"width": 0}, "model.width is 0"),
        ({"z_dim": 0}, "model.z_dim is 0"),
        ({"discriminator_last": 0}, "model.discriminator_last is 0"),
    ],
)
def test_check_says_what_does_not_fit(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **change).check()


def test_check_inputs_takes_a_bare_array_and_keeps_the_rest():
    labels = np.ones((2, 16, 32), np.uint8)
    checked = TINY.check_inputs({"labels": labels, "z": 5})
    assert checked["z"] == 5
    assert checked["labels"].dtype == jnp.int32
    np.testing.assert_array_equal(TINY.check_inputs(labels.tolist())["labels"], labels)
    np.testing.assert_array_equal(TINY.check_inputs(jnp.asarray(labels))["labels"], labels)
    traced = jax.jit(lambda x: TINY.check_inputs(x)["labels"])(labels)
    np.testing.assert_array_equal(traced, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((16, 32), int), r"shape \[16, 32\].*labels\[None\]"),
        (np.zeros((0, 16, 32), int), r"shape \[0, 16, 32\]"),
        (np.zeros((1, 16, 32)), "must be integers.*float64"),
        (np.zeros((1, 16, 32), bool), "must be integers.*bool"),
        (np.zeros((1, 12, 32), int), "12x32.*divisible by 8"),
        (np.zeros((1, 0, 32), int), "0x32.*divisible by 8"),
        (np.full((1, 16, 32), 3), r"class ids \[3\].*0 to 2: void, sky, sea"),
        (np.full((1, 16, 32), -1), r"class ids \[-1\]"),
        (jnp.full((1, 16, 32), 255), r"class ids \[255\]"),
        ({"label": np.zeros((1, 16, 32), int)}, r"'labels'.*found.*'label'"),
    ],
)
def test_check_inputs_says_what_is_wrong(labels, message):
    with pytest.raises(UserError, match=message):
        TINY.check_inputs(labels)


def test_picture_of_inputs_is_the_map_in_colours():
    labels = np.zeros((1, 16, 32), np.int32)
    labels[0, 3, 4] = 1
    picture = TINY.picture_of_inputs({"labels": labels})
    assert picture.shape == (1, 16, 32, 3)
    assert picture.dtype == np.uint8
    assert tuple(picture[0, 3, 4]) == (135, 190, 235)  # the sky of colors.KNOWN
    assert tuple(picture[0, 0, 0]) == (0, 0, 0)
