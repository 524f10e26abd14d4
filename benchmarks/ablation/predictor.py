"""The predictor's ablation: many predictors of one set of measured inputs, ridge beside them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ablation import rows
from benchmarks.ablation.rows import Row
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import Config, PredictorPhase
from fiancee_jax.evaluation import replay, ridge
from fiancee_jax.exits import MultiExit
from fiancee_jax.training import measure, predictor
from fiancee_jax.training.log import Log
from fiancee_jax.training.run import resolve
from fiancee_jax.training.workspace import Workspace

TARGETS, HELD = 10_000, 2_000  # measured inputs to train on, and to compare on
DISTANCES = (0.75, 0.5)  # mean distances of a router, as shares of the cheapest exit's
MEASURED_AT_ONCE = 32  # inputs
BASE = PredictorPhase(
    inputs=TARGETS, steps=1500, batch_size=128, lr=3e-3, squares=True, weight_decay=1.0
)


class Measured(NamedTuple):
    """What every predictor is trained on and judged by; the last `HELD` rows are held out."""

    model: MultiExit  # its exits are those of the columns
    grid: np.ndarray
    vector: np.ndarray
    lpips: np.ndarray
    target: np.ndarray


def variants(base: PredictorPhase) -> dict[str, PredictorPhase]:
    """Predictors by name: everything as in `base` but for what the name says."""
    settings: dict[str, dict[str, Any]] = {"base": {}}
    settings |= {f"inputs-{n}": {"inputs": n} for n in (1000, 3000)}
    settings |= {"inputs-3000-steps-500": {"inputs": 3000, "steps": 500}}
    settings |= {f"size-{c}-{2 * c}": {"channels": c, "hidden": 2 * c} for c in (8, 16, 64)}
    settings |= {f"sees-{part}": {"sees": part} for part in ("vector", "grid")}
    settings |= {f"steps-{n}": {"steps": n} for n in (500, 3000)}
    settings |= {f"decay-{d:g}": {"weight_decay": d} for d in (1e-3, 0.1)}
    settings |= {"no-squares": {"squares": False}, "members-4": {"members": 4}}
    settings |= {"inputs-3000-steps-500-members-4": {"inputs": 3000, "steps": 500, "members": 4}}
    return {name: dataclasses.replace(base, **changes) for name, changes in settings.items()}


def run(
    base: Config, workdir: pathlib.Path, out: pathlib.Path, path: pathlib.Path, seeds: Sequence[int]
) -> None:
    """Makes the rows that are missing; the inputs are measured once and kept in `out`."""
    measured = _measured(base, workdir, out)
    for seed in seeds:
        for name, phase in variants(BASE).items():
            if not rows.has(rows.load(path), variant=name, seed=seed):
                _write(path, name, seed, phase, measured, *_trained(measured, phase, seed))
    for name, inputs in (("ridge-1000", 1000), ("ridge-3000", 3000), ("ridge", TARGETS)):
        if not rows.has(rows.load(path), variant=name):
            phase = dataclasses.replace(BASE, inputs=inputs, steps=0)
            _write(path, name, 0, phase, measured, *_ridge(measured, inputs))


def _write(
    path: pathlib.Path,
    name: str,
    seed: int,
    phase: PredictorPhase,
    measured: Measured,
    predicted: np.ndarray,
    gmacs: float,
    seconds: float,
) -> None:
    kept = ("inputs", "steps", "channels", "hidden", "sees", "squares", "members", "weight_decay")
    names = {"ablation": "predictor", "variant": name, "seed": seed}
    settings = {k: getattr(phase, k) for k in kept}
    found = judged(predicted, gmacs, measured)
    rows.append(path, [{**names, **row, **settings, "seconds": round(seconds)} for row in found])
    print(json.dumps({**names, "mae": [round(row["mae"], 4) for row in found]}), flush=True)


# --- measuring ----------------------------------------------------------------------------------
def _measured(base: Config, workdir: pathlib.Path, out: pathlib.Path) -> Measured:
    """Distances of all exits of `workdir` on as many different maps, from a file if it is there."""
    count, path = TARGETS + HELD, out / "measured.npz"
    data = dataclasses.replace(base.data, predictor=count)
    config = resolve(dataclasses.replace(base, data=data))
    store = Store(workdir)
    work = Workspace(config, workdir, store, Log(None))
    exits = predictor.kept_exits(work)
    if not path.is_file():
        variables = work.frozen("backbone", "guides", "branches")
        found: Any = measure.records(work, "predictor", variables, count, MEASURED_AT_ONCE)
        out.mkdir(parents=True, exist_ok=True)
        np.savez(path, **found)
    store.close()
    with np.load(path) as kept:
        grid, vector, lpips = kept["grid"].astype(np.float32), kept["vector"], kept["lpips"]
    model = MultiExit.of(config, exits)
    lpips = lpips[:, [work.model.exits.index(e) for e in model.exits]]
    target = np.maximum.accumulate(lpips[:, ::-1], axis=1)[:, ::-1]
    return Measured(model, grid, vector, lpips, target)


# --- predictors ---------------------------------------------------------------------------------
def _trained(
    measured: Measured, phase: PredictorPhase, seed: int
) -> tuple[np.ndarray, float, float]:
    """Predicted distances of the held-out inputs, the predictor's GMACs and the seconds it took."""
    began = time.monotonic()
    model = dataclasses.replace(measured.model, predictor=phase)
    columns = (measured.grid, measured.vector, measured.target)
    batches = predictor.Rows(tuple(c[: phase.inputs] for c in columns), phase.batch_size, seed)
    targets = jnp.asarray(measured.target[: phase.inputs])
    state = predictor.init_state(model, phase, targets, jax.random.key(seed))
    for _ in range(phase.steps):
        state, _ = predictor.train_step(model, phase, state, next(batches))
    net = jax.jit(model.predictor_net().apply)
    held = (measured.grid[-HELD:], measured.vector[-HELD:])
    predicted = np.asarray(net({"params": state["params"]}, *held), np.float64)
    return predicted, model.predictor_gmacs(), time.monotonic() - began


