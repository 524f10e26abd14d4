"""Trains a model: python train.py CONFIG_OR_WORKDIR --workdir DIR [--phases ...] [--FIELD V]."""

from __future__ import annotations

import sys

from fiancee_jax import cli
from fiancee_jax.training.arguments import parse
from fiancee_jax.training.run import train


def main() -> None:
    """Parses, trains."""
    arguments = parse(sys.argv[1:])
    train(
        arguments.config,
        arguments.workdir,
        phases=arguments.phases,
        rerun=arguments.rerun,
    )


if __name__ == "__main__":
    cli.run(main)
