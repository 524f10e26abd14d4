"""Why is an input hard? Distances against what the predictor could know: areas, crowdedness, z.

Keys of ``hardness`` in ``evaluation.json``; what cannot be had is null, and `omitted` says why:

    features        {"areas": [k], "vector": [d]}: what the columns below are called
    exits           for each early exit, and for "mean", their mean in logarithms:
        exit        1..n-1, or "mean"
        rank        {"areas": [k], "crowdedness", "vector": [d], "vector_norm"}: Spearman's rank
                    correlation with LPIPS-alex; null where one of them is constant
        explained   {"areas", "vector", "both", "products"}: share of the variance of log LPIPS-alex
                    that ridge regression predicts on inputs it was not fitted to (R^2; below 0:
                    worse than the mean); "vector" is its coordinates and their squares,
                    "products" is both with areas x vector
        between_inputs
                    share of that variance that lies between inputs; the rest is z's, and z's with
                    the input's (several z's per input)
    choices         which exit routers take, at each threshold:
        policy, threshold
        rank        as above, of the number of the exit taken
        by_difficulty
                    mean share of the backbone's GMACs in fifths of the records, easiest first, by
                    the measured distance ("mean" above)
    easiest, hardest
                    records of different inputs, by that distance: {"record", "name", "latent" (k-th
                    z of the name), "lpips_alex": [n], "predicted": [n]}
    latent_map      one input over a plane of z: {"name", "exit": 1, "steps": [g], "directions":
                    [2, d], "lpips_alex": [g, g]}; row i, column j is z = steps[j] * directions[0] +
                    steps[i] * directions[1]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fiancee_jax.evaluation import ridge
from fiancee_jax.evaluation.latent_map import latent_map
from fiancee_jax.evaluation.records import Records
from fiancee_jax.evaluation.rows import Row, spearman
from fiancee_jax.evaluation.table import Table
from fiancee_jax.inference import Renderer

SHOWN = 3  # easiest and hardest inputs
FOLDS = 5
FEWEST = 40  # inputs for regressions and fifths
MOST_PRODUCTS = 1000
CONSTANT = "the family has no label maps: nothing but z tells one input from another"


def hardness(renderer: Renderer, table: Table, source: Any, seed: int = 0) -> dict[str, Any]:
    """Everything above.

    Args:
        renderer: the model, which renders the latent map.
        table: what was measured.
        source: the inputs that were measured.
        seed: of folds, and of z as in the records.
    """
    found = table.subject.records
    logs = np.log(found.lpips[:, :-1].astype(np.float64) + ridge.FLOOR)
    logs = np.column_stack([logs, logs.mean(1)])
    mapped = latent_map(renderer, found, source, logs[:, -1])
    explained = _explained(found, logs, seed)
    constant = not np.ptp(found.shares, axis=0).any()
    between = CONSTANT if constant else between_inputs(logs, found.units)
    omitted = {
        "areas": CONSTANT if constant else "",
        "latent_map": mapped if isinstance(mapped, str) else "",
        "explained": explained if isinstance(explained, str) else "",
        "between_inputs": between if isinstance(between, str) else "",
    }
    numbers = [*range(1, logs.shape[1]), "mean"]
    return {
        "features": names(renderer, found),
        "exits": [
            {
                "exit": number,
                "rank": ranks(found, logs[:, i]),
                "explained": None if isinstance(explained, str) else explained[i],
                "between_inputs": None if isinstance(between, str) else float(between[i]),
            }
            for i, number in enumerate(numbers)
        ],
        "choices": _choices(table, logs[:, -1]),
        **_extremes(found, logs[:, -1]),
        "latent_map": None if isinstance(mapped, str) else mapped,
        "omitted": {key: reason for key, reason in omitted.items() if reason},
    }


def names(renderer: Renderer, found: Records) -> dict[str, list[str]]:
    """What the columns of areas and vector are called."""
    family = renderer.model.family
    areas, vector = found.shares.shape[1], found.vector.shape[1]
    word = "z" if family.latent_dim == vector else "vector"
    return {
        "areas": list(family.view_names)
        if len(family.view_names) == areas
        else [f"grid {i + 1}" for i in range(areas)],
        "vector": [f"{word} {i + 1}" for i in range(vector)],
    }


# --- statistics ---------------------------------------------------------------------------------
def ranks(found: Records, value: np.ndarray) -> dict[str, Any]:
    """Spearman's correlation of a value [m] with everything that is known of the input."""
    return {
        "areas": [spearman(column, value) for column in found.shares.T],
        "crowdedness": spearman(found.edges, value),
        "vector": [spearman(column, value) for column in found.vector.T],
        "vector_norm": spearman(np.linalg.norm(found.vector, axis=1), value),
    }


def _explained(found: Records, logs: np.ndarray, seed: int) -> list[dict[str, float | None]] | str:
    """For each column of log distances, R^2 by design; or why not."""
    if found.units.max() + 1 < FEWEST:
        return f"regressions want {FEWEST} inputs or more, here are {found.units.max() + 1}"
    designs = _designs(found)
    scores = {key: cross_validated(x, logs, found.units, seed) for key, x in designs.items()}
    keys = ("areas", "vector", "both", "products")
    return [
        {key: float(scores[key][i]) if key in scores else None for key in keys}
        for i in range(logs.shape[1])
    ]


