"""MegaPortraits: networks and costs, losses, encoding once, all phases, routed as one by one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_heads import heads_config, heads_renderer, trained_renderer

from fiancee_jax.config import Exit, Guides, PredictorPhase
from fiancee_jax.config_check import check_config
from fiancee_jax.data import Batch
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.inference import Renderer
from fiancee_jax.models import megaportraits
from fiancee_jax.models.layers import initialise
from fiancee_jax.models.megaportraits import MegaPortraits
from fiancee_jax.rendering import render_routed
from fiancee_jax.training import backbone
from fiancee_jax.video.render import Request, render_video

CONFIG = heads_config()
FAMILY: MegaPortraits = CONFIG.model
SIZE = FAMILY.size
RNG = np.random.default_rng(0)


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, *SIZE, 3)).astype(np.float32)


def inputs_of(count, seed=0):
    return {
        "source": pictures(count, seed),
        "driver": pictures(count, seed + 1),
        "z": jnp.zeros((count, 0)),
    }


@pytest.fixture(scope="module")
def renderer():
    return heads_renderer()


@pytest.fixture(scope="module")
def drawn():
    """An untrained model and its variables: enough for what is true of any weights."""
    model = MultiExit.of(CONFIG)
    fresh = initialise(model.backbone_shapes, np.random.default_rng(0), 1.0)
    return model, {"backbone": {"params": fresh["params"]}}


# --- networks and costs -------------------------------------------------------------------------
def decoder_gmacs(model, exit):
    """P and all that follows it, as the paper counts its decoder."""
    macs = model.exit_macs(exit)
    project = sum(v for k, v in macs.items() if k.split("/")[-1] == "project")
    return (sum(macs.values()) + project) / 1e9 - sum(model.encoding_gmacs())


def test_the_published_decoder_by_plain_arithmetic():
    """251.7 GMACs: P, eight blocks of 512 at 64x64, three doublings, to RGB; 1x1 skips."""
    macs, pixels = 1536 * 512 * 64**2 + 8 * 2 * 9 * 512 * 512 * 64**2, 64**2
    for before, after in ((512, 256), (256, 128), (128, 64)):
        pixels *= 4
        macs += (9 * before * after + 9 * after * after + before * after) * pixels
    macs += 9 * 64 * 3 * pixels
    model = MultiExit(MegaPortraits(), (), Guides(form="none"), PredictorPhase())
    assert decoder_gmacs(model, None) == pytest.approx(macs / 1e9, rel=1e-6)
    assert decoder_gmacs(model, None) == pytest.approx(251.7, abs=0.05)


def test_light_exits_of_a_third_cost_a_fifth_to_a_half_of_the_decoder():
    exits = tuple(Exit(tap, 1 / 3) for tap in (1, 3, 5))
    model = MultiExit(MegaPortraits(), exits, Guides(form="none"), PredictorPhase())
    full = decoder_gmacs(model, None)
    shares = [decoder_gmacs(model, e) / full for e in exits]
    np.testing.assert_allclose(shares, (0.20, 0.34, 0.47), atol=0.015)


def test_channels_and_sizes_along_the_decoder():
    family = MegaPortraits()
    assert [family.features(i) for i in (0, 8, 9, 10, 11)] == [512, 512, 256, 128, 64]
    assert [family.stage_factor(i) for i in (0, 8, 9, 10, 11)] == [8, 8, 4, 2, 1]
    assert family.features(8, 1 / 3) == 168
    assert all(family.features(i, 1 / 3) % 8 == 0 for i in range(12))
    thin = dataclasses.replace(FAMILY, width=16)
    assert thin.features(3, 0.01) == thin.features(3) == 4  # no more than the full width


def test_what_all_exits_share_is_counted_once(drawn):
    model, _ = drawn
    once, each = model.encoding_gmacs()
    assert once > each > 0
    assert model.gmacs[0] > once + each
    predictor = sum(model.predictor_macs.values()) / 1e9
    assert predictor == model.predictor_gmacs() < each
    assert MultiExit.of(dataclasses.replace(CONFIG, exits=(Exit(1, 0.5),))).encoding_gmacs() == (
        once,
        each,
    )


# --- encoding -----------------------------------------------------------------------------------
def test_a_source_encoded_once_gives_the_same_pictures(drawn):
    model, variables = drawn
    inputs = inputs_of(2)
    encode, full = jax.jit(model.encode), jax.jit(lambda v, i: model.full(v, i)[0])
    kept = encode(variables, {"source": inputs["source"]})
    assert set(kept) == {"source", "canonical", "descriptor", "source_motion"}
    once = encode(variables, {**kept, "driver": inputs["driver"]})
    both = encode(variables, inputs)
    assert set(both) == {*once, "z"}
    for name in once:
        np.testing.assert_allclose(once[name], both[name], atol=1e-5)
    np.testing.assert_allclose(full(variables, both), full(variables, inputs), atol=1e-5)


def test_what_is_encoded_is_not_computed_again(drawn):
    model, variables = drawn
    encoded = jax.jit(model.encode)(variables, inputs_of(1))
    again = jax.make_jaxpr(model.encode)(variables, encoded)
    assert "conv" not in str(again)
    moved = {**encoded, "source": -encoded["source"], "driver": -encoded["driver"]}
    full = jax.jit(lambda v, i: model.full(v, i)[0])
    np.testing.assert_array_equal(full(variables, moved), full(variables, encoded))


def test_the_view_is_of_pictures_or_descriptors(drawn):
    model, variables = drawn
    grid, vector = jax.eval_shape(model.view, variables, inputs_of(2))
    assert grid.shape == (2, 16, 16, 6)
    assert vector.shape == (2, 2 * (6 + FAMILY.expression) + FAMILY.descriptor)
    family = dataclasses.replace(FAMILY, seen="pictures")
    assert family.view(inputs_of(2))[1].shape == (2, 4 * 4 * 6)


# --- frames of its own --------------------------------------------------------------------------
def test_the_guide_is_the_nearest_frame_of_the_source():
    family = dataclasses.replace(FAMILY, own=3)
    config = dataclasses.replace(CONFIG, model=family, guides=Guides(form="own"))
    check_config(config)
    model = MultiExit.of(config)
    motions = jnp.asarray(RNG.standard_normal((2, 3, 14)), jnp.float32)
    own = jnp.asarray(RNG.uniform(-1, 1, (2, 3, *SIZE, 3)), jnp.float32)
    inputs = {
        "own": own,
        "own_motion": motions,
        "motion": motions[jnp.arange(2), jnp.array([2, 0])],
    }
    guide = model.guide({}, inputs, {}).features
    expected = own[jnp.arange(2), jnp.array([2, 0])].reshape(2, 8, 4, 8, 4, 3).mean((2, 4))
    np.testing.assert_allclose(np.asarray(guide), expected, atol=1e-6)


def test_frames_of_its_own_need_some():
    with pytest.raises(UserError, match=r"model\.own and data\.own"):
        check_config(dataclasses.replace(CONFIG, guides=Guides(form="own")))


@pytest.fixture
def with_frames(tmp_path):
    """An untrained model with guides of a source's own frames; source, driver and these on disk."""
    family = dataclasses.replace(FAMILY, own=2)
    config = dataclasses.replace(CONFIG, model=family, guides=Guides(form="own"))
    model, rng = MultiExit.of(config), np.random.default_rng(0)
    branches = {e.name: initialise(model.branch_shapes(e), rng, 1.0) for e in model.exits}
    backbone = {"params": initialise(model.backbone_shapes, rng, 1.0)["params"]}
    variables = {"backbone": backbone, "bank": {}, "branches": branches}
    for name, count in (("source", 1), ("driver", 3), ("own", 4)):
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = rng.integers(0, 256, (*SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return Renderer(config, model, variables, []), tmp_path


def request_of(folder, **options):
    paths = folder / "source" / "0.png", folder / "driver", folder / "out"
    return Request("model", *paths, exit="1", batch_size=2, **options)


def test_a_video_by_a_model_that_takes_frames_of_the_source(with_frames):
    renderer, folder = with_frames
    render_video(renderer, request_of(folder, own=folder / "own"))
    given = [np.asarray(Image.open(p)) for p in sorted((folder / "own").iterdir())]
    source, *frames = (
        np.asarray(Image.open(folder / part)) / np.float32(127.5) - 1
        for part in ("source/0.png", "driver/0.png", "driver/1.png", "driver/2.png")
    )
    own = np.stack([given[0], given[3]]) / np.float32(127.5) - 1  # spread over their order
    inputs = {"source": source[None], "driver": frames[2][None], "own": own[None]}
    expected = np.asarray(renderer(inputs, exit=1).images[0])
    found = np.asarray(Image.open(folder / "out" / "2.png")) / 127.5 - 1
    np.testing.assert_allclose(found, expected, atol=1.1 / 127.5)


def test_frames_of_the_source_are_asked_for(with_frames):
    renderer, folder = with_frames
    with pytest.raises(UserError, match="takes a source and more: give --own DIR"):
        render_video(renderer, request_of(folder))
    with pytest.raises(UserError, match=r"found 1 pictures in .*takes 2 further pictures"):
        render_video(renderer, request_of(folder, own=folder / "source"))
    plain = Renderer(CONFIG, MultiExit.of(CONFIG), renderer.variables, [])
    with pytest.raises(UserError, match="takes a source alone: leave out --own"):
        render_video(plain, request_of(folder, own=folder / "own"))
    assert not (folder / "out").exists()


# --- losses -------------------------------------------------------------------------------------
def test_hinge_losses_by_hand():
    logits = {"fake": [0.5, -2.0], "real": [2.0, 0.0]}

    def discriminate(which):
        return {"logits": [jnp.array([x]) for x in logits[which]], "features": []}

    family = dataclasses.replace(FAMILY, adversarial=0.5)
    terms = family.discriminator_losses(discriminate, "fake", "real", {}, jax.random.key(0))  # pyright: ignore
    assert float(terms["d_fake"]) == pytest.approx((1.5 + 0) / 2)
    assert float(terms["d_real"]) == pytest.approx((0 + 1) / 2)
    assert float(family.generator_loss(discriminate, "fake", {})) == pytest.approx(0.5 * 0.75)  # pyright: ignore


def test_feature_matching_by_hand():
    found = {"fake": [1.0, 2.0], "real": [0.0, 4.0]}

    def discriminate(which):
        return {"logits": [], "features": [jnp.full((2, 3), x) for x in found[which]]}

    family = dataclasses.replace(FAMILY, matching=10.0)
    terms = family.target_losses(discriminate, "fake", "real", {})  # pyright: ignore
    assert float(terms["g_match"]) == pytest.approx(10 * (1 + 2) / 2)
    assert dataclasses.replace(FAMILY, matching=0.0).target_losses(discriminate, "a", "b", {}) == {}  # pyright: ignore


def test_contrast_by_hand():
    found, wanted = RNG.standard_normal((2, 3, 5))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, wanted)]
    logits = np.exp(5 * (unit[0] @ unit[1].T - 0.2 * np.eye(3)))
    expected = -np.log(np.diag(logits) / logits.sum(1)).mean()
    loss = megaportraits.contrast(jnp.asarray(found, jnp.float32), jnp.asarray(wanted, jnp.float32))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_motions_of_the_right_driver_are_rewarded():
    right = jnp.eye(4)
    assert float(megaportraits.contrast(right, right)) < float(
        megaportraits.contrast(right, jnp.roll(right, 1, axis=0))
    )


