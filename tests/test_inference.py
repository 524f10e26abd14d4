"""Rendering: routed pictures, policies as the user names them, messages, loading."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config, tiny_renderer

from fiancee_jax import checkpoint, inference
from fiancee_jax.choice import Choice
from fiancee_jax.config import Exit, write_config
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer, file_latent, load
from fiancee_jax.models import winograd
from fiancee_jax.rendering import render_routed
from fiancee_jax.routing.dispatch import VMAP_MESSAGE

BATCH = 6
MIXES = ([1] * 6, [3, 1, 2, 1, 1, 3], [3] * 6, [1, 2, 3, 1, 2, 3], [2, 2, 2, 2, 2, 1])


@pytest.fixture(scope="module")
def renderer():
    return tiny_renderer()


@pytest.fixture(scope="module")
def inputs(renderer):
    """{labels, z} of six samples."""
    family, rng = renderer.model.family, np.random.default_rng(0)
    labels = rng.integers(0, 10, (BATCH, *family.size))
    z = rng.standard_normal((BATCH, family.latent_dim))
    return {"labels": jnp.asarray(labels, jnp.int32), "z": jnp.asarray(z, jnp.float32)}


@pytest.fixture(scope="module")
def each(renderer, inputs):
    """Pictures of all exits, [n, b, h, w, 3]: each exit by itself, without dispatch."""
    results = [renderer(inputs["labels"], z=inputs["z"], exit=k) for k in (1, 2, 3)]
    return np.stack([r.images for r in results])


# --- routed -------------------------------------------------------------------------------------
@pytest.mark.parametrize("exact", [True, False])
def test_routed_pictures_are_those_of_the_exits_that_ran(renderer, inputs, each, exact):
    compiled = render_routed._cache_size  # pyright: ignore[reportAttributeAccessIssue]
    before = compiled()
    for mix in MIXES:
        asked = np.array(mix, np.int32)
        pictures, ran = render_routed(
            renderer.model, renderer.variables, inputs, jnp.asarray(asked), exact=exact
        )
        expected = each[np.asarray(ran) - 1, np.arange(BATCH)]
        np.testing.assert_allclose(pictures, expected, atol=1e-5)
        if exact:
            np.testing.assert_array_equal(ran, asked)
        else:
            assert np.all(ran >= asked)
    assert compiled() <= before + 1  # one compilation serves all mixes
    assert np.abs(each[0] - each[1]).mean() > 1e-2
    assert np.abs(each[1] - each[2]).mean() > 1e-2


@pytest.mark.parametrize("exact", [True, False])
def test_the_routed_program_holds_one_switch(renderer, inputs, exact):
    exits = jnp.ones(BATCH, jnp.int32)
    lowered = render_routed.lower(renderer.model, renderer.variables, inputs, exits, exact=exact)
    assert lowered.as_text().count("stablehlo.case") == 1


def test_threshold_routes_by_prediction(renderer, inputs, each):
    predicted = np.asarray(renderer.predict(inputs["labels"], inputs["z"]))
    limit = float(np.median(predicted[:, 0]))  # half of the inputs may take the first exit
    result = renderer(inputs["labels"], z=inputs["z"], max_lpips=limit, exact=True)
    expected = [1 + min(i for i in range(3) if row[i] <= np.float32(limit)) for row in predicted]
    np.testing.assert_array_equal(result.exits, expected)
    assert len(set(expected)) > 1
    np.testing.assert_allclose(result.images, each[np.array(expected) - 1, np.arange(6)], atol=1e-5)
    np.testing.assert_allclose(result.predicted_lpips, predicted, rtol=1e-5)
    gmacs = np.array(renderer.gmacs()) + renderer.model.predictor_gmacs()
    np.testing.assert_allclose(result.gmacs, gmacs[np.array(expected) - 1], rtol=1e-5)


def test_threshold_zero_is_the_backbone(renderer, inputs, each):
    result = renderer(inputs["labels"], z=inputs["z"], max_lpips=0, exact=True)
    np.testing.assert_array_equal(result.exits, [3] * BATCH)
    np.testing.assert_allclose(result.images, each[2], atol=1e-5)


def test_a_budget_is_kept(renderer, inputs):
    table = np.asarray(renderer.table())
    budget = float((table[0] + table[2]) / 2)
    result = renderer(inputs["labels"], z=inputs["z"], budget_gmacs=budget)
    assert np.asarray(result.gmacs).mean() <= budget * (1 + 1e-6)
    assert np.asarray(result.gmacs).mean() > table[0]  # and used


def test_exact_pictures_do_not_depend_on_batch_mates(renderer, inputs):
    def render(rows):
        return renderer(inputs["labels"][rows], z=inputs["z"][rows], max_lpips=0.05, exact=True)

    together, reversed_ = render(np.arange(BATCH)), render(np.arange(BATCH)[::-1])
    np.testing.assert_array_equal(reversed_.exits[::-1], together.exits)
    np.testing.assert_array_equal(reversed_.images[::-1], together.images)


def test_a_key_draws_z(renderer, inputs):
    key = jax.random.key(5)
    drawn = renderer(inputs["labels"], key=key, exit=1)
    z = renderer.draw_latents(key, BATCH)
    assert z.shape == (BATCH, renderer.model.family.latent_dim)
    given = renderer(inputs["labels"], z=z, exit=1)
    np.testing.assert_array_equal(drawn.images, given.images)


# --- a fixed exit -------------------------------------------------------------------------------
def test_a_fixed_exit_says_what_ran(renderer, inputs):
    result = renderer(np.asarray(inputs["labels"]), z=np.asarray(inputs["z"]), exit=2)
    assert result.images.shape == (BATCH, 32, 32, 3)
    assert result.images.dtype == jnp.float32
    assert float(jnp.abs(result.images).max()) <= 1
    np.testing.assert_array_equal(result.exits, [2] * BATCH)
    np.testing.assert_allclose(result.gmacs, [renderer.gmacs()[1]] * BATCH, rtol=1e-6)
    assert result.predicted_lpips.shape == (BATCH, 3)


def test_full_is_the_last_exit(renderer, inputs, each):
    result = renderer(inputs["labels"], z=inputs["z"], exit="full")
    np.testing.assert_array_equal(result.exits, [3] * BATCH)
    np.testing.assert_array_equal(result.images, each[2])


def test_a_fixed_exit_can_be_differentiated_with_respect_to_z(renderer, inputs):
    labels, z = inputs["labels"][:1], inputs["z"][:1]

    @jax.jit
    def value(z):
        return jnp.mean(renderer(labels, z=z, exit=1).images ** 2)

    slope = jax.jit(jax.grad(value))(z)
    # along the gradient, so that rounding is small beside the change
    direction = slope / jnp.linalg.norm(slope)
    step = 1e-2
    finite = (float(value(z + step * direction)) - float(value(z - step * direction))) / (2 * step)
    assert finite == pytest.approx(float(jnp.linalg.norm(slope)), rel=0.05)


def test_a_fixed_exit_can_be_vmapped(renderer, inputs, each):
    def one(labels, z):
        return renderer(labels[None], z=z[None], exit=1).images[0]

    images = jax.jit(jax.vmap(one))(inputs["labels"], inputs["z"])
    np.testing.assert_allclose(images, each[0], atol=1e-5)


def test_routing_cannot_be_vmapped_and_says_why(renderer, inputs):
    def one(z):
        return renderer(inputs["labels"][:1], z=z[None], max_lpips=0.1).images

    with pytest.raises(ValueError, match="select that runs every exit") as error:
        jax.vmap(one)(inputs["z"])
    assert str(error.value) == VMAP_MESSAGE


# --- what is refused ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of max_lpips, exit, budget_gmacs, policy; found none"),
        ({"max_lpips": 0.1, "exit": 1}, "exactly one.*max_lpips.*exit"),
        ({"confidence": 0.9}, "exactly one.*confidence"),
        ({"max_lpips": -0.1}, "max_lpips is -0.1; it must be a number that is 0 or more"),
        ({"max_lpips": float("nan")}, "max_lpips is nan"),
        ({"max_lpips": float("inf")}, "max_lpips is inf"),
        ({"max_lpips": "0.1"}, "max_lpips is '0.1'"),
        ({"max_lpips": True}, "max_lpips is True"),
        ({"budget_gmacs": -1}, "budget_gmacs is -1"),
        ({"exit": 0}, r"exit is 0; this model has exits 1 to 3 \(1 = tap1_w50, .*3 = the backbone"),
        ({"exit": 4}, "exit is 4"),
        ({"exit": 1.0}, "exit is 1.0"),
        ({"exit": True}, "exit is True"),
        ({"exit": "last"}, "exit is 'last'"),
        ({"max_lpips": 0.1, "confidence": 0.9}, "confidence needs a calibrated model"),
        ({"budget_gmacs": 1e-6}, "the cheapest exit costs"),
    ],
)
def test_options_that_cannot_work(renderer, inputs, options, message):
    with pytest.raises(UserError, match=message):
        renderer(inputs["labels"], z=inputs["z"], **options)


def test_options_are_refused_before_anything_compiles(renderer, inputs, monkeypatch):
    monkeypatch.setattr(inference, "predict", None)
    monkeypatch.setattr(inference, "render_exit", None)
    for options in ({}, {"exit": 9}, {"max_lpips": -1}):
        with pytest.raises(UserError):
            renderer(inputs["labels"], z=inputs["z"], **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full((6, 32, 32), 10)}, r"class ids \[10\].*0 to 9"),
        ({"labels": np.zeros((32, 32), int)}, r"\[batch, height, width\].*labels\[None\]"),
        ({"labels": np.zeros((6, 32, 32))}, "must be integers"),
        ({"labels": np.zeros((6, 30, 32), int)}, "30x32.*divisible by 8"),
        ({"z": np.zeros((6, 5))}, r"z has shape \[6, 5\]; this model takes \[batch, 4\]"),
        ({"z": np.zeros(4)}, r"z has shape \[4\]"),
        ({"z": np.zeros((5, 4))}, "z has 5 rows for 6 inputs"),
        ({"z": np.full((6, 4), np.nan)}, "not finite"),
        ({"z": None}, "either key=.* or z="),
        ({"key": jax.random.key(0)}, "either key=.* or z="),
    ],
)
def test_inputs_that_cannot_work(renderer, inputs, change, message):
    options = {**inputs, **change}
    with pytest.raises(UserError, match=message):
        renderer(options.pop("labels"), exit=1, **options)


def test_numpy_numbers_are_numbers(renderer):
    Choice(max_lpips=np.float32(0.1)).check(renderer.model)  # pyright: ignore[reportArgumentType]
    Choice(exit=np.int64(2)).check(renderer.model)  # pyright: ignore[reportArgumentType]
    assert Choice(exit="full").number(renderer.model) == 3


def without(renderer, *names):
    variables = {k: v for k, v in renderer.variables.items() if k not in names}
    return Renderer(renderer.config, renderer.model, variables, [])


def test_a_model_without_a_predictor_renders_fixed_exits_only(renderer, inputs, each):
    bare = without(renderer, "predictor")
    result = bare(inputs["labels"], z=inputs["z"], exit=1)
    np.testing.assert_array_equal(result.images, each[0])
    assert np.isnan(result.predicted_lpips).all()
    choices: list[dict[str, Any]] = [{"max_lpips": 0.1}, {"budget_gmacs": 1.0}]
    for options in choices:
        with pytest.raises(UserError, match=r"no predictor yet.*phase 'predictor'"):
            bare(inputs["labels"], z=inputs["z"], **options)


def test_a_model_without_branches_renders_in_full_only(renderer, inputs):
    bare = without(renderer, "predictor", "branches")
    with pytest.raises(UserError, match="no branches have been trained; only exit='full'"):
        bare(inputs["labels"], z=inputs["z"], exit=1)


# --- cost ---------------------------------------------------------------------------------------
def test_gmacs_follow_the_size_of_the_input(renderer, inputs):
    small = renderer.gmacs((16, 32))
    assert small[-1] == pytest.approx(renderer.gmacs()[-1] / 2)
    assert renderer.gmacs((32, 32)) == renderer.gmacs()
    assert len(renderer.gmacs()) == renderer.model.num_exits


def test_pictures_have_the_size_of_the_maps(renderer):
    labels, z = np.zeros((2, 16, 24), int), np.zeros((2, 4))
    shape = jax.eval_shape(lambda: renderer(labels, z=z, exit=1).images)
    assert shape.shape == (2, 16, 24, 3)


def test_the_table_adds_the_predictor(renderer):
    expected = np.array(renderer.gmacs()) + renderer.model.predictor_gmacs()
    np.testing.assert_allclose(renderer.table(), expected, rtol=1e-6)


# --- latents of files ---------------------------------------------------------------------------
def test_file_latent_is_a_function_of_seed_and_name():
    pairs = list(itertools.product((0, 1, 10), ("a", "b", "0:a")))
    latents = {pair: file_latent(*pair, 8) for pair in pairs}
    for pair in reversed(pairs):  # the order of the calls does not matter
        np.testing.assert_array_equal(file_latent(*pair, 8), latents[pair])
    assert len({x.tobytes() for x in latents.values()}) == len(pairs)
    assert latents[0, "a"].dtype == np.float32


def test_file_latents_are_standard_normal():
    z = np.stack([file_latent(0, f"map_{i}", 16) for i in range(500)])
    assert abs(z.mean()) < 4 / 8000**0.5
    assert z.std() == pytest.approx(1, abs=4 / (2 * 8000) ** 0.5)


def test_file_latents_stay_what_they_were():
    # written down once: a NumPy that draws otherwise would change everyone's pictures
    np.testing.assert_allclose(file_latent(0, "a", 3), [0.8431816, 1.2630433, 0.4109263], rtol=1e-6)


# --- loading ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def workdir(renderer, tmp_path_factory):
    """A workdir with all phases, whose menu has dropped the exit tap1_w25 of its config."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    config = tiny_config(exits=((1, 0.5), (2, 0.5), (1, 0.25)))
    path.mkdir()
    write_config(config, path)
    store = checkpoint.Store(path)
    menu = [{"tap": e.tap, "width": e.width, "dropped": ""} for e in (Exit(2, 0.5), Exit(1, 0.5))]
    menu.append({"tap": 1, "width": 0.25, "dropped": "dearer and no better than tap2_w50"})
    items = {"backbone": "backbone", "guides": "bank", "branches": "branches"}
    for phase in ("backbone", "guides", "branches", "predictor"):
        extra = {"finished": True, **({"menu": menu} if phase == "branches" else {})}
        model = renderer.variables[items.get(phase, phase)]
        store.save(phase, 1, model=model, train={}, extra=extra)
    store.close()
    return path


