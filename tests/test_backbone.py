"""Backbone training: accumulated gradients, power iterations, averaging, families without norms."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from small import (
    PHASE,
    PLAIN,
    SMALL,
    STEPS,
    Small,
    after_one_step,
    assert_same_gradients,
    assert_same_metrics,
    gradient,
    unconditional,
    with_phase,
)
from tiny import tiny_config

from fiancee_jax.checkpoint import Store
from fiancee_jax.config import BranchesPhase
from fiancee_jax.data import Batch
from fiancee_jax.models import lpips
from fiancee_jax.models.layers import fold_spectral
from fiancee_jax.training import adversarial, averaged, backbone, branches
from fiancee_jax.training.averaged import converged
from fiancee_jax.training.log import Log
from fiancee_jax.training.workspace import Workspace

NORMS = ("g_gradient", "g_update", "d_gradient", "d_update")


# --- losses -------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Demanding(Small):
    """Asks its own networks for a loss, and its discriminator for one against the target."""

    own: float = 0.0
    matching: float = 0.0

    def own_losses(self, run, images, inputs):
        features = run(lambda net, condition: net.stem(condition), inputs)
        return {"g_own": self.own * (jnp.mean(features**2) + jnp.mean(images))}

    def target_losses(self, discriminate, fake, real, inputs):
        return {"g_match": self.matching * jnp.mean((discriminate(fake) - discriminate(real)) ** 2)}


def demanding(**weights):
    return dataclasses.replace(PLAIN, family=Demanding(norms=False, **weights))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["own", "matching"])
def test_a_familys_losses_add_their_gradient(step, name):
    batch, phase = unconditional(), with_phase(step=step)
    found = [
        gradient(after_one_step(phase, batch, demanding(**{name: w}))[1]) for w in (0.0, 1.0, 2.0)
    ]
    assert np.abs(found[1] - found[0]).max() > 1e-4
    np.testing.assert_allclose(found[2] - found[0], 2 * (found[1] - found[0]), atol=1e-5)


@pytest.mark.parametrize("step", STEPS)
def test_a_familys_own_gradient_is_that_of_its_loss(step):
    batch, phase = unconditional(), with_phase(step=step)
    model = demanding(own=3.0)
    before, after, metrics = after_one_step(phase, batch, model)
    without = after_one_step(phase, batch, demanding())[1]
    keys = jax.random.split(jax.random.key(3), 2 if step == "fused" else 3)
    z = adversarial.random_latents(model, batch, keys[0])

    def own(params):
        images, _ = adversarial.generate(model, params, {}, {}, {"z": z})
        return adversarial.own_terms(model, params, {}, images, {"z": z})[0]

    value, grad = jax.value_and_grad(own)(before["params"])
    expected = np.concatenate([np.ravel(x) for x in jax.tree.leaves(grad)])
    np.testing.assert_allclose(gradient(after) - gradient(without), expected, atol=1e-5)
    assert float(metrics["g_own"][0]) == pytest.approx(float(value), rel=1e-5)


def test_the_target_can_be_asked_for_whatever_z_is():
    model, batch = PLAIN, unconditional()
    net = lpips.load("alex")
    fake = jnp.zeros((2, 40, 40, 3))
    batch = batch._replace(target=np.full((2, 40, 40, 3), 0.5, np.float32))

    def logits(images):
        return jnp.zeros(len(images))

    phase = with_phase(reconstruction=2.0, l1=3.0)
    _, terms = adversarial.generator_terms(model, phase, logits, fake, batch, net)
    distance = float(lpips.distance(net, fake, jnp.asarray(batch.target)).mean())
    assert float(terms["g_l1"]) == pytest.approx(2 * 3 * 0.5, rel=1e-5)
    assert float(terms["g_lpips"]) == pytest.approx(2 * distance, rel=1e-5)
    assert "g_l1" not in adversarial.generator_terms(model, PHASE, logits, fake, batch, net)[1]


def test_weights_decay():
    params = {"kernel": jnp.array([2.0, -4.0])}
    for decay in (0.0, 0.1):
        adam, _ = backbone.optimizers(with_phase(weight_decay=decay, lr_g=0.5))
        steps: Any = adam.update({"kernel": jnp.zeros(2)}, adam.init(params), params)[0]
        np.testing.assert_allclose(steps["kernel"], -0.5 * decay * params["kernel"], atol=1e-7)


# --- accumulated gradients ----------------------------------------------------------------------
def test_a_split_is_strided():
    batch = Batch({"labels": np.arange(6)}, np.arange(12).reshape(6, 2))
    parts = adversarial.split(batch, 2)
    np.testing.assert_array_equal(parts.inputs["labels"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(parts.target[1], [[2, 3], [6, 7], [10, 11]])
    assert parts.latent is None


def test_every_micro_batch_lies_on_all_devices():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.device_put(np.arange(16.0).reshape(16, 1), NamedSharding(mesh, P("data")))
    parts = jax.jit(functools.partial(adversarial.split, count=2))(batch)
    assert parts.sharding.is_equivalent_to(NamedSharding(mesh, P(None, "data")), parts.ndim)


@pytest.mark.parametrize("step", STEPS)
def test_every_device_makes_its_share_of_the_pictures_without_inputs(step):
    # z is all that such a family's pictures depend on, and it is drawn inside the step
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    phase = with_phase(step=step, batch_size=8)
    state = backbone.init_state(SMALL, phase, np.random.default_rng(0))
    state = jax.device_put(state, NamedSharding(mesh, P()))
    batch = jax.device_put(unconditional(8), NamedSharding(mesh, P("data")))
    with jax.set_mesh(mesh):
        program = backbone.make_step(SMALL, phase).lower(state, batch, jax.random.key(0), None)
        text = program.compile().as_text()
    assert "f32[2,16,16,3]" in text
    assert "f32[8,16,16,3]" not in text


@pytest.mark.parametrize("count", [1, 2, 4])
def test_accumulate_carries_on_and_takes_the_mean(count):
    def body(carry, part):
        return 10 * carry + part.target[0], {"sum": part.target.sum()}

    batch = Batch({}, jnp.arange(1.0, 5.0))
    carry, results = adversarial.accumulate(body, jnp.float32(0), batch, count)
    assert float(carry) == {1: 1, 2: 12, 4: 1234}[count]
    assert float(results["sum"]) == 10 / count


def joined(a, b):
    """A batch whose two micro-batches are a and b."""
    return jax.tree.map(lambda x, y: np.stack([x, y], 1).reshape(-1, *x.shape[1:]), a, b)


@pytest.fixture
def fixed_latents(monkeypatch):
    """z comes with the batch, so that a half has the z it has in the whole."""
    monkeypatch.setattr(adversarial, "draw_latents", lambda *args: jnp.asarray(args[2].latent))


def test_the_accumulated_gradient_is_the_mean_of_the_micro_batches(fixed_latents):
    halves = [unconditional(seed=seed) for seed in (0, 1)]
    single = [after_one_step(PHASE, half) for half in halves]
    double = after_one_step(with_phase(batch_size=4, accumulate=2), joined(*halves))
    for opt in ("opt_g", "opt_d"):
        mean = (gradient(single[0][1], opt) + gradient(single[1][1], opt)) / 2
        np.testing.assert_allclose(gradient(double[1], opt), mean, atol=2e-4 * np.abs(mean).max())
    for name in double[2].keys() - set(NORMS):
        expected = (single[0][2][name][0] + single[1][2][name][0]) / 2
        np.testing.assert_allclose(double[2][name][0], expected, rtol=1e-4)


@pytest.mark.parametrize("step", STEPS)
def test_identical_micro_batches_update_as_one(step, fixed_latents):
    batch = unconditional()
    start, one, m = after_one_step(with_phase(step=step), batch)
    phase = with_phase(step=step, batch_size=4, accumulate=2)
    _, two, n = after_one_step(phase, joined(batch, batch))
    assert_same_gradients(two, one)
    assert_same_metrics(n, m)
    if step == "fused":  # running statistics move once for each micro-batch
        trees = (x["batch_stats"] for x in (start, one, two))
        for s, a, b in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_allclose(b, 0.9 * a + (a - 0.9 * s), atol=1e-5)


# --- power iterations and averaging -------------------------------------------------------------
def iterated(params, spectral, count):
    """{u, v} after `count` power iterations, in NumPy; leaves in the order of the tree."""
    if "u" in spectral:
        u, w = np.asarray(spectral["u"], np.float64), np.asarray(params["kernel"], np.float64)
        w, v = w.reshape(-1, len(u)), np.asarray(spectral["v"])
        for _ in range(count):
            v = w @ u / np.linalg.norm(w @ u)
            u = w.T @ v / np.linalg.norm(w.T @ v)
        return {"u": u, "v": v}
    return {k: iterated(params[k], child, count) for k, child in spectral.items()}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_runs_2_power_iterations_of_g_and_4_of_d(step):
    phase = with_phase(step=step, lr_g=0.05)
    before, after, _ = after_one_step(phase, unconditional())
    if step == "published":  # G's second one sees the weights after its update
        g = iterated(before["params"], before["spectral"], 1)
        g = iterated(after["params"], g, 1)
    else:
        g = iterated(before["params"], before["spectral"], 2)
    d = iterated(before["d_params"], before["d_spectral"], 4)
    for found, expected in ((after["spectral"], g), (after["d_spectral"], d)):
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-4)


def workspace(tmp_path, phase, model):
    """Landscapes as data; of them this family sees the pictures only."""
    config = dataclasses.replace(tiny_config(), backbone=phase, model=model.family)
    work = Workspace(config, tmp_path, Store(tmp_path), Log(None))
    work.model = model
    return work


def test_the_averaged_model_has_its_own_sigma_and_statistics(tmp_path):
    phase = with_phase(batch_size=4, recollect=2)
    work = workspace(tmp_path, phase, SMALL)
    state = backbone.init_state(SMALL, phase, np.random.default_rng(0))
    state["ema"] = backbone.init_state(SMALL, phase, np.random.default_rng(1))["params"]
    model = averaged.averaged(work, state)
    for name, kernel in kernels(model["params"]).items():
        expected = np.asarray(kernels(state["ema"])[name])
        if name.startswith("stages"):  # the spectrally normalised ones
            matrix = expected.reshape(-1, expected.shape[-1])
            expected = expected / np.linalg.svd(matrix, compute_uv=False)[0]
        np.testing.assert_allclose(kernel, expected, rtol=0.02, atol=1e-7)
    stats, loader = [], work.loader("train", 4, "backbone")
    for i in range(2):  # of the very weights that are saved, in training mode
        batch = adversarial.with_latents(SMALL, phase, next(loader), work.key("init", i))
        zeros = jax.tree.map(jnp.zeros_like, model["batch_stats"])
        stats.append(backbone.generate(SMALL, model["params"], zeros, {}, batch.inputs)[1])
    for one, two, mean in zip(*map(jax.tree.leaves, (*stats, model["batch_stats"])), strict=True):
        np.testing.assert_allclose((one + two) / 2 / 0.1, mean, rtol=1e-3, atol=1e-4)


def kernels(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {"/".join(part.key for part in path): leaf for path, leaf in leaves}
    return {name: leaf for name, leaf in named.items() if name.endswith("kernel")}


# --- a family without norms ---------------------------------------------------------------------
@pytest.mark.parametrize("step", STEPS)
def test_a_family_without_norms_and_inputs_trains(step):
    phase = with_phase(step=step, batch_size=4, accumulate=2, precision="bfloat16", remat=True)
    before, after, metrics = after_one_step(phase, unconditional(4), PLAIN)
    assert set(metrics) == {"g_adv", "d_fake", "d_real", "d_mix", *NORMS}
    assert after["batch_stats"] == after["spectral"] == after["d_spectral"] == {}
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after["params"], before["params"])
    assert 0 < max(jax.tree.leaves(moved)) <= 1.01 * phase.lr_g


def test_its_averaged_model_is_its_averaged_weights(tmp_path):
    work = workspace(tmp_path, PHASE, PLAIN)
    state = backbone.init_state(PLAIN, PHASE, np.random.default_rng(0))
    model = averaged.averaged(work, state)
    shapes = jax.tree.map(jnp.shape, PLAIN.backbone_shapes)
    assert jax.tree.map(jnp.shape, model) == shapes
    for a, b in zip(*map(jax.tree.leaves, (model["params"], state["ema"])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_its_branches_train():
    model, phase = PLAIN, BranchesPhase(lpips_net="alex", adversarial=0.1)
    model = dataclasses.replace(model, family=Small(norms=False, size=(32, 32)))
    state = branches.init_state(model, phase, np.random.default_rng(0))
    trained = backbone.init_state(model, PHASE, np.random.default_rng(0))
    state = branches.with_discriminator(phase, state, trained)
    frozen = {"backbone": model.backbone_shapes, "bank": {}}
    step = branches.make_step(model, phase)
    args = (unconditional(4, 32), jax.random.key(0), (lpips.load("alex"),))
    new, _ = jax.eval_shape(step, state, frozen, *args)
    assert jax.tree.structure(new) == jax.tree.structure(state)


# --- going on -----------------------------------------------------------------------------------
def test_training_restarts_from_folded_weights():
    """The weights stay, their sigmas are found: 1 for folded kernels, the largest singular value
    (NumPy's) for others."""
    start = backbone.init_state(SMALL, PHASE, np.random.default_rng(1))
    folded = fold_spectral(start["params"], converged(start["params"], start["spectral"]))
    given = {"params": folded, "batch_stats": start["batch_stats"]}
    state = backbone.restarted(SMALL, PHASE, given, {"params": start["d_params"]})
    assert jax.tree.structure(state) == jax.tree.structure(start)
    for name, like in (("params", folded), ("ema", folded), ("d_params", start["d_params"])):
        jax.tree.map(np.testing.assert_array_equal, state[name], like)
    for params, spectral, expected in (
        ("params", "spectral", lambda _: 1.0),
        ("d_params", "d_spectral", lambda matrix: np.linalg.svd(matrix)[1][0]),
    ):
        for kernel, uv in _spectral(state[params], state[spectral]):
            matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
            sigma = np.asarray(uv["v"]) @ matrix @ np.asarray(uv["u"])
            assert sigma == pytest.approx(expected(matrix), rel=0.02)


def _spectral(params, spectral):
    if "u" in spectral:
        return [(params["kernel"], spectral)]
    return [pair for name in spectral for pair in _spectral(params[name], spectral[name])]
