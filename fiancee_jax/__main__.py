"""``python -m fiancee_jax VERB``: what is neither training nor rendering."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import tyro

from fiancee_jax import box, checkpoint, cli, cost_report, inference
from fiancee_jax.config import PHASES, load_config
from fiancee_jax.data import archives
from fiancee_jax.evaluation.options import Options
from fiancee_jax.exits import MultiExit
from fiancee_jax.phases import Precision


def cost(
    config: tyro.conf.Positional[str],
    /,
    size: tuple[int, int] | None = None,
    topology: str | None = None,
    precision: Precision = "bfloat16",
    sparse: bool = False,
    per_chip: tuple[int, ...] = (1, 8),
    phases: tuple[Literal["backbone", "branches"], ...] = ("backbone", "branches"),
) -> None:
    """Prints what every exit of a model costs and where in it, without running it.

    Args:
        config: name of a config, a .py file with one, or a workdir.
        size: height and width of the pictures; the model's own if left out.
        topology: TPU chips, v5e:2x2 say, that need not be there: compiles every exit and the
            training steps for them instead, and prints what each asks of a chip. Takes minutes.
        precision: of the exits compiled for a topology; the steps have their config's.
        sparse: their path that computes each distinct label pattern once.
        per_chip: pictures of each of its chips in one call of an exit.
        phases: whose training steps are compiled for it; none if nothing follows.
    """
    model = _model(config)
    model = cost_report.resized(model, size) if size else model
    if topology is None:
        cost_report.show(model)
        return
    from fiancee_jax import accelerators, ahead_of_time
    from fiancee_jax.training import compile_only

    chips = accelerators.describe(topology)
    whole = dataclasses.replace(load_config(config), model=model.family)
    model = dataclasses.replace(model, sparse=sparse)
    steps = compile_only.steps(whole, phases, chips) if phases else None
    for count in per_chip:
        exits = ahead_of_time.exits(model, chips, count, precision)
        path = "Label-sparse exits" if sparse else "Exits"
        ahead_of_time.show(f"{path} in {precision}", chips, exits)
    if steps:
        ahead_of_time.show("Training steps", chips, steps)


def convert(
    family: tyro.conf.Positional[Literal["oasis"]],
    generator: tyro.conf.Positional[pathlib.Path],
    /,
    out: pathlib.Path,
    discriminator: pathlib.Path | None = None,
    z_dim: int | None = None,
    num_classes: int | None = None,
    size: tuple[int, int] | None = None,
    classes: pathlib.Path | None = None,
    config: str = "oasis_ade20k",
) -> None:
    """Imports a published PyTorch checkpoint as a workdir; nothing in the file is executed.

    Args:
        family: of the generator.
        generator: its file (EMA or G): .pth, .safetensors or .npz.
        out: the workdir to write.
        discriminator: its file; tells how many classes there are, and lets training go on.
        z_dim: length of z; 64 if nothing else tells.
        num_classes: label classes, "unknown" included.
        size: height and width of the pictures; no file holds them.
        classes: classes.json with the names by id.
        config: name of the config whose data, exits and phases it takes.
    """
    from fiancee_jax import convert as importer
    from fiancee_jax.data.folders import read_classes

    names = None if classes is None else read_classes(classes)
    print(f"reading {generator}", flush=True)
    model = importer.import_oasis(
        generator,
        discriminator=discriminator,
        z_dim=z_dim,
        num_classes=num_classes,
        size=size,
        classes=names,
        config=config,
    )
    print("\n".join(model.notes), flush=True)
    already, name = model.is_saved_in(out), shlex.quote(str(out))
    written = model.save(out)
    said = "holds this import already: left as it is" if already else "config.json, checkpoints/"
    print(
        f"{'found' if already else 'wrote'} {written}: {said}\n"
        f"render: python infer.py --model {name} --labels DIR --out DIR --exit full\n"
        f"go on:  python train.py {name} --phases {' '.join(PHASES[1:])} "
        "--data.root DIR"
    )


def arrange(
    name: tyro.conf.Positional[archives.Name],
    source: tyro.conf.Positional[pathlib.Path],
    /,
    out: pathlib.Path,
) -> None:
    """Makes a data folder of ADE20K, COCO-Stuff or Cityscapes as they unpack, mostly by links.

    Args:
        name: which one.
        source: where its archives are unpacked.
        out: the folder to make, for --data.root.
    """

    def shown(pairs: Sequence[archives.Pair]) -> Iterator[archives.Pair]:
        with cli.Progress("pairs", len(pairs)) as progress:
            for pair in pairs:
                yield pair
                progress.advance(1)

    found = archives.arrange(name, source, out, shown)
    print(", ".join(f"{split}: {count} pairs" for split, count in found.items()))
    print(f"wrote {out.resolve()}")


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


def evaluate(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measures every exit once, replays every policy and baseline; writes a page and its numbers.

    Args:
        options: see `evaluation.options.Options`.
    """
    from fiancee_jax.evaluation.run import evaluate

    evaluate(options)