@pytest.mark.parametrize("roll", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_poses_and_contrast_ask_the_generators_networks(drawn, roll):
    model, variables = drawn
    family = dataclasses.replace(FAMILY, roll=roll, pose=2.0, contrast=3.0)
    inputs = inputs_of(3)
    motion = lambda x: model.backbone().apply(  # noqa: E731
        variables["backbone"], x, method=lambda net, x: net.stem.motion(x)
    )
    poses = {f"{n}_pose": np.asarray(motion(inputs[n]))[:, :6] + 0.1 for n in ("source", "driver")}

    def run(method, *args):
        return model.backbone().apply(variables["backbone"], *args, method=method)

    terms = family.own_losses(run, inputs["driver"], {**inputs, **poses})
    assert float(terms["g_pose"]) == pytest.approx(2 * 2 * 0.01, rel=1e-3)
    drivers = motion(inputs["driver"])[:, 6:]
    shown = drivers
    if roll:
        drivers = jnp.roll(drivers, 1, axis=0)
        turned = {**inputs, "driver": jnp.roll(inputs["driver"], 1, axis=0)}
        shown = motion(model.full(variables, turned)[0])[:, 6:]
    expected = 3 * megaportraits.contrast(shown, drivers)
    np.testing.assert_allclose(terms["g_contrast"], expected, rtol=1e-3)
    assert "g_pose" not in family.own_losses(run, inputs["driver"], inputs)


@pytest.mark.parametrize(
    ("step", "roll"), [("fused", False), pytest.param("published", True, marks=pytest.mark.slow)]
)
def test_a_step_learns_poses_and_motions_and_reaches_all_parts(step: Any, roll):
    family = dataclasses.replace(FAMILY, roll=roll)
    phase = dataclasses.replace(CONFIG.backbone, step=step, reconstruction=0.0)
    model = MultiExit.of(dataclasses.replace(CONFIG, model=family))
    state = backbone.init_state(model, phase, np.random.default_rng(0))
    before = jax.tree.map(np.asarray, state["params"])
    poses = {f"{n}_pose": np.full((2, 6), 0.1, np.float32) for n in ("source", "driver")}
    inputs = {"source": pictures(2), "driver": pictures(2, 1), **poses}
    train_step = backbone.make_step(model, phase)
    for _ in range(2):  # blocks begin as the identity: what is inside them learns from then on
        state, metrics = train_step(state, Batch(inputs, pictures(2, 2)), jax.random.key(0), None)
    wanted = {"g_adv", "g_match", "g_contrast", "g_pose", "d_fake", "d_real"}
    norms = {f"{net}_{name}" for net in "gd" for name in ("gradient", "update")}
    assert set(metrics) == wanted | norms
    assert all(np.isfinite(total) for total, _ in metrics.values())
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, state["params"])
    assert min(jax.tree.leaves(moved)) > 0  # every part of it learns
    assert state["batch_stats"] == {}


