"""A trained model as it is kept: read from a workdir, and checked against its config."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from fiancee_jax import checkpoint
from fiancee_jax.config import Config, Exit, read_config
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.routing import menu as menus
from fiancee_jax.routing.calibration import Calibration

VARIABLES = {  # by phase
    "backbone": "backbone",
    "guides": "bank",
    "branches": "branches",
    "predictor": "predictor",
}


class Trained(NamedTuple):
    """A trained model as it is kept.

    Attributes:
        config: the resolved config.
        variables: host arrays by name: backbone, and bank, branches and predictor if there are.
        menu: what the branches phase measured for every exit; [] before it.
        calibration: what a guarantee rests on, or None.
    """

    config: Config
    variables: dict[str, Any]
    menu: list[dict[str, Any]]
    calibration: Calibration | None

    @property
    def exits(self) -> tuple[Exit, ...]:
        """The early exits that can be rendered, of the config's.

        Raises:
            UserError: the menu has others.
        """
        if "branches" not in self.variables:
            return ()
        own, kept = self.config.exits, menus.kept(self.menu)
        strange = [exit for exit in kept if exit not in own]
        if strange:
            raise UserError(
                f"its menu has exits that its config.json has not ({strange[0]}): they are of two "
                "models. Fetch it again, or train anew."
            )
        return tuple(own[own.index(exit)] for exit in kept) or own


def from_workdir(workdir: pathlib.Path) -> Trained:
    """What a run of train.py has made so far.

    Raises:
        UserError: the backbone has not been trained, or files are absent, damaged or not of this
            program.
    """
    config = read_config(workdir)
    with contextlib.closing(checkpoint.Store(workdir, trains=False)) as store:
        variables = {"backbone": store.model("backbone")}  # UserError if there is none
        for phase, name in VARIABLES.items():
            if name not in variables and store.latest(phase) is not None:
                variables[name] = store.model(phase)
        menu = store.extra("branches").get("menu", []) if "branches" in variables else []
        calibration = None
        if store.latest("calibration") is not None:
            kept = jax.device_get(store.model("calibration"))
            calibration = Calibration(kept["predicted"], kept["distance"], kept["unit"])
    return Trained(config, variables, menu, calibration)


def only(trained: Trained, numbers: Sequence[int]) -> Trained:
    """The same model with some of its exits.

    Args:
        trained: a model whose branches are trained and whose predictor is not yet.
        numbers: of the early exits that stay, counted from 1 by cost.

    Raises:
        UserError: it has no such exits, or a predictor, which predicts all of them.
    """
    if not numbers:
        return trained
    exits = trained.exits
    if min(numbers) < 1 or max(numbers) > len(exits):
        raise UserError(
            f"exits {sorted(numbers)} are to be kept, but the trained early exits are "
            f"{', '.join(f'{i} ({e.name})' for i, e in enumerate(exits, 1)) or 'none'}."
        )
    if "predictor" in trained.variables:
        raise UserError(
            "the model has a predictor, which was trained for all its exits. Choose exits before "
            "it is trained: right after the phase branches."
        )
    kept = tuple(exits[i - 1] for i in sorted(set(numbers)))
    branches = {exit.name: trained.variables["branches"][exit.name] for exit in kept}
    return trained._replace(
        config=dataclasses.replace(trained.config, exits=kept),
        variables={**trained.variables, "branches": branches},
        menu=[entry for entry in trained.menu if Exit(entry["tap"], entry["width"]) in kept],
    )


def columns(calibration: Calibration) -> dict[str, np.ndarray]:
    """Its arrays by name."""
    names = (field.name for field in dataclasses.fields(calibration))
    return {name: getattr(calibration, name) for name in names}


def check_fits(model: MultiExit, trained: Trained, folder: pathlib.Path) -> None:
    """Whether a model's arrays are those that its config describes: anybody may have written them.

    Raises:
        UserError: one is absent, or of another shape or kind.
    """
    variables: dict[str, Any] = dict(trained.variables)
    wanted: dict[str, Any] = {"backbone": dict(model.backbone_shapes)}
    wanted["backbone"].pop("spectral", None)  # folded into the kernels
    if "branches" in variables:  # without them the rest is of no use
        wanted["branches"] = {exit.name: model.branch_shapes(exit) for exit in model.exits}
        wanted |= {"predictor": model.predictor_shapes} if "predictor" in variables else {}
    if "branches" in variables and trained.calibration is not None:
        variables["calibration"] = columns(trained.calibration)
        rows = np.shape(trained.calibration.unit)[:1]
        measured = np.zeros((*rows, len(model.exits)), np.float32)
        wanted["calibration"] = {"predicted": measured, "distance": measured}
    found = _flattened(variables)
    for name, like in _flattened(wanted).items():
        array = found.get(name)
        if array is None or array.shape != like.shape or array.dtype != like.dtype:
            has = "nothing" if array is None else f"{array.dtype} of shape {list(array.shape)}"
            raise UserError(
                f"{folder} does not hold what its config.json describes: {name} should be "
                f"{like.dtype} of shape {list(like.shape)}; found {has}. Either is of another "
                "model: fetch it again, or train anew."
            )


def _flattened(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {}
    try:
        return traverse_util.flatten_dict(tree, sep="/")
    except TypeError:  # keys that are no text
        return {}
