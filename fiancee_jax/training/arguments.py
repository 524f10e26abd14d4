"""The command line of train.py: a config's name, then any of its fields as a flag."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Generic, Literal

import tyro

from fiancee_jax.config import PHASES, Config, Data, Model, config_names, is_workdir, load_config
from fiancee_jax.errors import UserError

Phase = Literal["backbone", "guides", "branches", "predictor", "calibration"]


@dataclasses.dataclass(frozen=True)
class Arguments(Generic[Model, Data]):
    """Trains a model, phase by phase.

    Attributes:
        workdir: where everything is written; a run there is continued.
        phases: which phases to run, in this order.
        rerun: train them anew; older checkpoints are moved aside, not deleted.
        compile_only: a TPU topology, v5e:2x2 say: only compiles the training steps for it and
            prints what they need of each chip. Nothing is written; no workdir is needed.
        hosts: several hosts that run this command as one, with a common workdir: ADDRESS:PORT of
            the first, number of this one, and how many, with commas between; or auto. Clusters that
            say so in the environment (Cloud TPU, Slurm, Open MPI) are joined without.
    """

    config: Annotated[Config[Model, Data], tyro.conf.arg(name="")]
    workdir: str
    phases: tuple[Phase, ...] = PHASES
    rerun: bool = False
    compile_only: str = ""
    hosts: str = ""


USAGE = (
    "usage: python train.py CONFIG_OR_WORKDIR --workdir DIR [--phases backbone guides branches "
    "predictor calibration] [--rerun] [--compile-only v5e:2x2] [--hosts ...] [--any.field VALUE]"
)


def parse(args: Sequence[str]) -> Arguments:
    """Arguments with the config's fields overridden.

    Raises:
        UserError: no config is named, or an unknown one. tyro itself exits with a suggestion where
            a field is unknown.
        SystemExit: help was asked for, and printed.
    """
    if args and args[0] in ("-h", "--help"):
        print(f"{USAGE}\n\n{_configs()}")
        raise SystemExit(0)
    if not args:
        raise UserError(f"no config is named.\n{USAGE}\n{_configs()}")
    name, *rest = args
    if name.startswith("-"):
        raise UserError(f"found {name} before a config; name the config first.\n{USAGE}")
    config = load_config(name)
    trains = not any(flag.replace("_", "-").startswith("--compile-only") for flag in rest)
    workdir = name if is_workdir(name) else tyro.MISSING if trains else ""
    kind = Arguments[type(config.model), type(config.data)]  # pyright: ignore[reportInvalidTypeArguments]
    return tyro.cli(kind, args=rest, default=Arguments(config=config, workdir=workdir))


def _configs() -> str:
    return (
        f"configs: {', '.join(config_names())}; or a .py file, or a workdir to be continued\n"
        "all fields of one: python train.py CONFIG --help"
    )