def _ridge(measured: Measured, inputs: int) -> tuple[np.ndarray, float, float]:
    """The same of ridge regression of log distances on class areas and z."""
    began, shares = time.monotonic(), measured.grid.astype(np.float64).mean((1, 2))
    fitted = ridge.fit(shares[:inputs], measured.vector[:inputs], measured.target[:inputs])
    predicted = fitted.predict(shares[-HELD:], measured.vector[-HELD:])[:, :-1]
    return predicted, 0.0, time.monotonic() - began


# --- judging ------------------------------------------------------------------------------------
def judged(predicted: np.ndarray, gmacs: float, measured: Measured) -> list[Row]:
    """A row for each early exit: errors of its own, and the router's, which are those of all.

    Args:
        predicted: distances [HELD, exits] of the held-out inputs.
        gmacs: of the predictor.
        measured: what they are compared with.
    """
    truth, costs = measured.lpips[-HELD:].astype(np.float64), np.array(measured.model.gmacs)
    seen, true = (np.pad(x, ((0, 0), (0, 1))) for x in (predicted, truth))
    router = {
        f"taken_{round(100 * share)}": round(taken(seen, true, costs, gmacs, share), 4)
        for share in DISTANCES
    }
    found = []
    for i, exit in enumerate(measured.model.exits):
        p, t = predicted[:, i], measured.target[-HELD:, i].astype(np.float64)
        log_error = np.log(p + ridge.FLOOR) - np.log(t + ridge.FLOOR)
        left = np.mean(log_error**2) / np.var(np.log(t + ridge.FLOOR))
        found.append(
            {
                "exit": exit.name,
                "mae": round(float(np.abs(p - t).mean()), 6),
                "mae_of_median": round(float(np.abs(t - np.median(t)).mean()), 6),
                "spearman": round(spearman(p, t), 4),
                "r2_log": round(float(1 - left), 4),
                **router,
                "predictor_gmacs": round(gmacs, 7),
            }
        )
    return found


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation (without ties)."""
    first, second = (np.argsort(np.argsort(x)) for x in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def taken(
    predicted: np.ndarray, lpips: np.ndarray, gmacs: np.ndarray, overhead: float, share: float
) -> float:
    """How much of the way from blind mixture to oracle the router goes, at equal mean distance.

    Args:
        predicted: [m, n], the last column 0.
        lpips: measured, [m, n].
        gmacs: of the exits [n].
        overhead: GMACs of the predictor.
        share: the mean distance, as a share of the cheapest exit's.

    Returns:
        1 is the oracle; 0 the blind mixture; below 0 routing costs more than not to look.
    """
    distance = share * lpips[:, 0].mean()
    blind = replay.blind_frontier(lpips, gmacs).cost_at(distance)
    costs = []
    for seen in (predicted, lpips):
        cost, found = replay.lagrangian_points(seen, lpips, gmacs)
        costs.append(replay.frontier(cost.mean(1), found.mean(1)).cost_at(distance))
    router, oracle = costs
    return float((blind - router - overhead) / (blind - oracle))


def table(found: list[Row]) -> str:
    """The rows as markdown: means over exits, then spread over seeds."""
    means = []
    for first, group in rows.by_variant(found, ("variant", "seed")):
        mean = {k: float(np.mean([r[k] for r in group])) for k in ("mae", "spearman", "r2_log")}
        means.append({**first, **mean})
    lines = []
    for first, group in rows.by_variant(means, ("variant",)):
        cells = [rows.spread(group, "mae")]
        cells += [rows.spread(group, k, 3) for k in ("spearman", "r2_log", "taken_75", "taken_50")]
        cost = f"{1000 * first['predictor_gmacs']:.2f}"
        lines.append((first["variant"], first["inputs"], first["steps"], *cells, cost, len(group)))
    headers = ("predictor", "targets", "steps", "mean error", "rank correlation", "R2 of log",
               "gap taken at 3/4", "at 1/2", "MMACs", "seeds")  # fmt: skip
    return rows.markdown(headers, lines)
