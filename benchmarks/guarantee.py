"""Is the guarantee one? Replayed over many calibration sets from a pool of fresh landscapes.

    python train.py quickstart --workdir runs/quickstart
    python -m benchmarks.guarantee_pool --workdir runs/quickstart --out runs/guarantee_pool
    python -m benchmarks.guarantee --pool runs/guarantee_pool --out docs/results/guarantee.json

A draw takes calibration maps and 1,000 other maps from the pool without replacement. Given the
pool, all orders of its maps are equally likely, so calibration and test maps are exchangeable,
which is all that conformal risk control asks for; draws are independent given the pool. Hoeffding's
and Bentkus's inequalities hold for sampling without replacement too (Hoeffding, 1963, theorem 4).

Three predictors: as trained, a constant one (each exit's mean) and an inverted one (each exit's
predictions mirrored in their logarithms: the hardest inputs look easiest). The guarantee must hold
for all; only what it costs may differ. max_lpips is taken at quantiles of the cheapest exit's
distances, where exits matter. "pairs pooled" is the mistake of counting (map, z) pairs as units.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, Int
from scipy import stats

from benchmarks.guarantee_pool import Pool, read
from fiancee_jax import cli
from fiancee_jax.routing.calibration import (
    Calibration,
    Setting,
    chosen,
    conformal_setting,
    critical,
    learn_then_test_setting,
)

Predictions = Float[np.ndarray, "i k e"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is replayed.

    Attributes:
        pool: made by benchmarks.guarantee_pool.
        out: JSON file.
        sets: calibration sets of each size.
        sizes: maps in a calibration set.
        test: maps in each test.
        confidence: promised.
        delta: of Learn then Test.
        quantiles: of the cheapest exit's distances that are taken for max_lpips.
    """

    pool: pathlib.Path
    out: pathlib.Path
    sets: int = 200
    sizes: tuple[int, ...] = (20, 50, 200)
    test: int = 1000
    confidence: tuple[float, ...] = (0.8, 0.9, 0.95)
    delta: float = 0.1
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)


def main(options: Options) -> None:
    """Replays everything, prints it, writes it."""
    pool, rows = read(options.pool), []
    everything = _calibration(pool.predicted, pool.distances)
    for quantile in options.quantiles:
        limit = round(float(np.quantile(everything.distance[:, 0], quantile)), 3)
        for name, predicted in predictors(pool.predicted).items():
            rows += replay(pool, predicted, name, limit, options)
    for row in rows:
        print(json.dumps(row), flush=True)
    show(rows)
    meta = {"maps": len(pool.predicted), "latents": pool.predicted.shape[1]}
    meta |= {"sets": options.sets, "test": options.test, "delta": options.delta}
    lines = ",\n".join(json.dumps(row) for row in rows)
    options.out.write_text(f'{json.dumps(meta)[:-1]}, "rows": [\n{lines}\n]}}\n')
    print(f"wrote {options.out}")


def predictors(trained: Predictions) -> dict[str, Predictions]:
    """As trained, blind, and wrong."""
    mean = trained.mean((0, 1))
    logs = np.log(trained)
    inverted = np.exp(2 * logs.mean((0, 1)) - logs)
    return {"trained": trained, "constant": np.full_like(trained, mean), "inverted": inverted}


def replay(
    pool: Pool, predicted: Predictions, name: str, limit: float, options: Options
) -> list[dict[str, Any]]:
    """All sizes, confidences and methods for one predictor and threshold."""
    values = critical(_calibration(predicted, pool.distances), limit).reshape(len(predicted), -1)
    rng, rows = np.random.default_rng(0), []
    for size in options.sizes:
        draws = [
            rng.permutation(len(predicted))[: size + options.test] for _ in range(options.sets)
        ]
        for confidence in options.confidence:
            for method, setting_of in methods(limit, confidence, options.delta).items():
                found = [
                    _one(pool, predicted, values, draw[:size], draw[size:], setting_of)
                    for draw in draws
                ]
                what = {"max_lpips": limit, "predictor": name, "maps": size}
                what |= {"confidence": confidence, "method": method}
                rows.append({**what, **verdict(np.array(found), confidence, options.delta, method)})
    return rows


def methods(limit: float, confidence: float, delta: float) -> dict[str, Callable[..., Setting]]:
    """What turns a calibration set into a setting; the last is the mistake that must be seen."""
    return {
        "conformal": lambda c: conformal_setting(c, limit, confidence),
        "learn then test": lambda c: learn_then_test_setting(c, limit, confidence, delta),
        "pairs pooled": lambda c: conformal_setting(
            dataclasses.replace(c, unit=np.arange(len(c.unit))), limit, confidence
        ),
    }


def _one(
    pool: Pool,
    predicted: Predictions,
    values: Float[np.ndarray, "i k"],
    mine: Int[np.ndarray, "n"],
    test: Int[np.ndarray, "t"],
    setting_of: Callable[[Calibration], Setting],
) -> tuple[float, float]:
    """Violation on the test maps, and their mean GMACs over those of the backbone."""
    tau = setting_of(_calibration(predicted[mine], pool.distances[mine])).tau
    broken = np.isfinite(values[test]) & (values[test] <= np.float32(tau))
    exits = chosen(predicted[test].reshape(-1, predicted.shape[2]), tau)
    return float(broken.mean()), float(pool.gmacs[exits - 1].mean() / pool.full)


def verdict(
    found: Float[np.ndarray, "s 2"], confidence: float, delta: float, method: str
) -> dict[str, Any]:
    """Mean violation, share of sets above the level, mean share of full, and whether it held."""
    violation, level = found[:, 0], 1 - confidence
    error = violation.std(ddof=1) / len(found) ** 0.5
    above = float((violation > level + 1e-9).mean())
    most = float(stats.binom.ppf(0.99, len(found), delta)) / len(found)
    held = above <= most if method == "learn then test" else violation.mean() <= level + 3 * error
    return {
        "violation": round(float(violation.mean()), 4),
        "standard_error": round(float(error), 5),
        "sets_above": round(above, 3),
        "share_of_full": round(float(found[:, 1].mean()), 3),
        "held": bool(held),
    }


def _calibration(predicted: Predictions, distances: Predictions) -> Calibration:
    maps, latents, exits = predicted.shape
    unit = np.repeat(np.arange(maps), latents)
    flat = predicted.reshape(-1, exits), distances.reshape(-1, exits)
    return Calibration.from_measured(flat[0], flat[1], unit)


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints the table."""
    headers = ("max_lpips", "predictor", "maps", "confidence", "method", "violation", "+-")
    cells = [
        (
            *(row[name] for name in ("max_lpips", "predictor", "maps", "confidence", "method")),
            f"{100 * row['violation']:.2f} %",
            f"{100 * row['standard_error']:.2f}",
            f"{100 * row['sets_above']:.0f} %",
            f"{100 * row['share_of_full']:.0f} %",
            "yes" if row["held"] else "NO",
        )
        for row in rows
    ]
    cli.print_table((*headers, "sets above", "of full", "held"), cells)


if __name__ == "__main__":
    main(tyro.cli(Options))
