"""Ablations: what changes when one thing does. One command each, resumable.

    python train.py quickstart --workdir runs/quickstart
    python -m benchmarks.ablations guides --workdir runs/quickstart --out runs/ablations

guides      none, zeros, random retrieval, patches by three keys, whole pictures, palettes added,
            concatenated, learnt without a bank, by vertical band
sources     of `avatars`: none, zeros, learnt, a bank over all sources, a bank for each
exits       taps by widths; a figure of the Pareto front
population  which candidates enter a bank of 64
losses      perceptual, + adversarial, + pixel
blocks      SPADE, Inception-style or transformer in the light stages
bank_size   10 to 10,000 entries; a figure
predictor   size, inputs, what it sees, number of targets; against ridge regression

Every variant trains its branches in a folder of its own in OUT upon the frozen backbone of
--workdir. Distances are LPIPS-alex and L1 to the backbone's picture at the same z on 512
unseen inputs. Finished rows are appended to RESULTS/ABLATION.json and not made again; an
interrupted variant continues from its finished phases. Prints a table in markdown.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Annotated, Literal

import jax
import tyro

from benchmarks.ablation import by_error, predictor, rows, training
from benchmarks.ablation.figures import draw
from benchmarks.ablation.variants import ABLATIONS, POPULATION, Variant, common
from fiancee_jax import cli
from fiancee_jax.config import Config, read_config
from fiancee_jax.errors import UserError

Name = Literal[
    "guides", "sources", "exits", "population", "losses", "blocks", "bank_size", "predictor"
]
BY_ERROR = Variant("error", POPULATION[0].change)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        name: of the ablation.
        workdir: holds the trained backbone (for `predictor`: branches too).
        out: gets a workdir for each variant and seed.
        results: gets NAME.json and the figure.
        steps: of branch training.
        seeds: of bank, branches and inputs; the backbone is the same.
        only: these variants; all, if none is named.
    """

    name: Annotated[Name, tyro.conf.Positional]
    workdir: pathlib.Path
    out: pathlib.Path
    results: pathlib.Path = pathlib.Path("docs/results/ablations")
    steps: int = 200
    seeds: tuple[int, ...] = (0, 1)
    only: tuple[str, ...] = ()


def main(options: Options) -> None:
    """Makes the rows that are missing, then prints all there are."""
    path = options.results / f"{options.name}.json"
    base = read_config(options.workdir)
    if options.name == "predictor":
        predictor.run(base, options.workdir, options.out / "predictor", path, options.seeds)
    else:
        _train(options, base, path)
    report(options.name, path)


def _train(options: Options, base: Config, path: pathlib.Path) -> None:
    variants = list(ABLATIONS[options.name])
    variants += [BY_ERROR] if options.name == "population" else []
    known = [variant.name for variant in variants]
    unknown = [name for name in options.only if name not in known]
    if unknown:
        raise UserError(f"variants {unknown}: choose from {', '.join(known)}.")
    for seed in options.seeds:
        config = common(base, options.steps, seed)
        for variant in variants:
            wanted = {"variant": variant.name, "seed": seed, "steps": options.steps}
            if (options.only and variant.name not in options.only) or rows.has(
                rows.load(path), **wanted
            ):
                continue
            for row in _make(options, variant, config):
                rows.append(path, [row])
                print(json.dumps(row), flush=True)


def _make(options: Options, variant: Variant, config: Config) -> list[rows.Row]:
    workdir, out = options.workdir, options.out / options.name
    if variant is BY_ERROR:
        return by_error.rows_of(variant.change(config), workdir, out)
    return training.rows_of(options.name, variant, config, workdir, out)


def report(name: str, path: pathlib.Path) -> None:
    """Prints the rows as markdown; draws the figure."""
    found = rows.load(path)
    if name == "predictor":
        print(predictor.table(found))
        return
    headers = ("variant", "exit", "share of full", "LPIPS-alex", "p90", "L1", "seeds", "steps")
    table = [
        (
            first["variant"],
            first["exit"],
            f"{first['share']:.3f}",
            *(rows.spread(group, field) for field in ("lpips", "p90", "l1")),
            len(group),
            first["steps"],
        )
        for first, group in rows.by_variant(found, ("variant", "exit", "steps"))
    ]
    print(rows.markdown(headers, table))
    if draw(name, found, path.with_suffix(".png")):
        print(f"drawn: {path.with_suffix('.png')}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    # A second seed need not compile anew what a first one has.
    jax.config.update("jax_compilation_cache_dir", str((chosen.out / "compiled").resolve()))
    cli.run(functools.partial(main, chosen))
