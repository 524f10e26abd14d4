"""What policies are set to: thresholds, calibrated settings, budgets, and what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fiancee_jax.evaluation.records import Records
from fiancee_jax.evaluation.ridge import Targets
from fiancee_jax.evaluation.rows import Subject
from fiancee_jax.evaluation.table import BUDGETS, Promise
from fiancee_jax.inference import Renderer
from fiancee_jax.routing.calibration import budget_setting


# --- thresholds ---------------------------------------------------------------------------------
def thresholds(
    asked: tuple[float, ...], targets: Targets | None, renderer: Renderer, found: Records
) -> tuple[tuple[float, ...], str]:
    """The thresholds, and where they are from.

    Quartiles come from what the model's makers measured, not from the inputs it is evaluated on:
    thresholds that follow these would make every set of inputs look equally hard.

    Args:
        asked: for by name; taken as they are.
        targets: what the predictor was trained on, if it is kept.
        renderer: the model, whose calibration comes next.
        found: what was measured now, the last resort.

    Returns:
        Rising numbers, and "options", "predictor_targets", "calibration" or "inputs".
    """
    if asked:
        return asked, "options"
    if targets is not None:
        return quartiles(targets.target), "predictor_targets"
    if renderer.calibration is not None:
        return quartiles(renderer.calibration.distance), "calibration"
    return quartiles(found.lpips[:, :-1]), "inputs"


def quartiles(distances: np.ndarray) -> tuple[float, ...]:
    """Of early exits' LPIPS-alex [m, n - 1], two digits; the same number never twice."""
    values = np.quantile(distances.astype(np.float64), (0.25, 0.5, 0.75))
    return tuple(dict.fromkeys(float(f"{v:.2g}") for v in values))


# --- the calibration ----------------------------------------------------------------------------
def settings(renderer: Renderer, limit: float, confidences: Sequence[float]) -> list[Promise]:
    """Calibrated settings of a threshold; none without a calibration."""
    if renderer.calibration is None:
        return []
    pairs = [(c, renderer.guarantee(limit, c)) for c in confidences]
    return [Promise(c, setting.tau, setting.reason) for c, setting in pairs]


def budgets(renderer: Renderer, subject: Subject) -> dict[float, float]:
    """Settings that meet a share of full on average over the calibration inputs."""
    if renderer.calibration is None:
        return {}
    table = subject.gmacs + subject.predictor_gmacs
    wanted = {share: share * float(subject.gmacs[-1]) for share in BUDGETS}
    return {
        share: budget_setting(renderer.calibration, table, gmacs)
        for share, gmacs in wanted.items()
        if gmacs >= table[0]
    }


def exchangeable(renderer: Renderer, data: Any, split: str) -> tuple[bool, str]:
    """Whether a promise of the calibration is one about these inputs, and why (not).

    Only where both were drawn in the same way is it; of files nobody here can tell.
    """
    if renderer.calibration is None:
        return False, "the model is not calibrated"
    if not renderer.model.family.input_names:
        return True, "every picture has a z of its own, drawn as in the calibration"
    seen = {
        "train": "the generator was trained on these inputs",
        "predictor": "the predictor was trained on these inputs",
        "calibration": "the settings were chosen on these very inputs",
    }
    if data != renderer.config.data:
        return False, "these inputs are of another folder than the calibration's"
    if split in seen:
        return False, seen[split]
    if getattr(data, "procedural", False):
        return True, "inputs of both splits are drawn in the same way"
    return False, (
        "the two splits are other files, maybe of another place, day or camera, and not one set "
        "dealt at random"
    )
