"""``python -m fiancee_jax VERB``: what is neither training nor rendering."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from fiancee_jax import checkpoint, cli, inference
from fiancee_jax import cost as costs
from fiancee_jax.config import Exit, load_config
from fiancee_jax.exits import MultiExit
from fiancee_jax.report import figures


def cost(config: tyro.conf.Positional[str], /) -> None:
    """Prints what every exit of a model costs, without running it.

    Args:
        config: name of a config, a .py file with one, or a workdir.
    """
    model = _model(config)
    height, width = model.family.size
    full = model.gmacs[-1]
    rows = []
    for number, (exit, gmacs) in enumerate(
        zip((*model.exits, None), model.gmacs, strict=True), start=1
    ):
        count = f"{costs.parameters(_shapes(model, exit)['params']):,}"
        share = f"{figures(100 * gmacs / full)} %"
        if exit is None:
            rows.append((number, "backbone", "-", 1, figures(gmacs), share, count))
        else:
            columns = (exit.name, exit.tap, f"{exit.width:g}", figures(gmacs), share, count)
            rows.append((number, *columns))
    headers = ("exit", "name", "tap", "width", "GMACs", "of full", "own parameters")
    cli.print_table(headers, rows, f"One picture of {height}x{width}, {model.guides.form} guides")
    for name, gmacs in (
        ("predictor", model.predictor_gmacs()),
        ("retrieval", model.retrieval_gmacs()),
    ):
        included = ", part of every early exit" if name == "retrieval" else ", added when routing"
        share = figures(100 * gmacs / full)
        print(f"{name}: {figures(gmacs)} GMACs, {share} % of full{included}")


def prepare(name: tyro.conf.Positional[str], /, data_dir: str = "") -> None:
    """Downloads and prepares a data set of TensorFlow Datasets. Needs a network.

    Args:
        name: as TFDS knows it.
        data_dir: folder for it; TFDS's own default if left out.
    """
    from fiancee_jax.data import tfds

    print(f"prepared {name} in {tfds.prepare(name, data_dir)}")


def compare(
    model: str,
    labels: pathlib.Path,
    out: pathlib.Path,
    max_lpips: tuple[float, ...] = (0.03, 0.06, 0.1),
) -> None:
    """Renders label maps at several thresholds beside the backbone, and measures LPIPS-alex.

    Args:
        model: a workdir, or the name of a model in the box.
        labels: folder of label maps, NAME.png each.
        out: folder for pictures, compare.json and compare.png.
        max_lpips: the thresholds.
    """
    from fiancee_jax.compare import compare

    compare(inference.load(model), model, labels, out, max_lpips)


def demo(
    workdir: pathlib.Path = pathlib.Path("runs/demo"), out: pathlib.Path = pathlib.Path("out/demo")
) -> None:
    """Trains the quickstart model and renders unseen label maps at three thresholds.

    Args:
        workdir: where it is trained; a finished run there is used as it is.
        out: folder for the pictures.
    """
    from fiancee_jax.demo import demo

    demo(workdir, out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the verb given on the command line."""
    verbs = {"compare": compare, "cost": cost, "demo": demo, "prepare": prepare}
    tyro.extras.subcommand_cli_from_dict(verbs, prog="python -m fiancee_jax", args=arguments)


def _model(name: str) -> MultiExit:
    """The trained model of a workdir (its menu of exits), else what the config describes."""
    workdir = pathlib.Path(name)
    if workdir.is_dir():
        store = checkpoint.Store(workdir)
        trained = store.latest("backbone") is not None
        store.close()
        if trained:
            return inference.load(workdir).model
    config = load_config(name)
    family = config.model
    if not getattr(family, "classes", True):
        family = family.with_classes(config.data.classes())
    return MultiExit.of(dataclasses.replace(config, model=family))


def _shapes(model: MultiExit, exit: Exit | None) -> Any:
    return model.backbone_shapes if exit is None else model.branch_shapes(exit)


if __name__ == "__main__":
    cli.run(functools.partial(main, sys.argv[1:]))
