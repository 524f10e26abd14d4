"""A model with exits: order, pictures and cost."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config, tiny_model

from fiancee_jax import cost
from fiancee_jax.config import Exit, Guides
from fiancee_jax.exits import MultiExit


@pytest.fixture(scope="module")
def tiny():
    """(model, variables, inputs, pictures of all exits)."""
    model, variables = tiny_model()
    rng = np.random.default_rng(0)
    shape = (2, *model.family.size)
    inputs = {
        "labels": jnp.asarray(rng.integers(0, 10, shape), jnp.int32),
        "z": jnp.asarray(rng.standard_normal((2, model.family.latent_dim)), jnp.float32),
    }
    return model, variables, inputs, jax.jit(model.pictures)(variables, inputs)


def test_exits_are_ordered_by_cost_whatever_the_config_says():
    config = tiny_config(exits=((3, 0.5), (1, 0.25), (2, 0.5), (1, 0.75)))
    model = MultiExit.of(config)
    assert set(model.exits) == set(config.exits)
    assert list(model.gmacs) == sorted(model.gmacs)
    assert model.exits[0] == Exit(1, 0.25)
    assert model.num_exits == 5
    reversed_ = dataclasses.replace(config, exits=config.exits[::-1])
    assert MultiExit.of(reversed_) == model


def test_given_exits_replace_those_of_the_config():
    model = MultiExit.of(tiny_config(), (Exit(2, 0.5),))
    assert model.exits == (Exit(2, 0.5),)
    assert MultiExit.of(tiny_config(), ()).num_exits == 1


def test_equal_models_are_one_jit_argument():
    a, b = MultiExit.of(tiny_config()), MultiExit.of(tiny_config())
    assert a is not b
    assert hash(a) == hash(b)
    _ = a.gmacs  # cached figures are no part of its identity
    assert a == b
    assert pickle.loads(pickle.dumps(a)) == b


def test_every_exit_alone_is_what_all_together_give(tiny):
    model, variables, inputs, pictures = tiny
    assert len(pictures) == model.num_exits
    for number in (1, model.num_exits):
        alone = jax.jit(lambda v, i, n=number: model.picture(v, i, n))(variables, inputs)
        np.testing.assert_allclose(alone, pictures[number - 1], atol=1e-5)
    distinct = [np.abs(pictures[0] - other).mean() for other in pictures[1:]]
    assert min(distinct) > 1e-2


def test_an_early_exit_does_not_touch_the_later_trunk(tiny):
    # poison everything after the tap: the picture of the exit stays finite
    model, variables, inputs, pictures = tiny
    exit = model.exits[0]
    needed = ["stem", *(f"stages_{i}" for i in range(exit.tap))]
    poisoned = {
        kind: {
            name: part if name in needed else jax.tree.map(lambda x: np.full_like(x, np.nan), part)
            for name, part in tree.items()
        }
        for kind, tree in variables["backbone"].items()
    }
    picture = jax.jit(lambda v, i: model.picture(v, i, 1))(
        {**variables, "backbone": poisoned}, inputs
    )
    np.testing.assert_allclose(picture, pictures[0], atol=1e-5)


def test_predictions_end_with_the_backbone_at_zero(tiny):
    model, variables, inputs, _ = tiny
    predicted = np.asarray(jax.jit(model.predict)(variables, inputs))
    assert predicted.shape == (2, model.num_exits)
    assert (predicted[:, :-1] > 0).all()
    np.testing.assert_array_equal(predicted[:, -1], [0, 0])


# --- cost ---------------------------------------------------------------------------------------
def test_cost_of_an_exit_is_trunk_retrieval_and_branch(tiny):
    model, variables, _, _ = tiny
    inputs = model.family.abstract_inputs(1)
    exit = model.exits[1]
    taps = jax.eval_shape(lambda v, i: model.trunk(v, i, exit.tap), variables, inputs)
    guide = jax.eval_shape(model.guide, variables, inputs, taps)
    branch = variables["branches"][exit.name]
    parts = (
        cost.gmacs(lambda v, i: model.trunk(v, i, exit.tap), variables, inputs),
        model.retrieval_gmacs(),
        cost.gmacs(lambda b, i, t, g: model.finish(b, exit, i, t, g), branch, inputs, taps, guide),
    )
    assert min(parts) > 0
    assert model.gmacs[1] == pytest.approx(sum(parts))
    assert model.exit_gmacs(exit) == model.gmacs[1]


def test_costs_grow_with_the_picture():
    model = MultiExit.of(tiny_config())
    large = dataclasses.replace(model, family=model.family.with_size((64, 96)))
    convolutional = np.array(large.gmacs) - model.retrieval_gmacs()
    ratio = convolutional / (np.array(model.gmacs) - model.retrieval_gmacs())
    np.testing.assert_allclose(ratio[:2], 6, rtol=1e-9)  # six times the pixels
    assert large.gmacs[-1] == pytest.approx(6 * model.gmacs[-1])  # retrieves nothing


def test_controls_cost_what_they_control_for():
    # zeros cost what concatenated pictures cost, retrieval apart; an added palette costs nothing
    def branch_gmacs(form):
        guides = Guides(form=form, size=16, neighbours=4, inject="every")
        model = MultiExit.of(tiny_config(guides=guides), ())
        return model.exit_gmacs(Exit(1, 0.5)) - model.retrieval_gmacs()

    zeros, none = branch_gmacs("zeros"), branch_gmacs("none")
    for form in ("patch", "image"):
        assert branch_gmacs(form) == pytest.approx(zeros, rel=0.01)  # their enlargement is counted
    assert branch_gmacs("palette") == pytest.approx(none)
    assert zeros > 1.1 * none


def test_costs_are_computed_once(monkeypatch):
    model = MultiExit.of(tiny_config())
    figures = model.gmacs, model.predictor_gmacs()
    monkeypatch.setattr(cost, "gmacs", None)  # every routed call asks for them
    assert (model.gmacs, model.predictor_gmacs()) == figures
    assert MultiExit.of(tiny_config()).gmacs == figures[0]
