"""``evaluation.json``: everything measured and replayed, with stable keys.

format_version  2; a key that changes its meaning raises it
command, model, config, data, split, latents, seed, environment
                what was asked for, and where it ran
inputs, records how many inputs, and inputs with a z each
full_gmacs, predictor_gmacs
                of the backbone and of the predictor
training_seed   of the model: all figures are of this one training
max_lpips       the thresholds
max_lpips_from  where they are from: options; or quartiles of the early exits' LPIPS-alex over
                predictor_targets (what the predictor was trained on), calibration (its distances)
                or, where neither is kept, inputs (the evaluated ones)
exits           what each exit is, costs and makes; the backbone last, with tap null
rows            `rows`: one object for each policy at each threshold
absent          rows that could be there, by name: why they are not, and what to run
gaps            `gap.Gap`, with policy and threshold; gaps_in_violations: the same at equal
                violation rates in place of equal mean LPIPS-alex
comparisons     `gap.paired`, of the learned router (a) with others (b)
curves          by policy, points {"gmacs", "share", "lpips" (mean LPIPS-alex), "setting"}
reliability     `curves.reliability`
promises        by threshold and confidence (null: the raw router): tau, always a number (-1: the
                backbone for all; 3.4028234663852886e+38, the largest float32: every exit is
                allowed), violations with their interval, blocks, share of full
exchangeable    whether the calibration's promise is one about these inputs; else the confidences
                are only what was asked for. exchangeable_why: the reason, in words
real            of the real pictures themselves: miou; halves, one half against the other, which
                are fewer pictures than rows have and so score worse
spread          `spread.spread`: FD-EffLite0 and mIoU of the backbone at two sets of z's, and how
                far they differ by z and map alone; null unless asked for
timing          `timing.Times`, milliseconds per picture (`rows` have those of routed calls)
hardness        `hardness`
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shlex
from typing import Any

import jax
import numpy as np

from fiancee_jax.evaluation import contrasts, curves, ridge, settings
from fiancee_jax.evaluation.options import Options
from fiancee_jax.evaluation.records import Records
from fiancee_jax.evaluation.rows import set_distances
from fiancee_jax.evaluation.spread import spread
from fiancee_jax.evaluation.subjects import Measured, Study
from fiancee_jax.evaluation.table import BUDGETS, Table
from fiancee_jax.inference import Renderer
from fiancee_jax.metrics import mean_iou

FORMAT_VERSION = 2


def assemble(study: Study, measured: Measured) -> dict[str, Any]:
    """All of it but ``hardness``, ready for JSON."""
    table, options, renderer = measured.table, study.options, study.renderer
    found = table.subject.records
    promised, why = settings.exchangeable(renderer, study.data, options.split)
    limits = list(table.calibrated)
    rows = [row.columns(x, table.full_gmacs, table.seed) for x in limits for row in table.rows(x)]
    return {
        "format_version": FORMAT_VERSION,
        "command": options.command,
        "model": options.model,
        "config": renderer.config.name,
        "data": {"kind": type(study.data).__name__, **dataclasses.asdict(study.data)},
        "split": options.split,
        "inputs": int(found.units.max()) + 1,
        "records": len(found.names),
        "latents": options.latents,
        "seed": options.seed,
        "environment": environment(),
        "full_gmacs": table.full_gmacs,
        "predictor_gmacs": table.subject.predictor_gmacs,
        "training_seed": renderer.config.seed,
        "max_lpips": limits,
        "max_lpips_from": measured.limits_from,
        "exits": _exits(renderer, table),
        "rows": rows,
        "absent": {**measured.absent, **_absences(renderer, table, options)},
        "gaps": [gap for limit in limits for gap in contrasts.gaps(table, limit)],
        "gaps_in_violations": [
            gap for limit in limits for gap in contrasts.gaps_in_violations(table, limit)
        ],
        "comparisons": [c for limit in limits for c in contrasts.comparisons(table, limit)],
        "curves": curves.curves(table),
        "reliability": curves.reliability(found.predicted, found.lpips),
        "promises": curves.promises(table),
        "exchangeable": promised,
        "exchangeable_why": why,
        "real": _real(found, table.subject.void),
        "spread": spread(found, table.subject.void, table.seed) if options.spread else None,
        "timing": dataclasses.asdict(table.subject.times),
    }


def _exits(renderer: Renderer, table: Table) -> list[dict[str, Any]]:
    exits = [(e.name, e.tap, e.width) for e in renderer.model.exits] + [("backbone", None, 1.0)]
    lpips_, gmacs = table.subject.records.lpips, table.subject.gmacs
    return [
        {
            "number": i + 1,
            "name": name,
            "tap": tap,
            "width": width,
            "gmacs": float(gmacs[i]),
            "share": float(gmacs[i] / gmacs[-1]),
            "lpips_alex_mean": float(lpips_[:, i].mean()),
            "lpips_alex_p10": float(np.percentile(lpips_[:, i], 10)),
            "lpips_alex_p90": float(np.percentile(lpips_[:, i], 90)),
        }
        for i, (name, tap, width) in enumerate(exits)
    ]


def _absences(renderer: Renderer, table: Table, options: Options) -> dict[str, str]:
    """Rows other than baselines that could be there and are not: why, and what adds them."""
    train = f"python train.py {shlex.quote(options.model)} --phases"
    why = {}
    if not table.ridges:
        words = "the workdir keeps no predictor_targets.npz for these exits"
        why |= dict.fromkeys(ridge.LABELS, f"{words}; run {train} predictor --rerun")
    if renderer.calibration is None:
        why["calibrated"] = f"the model is not calibrated; run {train} calibration"
    for share in BUDGETS:
        if not table.affordable(share):
            words = f"exit 1 and the predictor cost more than {share:.0%} of full"
            why |= dict.fromkeys((f"budget_batch_{share:g}", f"budget_{share:g}"), words)
        elif share not in table.budget_tau:
            why[f"budget_{share:g}"] = f"the model is not calibrated; run {train} calibration"
    return why


def _real(found: Records, void: int | None) -> dict[str, Any]:
    """What the judges say of the real pictures themselves: a ceiling."""
    real: dict[str, Any] = {}
    if found.real_confusion is not None:
        real["miou"] = mean_iou(found.real_confusion, void)
    if found.real_features is not None and len(found.real_features) >= 16:
        halves = found.real_features[::2], found.real_features[1::2]
        real["halves"] = set_distances(*halves)
    return real


def environment() -> dict[str, str]:
    """Versions and machine, as far as they may matter for times."""
    packages = ("jax", "flax", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **found,
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "system": f"{platform.system()} {platform.machine()}",
    }
