"""What reenactment is measured on: checks, pairs, and who is shown in them."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import reenact
from tiny_heads import DATA, heads_renderer

from fiancee_jax.data import Clips
from fiancee_jax.data.heads import render_identity
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import reenactment_study
from fiancee_jax.evaluation.reenactment_study import open_study
from fiancee_jax.exits import MultiExit
from fiancee_jax.inference import Renderer


def altered(variables=None, **fields):
    """The tiny renderer with other fields of its config."""
    own = heads_renderer()
    config = dataclasses.replace(own.config, **fields)
    return Renderer(config, own.model, variables or own.variables, [])


def test_pairs_are_the_first_and_differ_by_the_driver():
    study = open_study(heads_renderer(), "tiny", 5)
    assert {kind: len(source) for kind, source in study.sources.items()} == {"self": 5, "cross": 5}
    own, other = (study.sources[kind][0] for kind in ("self", "cross"))
    np.testing.assert_array_equal(own["image"], other["image"])
    assert np.any(own["driver"] != other["driver"])
    assert len(open_study(heads_renderer(), "tiny", 0).who) == 8


def test_identities_are_those_that_are_shown():
    data = dataclasses.replace(DATA, identities=3)
    study = open_study(altered(data=data), "tiny", 0)
    assert study.who.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert study.identities[1] is study.identities[4]
    element = study.sources["cross"][4]
    motions = element["motion"][None]
    shown, _ = render_identity(data.seed, "report", int(study.who[4]), motions, (32, 32))
    np.testing.assert_array_equal(shown[0], element["image"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": Clips("somewhere")}, r"is Clips; only rendered heads .* evaluate --model tiny"),
        ({"variables": {"backbone": {}}}, r"no branches or no predictor.*train\.py tiny"),
        ({"data": dataclasses.replace(DATA, report=3)}, "found 3 pairs"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        open_study(altered(**change), "tiny", 0)


def test_families_without_source_and_driver_are_refused(monkeypatch):
    monkeypatch.setattr(reenact.Reenact, "input_names", ("labels",))
    renderer: Any = Renderer(reenact.CONFIG, MultiExit.of(reenact.CONFIG, ()), {}, [])
    with pytest.raises(UserError, match=r"inputs of tiny are labels; .* a source and a driver"):
        open_study(renderer, "tiny", 0)


@pytest.mark.parametrize("limit", [-1, 2])
def test_too_few_pairs_are_refused(limit):
    with pytest.raises(UserError, match=rf"limit {limit}.* wants {reenactment_study.FEWEST}"):
        open_study(heads_renderer(), "tiny", limit)
