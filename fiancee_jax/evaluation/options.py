"""What an evaluation is asked for."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shlex
from typing import Literal

from fiancee_jax.errors import UserError

CONFIDENCES = (0.8, 0.9, 0.95)


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures a model and its baselines, and replays every policy.

    Attributes:
        model: a workdir, or the name of a model in the box.
        out: gets evaluation.json, index.html and the records (.npz), which a second run reuses.
        data: root of another folder data set; the model's own data if left out.
        split: report, calibration, predictor, train, or the name of a folder of the data set.
        max_lpips: thresholds; if left out the quartiles of the early exits' LPIPS-alex on the
            predictor's training inputs.
        confidence: of the calibrated rows.
        latents: z's for each input.
        seed: z of an input comes from this and its name.
        limit: use the first so many inputs only; 0 takes all.
        real: the pictures that FD-EffLite0 and KID compare with: those of `split`, or of all four
            splits of the data, which are more.
        spread: render the backbone a second time, at other z's, to see how far FD-EffLite0 and
            mIoU move by z alone.
        judges: FD-EffLite0, KID and mIoU. Off, these columns stay empty and say so, no segmenter is
            trained, and the records are others (records_unjudged.npz).
    """

    model: str
    out: pathlib.Path
    data: pathlib.Path | None = None
    split: str = "report"
    max_lpips: tuple[float, ...] = ()
    confidence: tuple[float, ...] = CONFIDENCES
    latents: int = 1
    seed: int = 0
    limit: int = 0
    real: Literal["split", "all"] = "split"
    spread: bool = False
    judges: bool = True

    @property
    def command(self) -> str:
        """What to type to do it again."""
        words: list[str] = []
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), field.name.replace("_", "-")
            if value == field.default:
                continue
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                values = value if isinstance(value, tuple) else (value,)
                words += [f"--{flag}", *map(str, values)]
        return shlex.join(["python", "-m", "fiancee_jax", "evaluate", *words])

    def check(self) -> None:
        """Raises UserError for values that are wrong with any model."""
        if self.latents < 1 or self.seed < 0 or self.limit < 0:
            raise UserError(
                f"latents is {self.latents}, seed {self.seed}, limit {self.limit}; they must be at "
                "least 1, 0 and 0."
            )
        if not self.judges and (self.spread or self.real == "all"):
            raise UserError("--spread and --real all are about judges; leave --no-judges out.")
        if not all(0 < c < 1 for c in self.confidence):
            raise UserError(f"confidence is {list(self.confidence)}; give shares between 0 and 1.")
        if not all(0 < t < math.inf for t in self.max_lpips):
            raise UserError(f"max-lpips is {list(self.max_lpips)}; give numbers above 0.")
