"""What ``python -m fiancee_jax cost`` prints: every exit's cost, and where in it the cost sits.

All of it is counted from the program (see `cost.by_scope`), nothing from a formula, and the rows of
a table add up to the exit.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fiancee_jax import cli
from fiancee_jax import cost as costs
from fiancee_jax.config import Exit
from fiancee_jax.exits import MultiExit
from fiancee_jax.report import figures

PLACES = ("stem", "stage", "retrieval", "adapter", "light stage")  # in a picture's order
ROUTING = ("retrieval", "predictor")  # outside the generator: parts without further ones


def resized(model: MultiExit, size: tuple[int, int]) -> MultiExit:
    """The same model for pictures of (height, width).

    Raises:
        UserError: its family cannot make them.
    """
    family = model.family.with_size(size)
    if family.input_names:
        shapes = family.abstract_inputs(1)
        family.check_inputs({name: np.zeros(s.shape, s.dtype) for name, s in shapes.items()})
    else:
        family.check()
    return dataclasses.replace(model, family=family)


def show(model: MultiExit) -> None:
    """Prints what every exit costs: in all, by place and by kind of layer."""
    exits = (*model.exits, None)
    macs = [model.exit_macs(exit) for exit in exits]
    taps = [exit.tap if exit else 0 for exit in exits]
    places = [by_place(m, tap) for m, tap in zip(macs, taps, strict=True)]
    kinds = [by_kind(m, model.family.layer_words) for m in macs]
    _show_exits(model)
    _show_parts(model, "place", sorted(_parts(places), key=_rank), places)
    by_share = sorted(_parts(kinds), key=lambda part: -kinds[-1].get(part, 0))
    _show_parts(model, "layer", by_share, kinds)


def by_place(macs: Mapping[str, int], tap: int) -> dict[str, int]:
    """MACs by place in the generator: stem, stage k, adapter, light stage k, head, retrieval.

    Args:
        macs: of one exit, by scope.
        tap: the stage after which its branch leaves the trunk.
    """
    return _grouped(macs, lambda scope: _place(scope, tap))


def by_kind(macs: Mapping[str, int], words: Mapping[str, str]) -> dict[str, int]:
    """MACs by kind of layer, wherever it stands.

    Args:
        macs: of one exit, by scope.
        words: name of a layer's module -> what to call it; others keep their module's name.
    """
    return _grouped(macs, lambda scope: _kind(scope, words))


def _grouped(macs: Mapping[str, int], name_of: Callable[[str], str]) -> dict[str, int]:
    total = Counter[str]()
    for scope, count in macs.items():
        total[name_of(scope)] += count
    return dict(total)


def _place(scope: str, tap: int) -> str:
    network, *inside = _modules(scope)
    if network not in ("Backbone", "Branch"):
        return network
    module = inside[0] if inside else "guide"  # what a branch does itself is to resize guides
    stage = re.fullmatch(r"stages_(\d+)", module)
    if not stage:
        return module
    number = int(stage[1]) + 1
    return f"light stage {tap + number}" if network == "Branch" else f"stage {number}"


def _kind(scope: str, words: Mapping[str, str]) -> str:
    network, *inside = _modules(scope)
    if network not in ("Backbone", "Branch"):
        return network
    return words.get(inside[-1], inside[-1]) if inside else "guide"


def _modules(scope: str) -> list[str]:
    """Network, then the modules inside it, outermost first; one word for all that is no network.

    jax names einsums by their formula, and linen a module's methods ``stages_0.run``.
    """
    names = [part.split(".")[0] for part in scope.split("/")]
    names = [name for name in names if name.isidentifier()] or ["elsewhere"]
    if names[0] in ROUTING:
        return names[:1]
    return [name for i, name in enumerate(names) if i == 0 or name != names[0]]


def _show_exits(model: MultiExit) -> None:
    height, width = model.family.size
    full, rows, encoding = model.gmacs[-1], [], model.encoding_gmacs()
    exits = zip((*model.exits, None), model.gmacs, strict=True)
    for number, (exit, gmacs) in enumerate(exits, start=1):
        shapes = model.backbone_shapes if exit is None else model.branch_shapes(exit)
        count = f"{costs.parameters(shapes['params']):,}"
        branch = ("-", 1) if exit is None else (exit.tap, f"{exit.width:g}")
        share = f"{figures(100 * gmacs / full)} %"
        rows.append((number, _name(exit), *branch, figures(gmacs), share, count))
    headers = ("exit", "name", "tap", "width", "GMACs", "of full", "own parameters")
    cli.print_table(headers, rows, f"One picture of {height}x{width}, {model.guides.form} guides")
    for name, gmacs, when in (
        ("predictor", model.predictor_gmacs(), "added when routing"),
        ("retrieval", model.retrieval_gmacs(), "part of every early exit"),
    ):
        print(f"{name}: {figures(gmacs)} GMACs, {figures(100 * gmacs / full)} % of full, {when}")
    if sum(encoding):
        _show_shared(model, encoding)


def _show_shared(model: MultiExit, encoding: tuple[float, float]) -> None:
    """Prints what all exits share, and what each spends beyond that."""
    shared, full = sum(encoding), model.gmacs[-1]
    kept = " and ".join(model.family.kept_names)
    print(
        f"shared by all exits: {figures(shared)} GMACs, {figures(100 * shared / full)} % of full, "
        f"{figures(encoding[0])} once for each {kept} and {figures(encoding[1])} for every picture"
    )
    shares = [100 * (gmacs - shared) / (full - shared) for gmacs in model.gmacs]
    print(f"beyond that, of the backbone's: {' / '.join(map(figures, shares))} % by exit")


def _show_parts(
    model: MultiExit, what: str, parts: Sequence[str], columns: Sequence[Mapping[str, int]]
) -> None:
    """A table of GMACs: a row for each part, a column for each exit, and their sums.

    All numbers have the decimals that give the backbone five figures, so that they can be added up.
    """
    totals = [sum(column.values()) for column in columns]
    predictor = sum(model.predictor_macs.values())
    rows = {part: [column.get(part, 0) for column in columns] for part in parts}
    rows["the exit"] = totals
    rows["predictor"] = [predictor for _ in totals]
    rows["routed"] = [total + predictor for total in totals]
    _, _, decimals = figures(totals[-1] / 1e9, 5).partition(".")
    headers = (what, *(_name(exit) for exit in (*model.exits, None)))
    shown = [(part, *(_gmacs(m, len(decimals)) for m in row)) for part, row in rows.items()]
    cli.print_table(headers, shown, f"\nGMACs by {what}")


def _parts(columns: Sequence[Mapping[str, int]]) -> list[str]:
    return list(dict.fromkeys(part for column in columns for part in column))


def _rank(place: str) -> tuple[int, int]:
    """Sorts places as `PLACES` has them, stages by number; unknown ones go last."""
    name, _, number = place.rpartition(" ")
    name, index = (name, int(number)) if number.isdigit() else (place, 0)
    return (PLACES.index(name) if name in PLACES else len(PLACES), index)


def _name(exit: Exit | None) -> str:
    return "backbone" if exit is None else exit.name


def _gmacs(macs: int, decimals: int) -> str:
    return f"{macs / 1e9:,.{decimals}f}" if macs else "-"
