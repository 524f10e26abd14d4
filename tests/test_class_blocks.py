"""Class blocks: one gamma and beta for each class, and branches that begin as the backbone."""

import dataclasses
from typing import Any

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.config import BranchesPhase, Exit, Guides, PredictorPhase
from fiancee_jax.data import Batch
from fiancee_jax.exits import MultiExit
from fiancee_jax.models import class_blocks, lpips, patterns
from fiancee_jax.models.class_blocks import ClassBlock, ClassNorm, Neighbourhood
from fiancee_jax.models.layers import initialise
from fiancee_jax.models.oasis import Oasis
from fiancee_jax.models.sparse_spade import LabelMap
from fiancee_jax.training import branches
from fiancee_jax.training.adversarial import random_latents

FAMILY = Oasis(
    size=(32, 32),
    classes=("sky", "road", "car"),
    width=4,
    hidden=8,
    z_dim=3,
    blocks=3,
    min_channels=2,
    light_block="class",
)  # channels 32 | 16, 8, 4
RNG = np.random.default_rng(0)
Z = RNG.standard_normal((2, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, (2, 4, 6)).astype(np.int32)
X = RNG.standard_normal((2, 4, 6, 8)).astype(np.float32)
SEG = LabelMap(jnp.asarray(Z), jnp.asarray(LABELS), 3, None)


def a_model(*exits, family=FAMILY, guides=Guides(form="none")):  # noqa: B008
    return MultiExit(family, exits, guides, PredictorPhase())


def started(model):
    """Random backbone, and branches that begin with it."""
    backbone = dict(initialise(model.backbone_shapes, np.random.default_rng(1), 1.0))
    del backbone["spectral"]
    rng = np.random.default_rng(2)

    def moved(path, x):  # biases and statistics that are not all 0 and 1
        shift = rng.uniform(0.1, 0.5, x.shape).astype(np.float32)
        return x if path[-1].key == "kernel" else x + shift

    backbone = jax.tree_util.tree_map_with_path(moved, backbone)
    state = branches.init_state(model, BranchesPhase(), np.random.default_rng(3), backbone)
    return {"backbone": backbone, "branches": state["branches"]}


def drawn(module):
    return by_hand.filled(lambda key, x: module.init(key, x, SEG, train=False), X)


def test_a_pixel_sees_its_own_class_and_its_neighbours_by_hand():
    around = RNG.standard_normal((9, 3)).astype(np.float32)
    weights: Any = Neighbourhood(3).apply({"params": {"around": around}}, jnp.float32)
    seen = class_blocks.seen_classes(SEG, weights)
    onehot = np.pad(np.eye(3)[LABELS], ((0, 0), (1, 1), (1, 1), (0, 0)))
    wanted = np.eye(3)[LABELS]
    for place in range(9):
        i, j = divmod(place, 3)
        wanted = wanted + around[place] * onehot[:, i : i + 4, j : j + 6]
    np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-5)