def baselines(
    model: pathlib.Path,
    names: tuple[str, ...] = ("students", "no_guides", "zero_guides"),
    student_widths: tuple[float, ...] = (0.4, 0.5, 0.6),
    rerun: bool = False,
) -> None:
    """Trains what an evaluation compares with, into WORKDIR/baselines; finished ones are kept.

    Args:
        model: a workdir whose branches and predictor are trained.
        names: distilled students; branches without guides; with zeros for guides.
        student_widths: channels of the students, as shares of the backbone's.
        rerun: train them anew; what is there is moved aside, not deleted.
    """
    from fiancee_jax.training.derive import train_baselines

    for written in train_baselines(inference.find_model(model), names, student_widths, rerun):
        print(f"wrote {written}")


def export(
    model: pathlib.Path, out: pathlib.Path, discriminator: bool = False, exits: tuple[int, ...] = ()
) -> None:
    """Writes a trained model as one small folder: config, menu and weights in float16.

    Args:
        model: a workdir whose backbone is trained.
        out: the folder, pretrained/NAME say; what it held of this kind is replaced.
        discriminator: keep it too, so that the backbone can be trained on from the folder.
        exits: numbers of the early exits to keep, before there is a predictor; all if not given.
    """
    source, out = inference.find_model(model), out.expanduser().resolve()
    written = box.export(source, out, discriminator, exits)
    names = [box.WEIGHTS, *([box.CRITIC] if discriminator else [])]
    sizes = (f"{name} ({(written / name).stat().st_size / 2**20:.1f} MiB)" for name in names)
    print(f"wrote {written}: {', '.join(sizes)}, {box.NOTE}, config.json")


def unpack(model: tyro.conf.Positional[str], /, workdir: pathlib.Path) -> None:
    """Makes a workdir of a model in the box, to train some of its phases anew.

    Args:
        model: name of a model in the box, or its folder.
        workdir: the folder to make.
    """
    written = box.unpack(inference.find_model(model), workdir.expanduser().resolve())
    print(f"wrote {written}: config.json, checkpoints/")


def demo(out: pathlib.Path = pathlib.Path("out/demo")) -> None:
    """Renders drawn street layouts at three thresholds with the model in the box.

    Args:
        out: folder for the pictures.
    """
    from fiancee_jax.demo import demo

    demo(out)


def train_demo(
    workdir: pathlib.Path = pathlib.Path("runs/demo"),
    out: pathlib.Path = pathlib.Path("out/train-demo"),
) -> None:
    """Trains the quickstart model and renders unseen landscapes at three thresholds.

    Args:
        workdir: where it is trained; a finished run there is used as it is.
        out: folder for the pictures.
    """
    from fiancee_jax.demo import train_demo

    train_demo(workdir, out)


def reenact(
    model: str,
    out: pathlib.Path,
    max_lpips: tuple[float, ...] = (),
    limit: int = 300,
    seed: int = 0,
) -> None:
    """Measures reenacted heads against the truth, for models of a source and a driver.

    Args:
        model: a workdir, or the name of a model in the box; its data are rendered heads.
        out: folder for reenactment.json, reenactment.png and hardness.png.
        max_lpips: the router's thresholds; those of the predictor's training if left out.
        limit: measure the first so many pairs of unseen identities only; 0 takes all.
        seed: of the bootstrap intervals.
    """
    from fiancee_jax.evaluation.reenactment_report import reenact

    reenact(model, out, max_lpips, limit, seed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the verb given on the command line."""
    verbs = {
        "arrange": arrange,
        "baselines": baselines,
        "compare": compare,
        "convert": convert,
        "cost": cost,
        "demo": demo,
        "evaluate": evaluate,
        "export": export,
        "prepare": prepare,
        "reenact": reenact,
        "train-demo": train_demo,
        "unpack": unpack,
    }
    tyro.extras.subcommand_cli_from_dict(verbs, prog="python -m fiancee_jax", args=arguments)


def _model(name: str) -> MultiExit:
    """The trained model of a workdir (its menu of exits), else what the config describes."""
    workdir = pathlib.Path(name)
    if workdir.is_dir() and box.is_box(workdir):
        return inference.load(workdir).model
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


if __name__ == "__main__":
    cli.run(functools.partial(main, sys.argv[1:]))
