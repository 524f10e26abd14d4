"""Exits that learn most from the inputs which a router sends them."""

import contextlib
import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_config, tiny_model, tiny_renderer, tiny_workdir

from fiancee_jax.checkpoint import Store
from fiancee_jax.config import BranchesPhase, Config, Exit, Logging
from fiancee_jax.data import Batch
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer
from fiancee_jax.models import lpips
from fiancee_jax.models.dcgan import Dcgan
from fiancee_jax.training import branches, focus
from fiancee_jax.training.run import train


def weights(predicted, share=1.0):
    return np.asarray(focus.weights(jnp.asarray(predicted, jnp.float32), share))


def routed_by(router, config: Config | None = None, **options) -> Config:
    config = config or tiny_config()
    options = {"steps": config.branches.steps + 1, **options}
    phase = dataclasses.replace(config.branches, router=str(router), **options)
    return dataclasses.replace(config, branches=phase)


# --- weights ------------------------------------------------------------------------------------
def test_of_two_exits_the_cheap_one_counts_what_gains_least():
    predicted = [[0.5, 0.4], [0.9, 0.1], [0.3, 0.3], [0.6, 0.4]]  # gains .1, .8, 0, .2
    place = np.array([1, 3, 0, 2]) / 3
    np.testing.assert_allclose(weights(predicted), [2 * (1 - place), 2 * place], rtol=1e-6)


def test_a_single_exit_counts_what_it_is_near_to():
    found = weights([[0.5], [0.1], [0.3]])
    np.testing.assert_allclose(found, [[0, 2, 1]], atol=1e-6)