def _designs(found: Records) -> dict[str, np.ndarray]:
    """Columns to regress on; what is constant is no column, and no design is without columns."""
    areas, vector = (x[:, np.ptp(x, axis=0) > 0] for x in (found.shares, found.vector))
    # rare classes times z would be more columns than records: the largest classes go first
    largest = np.argsort(-areas.mean(0))[: max(1, MOST_PRODUCTS // max(1, vector.shape[1]))]
    products = (areas[:, largest, None] * vector[:, None]).reshape(len(areas), -1)
    vector = np.concatenate([vector, vector**2], axis=1)  # long z's are hard on either side
    designs = {"areas": areas, "vector": vector}
    if areas.shape[1] and vector.shape[1]:
        designs["both"] = np.concatenate([areas, vector], axis=1)
        designs["products"] = np.concatenate([areas, vector, products], axis=1)
    return {key: x for key, x in designs.items() if x.shape[1]}


def cross_validated(x: np.ndarray, y: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """R^2 [q] of ridge regressions of y [m, q] on x [m, p]; an input is wholly in one fold.

    The penalty is chosen on a fifth of each training part, and a prediction never leaves the range
    of the values it was fitted to.
    """
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(units.max() + 1) % FOLDS)[units]
    predicted = np.empty_like(y)
    for i in range(FOLDS):
        train, test = np.flatnonzero(fold != i), fold == i
        train = train[np.argsort(fold[train], kind="stable")]  # the holdout: other inputs
        fitted = fit_logs(x[train], y[train])
        scaled = (x[test] - fitted.mean) / fitted.scale
        lowest, highest = y[train].min(0), y[train].max(0)
        predicted[test] = np.clip(
            scaled @ fitted.weights + fitted.bias, lowest[None], highest[None]
        )
    return 1 - ((y - predicted) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)


def fit_logs(x: np.ndarray, logs: np.ndarray) -> ridge.Ridge:
    """`ridge.fit` of logarithms [m, q]."""
    return ridge.fit(x, np.empty((len(x), 0)), np.exp(logs) - ridge.FLOOR)


def between_inputs(values: np.ndarray, units: np.ndarray) -> np.ndarray | str:
    """Share [q] of the variance of values [m, q] that lies between inputs, or why it is unknown.

    The components of a one-way analysis of variance with random effects (Searle et al., Variance
    Components, 1992, section 3.5): the variance between the inputs' means, less what z puts there.
    """
    sizes = np.bincount(units)
    if sizes.min() < 2 or len(sizes) < 2:
        return "one z for each input: run with --latents 4 to tell the input's share from z's"
    groups = np.stack([np.bincount(units, column) for column in values.T], axis=1) / sizes[:, None]
    within = ((values - groups[units]) ** 2).sum(0) / (len(units) - len(sizes))
    usual = (len(units) - (sizes**2).sum() / len(units)) / (len(sizes) - 1)
    squares = (sizes[:, None] * (groups - values.mean(0)) ** 2).sum(0) / (len(sizes) - 1)
    between = np.maximum(0, (squares - within) / usual)
    return between / (between + within)


# --- routers ------------------------------------------------------------------------------------
def _choices(table: Table, difficulty: np.ndarray) -> list[dict[str, Any]]:
    rows = [(t, row) for t in table.calibrated for row in (table.learned(t), table.oracle(t))]
    return [{"threshold": limit, **_choice(table, row, difficulty)} for limit, row in rows]


def _choice(table: Table, row: Row, difficulty: np.ndarray) -> dict[str, Any]:
    shares = row.taken @ table.subject.gmacs / table.full_gmacs
    fifths = np.array_split(np.argsort(difficulty, kind="stable"), min(5, len(shares)))
    exits = row.taken.argmax(1) + 1
    return {
        "policy": row.policy,
        "rank": ranks(table.subject.records, exits),
        "by_difficulty": [float(shares[part].mean()) for part in fifths],
    }


def _extremes(found: Records, difficulty: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    order = np.argsort(difficulty, kind="stable")
    count = min(SHOWN, (int(found.units.max()) + 1) // 2)
    easiest, hardest = (
        _distinct(order, found.units, count),
        _distinct(order[::-1], found.units, count),
    )
    return {
        "easiest": [_record(found, i) for i in easiest],
        "hardest": [_record(found, i) for i in hardest],
    }


def _distinct(order: np.ndarray, units: np.ndarray, count: int) -> list[int]:
    """The first records of `count` different inputs."""
    first = np.unique(units[order], return_index=True)[1]  # places in the order
    return order[np.sort(first)[:count]].tolist()


def _record(found: Records, i: int) -> dict[str, Any]:
    return {
        "record": i,
        "name": str(found.names[i]),
        "latent": int(np.count_nonzero(found.names[:i] == found.names[i])),
        "lpips_alex": found.lpips[i].tolist(),
        "predicted": found.predicted[i].tolist(),
    }
