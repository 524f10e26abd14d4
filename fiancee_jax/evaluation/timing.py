"""Milliseconds per picture of every exit and of the predictor, after compiling."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fiancee_jax.evaluation.replay import Policy
from fiancee_jax.inference import Renderer, predict, render_exit
from fiancee_jax.models.staged import Inputs

REPEATS = 7


@dataclasses.dataclass(frozen=True)
class Times:
    """Medians, milliseconds per picture. `single` and `batched`: exits 1..n; `batch` its size."""

    single: list[float]
    batched: list[float]
    predictor_single: float
    predictor_batched: float
    batch: int

    def mean(self, taken: Policy, *, batched: bool, predictor: bool) -> float:
        """Mean over the records, by the exits they take."""
        exits = self.batched if batched else self.single
        extra = self.predictor_batched if batched else self.predictor_single
        return float((taken @ np.array(exits)).mean() + (extra if predictor else 0.0))


def time_exits(renderer: Renderer, inputs: Inputs) -> Times:
    """Times every exit on these inputs (a full batch) and on the first of them alone."""
    model, variables = renderer.model, renderer.variables
    batch = len(inputs["z"])
    one = jax.tree.map(lambda x: x[:1], inputs)
    numbers = range(1, model.num_exits + 1)

    def exits(given: Inputs, size: int) -> list[float]:
        return [
            _median_ms(lambda n=n: render_exit(model, variables, given, n)) / size for n in numbers
        ]

    def predictor(given: Inputs, size: int) -> float:
        if not renderer.has_predictor:
            return 0.0
        return _median_ms(lambda: predict(model, variables, given)) / size

    return Times(
        exits(one, 1), exits(inputs, batch), predictor(one, 1), predictor(inputs, batch), batch
    )


def _median_ms(call: Callable[[], Any]) -> float:
    jax.block_until_ready(call())  # compiles
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(1e3 * (time.perf_counter() - start))
    return float(np.median(found))