def test_exits_between_have_their_peak_between():
    gains = np.arange(5) / 10
    found = weights(np.stack([gains + 0.2, gains / 2 + 0.2, np.full(5, 0.2)], 1))
    np.testing.assert_array_equal(found.argmax(1), [0, 2, 4])
    np.testing.assert_allclose(found[1] / found[1, 2], [0, 0.5, 1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(found[0] / found[0, 0], [1, 0.5, 0, 0, 0], atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([1, 2, 4]), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_an_exit_gets_as_much_as_if_all_counted_alike(exits, share, seed):
    rows = np.random.default_rng(seed).uniform(0, 1, (8, exits)).round(1)  # with ties
    found = weights(rows, share)
    assert (found >= -1e-6).all()
    np.testing.assert_allclose(found.mean(1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights(rows, 0.0), 1)


def test_an_exit_without_an_input_near_it_learns_from_all():
    np.testing.assert_allclose(weights([[0.2, 0.1]]), 1)
    np.testing.assert_allclose(weights([[0.2, 0.1, 0], [0.3, 0.1, 0]]), [[2, 0], [1, 1], [0, 2]])


# --- predictions --------------------------------------------------------------------------------
class Product(nn.Module):
    """A predictor of one exit: the grid's mean times the vector's."""

    @nn.compact
    def __call__(self, grid, vector):
        return (grid.mean((1, 2, 3)) * vector.mean(1))[:, None]


def test_a_vector_by_itself_is_seen_with_all_grids_of_a_small_batch():
    rng = np.random.default_rng(1)
    grid = rng.uniform(0, 1, (focus.OTHERS, 3, 4, 2)).astype(np.float32)
    vector = rng.uniform(0, 1, (focus.OTHERS, 5)).astype(np.float32)
    seen = jnp.asarray(grid), jnp.asarray(vector)
    each, mean = grid.mean((1, 2, 3)), grid.mean()
    both = focus.predictions(Product(), {}, seen, "both")
    np.testing.assert_allclose(both[:, 0], each * vector.mean(1), rtol=1e-5)
    alone = focus.predictions(Product(), {}, seen, "vector")
    np.testing.assert_allclose(alone[:, 0], mean * vector.mean(1), rtol=1e-5)


# --- training -----------------------------------------------------------------------------------
def test_an_input_that_is_for_others_teaches_nothing(monkeypatch):
    """Of two inputs a lone exit gives the farther no weight: as if it saw the nearer one twice."""
    phase = BranchesPhase(lpips_net="alex", running_statistics=True)
    config = tiny_config(exits=((2, 0.5),), branches=phase)
    model, variables = tiny_model(config)
    rng = np.random.default_rng(0)
    labels = np.stack([np.full((32, 32), 3), rng.integers(0, 10, (32, 32))]).astype(np.int32)
    zeros = lambda _, batch, __: jnp.zeros((len(batch.inputs["labels"]), 4))  # noqa: E731
    monkeypatch.setattr(branches, "random_latents", zeros)
    seen = model.view(variables, {"labels": jnp.asarray(labels), "z": jnp.zeros((2, 4))})
    router = model.predictor_net()
    predicted = router.apply(variables["predictor"], *seen)
    near = int(np.argmin(predicted[:, 0]))  # pyright: ignore

    def trained(rows, net):
        branch = {"tap2_w50": jax.tree.map(jnp.array, variables["branches"]["tap2_w50"])}
        opt = {k: branches.optimizer(phase).init(v["params"]) for k, v in branch.items()}
        frozen = {k: variables[k] for k in ("backbone", "bank")} | {
            "router": variables["predictor"]
        }
        step = branches.make_step(model, phase, router=net)
        batch = Batch({"labels": jnp.asarray(labels[rows])}, None)
        arguments = (batch, jax.random.key(0), (lpips.load("alex"),))
        state, metrics = step({"branches": branch, "opt": opt}, frozen, *arguments)
        return state["opt"]["tap2_w50"], metrics

    (focused, metrics), (alone, _), (both, plain) = (
        trained([0, 1], router),
        trained([near, near], None),
        trained([0, 1], None),
    )
    moments = [jax.tree.leaves(opt[0].nu) for opt in (focused, alone, both)]
    for one, other in zip(*moments[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-9)
    assert any(not np.allclose(a, b, rtol=0.1) for a, b in zip(moments[0], moments[2], strict=True))
    name = "tap2_w50/lpips"  # what is reported is of all inputs alike
    np.testing.assert_allclose(metrics[name][0], plain[name][0], rtol=1e-4)


# --- the router ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    folder.mkdir()
    tiny_workdir(folder, tiny_renderer())
    return folder


def test_the_predictor_of_a_workdir_is_the_router(first):
    found = focus.load_router(routed_by(first))
    assert found is not None
    model, variables = tiny_model()
    assert found.net == model.predictor_net()
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables["predictor"])
    phase = BranchesPhase()
    state = branches.init_state(model, phase, np.random.default_rng(0), None, found.branches)
    jax.tree.map(np.testing.assert_array_equal, state["branches"], variables["branches"])
    moments = jax.tree.leaves([opt[0].nu for opt in state["opt"].values()])
    assert moments
    assert not any(np.any(x) for x in moments)  # the optimiser begins anew
    assert found.steps == tiny_config().branches.steps
    assert focus.load_router(tiny_config()) is None


def test_training_goes_on_at_the_step_the_branches_have_had(tmp_path):
    """With a schedule of its own: a cosine of one step begins with the whole learning rate."""
    config = tiny_config(
        model=Dcgan(size=(32, 32), width=4, z_dim=4, stages=3),
        branches=BranchesPhase(steps=2, batch_size=4, lpips_net="alex", measure=4),
        logging=Logging(every=1, preview_every=9, checkpoint_every=9),
    )
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        tiny_workdir(folder, Renderer(config, *tiny_model(config), menu=[]))
    shutil.rmtree(folders[1] / "checkpoints" / "branches")
    train(routed_by(folders[0], config), folders[1], phases=["branches"])
    (line,) = map(json.loads, (folders[1] / "metrics.jsonl").read_text().splitlines())
    assert (line["phase"], line["step"]) == ("branches", 3)
    with contextlib.closing(Store(folders[1])) as store:
        assert store.latest("branches") == 3
        after = store.model("branches")
    before = tiny_model(config)[1]["branches"]
    for name, branch in before.items():
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after[name], branch)["params"]
        largest = max(map(float, jax.tree.leaves(moved)))
        assert 0.5 * config.branches.lr < largest < 1.5 * config.branches.lr  # one step of Adam


def test_a_copy_does_not_go_on_with_branches_of_the_round_before(first, tmp_path):
    """Their optimiser is at the end of its schedule, so that nothing more would be learnt."""
    second = shutil.copytree(first, tmp_path / "second")
    before = sorted(second.rglob("*"))
    with pytest.raises(UserError, match=r"(?s)another config:\n  branches.router:  -> .*--rerun"):
        train(routed_by(first), second, phases=["branches"])
    assert sorted(second.rglob("*")) == before


def test_a_round_needs_steps_of_its_own(first):
    steps = tiny_config().branches.steps
    with pytest.raises(UserError, match=f"branches.steps is {steps},.* have had {steps}, from"):
        focus.load_router(routed_by(first, steps=steps))


def test_other_exits_or_sizes_are_named(first, tmp_path):
    exits = (Exit(1, 0.5), Exit(2, 0.25))
    other = routed_by(first, dataclasses.replace(tiny_config(), exits=exits))
    with pytest.raises(UserError, match="exits: tap1_w50 tap2_w50 -> tap2_w25 tap1_w50"):
        focus.load_router(other)
    with pytest.raises(UserError, match=r"(?s)other networks.*width: 2 -> 4"):
        train(routed_by(first, tiny_config(width=4)), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # said before anything is written


def test_the_order_of_exits_does_not_matter(first):
    config = dataclasses.replace(tiny_config(), exits=tiny_config().exits[::-1])
    assert focus.load_router(routed_by(first, config)) is not None


def test_a_run_is_not_its_own_router(first):
    before = sorted(first.rglob("*"))
    with pytest.raises(UserError, match=r"the workdir itself.*Train in a copy: cp -r"):
        train(routed_by(first), first, phases=["branches", "predictor"], rerun=True)
    assert sorted(first.rglob("*")) == before


def test_a_router_needs_a_predictor_and_a_place(tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    tiny_workdir(folder, tiny_renderer(), dropped=(2,))
    with pytest.raises(UserError, match=r"without a predictor.*--phases predictor"):
        focus.load_router(routed_by(folder))
    with pytest.raises(UserError, match="nowhere"):
        focus.load_router(routed_by(tmp_path / "nowhere"))