# --- mistakes -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (36, 32)}, r"size is \[36, 32\].*divisible by 8"),
        ({"depth": 6}, "depth is 6.*divisible by 4"),
        ({"blocks": 0}, "at least one block"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(FAMILY, **changes).check()


# --- training and rendering ---------------------------------------------------------------------
@pytest.mark.slow
def test_every_phase_trains_and_the_model_renders(tmp_path):
    renderer = trained_renderer(tmp_path)
    inputs = inputs_of(3)
    limit = float(np.median(renderer.predict(inputs, None)[:, 0]))
    policies: list[Any] = [{"exit": 1}, {"max_lpips": limit}]
    for policy in [*policies, {"max_lpips": limit, "confidence": 0.5}]:
        r = renderer(inputs, **policy)
        assert r.images.shape == (3, *SIZE, 3)
        assert np.isfinite(r.images).all()
    assert (tmp_path / "tiny_heads" / "samples" / "backbone_000002.png").is_file()


def test_routed_pictures_are_those_of_their_exits(renderer):
    model, variables = renderer.model, renderer.variables
    count, n = 9, renderer.model.num_exits
    inputs = renderer.encode(inputs_of(count))
    exits = jnp.asarray(np.arange(count) % n + 1, jnp.int32)
    images, ran = render_routed(model, variables, inputs, exits, exact=True)
    np.testing.assert_array_equal(ran, exits)
    for number in range(1, n + 1):
        alone = renderer(inputs_of(count), exit=number).images
        rows = np.flatnonzero(np.asarray(exits) == number)
        np.testing.assert_allclose(images[rows], alone[rows], atol=2e-5)


def test_devices_share_a_routed_batch(renderer):
    inputs, shared = inputs_of(8), renderer.over(jax.devices()[:2])
    limit = float(np.median(renderer.predict(inputs, None)[:, 0]))
    one, two = (r(inputs, max_lpips=limit, exact=True) for r in (renderer, shared))
    np.testing.assert_array_equal(one.exits, two.exits)
    np.testing.assert_allclose(one.images, two.images, atol=2e-5)


def test_source_and_driver_reach_every_exit(renderer):
    inputs = inputs_of(2)
    for name in ("source", "driver"):
        changed = {**inputs, name: -inputs[name]}
        for exit in (1, "full"):
            moved = renderer(changed, exit=exit).images - renderer(inputs, exit=exit).images
            assert np.abs(moved).max() > 0


def test_a_fixed_exit_can_be_differentiated(renderer):
    def brightness(driver):
        return renderer({"source": pictures(1), "driver": driver}, exit=1).images.mean()

    assert np.isfinite(jax.grad(brightness)(jnp.asarray(pictures(1, 3)))).all()
