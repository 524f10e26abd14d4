"""Does it hold with other training seeds? One table over several evaluations.

    for s in 0 1 2; do
      python train.py quickstart --workdir runs/seed$s --seed $s
      python -m fiancee_jax evaluate --model runs/seed$s --out out/seed$s
    done
    python -m benchmarks.seeds out/seed0 out/seed1 out/seed2

For each evaluation and threshold: what the router costs, how often it breaks the threshold, and how
much of the way from the blind mixture of equal mean LPIPS to the oracle it takes, with the 95 %
bootstrap interval over inputs; the lambda rule and ridge regressions beside it. Then the mean of
each column over the evaluations with the spread between them. Prints markdown.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from benchmarks.ablation import rows
from fiancee_jax import cli
from fiancee_jax.errors import UserError

POLICIES = ("learned", "lambda", "ridge", "ridge_products")


def main(
    evaluations: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional],
) -> None:
    """Prints both tables.

    Args:
        evaluations: folders written by `evaluate`.
    """
    found = {str(folder): read(folder) for folder in evaluations}
    lines = [line for name, document in found.items() for line in each(name, document)]
    print(rows.markdown(tuple(lines[0]), [tuple(line.values()) for line in lines]))
    print()
    print(over_seeds(list(found.values())))


def read(folder: pathlib.Path) -> dict[str, Any]:
    """An ``evaluation.json``."""
    path = folder / "evaluation.json"
    if not path.is_file():
        raise UserError(f"no evaluation.json in {folder}. Give folders that `evaluate` wrote.")
    return json.loads(path.read_text())


def each(name: str, document: dict[str, Any]) -> list[dict[str, str]]:
    """A line for each threshold."""
    lines = []
    for limit in document["max_lpips"]:
        learned = row_of(document, "learned", limit)
        line = {
            "evaluation": name,
            "max_lpips": f"{limit:.4g}",
            "share of full": f"{learned['share']:.3f}",
            "above": f"{learned['violation_rate']:.1%}",
        }
        for policy in POLICIES:
            gap = gap_of(document, policy, limit)
            line[f"gap taken: {policy}"] = _taken(gap)
        lines.append(line)
    return lines


def over_seeds(documents: Sequence[dict[str, Any]]) -> str:
    """Mean over evaluations of each one's mean over thresholds, and half the range."""
    table = []
    for policy in POLICIES:
        gaps = [
            [g for g in d["gaps"] if g["policy"] == policy and g["taken"] is not None]
            for d in documents
        ]
        means = [
            {
                "taken": sum(g["taken"] for g in some) / len(some),
                "saved": sum(g["gain"] / g["mixture"] for g in some) / len(some),
            }
            for some in gaps
            if some
        ]
        if means:
            worst = min(g["gain_interval"][0] for some in gaps for g in some)
            cells = (rows.spread(means, "taken", 3), rows.spread(means, "saved", 3))
            table.append((policy, *cells, f"{worst * 1000:.2f}"))
    headers = (
        "router",
        "share of the gap taken",
        "saved of the mixture's GMACs",
        "lowest bound of the saving, MMACs",
    )
    return rows.markdown(headers, table)


def row_of(document: dict[str, Any], policy: str, limit: float) -> dict[str, Any]:
    """A policy's row at a threshold."""
    return next(r for r in document["rows"] if (r["policy"], r["threshold"]) == (policy, limit))


def gap_of(document: dict[str, Any], policy: str, limit: float) -> dict[str, Any] | None:
    """A policy's gap at a threshold, if it was measured."""
    fitting = (g for g in document["gaps"] if (g["policy"], g["threshold"]) == (policy, limit))
    return next(fitting, None)


def _taken(gap: dict[str, Any] | None) -> str:
    if gap is None or gap["taken"] is None:  # not measured, or no gap at all
        return "-"
    low, high = gap["taken_interval"]
    return f"{gap['taken']:.0%} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(main))
