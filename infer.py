"""Renders a folder of label maps: python infer.py --model DIR_OR_NAME --labels DIR --out DIR."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import tyro

from fiancee_jax import cli, render_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses, renders, says what was written."""
    request = tyro.cli(render_folder.Request, prog="infer.py", args=arguments)
    render_folder.run(request).print()


if __name__ == "__main__":
    cli.run(functools.partial(main, sys.argv[1:]))
