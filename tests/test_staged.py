"""The contract of a generator family, held against every family there is; and its defaults.

A new family in ``fiancee_jax/models/`` is found and tested here without an edit.
"""

import dataclasses
import functools
import importlib
import inspect
import pathlib
import pkgutil
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fiancee_jax
from fiancee_jax import models
from fiancee_jax.config import Exit, Guides, PredictorPhase
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.layers import MOMENTUM, STARTS, initialise
from fiancee_jax.models.staged import StagedGenerator

BATCH, LIGHT = 2, 0.25
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def found() -> list[Any]:
    """Every family of the package with the defaults of its fields."""
    modules = [f"{models.__name__}.{info.name}" for info in pkgutil.iter_modules(models.__path__)]
    members = [(name, vars(importlib.import_module(name)).values()) for name in modules]
    return [
        member().with_classes(("void", "sky", "sea"))
        for name, values in members
        for member in values
        if inspect.isclass(member) and issubclass(member, StagedGenerator)
        if member.__module__ == name and not inspect.isabstract(member)
    ]


@pytest.fixture(params=found(), ids=lambda family: type(family).__name__, scope="module")
def family(request):
    return request.param


def traced(module, *args, **options):
    """Shapes of what a module returns, and of its variables."""
    return jax.eval_shape(functools.partial(module.init_with_output, **options), KEY, *args)


def drawn(module, *args):
    """Its variables, drawn as training draws them."""
    return initialise(traced(module, *args)[1], np.random.default_rng(0), 1.0)


def zeros(tree):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)


def condition_of(family, dtype=jnp.float32):
    shapes = jax.eval_shape(family.condition, family.abstract_inputs(BATCH))
    floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype if floating(x) else x.dtype), shapes
    )