def test_norm_by_hand():
    module = ClassNorm(4)
    seen = RNG.uniform(size=(2, 4, 6, 3)).astype(np.float32)
    given = (SEG, np.zeros((9, 3), np.float32), seen)
    variables = by_hand.filled(lambda key, x: module.init(key, x, *given, train=False), X)
    out: Any = jax.jit(lambda v: module.apply(v, X, *given, train=False))(variables)
    params, stats = variables["params"], variables["batch_stats"]["norm"]
    rows = np.concatenate([np.repeat(Z[:, None], 3, 1), np.repeat(np.eye(3)[None], 2, 0)], -1)
    first, second = params["class_hidden"], params["class_gamma_beta"]
    hidden = np.maximum(rows @ first["kernel"][0, 0] + first["bias"], 0)
    table = hidden @ second["kernel"][0, 0] + second["bias"]  # [b, k, 2c]
    at = np.einsum("bhwk,bkc->bhwc", seen, table)
    n = (X - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    np.testing.assert_allclose(out, n * (1 + at[..., :8]) + at[..., 8:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("usable", [True, False])
def test_patterns_give_the_same(usable):
    """One street, twice; where patterns cannot be used every pixel is computed."""
    labels = np.zeros((2, 32, 40), np.int32)
    labels[:, 20:] = 1
    labels[1, 5:14, 7:30] = 2
    found = patterns.find(jnp.asarray(labels), 3)
    assert found is not None
    assert found.usable
    found = found._replace(usable=jnp.asarray(usable))
    module, x = ClassBlock(6, 4, 5), RNG.standard_normal((2, 32, 40, 8)).astype(np.float32)
    dense = LabelMap(jnp.asarray(Z), jnp.asarray(labels), 3, None)
    variables = by_hand.filled(lambda key, x: module.init(key, x, dense, train=False), x)
    seen_by = lambda kind: jax.jit(  # noqa: E731
        lambda v: module.apply(v, x, dense._replace(patterns=kind), train=False)
    )(variables)
    np.testing.assert_allclose(seen_by(found), seen_by(None), rtol=1e-4, atol=1e-5)


def test_batch_statistics_change_in_training_alone():
    module = ClassBlock(8, 4, 8)
    variables = drawn(module)
    found: Any = module.apply(variables, X, SEG, train=True, mutable=["batch_stats"])
    assert set(found[1]["batch_stats"]) == {"norm_0", "norm_1"}


@pytest.mark.parametrize("features", [8, 6])
def test_shape_and_shortcut(features):
    module = ClassBlock(features, 4, 3)
    variables = drawn(module)
    found: Any = module.apply(variables, X, SEG, train=False)
    assert found.shape == (2, 4, 6, features)
    assert ("conv_s" in variables["params"]) == (features != 8)


@pytest.mark.parametrize(("tap", "reach"), [(2, 5), (1, 13)])
def test_a_branch_begins_as_the_backbone_where_labels_are_equal(tap, reach):
    """A block looks 4 of its pixels far (SPADE's maps 2, its convolutions 2), the head 1; what lies
    outside of the picture is another label.
    """
    model = a_model(Exit(tap, 1.0))
    variables = started(model)
    inputs = {"labels": np.full((2, 32, 32), 1, np.int32), "z": Z}
    full = np.asarray(jax.jit(lambda v, i: model.full(v, i)[0])(variables, inputs))
    early = np.asarray(jax.jit(lambda v, i: model.picture(v, i, 1))(variables, inputs))
    inner = slice(reach, 32 - reach)
    np.testing.assert_allclose(early[:, inner, inner], full[:, inner, inner], atol=2e-5)
    assert np.abs(early - full).max() > 1e-3  # at the edge they do differ


def test_a_branch_begins_as_the_backbone_far_from_borders():
    model = a_model(Exit(2, 1.0))
    variables = started(model)
    labels = np.zeros((2, 32, 32), np.int32)
    labels[:, :, 16:] = 2
    inputs = {"labels": labels, "z": Z}
    full = np.asarray(jax.jit(lambda v, i: model.full(v, i)[0])(variables, inputs))
    early = np.asarray(jax.jit(lambda v, i: model.picture(v, i, 1))(variables, inputs))
    for columns in (slice(5, 11), slice(21, 27)):
        np.testing.assert_allclose(early[:, 5:27, columns], full[:, 5:27, columns], atol=2e-5)
    assert np.abs(early - full)[:, 5:27, 14:18].max() > 1e-3


def test_shares_of_the_places_are_found_where_kernels_have_them():
    """Kernels of gamma and beta that are one matrix times a weight for each place."""
    shares = RNG.uniform(0.05, 0.2, 9).astype(np.float32)
    shares /= shares.sum()
    matrix = RNG.standard_normal((4, 10)).astype(np.float32)
    spade = {
        "shared": {"kernel": RNG.standard_normal((3, 3, 5, 4)), "bias": np.ones(4)},
        "gamma_beta": {"kernel": (shares[:, None, None] * matrix).reshape(3, 3, 4, 10)},
    }
    found = class_blocks._around({"norm_0": spade, "norm_1": spade, "conv_0": {}}, 3)
    wanted = np.repeat(shares[:, None], 3, 1)
    wanted[4] -= 1
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_first_weights_keep_what_is_constant():
    """Over the nine places they add up to one, for every class that differs from the others."""
    branch = started(a_model(Exit(2, 1.0)))["branches"]["tap2_w100"]["params"]
    around = branch["stages_0"]["block"]["neighbourhood"]["around"]
    assert around.shape == (9, 3)
    np.testing.assert_allclose(around.sum(0), 0, atol=1e-4)


def test_it_costs_a_fraction_of_spade():
    spade = dataclasses.replace(FAMILY, light_block="spade")
    light, wide = a_model(Exit(1, 1.0)).gmacs, a_model(Exit(1, 0.99), family=spade).gmacs
    assert light[0] < 0.6 * wide[0]
    assert light[-1] == wide[-1]


def test_thin_branches_keep_the_heaviest_channels_between_their_convolutions():
    """Half of them; what stages hand on is whole, so that there is no adapter."""
    model = a_model(Exit(1, 0.5))
    variables = started(model)
    branch, backbone = variables["branches"]["tap1_w50"], variables["backbone"]
    params = branch["params"]
    assert "adapter" not in params
    for i, middle in ((0, 4), (1, 2)):
        block = params[f"stages_{i}"]["block"]
        whole = backbone["params"][f"stages_{i + 1}"]["block"]
        weights = np.square(whole["conv_1"]["kernel"]).sum((0, 1, 3))
        kept = np.sort(np.argsort(-weights)[:middle])
        np.testing.assert_array_equal(
            block["conv_0"]["kernel"], whole["conv_0"]["kernel"][..., kept]
        )
        np.testing.assert_array_equal(block["conv_0"]["bias"], whole["conv_0"]["bias"][kept])
        np.testing.assert_array_equal(
            block["conv_1"]["kernel"], whole["conv_1"]["kernel"][:, :, kept]
        )
        np.testing.assert_array_equal(block["conv_s"]["kernel"], whole["conv_s"]["kernel"])
        stats = branch["batch_stats"][f"stages_{i}"]["block"]
        given = backbone["batch_stats"][f"stages_{i + 1}"]["block"]
        np.testing.assert_array_equal(
            stats["norm_1"]["norm"]["mean"], given["norm_1"]["norm"]["mean"][kept]
        )
        np.testing.assert_array_equal(
            stats["norm_0"]["norm"]["mean"], given["norm_0"]["norm"]["mean"]
        )
    fresh = branches.init_branch(model, model.exits[0], np.random.default_rng(0))
    assert jax.tree.map(np.shape, fresh["params"]) == jax.tree.map(np.shape, params)


def test_a_learnt_palette_stays_as_drawn_and_changes_nothing_at_first():
    plain, learnt = a_model(Exit(2, 1.0)), a_model(Exit(2, 1.0), guides=Guides(form="learnt"))
    inputs = {"labels": np.repeat(np.repeat(LABELS, 8, 1)[:, :, :4], 8, 2), "z": Z}
    pictures = [
        jax.jit(lambda v, i, m=m: m.picture(v, i, 1))(started(m), inputs) for m in (plain, learnt)
    ]
    np.testing.assert_allclose(*pictures, atol=1e-6)


@pytest.mark.parametrize("form", ["zeros", "image"])
def test_a_concatenated_guide_leaves_the_branch_fresh(form: Any):
    model = a_model(Exit(2, 1.0), guides=Guides(form=form, size=4))
    fresh = branches.init_state(model, BranchesPhase(), np.random.default_rng(3))["branches"]
    jax.tree.map(np.testing.assert_array_equal, started(model)["branches"], fresh)


def test_other_blocks_inherit_nothing():
    model = a_model(Exit(2, 0.5), family=dataclasses.replace(FAMILY, light_block="spade"))
    fresh = branches.init_state(model, BranchesPhase(), np.random.default_rng(3))["branches"]
    jax.tree.map(np.testing.assert_array_equal, started(model)["branches"], fresh)


@pytest.mark.parametrize("running", [True, False])
def test_branches_may_be_trained_with_the_statistics_they_inherited(running):
    model, phase = (
        a_model(Exit(2, 1.0)),
        BranchesPhase(lpips_net="alex", running_statistics=running),
    )
    backbone = started(model)["backbone"]
    state = branches.init_state(model, phase, np.random.default_rng(3), backbone)
    before = jax.device_get(state["branches"]["tap2_w100"])
    labels = RNG.integers(0, 3, (4, 32, 32)).astype(np.int32)
    batch = Batch({"labels": jnp.asarray(labels)}, None)
    arguments = (batch, jax.random.key(0), (lpips.load("alex"),))
    frozen = {"backbone": jax.tree.map(jnp.asarray, backbone), "bank": {}}
    new, _ = branches.make_step(model, phase)(jax.tree.map(jnp.asarray, state), frozen, *arguments)
    after = jax.device_get(new["branches"]["tap2_w100"])
    same = jax.tree.map(np.array_equal, before["batch_stats"], after["batch_stats"])
    assert all(jax.tree.leaves(same)) == running
    kernel = lambda x: x["params"]["stages_0"]["block"]["conv_0"]["kernel"]  # noqa: E731
    assert not np.array_equal(kernel(before), kernel(after))


def test_lpips_vgg_looks_at_every_fourth_picture_beside_alex():
    model = a_model(Exit(2, 1.0))
    phase = BranchesPhase(lpips_net="alex", lpips_vgg=1.0, running_statistics=True)
    backbone = started(model)["backbone"]
    state = branches.init_state(model, phase, np.random.default_rng(3), backbone)
    backbone, state = (jax.tree.map(jnp.array, x) for x in (backbone, state))  # no buffer is both's
    labels = jnp.asarray(RNG.integers(0, 3, (5, 32, 32)), jnp.int32)
    batch, key = Batch({"labels": labels}, None), jax.random.key(0)
    z = random_latents(model, batch, jax.random.split(key, 3)[0])
    variables = {"backbone": backbone, "bank": {}, "branches": state["branches"]}
    early, full = jax.jit(model.pictures)(variables, {"labels": labels, "z": z})
    nets = tuple(map(lpips.load, branches.perceptual(phase)))
    alex, vgg = nets
    expected = [
        lpips.distance(alex, early, full).mean(),
        lpips.distance(vgg, early[::4], full[::4]).mean(),
    ]
    frozen = {name: variables[name] for name in ("backbone", "bank")}
    _, metrics = branches.make_step(model, phase)(state, frozen, batch, key, nets)
    found = [metrics[f"tap2_w100/{name}"][0] for name in ("lpips", "lpips_vgg")]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert branches.perceptual(BranchesPhase(lpips_net="alex")) == ("alex",)
