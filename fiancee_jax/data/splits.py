"""The four splits that every data set has."""

from __future__ import annotations

from fiancee_jax.errors import UserError

SPLITS = ("train", "predictor", "calibration", "report")


def check_split(split: str) -> None:
    """Raises `UserError` if there is no such split."""
    if split not in SPLITS:
        raise UserError(f"Found split {split!r}; expected one of {', '.join(SPLITS)}.")
