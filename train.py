"""Trains a model: python train.py CONFIG_OR_WORKDIR --workdir DIR [--phases ...] [--FIELD V].

With --compile-only v5e:2x2 its steps are only compiled, for TPUs that need not be there.
"""

from __future__ import annotations

import sys

from fiancee_jax import cli, hosts
from fiancee_jax.training.arguments import parse
from fiancee_jax.training.compile_only import compile_only
from fiancee_jax.training.run import train


def main() -> None:
    """Parses, trains."""
    arguments = parse(sys.argv[1:])
    if arguments.compile_only:
        compile_only(arguments.config, arguments.phases, arguments.compile_only)
        return
    hosts.start(arguments.hosts)
    train(
        arguments.config,
        arguments.workdir,
        phases=arguments.phases,
        rerun=arguments.rerun,
    )


if __name__ == "__main__":
    cli.run(main)
