"""The command line of train.py: a config's name, then any of its fields as a flag."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated, Generic, Literal

import tyro

from fiancee_jax.config import PHASES, Config, Data, Model, config_names, load_config
from fiancee_jax.errors import UserError

Phase = Literal["backbone", "guides", "branches", "predictor"]


@dataclasses.dataclass(frozen=True)
class Arguments(Generic[Model, Data]):
    """Trains a model, phase by phase.

    Attributes:
        workdir: where everything is written; a run there is continued.
        phases: which phases to run, in this order.
        rerun: train them anew; older checkpoints are moved aside, not deleted.
    """

    config: Annotated[Config[Model, Data], tyro.conf.arg(name="")]
    workdir: str
    phases: tuple[Phase, ...] = PHASES
    rerun: bool = False


USAGE = (
    "usage: python train.py CONFIG_OR_WORKDIR --workdir DIR [--phases backbone guides branches "
    "predictor] [--rerun] [--any.field VALUE]"
)


def parse(args: Sequence[str]) -> Arguments:
    """Arguments with the config's fields overridden.

    Raises:
        UserError: no config is named, or an unknown one. tyro itself exits with a suggestion where
            a field is unknown.
    """
    if not args or args[0] in ("-h", "--help"):
        raise UserError(f"{USAGE}\nconfigs: {', '.join(config_names())} (add --help to see fields)")
    name, *rest = args
    if name.startswith("-"):
        raise UserError(f"name the config first.\n{USAGE}")
    config = load_config(name)
    workdir = name if pathlib.Path(name).is_dir() else tyro.MISSING
    kind = Arguments[type(config.model), type(config.data)]  # pyright: ignore[reportInvalidTypeArguments]
    return tyro.cli(kind, args=rest, default=Arguments(config=config, workdir=workdir))