def test_load_gives_back_the_model(workdir, renderer, inputs, each, monkeypatch):
    monkeypatch.chdir(workdir.parent)
    assert load("tiny").model.sparse  # on CPU, as here
    loaded = load("tiny", sparse=False)
    assert loaded.model == renderer.model  # exits by cost, the dropped one left out
    assert [entry["tap"] for entry in loaded.menu] == [2, 1, 1]
    assert loaded.has_predictor
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, renderer.variables)
    result = loaded(inputs["labels"], z=inputs["z"], exit=1)
    np.testing.assert_allclose(result.images, each[0], atol=1e-6)


def test_load_transforms_wide_kernels(workdir, inputs, each, monkeypatch):
    monkeypatch.setattr(winograd, "LEAST", 1)
    loaded = load(workdir)
    networks = [loaded.variables["backbone"], *loaded.variables["branches"].values()]
    assert all(winograd.COLLECTION in network for network in networks)
    result = loaded(inputs["labels"], z=inputs["z"], max_lpips=0.05, exact=True)
    for row, exit in enumerate(np.asarray(result.exits)):
        np.testing.assert_allclose(result.images[row], each[exit - 1][row], atol=2e-5)


def test_load_of_an_unfinished_run(tmp_path, renderer):
    write_config(renderer.config, tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint of the phase 'backbone'.*train\.py"):
        load(tmp_path)
    store = checkpoint.Store(tmp_path)
    store.save("backbone", 1, model=renderer.variables["backbone"], train={}, extra={})
    store.close()
    loaded = load(tmp_path)
    assert loaded.model.num_exits == 1
    assert not loaded.has_predictor


def test_load_of_a_name_that_does_not_exist():
    with pytest.raises(UserError, match=r"no workdir or model called 'nowhere'.*[Mm]odel"):
        load("nowhere")


def test_load_of_a_folder_that_is_no_workdir(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load(tmp_path)
