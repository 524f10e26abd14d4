"""Renders label maps, or a source in the motion of a driver, by a trained model.

python infer.py --model DIR_OR_NAME --labels DIR --out DIR
python infer.py --model DIR_OR_NAME --source PICTURE --driver DIR --out DIR
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Sequence

import tyro

from fiancee_jax import cli, hosts, render_folder
from fiancee_jax.errors import UserError
from fiancee_jax.video import render as render_video

FOLDER, VIDEO = {"--labels"}, {"--source", "--driver"}


def main(arguments: Sequence[str]) -> None:
    """Parses, renders, says what was written."""
    given = {argument.partition("=")[0] for argument in arguments}
    if given & {"-h", "--help"}:
        show_help()
    elif bool(given & FOLDER) == bool(given & VIDEO):
        raise UserError(
            f"found {', '.join(sorted(given & (FOLDER | VIDEO))) or 'no inputs'}; give either "
            "--labels DIR (a folder of label maps), or --source PICTURE and --driver DIR (a face, "
            "and the frames whose motion it takes), as the model asks."
        )
    elif given & FOLDER:
        request = tyro.cli(render_folder.Request, prog="infer.py", args=arguments)
        summary = render_folder.run(request)
        if hosts.is_first():
            summary.print()
        if summary.failed:
            raise SystemExit(cli.INCOMPLETE)
    else:
        request = tyro.cli(render_video.Request, prog="infer.py", args=arguments)
        render_video.run(request).print()


def show_help() -> None:
    """Prints the options of both."""
    for request in (render_folder.Request, render_video.Request):
        with contextlib.suppress(SystemExit):
            tyro.cli(request, prog="infer.py", args=["--help"])


if __name__ == "__main__":
    cli.run(functools.partial(main, sys.argv[1:]))
