"""`reenact`: exits, router and backbone against the truly rendered head; numbers and pictures.

Keys of ``reenactment.json``:

    format_version      1; a key that changes its meaning raises it
    command, model, config, data, split, seed, environment
                        what was asked for, and where it ran
    pairs, identities   how many pairs were measured, and of how many sources' identities
    training_seed       of the model: all figures are of this one training
    max_lpips           the router's thresholds (LPIPS-alex to the backbone's picture)
    max_lpips_from      where they are from, see `document`
    gmacs               of a picture, in parts: once (the source alone), shared (every frame, P
                        included), project (P), predictor, exits 1..n (the whole model), decoder (P
                        and all that follows) by exit 1..n
    identity_net        what judges identities: what (in words), training
    anchors             what cosines and pose errors are read beside: `reenactment_rows.anchors`
    self, cross         of self-reenactment (the driver is the source's identity) and of cross-
                        reenactment (another one): rows, see `reenactment_rows`; hardness, see
                        `reenactment_hardness`
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fiancee_jax import inference
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import identity, keeping, reenactment, ridge, settings
from fiancee_jax.evaluation.document import environment
from fiancee_jax.evaluation.records import Judges, Records
from fiancee_jax.evaluation.reenactment import KINDS, Measured
from fiancee_jax.evaluation.reenactment_hardness import hardness
from fiancee_jax.evaluation.reenactment_pictures import hardness_chart, sheet
from fiancee_jax.evaluation.reenactment_rows import Costs, anchors, rows
from fiancee_jax.evaluation.reenactment_study import SPLIT, Study, open_study
from fiancee_jax.evaluation.reenactment_tables import show
from fiancee_jax.evaluation.run import plain
from fiancee_jax.files import writable, write_atomically
from fiancee_jax.models import identity_net, lpips

FORMAT_VERSION = 1
WRITTEN = ("reenactment.json", "reenactment.png", "hardness.png", "reenactment.npz", "identity.npz")


def reenact(
    model: str,
    out: pathlib.Path,
    max_lpips: tuple[float, ...] = (),
    limit: int = 300,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures a model; returns what ``reenactment.json`` holds.

    Args:
        model: a workdir, or the name of a model in the box.
        out: gets reenactment.json, reenactment.png, hardness.png, identity.npz (the network that
            judges identities) and reenactment.npz (what was measured, which a second run reuses).
        max_lpips: the router's thresholds; if left out the quartiles of the early exits' LPIPS-alex
            on the predictor's training inputs.
        limit: measure the first so many pairs only; 0 takes all.
        seed: of bootstrap intervals.

    Raises:
        UserError: see `open_study`; impossible thresholds; a folder that cannot be written.
    """
    if not all(0 <= x < np.inf for x in max_lpips):
        raise UserError(f"max-lpips is {list(max_lpips)}; give numbers of 0 or more.")
    workdir = inference.find_model(model)
    study, out = open_study(inference.load(workdir), model, limit), out.expanduser().resolve()
    writable(out)
    print(f"{len(study.who)} pairs of {SPLIT}, {study.renderer.model.num_exits} exits", flush=True)
    found = measured(study, out)
    limits, origin = thresholds(study, workdir, found, max_lpips)
    costs = Costs.of(study.renderer.model)
    words = ["--model", model, "--out", str(out), "--limit", str(limit), "--seed", str(seed)]
    words += ["--max-lpips", *map(str, max_lpips)] if max_lpips else []
    result = {
        "format_version": FORMAT_VERSION,
        "command": shlex.join(["python", "-m", "fiancee_jax", "reenact", *words]),
        "model": model,
        "seed": seed,
        "max_lpips": list(limits),
        "max_lpips_from": origin,
        **_about(study),
        "gmacs": costs.document(),
        "anchors": anchors(found, study.who, seed),
        **{kind: _kind(study, found, kind, costs, limits, seed) for kind in KINDS},
    }
    write_atomically(out / "reenactment.json", json.dumps(plain(result), indent=1).encode())
    sheet(study, found, costs, limits[len(limits) // 2]).save(out / "reenactment.png")
    chart = hardness_chart({kind: result[kind]["hardness"] for kind in KINDS}, costs)
    write_atomically(out / "hardness.png", chart)
    show(result)
    for name in WRITTEN:
        print(f"wrote {out / name}")
    return result


def measured(study: Study, out: pathlib.Path) -> Measured:
    """What was measured, now or by an earlier run on the same arrays and pairs."""
    size = study.renderer.model.family.size
    net = identity.load_or_train(study.data, size, out / "identity.npz")
    embed = jax.tree_util.Partial(identity_net.embed, net)
    judges = Judges(lpips.load("alex"), lpips.load("vgg"), embed)
    pairs = study.sources["self"]
    options = {"pairs": len(pairs), "format": FORMAT_VERSION}
    mark = keeping.fingerprint(study.renderer, judges, study.data, pairs, **options)
    measure = functools.partial(reenactment.measure, study.renderer, study.sources, judges)
    return keeping.kept_arrays(out / "reenactment.npz", mark, measure)


def thresholds(
    study: Study, workdir: pathlib.Path, found: Measured, asked: tuple[float, ...]
) -> tuple[tuple[float, ...], str]:
    """The router's thresholds, and where they are from; see `settings.thresholds`."""
    n = study.renderer.model.num_exits
    lpips_, predicted = (
        np.concatenate([found[f"{kind}.{key}"][:, :n] for kind in KINDS])
        for key in ("lpips_to_backbone", "predicted")
    )
    names, none = np.tile(found["names"], len(KINDS)), np.empty((len(lpips_), 0))
    records = Records(names, {"lpips_alex": lpips_}, predicted, none, none, none)
    targets = ridge.read_targets(workdir / "predictor_targets.npz", n - 1)
    return settings.thresholds(asked, targets, study.renderer, records)


def _about(study: Study) -> dict[str, Any]:
    config, training = study.renderer.config, dataclasses.asdict(identity.Training())
    return {
        "config": config.name,
        "data": {"kind": type(study.data).__name__, **dataclasses.asdict(study.data)},
        "split": SPLIT,
        "pairs": len(study.who),
        "identities": int(study.who.max()) + 1,
        "training_seed": config.seed,
        "environment": environment(),
        "identity_net": {"what": identity.WHAT, "training": training},
    }


def _kind(
    study: Study, found: Measured, kind: str, costs: Costs, limits: Sequence[float], seed: int
) -> dict[str, Any]:
    return {
        "rows": rows(found, kind, costs, limits, seed),
        "hardness": hardness(found, kind, study.identities, costs, limits),
    }
