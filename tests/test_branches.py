"""Backbone, taps and branches."""

import dataclasses
from typing import Any

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax import guides
from fiancee_jax.config import Exit, Guides
from fiancee_jax.models.branches import Backbone, Branch, Guide
from fiancee_jax.models.oasis import Oasis

FAMILY = Oasis(
    size=(8, 16), classes=("sky", "sea"), width=4, hidden=8, z_dim=3, blocks=3, min_channels=4
)  # channels 32 | 16, 8, 4
RNG = np.random.default_rng(0)
INPUTS = {
    "labels": jnp.asarray(RNG.integers(0, 2, (2, 8, 16)), jnp.int32),
    "z": jnp.asarray(RNG.standard_normal((2, 3)), jnp.float32),
}
CONDITION = FAMILY.condition(INPUTS)


@pytest.fixture(scope="module")
def backbone():
    """(variables, picture, taps) of a random backbone."""
    module = Backbone(FAMILY)
    variables = by_hand.filled(module.init, CONDITION)
    picture, taps = jax.jit(module.apply)(variables, CONDITION)
    return variables, picture, taps


def light(exit, form: Any = "none", **options):
    return Branch(FAMILY, exit, Guides(form=form, **options))


def shapes(module, taps, guide=Guide()):  # noqa: B008
    tap = taps[module.exit.tap]
    variables = by_hand.filled(module.init, tap, CONDITION, INPUTS, guide)
    return jax.tree.map(jnp.shape, variables)


# --- backbone -----------------------------------------------------------------------------------
def test_taps_are_numbered_by_stage_and_the_stem_is_0(backbone):
    _, picture, taps = backbone
    assert picture.shape == (2, 8, 16, 3)
    assert {i: t.shape for i, t in taps.items()} == {
        0: (2, 2, 4, 32), 1: (2, 2, 4, 16), 2: (2, 4, 8, 8), 3: (2, 8, 16, 4)
    }  # fmt: skip


def test_trunk_is_the_first_stages_and_computes_no_more(backbone):
    variables, _, taps = backbone
    trunk = jax.jit(lambda v: Backbone(FAMILY).apply(v, CONDITION, 2, method="trunk"))
    result = trunk(variables)
    assert set(result) == {0, 1, 2}
    for i in (0, 1, 2):
        np.testing.assert_allclose(result[i], taps[i], atol=1e-5)
    text = trunk.lower(variables).as_text()
    full = jax.jit(Backbone(FAMILY).apply).lower(variables, CONDITION).as_text()
    # a stage has 8 convolutions (three SPADE of 2 each, conv_0, conv_1), stem and head 1; conv_s,
    # which is 1x1, is a product
    assert text.count("stablehlo.convolution") == 1 + 2 * 8
    assert full.count("stablehlo.convolution") == 1 + 3 * 8 + 1


def test_the_head_is_applied_to_the_last_tap(backbone):
    variables, picture, taps = backbone
    params = variables["params"]["head"]["conv_img"]
    expected = np.tanh(by_hand.conv(params, by_hand.lrelu(np.asarray(taps[3]))))
    np.testing.assert_allclose(picture, expected, atol=1e-5)


# --- structure ----------------------------------------------------------------------------------
@pytest.mark.parametrize("tap", [1, 2])
def test_a_branch_is_the_stages_after_its_tap_without_spectral_norm(backbone, tap):
    tree = shapes(light(Exit(tap, 0.5)), backbone[2])
    assert set(tree) == {"params", "batch_stats"}
    stages = {f"stages_{i}" for i in range(3 - tap)}
    adapter = {"adapter"} if tap == 1 else set()  # none where a single stage is left
    assert set(tree["params"]) == {"head"} | stages | adapter


def test_a_branch_is_thin_everywhere(backbone):
    params = shapes(light(Exit(1, 0.5)), backbone[2])["params"]
    assert params["adapter"]["kernel"] == (1, 1, 16, 8)
    first, second = params["stages_0"]["block"], params["stages_1"]["block"]
    assert first["conv_0"]["kernel"] == (3, 3, 8, 4)
    assert first["norm_0"]["shared"]["kernel"] == (3, 3, 5, 4)  # SPADE's hidden channels too
    assert second["conv_0"]["kernel"] == (3, 3, 4, 4)
    assert params["head"]["conv_img"]["kernel"] == (3, 3, 4, 3)


def test_min_channels_holds_everywhere(backbone):
    params = shapes(light(Exit(1, 0.01)), backbone[2])["params"]
    del params["head"]
    leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda x: isinstance(x, tuple))
    convs = [shape[-1] for path, shape in leaves if path[-1].key == "kernel"]
    assert min(convs) == FAMILY.min_channels


def test_the_last_stage_reads_the_tap_at_its_full_width(backbone):
    params = shapes(light(Exit(2, 0.5)), backbone[2])["params"]
    assert params["stages_0"]["block"]["conv_s"]["kernel"] == (1, 1, 8, 4)


