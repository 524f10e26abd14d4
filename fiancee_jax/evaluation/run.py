"""`evaluate`: measure every exit once, replay every policy, write table, numbers and page."""

from __future__ import annotations

import json
import shlex
from typing import Any

import numpy as np

from fiancee_jax import cli, inference
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import cells as tables
from fiancee_jax.evaluation import document, hardness, page, subjects, words
from fiancee_jax.evaluation.options import Options
from fiancee_jax.files import writable, write_atomically
from fiancee_jax.inference import Renderer

SHOWN = (
    ("of full", "share", "{:.1%}"),
    ("beyond shared", "share_beyond", "{:.1%}"),
    ("LPIPS", "lpips_alex_mean", "{:.4f}"),
    ("p95", "lpips_alex_p95", "{:.3f}"),
    ("above", "violation_rate", "{:.1%}"),
    ("of oracle", "share_of_oracle_saving", "{:.1%}"),
    ("FD", "fd_efflite0", "{:.1f}"),
    ("mIoU", "miou", "{:.3f}"),
    ("ms", "ms_batched", "{:.2f}"),
    ("routed", "ms_routed", "{:.2f}"),
)


def evaluate(options: Options) -> dict[str, Any]:
    """Runs the evaluation; returns what ``evaluation.json`` holds."""
    options.check()
    workdir = inference.find_model(options.model)
    renderer = inference.load(workdir)
    _check_trained(renderer, options)
    study = subjects.open_study(renderer, workdir, options)
    out = options.out.resolve()
    writable(out)
    inputs = f"{len(study.source)} inputs of {options.split}"
    print(f"{inputs}, {renderer.model.num_exits} exits", flush=True)
    measured = subjects.measure(study)
    table, found = measured.table, document.assemble(study, measured)
    found["hardness"] = hardness.hardness(renderer, table, study.source, options.seed)
    write_atomically(out / "evaluation.json", json.dumps(plain(found), indent=1).encode())
    show(found)
    page.write(out, found, renderer, table, study.source, options.seed)
    records = "records.npz" if options.judges else "records_unjudged.npz"
    for name in ("evaluation.json", "index.html", records):
        print(f"wrote {out / name}")
    return found


def plain(tree: Any) -> Any:
    """JSON without NaN or infinity: those become null."""
    if isinstance(tree, dict):
        return {str(k): plain(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(v) for v in tree]
    if isinstance(tree, float) and not np.isfinite(tree):
        return None
    return tree


def show(found: dict[str, Any]) -> None:
    """Prints the table of each threshold, why cells are empty, and which rows are not there."""
    why: dict[str, None] = {}  # in the order in which they come up
    there = {column.key for column in tables.columns(found["rows"])}
    columns = [column for column in SHOWN if column[1] in there]
    for limit in found["max_lpips"]:
        rows = [row for row in found["rows"] if row["threshold"] == limit]
        cells = [
            (row["label"], *(_written(row, key, form) for _, key, form in columns)) for row in rows
        ]
        headers = ("policy", *(head for head, _, _ in columns))
        cli.print_table(headers, cells, f"max_lpips {limit:g}")
        print()
        why |= dict.fromkeys(
            f"{head} -: {row['why_empty'][key]}"
            for head, key, _ in columns
            for row in rows
            if key in row["why_empty"]
        )
    for line in why:
        print(line)
    for name, reason in found["absent"].items():
        print(f"not in the table: {name}: {reason}")
    print(f"max_lpips: {words.ORIGINS[found['max_lpips_from']]}")
    print(words.one_seed(found))


def _written(row: dict[str, Any], key: str, form: str) -> str:
    value = row[key]
    return "-" if value is None or not np.isfinite(value) else form.format(value)


# --- checks -------------------------------------------------------------------------------------
def _check_trained(renderer: Renderer, options: Options) -> None:
    if "branches" not in renderer.variables or not renderer.has_predictor:
        raise UserError(
            f"{options.model} has no branches or no predictor yet, so there is nothing to "
            f"evaluate. Run: python train.py {shlex.quote(options.model)}"
        )
