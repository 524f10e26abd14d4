"""What a reenactment is measured on: a model, pairs of unseen heads, and who is shown in them."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any, NamedTuple

import numpy as np

from fiancee_jax.data import Heads
from fiancee_jax.data.head_identities import Identity
from fiancee_jax.data.heads import identity
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation.reenactment import KINDS
from fiancee_jax.evaluation.subjects import First
from fiancee_jax.inference import Renderer

SPLIT = "report"  # identities that nobody trained on
FEWEST = 4  # pairs
INPUTS = ("source", "driver")


class Study(NamedTuple):
    """A model and the pairs it is tried on.

    Attributes:
        renderer: the model.
        sources: by kind of reenactment the pairs, alike but for the driver.
        identities: the source's of each pair, m of them. `who`: their numbers, [m].
    """

    renderer: Renderer
    sources: dict[str, Any]
    identities: list[Identity]
    who: np.ndarray

    @property
    def data(self) -> Heads:
        """The model's own data set."""
        return self.renderer.config.data


def open_study(renderer: Renderer, model: str, limit: int) -> Study:
    """Opens the pairs of the split that nobody trained on.

    Args:
        renderer: the model.
        model: its name, for messages.
        limit: use the first so many pairs only; 0 takes all.

    Raises:
        UserError: a model without source and driver, without branches or predictor; data that does
            not know the truth; too few pairs.
    """
    _check(renderer, model)
    data, size = renderer.config.data, renderer.model.family.size
    opened = {
        kind: dataclasses.replace(data, cross=cross).open(SPLIT, size)
        for kind, cross in KINDS.items()
    }
    count = min(limit or len(opened["self"]), len(opened["self"]))
    if limit < 0 or count < FEWEST:
        raise UserError(
            f"found {count} pairs in {SPLIT} (limit {limit}); this wants {FEWEST} or more. Take a "
            f"larger --limit, or a model whose data.{SPLIT} has more pairs."
        )
    who = np.arange(count) % data.identities  # sources take turns
    identities = [identity(data.seed, SPLIT, int(i)) for i in who]
    return Study(renderer, {k: First(x, count) for k, x in opened.items()}, identities, who)


def _check(renderer: Renderer, model: str) -> None:
    names = renderer.model.family.input_names
    if set(names) - {"own"} != set(INPUTS):
        raise UserError(
            f"the inputs of {model} are {', '.join(names) or 'z alone'}; reenactment is measured "
            f"for models whose inputs are a {' and a '.join(INPUTS)}. For this one run: python -m "
            f"fiancee_jax evaluate --model {shlex.quote(model)} --out DIR"
        )
    if "branches" not in renderer.variables or not renderer.has_predictor:
        raise UserError(
            f"{model} has no branches or no predictor yet, so there are no exits to compare. Run: "
            f"python train.py {shlex.quote(model)}"
        )
    data = renderer.config.data
    if not isinstance(data, Heads):
        raise UserError(
            f"the data set of {model} is {type(data).__name__}; only rendered heads (Heads) know "
            "how a source's identity looks in somebody else's motion, so only they have a ground "
            "truth. To compare exits with the backbone run: python -m fiancee_jax evaluate --model "
            f"{shlex.quote(model)} --out DIR"
        )