# --- guides -------------------------------------------------------------------------------------
PICTURE = RNG.uniform(-0.97, 0.97, (2, 8, 16, 3)).astype(np.float32)


def guide_of(form, taps):
    """The guide of a small random bank."""
    if form == "patch":
        options = Guides(form=form, cell=2, size=100)
    else:
        options = Guides(form=form, neighbours=2)
    if form in ("palette", "image", "patch"):
        records = guides.summarise(options, FAMILY, jnp.asarray(PICTURE), INPUTS, taps)
        bank = guides.build(options, records, maps=1)
    else:
        bank = {}
    return options, guides.retrieve(options, FAMILY, bank, INPUTS, taps)


@pytest.mark.parametrize("form", ["palette", "patch", "image", "zeros", "learnt", "none"])
def test_every_form_of_guide_reaches_the_picture(backbone, form):
    taps = backbone[2]
    options, guide = guide_of(form, taps)
    module = Branch(FAMILY, Exit(1, 0.5), options)
    variables = by_hand.filled(module.init, taps[1], CONDITION, INPUTS, guide)

    @jax.jit
    def render(variables, guide):
        return module.apply(variables, taps[1], CONDITION, INPUTS, guide)

    picture = np.asarray(render(variables, guide))
    assert picture.shape == (2, 8, 16, 3)
    assert np.abs(picture).max() <= 1
    adapter = variables["params"]["adapter"]["kernel"].shape[2]
    assert adapter == 16 + 3 * (form in ("patch", "image", "zeros"))
    if form in ("palette", "patch", "image"):
        other = jax.tree.map(lambda x: x[::-1], guide)
        assert np.abs(render(variables, other) - picture).max() > 1e-3
    if form == "learnt":
        params = {**variables["params"]}
        params["palette"] = jax.tree.map(np.negative, params["palette"])
        other = render({**variables, "params": params}, guide)
        assert np.abs(other - picture).max() > 1e-3


@pytest.mark.parametrize(("inject", "extra"), [("input", 0), ("every", 3)])
def test_concatenated_guides_enter_once_or_at_every_stage(backbone, inject, extra):
    guide = Guide(features=jnp.zeros((2, 2, 4, 3)))
    params = shapes(light(Exit(1, 0.5), "zeros", inject=inject), backbone[2], guide)["params"]
    assert params["adapter"]["kernel"][2] == 16 + 3
    assert params["stages_0"]["block"]["conv_0"]["kernel"][2] == 8  # has come through the adapter
    assert params["stages_1"]["block"]["norm_0"]["gamma_beta"]["kernel"][3] == 2 * (4 + extra)


def without_head(variables):
    params = {**variables["params"]}
    params["head"] = jax.tree.map(np.zeros_like, params["head"])
    return {**variables, "params": params}


def test_the_base_picture_passes_through_a_branch_whose_head_is_zero(backbone):
    taps = backbone[2]
    module, guide = light(Exit(2, 0.5), "palette"), Guide(base=jnp.asarray(PICTURE))
    variables = without_head(by_hand.filled(module.init, taps[2], CONDITION, INPUTS, guide))
    picture = jax.jit(module.apply)(variables, taps[2], CONDITION, INPUTS, guide)
    np.testing.assert_allclose(picture, PICTURE, atol=1e-5)


def test_a_learnt_palette_is_a_function_of_z_painted_on_the_map(backbone):
    taps = backbone[2]
    module = light(Exit(2, 0.5), "learnt")
    variables = without_head(by_hand.filled(module.init, taps[2], CONDITION, INPUTS, Guide()))
    picture = jax.jit(module.apply)(variables, taps[2], CONDITION, INPUTS, Guide())
    hidden, dense = (variables["params"][k] for k in ("palette_hidden", "palette"))
    z = np.asarray(INPUTS["z"])
    x = z @ hidden["kernel"] + hidden["bias"]
    gelu = x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    palette = np.concatenate([z, gelu], axis=1) @ dense["kernel"] + dense["bias"]
    palette = np.tanh(palette).reshape(2, 2, 3)
    labels = np.asarray(INPUTS["labels"])
    expected = np.stack([palette[b][labels[b]] for b in range(2)]).clip(-0.97, 0.97)
    np.testing.assert_allclose(picture, expected, atol=1e-4)


def test_another_family_size_is_only_another_input(backbone):
    # the same variables render pictures of another size (infer.py --size native)
    variables, _, _ = backbone
    family = dataclasses.replace(FAMILY, size=(16, 8))
    labels = jnp.zeros((1, 16, 8), jnp.int32)
    condition = family.condition({"labels": labels, "z": INPUTS["z"][:1]})
    picture, _ = jax.eval_shape(Backbone(FAMILY).apply, variables, condition)
    assert picture.shape == (1, 16, 8, 3)