def size_after(family, stage):
    return tuple(side // family.stage_factor(stage) for side in family.size)


def names_of(variables):
    return {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(variables)}


# --- every family -------------------------------------------------------------------------------
def test_there_are_families():
    assert {type(family).__name__ for family in found()} >= {"Oasis", "Dcgan"}


def test_defaults_are_a_working_part_of_a_config(family):
    family.check()
    assert family.num_stages >= 2
    assert hash(family) == hash(dataclasses.replace(family))
    assert family.with_size((64, 128)).size == (64, 128)
    inputs = family.abstract_inputs(BATCH)
    assert set(inputs) == {*family.input_names, "z"}
    assert {x.shape[0] for x in inputs.values()} == {BATCH}
    assert inputs["z"].shape == (BATCH, family.latent_dim)
    assert family.picture_size(inputs) == family.size


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_stages_follow_each_other_from_stem_to_picture(family, dtype):
    condition = condition_of(family, dtype)
    x, variables = traced(family.stem(), condition, train=True)
    for i in range(family.num_stages + 1):
        if i > 0:
            x, variables = traced(family.stage(i), x, condition, train=True)
        assert x.shape == (BATCH, *size_after(family, i), family.features(i))
        assert x.dtype == dtype  # the computation's, whatever the parameters are
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    base = jax.ShapeDtypeStruct((BATCH, *family.size, 3), jnp.float32)
    for args in ((x,), (x, base)):
        picture, _ = traced(family.head(), *args)
        assert (picture.shape, picture.dtype) == ((BATCH, *family.size, 3), jnp.float32)


def test_light_stages_take_any_channels_and_have_no_spectral_norm(family):
    condition = condition_of(family)
    for i in range(1, family.num_stages + 1):
        shape = (BATCH, *size_after(family, i - 1), 5)
        if family.stage_factor(0) == family.stage_factor(1) and i == 1:
            shape = (BATCH, *size_after(family, 0), 5)
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        full, light = (traced(family.stage(i, width=w), x, condition)[0] for w in (1.0, LIGHT))
        assert light.shape == (*full.shape[:3], family.features(i, LIGHT))
        assert family.features(i, LIGHT) < family.features(i)
        assert "spectral" not in traced(family.stage(i, width=LIGHT), x, condition)[1]


def test_a_head_of_zeros_returns_its_base(family):
    features = jnp.asarray(RNG.standard_normal((1, 4, 4, family.features(family.num_stages))))
    base = jnp.asarray(RNG.uniform(-0.9, 0.9, (1, 4, 4, 3)), jnp.float32)
    head = family.head()
    variables = zeros(traced(head, features.astype(jnp.float32))[1])
    picture = head.apply(variables, features.astype(jnp.float32), base)
    np.testing.assert_allclose(picture, base, atol=1e-5)


def test_variables_can_be_drawn_and_saved(family):
    backbone = MultiExit(family, (), Guides(form="none"), PredictorPhase()).backbone_shapes
    image = jax.ShapeDtypeStruct((BATCH, *family.size, 3), jnp.float32)
    _, critic = traced(family.discriminator(), image)
    assert set(backbone) <= {"params", "batch_stats", "spectral"}
    assert set(critic) <= {"params", "spectral"}
    assert names_of({"g": backbone, "d": critic}) <= {"kernel", "u", "v", *STARTS}


def test_statistics_move_as_training_counts_on(family):
    """From zeros and from ones they end a momentum apart; averaging the weights relies on it."""
    features = jax.ShapeDtypeStruct((BATCH, *size_after(family, 0), 3), jnp.float32)
    if "batch_stats" not in traced(family.stage(1), features, condition_of(family))[1]:
        return  # it keeps none
    inputs = zeros(family.abstract_inputs(BATCH))
    inputs["z"] = jnp.asarray(RNG.standard_normal(inputs["z"].shape), jnp.float32)
    condition = family.condition(inputs)
    x = jnp.asarray(RNG.standard_normal((BATCH, *size_after(family, 0), 3)), jnp.float32)
    for module, args in (
        (family.stem(), (condition,)),
        (family.stage(1, width=0.02), (x, condition)),
    ):
        variables = drawn(module, *args)
        starts = [
            jax.tree.map(lambda s, v=value: jnp.full_like(s, v), variables.get("batch_stats", {}))
            for value in (0, 1)
        ]
        low, high = (
            module.apply(
                {**variables, "batch_stats": s}, *args, train=True, mutable=["batch_stats"]
            )
            for s in starts
        )
        for a, b in zip(*(jax.tree.leaves(run[1]) for run in (low, high)), strict=True):
            np.testing.assert_allclose(b - a, MOMENTUM, atol=1e-4)


def test_a_picture_of_one_colour_is_painted_from_its_summary(family):
    inputs = zeros(family.abstract_inputs(BATCH))
    colour = jnp.asarray([0.5, -0.2, 0.1])
    images = jnp.broadcast_to(colour.reshape(1, 1, 1, 3), (BATCH, *family.size, 3))
    palette, share = family.summarise(images, inputs)
    assert palette.shape == (BATCH, *family.palette_shape)
    assert share.shape == palette.shape[:2]
    assert float(share.min()) >= 0
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(family.paint(palette, inputs), images, atol=1e-5)


def test_the_predictor_sees_a_grid_of_shares_and_a_vector(family):
    inputs = zeros(family.abstract_inputs(BATCH))
    inputs["z"] = jnp.asarray(RNG.standard_normal(inputs["z"].shape), jnp.float32)
    if family.encodes:
        stem, condition = family.stem(), family.condition(inputs)
        shapes = traced(stem, condition, method="encode")[0]
        assert set(shapes).isdisjoint(inputs)
        assert {x.shape[0] for x in shapes.values()} == {BATCH}
        inputs |= zeros(shapes)
    grid, vector = family.view(inputs)
    assert grid.ndim == 4
    assert vector.ndim == 2
    assert len(grid) == len(vector) == BATCH
    assert vector.shape[1] >= 1
    assert 0 <= float(grid.min()) <= float(grid.max()) <= 1


def test_losses_are_scalars_of_the_discriminators_logits(family):
    image = jax.ShapeDtypeStruct((BATCH, *family.size, 3), jnp.float32)
    logits, _ = traced(family.discriminator(), image)

    def losses(fake, real, inputs):
        def discriminate(images):
            return jax.tree.map(lambda x: jnp.zeros(x.shape) + images.mean(), logits)

        terms = family.discriminator_losses(discriminate, fake, real, inputs, KEY)
        more = family.target_losses(discriminate, fake, real, inputs)
        return {"g_adv": family.generator_loss(discriminate, fake, inputs), **terms, **more}

    terms = jax.eval_shape(losses, image, image, family.abstract_inputs(BATCH))
    assert len(terms) >= 2
    assert all(value.shape == () and value.dtype == jnp.float32 for value in terms.values())


def test_thinner_and_earlier_exits_are_cheaper(family):
    exits = (Exit(1, 0.25), Exit(1, 0.5), Exit(family.num_stages - 1, 0.5))
    model = MultiExit(family, exits, Guides(size=8, neighbours=4), PredictorPhase())
    assert sorted(model.gmacs) == list(model.gmacs)
    assert model.predictor_gmacs() < 0.1 * model.gmacs[-1]


def test_what_is_generic_knows_no_label_maps():
    """Inputs there are pytrees by name; what is special about label maps is a family's."""
    package = pathlib.Path(fiancee_jax.__file__).parent
    generic = [package / f"{name}.py" for name in ("exits", "guides", "inference")]
    generic += [package / "models" / f"{name}.py" for name in ("branches", "predictor", "staged")]
    generic += [*(package / "training").glob("*.py"), *(package / "routing").glob("*.py")]
    assert len(generic) > 15
    naming = [path.name for path in generic if re.search(r"\blabels\b", path.read_text())]
    assert naming == []


# --- defaults -----------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Needy(StagedGenerator):
    """Two inputs, no networks."""

    input_names = ("source", "pose")
    size: tuple[int, int] = (8, 8)
    num_stages = stem = stage = head = features = stage_factor = None  # pyright: ignore
    discriminator = generator_loss = discriminator_losses = None  # pyright: ignore

    def abstract_inputs(self, batch):
        source = jax.ShapeDtypeStruct((batch, *self.size, 3), jnp.float32)
        pose = jax.ShapeDtypeStruct((batch, 2), jnp.int32)
        return {"source": source, "pose": pose, **super().abstract_inputs(batch)}


def test_what_a_family_lacks_is_named():
    class Empty(StagedGenerator):
        pass

    with pytest.raises(TypeError, match=r"abstract.*discriminator.*stem"):
        Empty()  # pyright: ignore[reportAbstractUsage]


def given(count=2, **changes):
    source, pose = np.zeros((count, 8, 8, 3)), np.zeros((count, 2), np.int64)
    return {"source": source, "pose": pose, **changes}


def test_inputs_are_checked_against_their_shapes():
    checked = Needy().check_inputs({**given(), "z": 5})
    assert checked["source"].dtype == jnp.float32
    assert checked["pose"].dtype == jnp.int32
    assert checked["z"] == 5
    assert jax.jit(lambda x: Needy().check_inputs(given(source=x)))(given()["source"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 8, 8, 3)), r"the input 'pose' is missing; found \['source'\]"),
        ({}, "the input 'source' is missing; found none"),
        (given(source=np.zeros((8, 8, 3))), r"source must be float32 of shape \[batch, 8, 8, 3\]"),
        (given(source=np.zeros((2, 4, 8, 3))), r"found float64 of shape \[2, 4, 8, 3\]"),
        (given(pose=np.zeros((2, 2))), r"pose must be int32 of shape \[batch, 2\]; found float64"),
        (
            given(pose=np.zeros((3, 2), int)),
            "one of each for every picture; found 2 source, 3 pose",
        ),
        (given(count=0), r"found float64 of shape \[0, 8, 8, 3\]"),
        (given(source=np.full((2, 8, 8, 3), np.nan)), "source holds values that are not finite"),
        (given(source=[["a"]]), "source must be float32"),
    ],
)
def test_bad_inputs_are_named(inputs, message):
    with pytest.raises(UserError, match=message):
        Needy().check_inputs(inputs)


def test_the_default_palette_keeps_where_colours_are():
    images = np.zeros((1, 8, 8, 3), np.float32)
    images[:, :4] = 0.8
    palette, _ = Needy().summarise(jnp.asarray(images), {})
    np.testing.assert_allclose(Needy().paint(palette, {}), images, atol=1e-5)
    other = dataclasses.replace(Needy(), size=(16, 24))
    assert other.paint(palette, {}).shape == (1, 16, 24, 3)
