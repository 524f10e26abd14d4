"""What `infer.py --source PICTURE --driver DIR` is asked for."""

from __future__ import annotations

import dataclasses
import pathlib

from fiancee_jax.choice import MAX_LPIPS, Choice
from fiancee_jax.errors import UserError
from fiancee_jax.routing.video import Hysteresis, Rate, check_fps


@dataclasses.dataclass(frozen=True)
class Request:
    """Renders a source picture in the motion of a driver, each frame only as deep as it needs.

    Give at most one of max-lpips, exit and budget-gmacs; with none of them, max-lpips 0.1 is taken.
    A budget per second goes alone (each frame as deep as it can pay) or with max-lpips.

    Attributes:
        model: a workdir of train.py, or the name of a model in the box.
        source: the picture to be moved: PNG, JPEG or WebP; an alpha channel is its matte.
        driver: folder of the frames whose motion it takes, in the natural order of their names.
        out: folder for NAME.png, manifest.jsonl, video.webp and index.html; made if it is not
            there.
        own: folder with further pictures of the source's identity, for models that take them
            (model.own of their config).
        max_lpips: take the cheapest exit whose predicted LPIPS-alex to the backbone's frame is at
            most this (0.1 if no policy is given), and stay there as hysteresis says.
        confidence: with max-lpips: a new frame keeps it with this probability or more, say 0.9, if
            it is like those of the calibration; needs a calibrated model.
        risk_delta: with confidence: hold for all calibration sets but this share, say 0.1, and not
            only on average over them.
        exit: take this exit for all: its number, or full.
        budget_gmacs: spend at most this many GMACs per frame on average over the clip, which is
            predicted as a whole first.
        budget_gmacs_per_second: spend at most this many GMACs per second of video from the
            beginning on, frame by frame; what is left is kept for one second.
        hysteresis: how reluctantly exits change.
        fps: frames per second of the video.
        seed: where the model has a latent, the clip's comes from the seed and the source's name.
        batch_size: frames in one call; eight or more for each device keep all of them busy.
        measure_flicker: also render the backbone for every frame, and measure how much more the
            video flickers than the backbone's.
    """

    model: str
    source: pathlib.Path
    driver: pathlib.Path
    out: pathlib.Path
    own: pathlib.Path | None = None
    max_lpips: float | None = None
    confidence: float | None = None
    risk_delta: float | None = None
    exit: str | None = None
    budget_gmacs: float | None = None
    budget_gmacs_per_second: float | None = None
    hysteresis: Hysteresis = dataclasses.field(default_factory=Hysteresis)
    fps: float = 25.0
    seed: int = 0
    batch_size: int = 16
    measure_flicker: bool = False

    @property
    def rate(self) -> Rate | None:
        """The budget per second, if one was asked for."""
        budget = self.budget_gmacs_per_second
        return None if budget is None else Rate(budget, self.fps)

    @property
    def choice(self) -> Choice:
        """The policy asked for but for a budget per second, which stands as that of its frames."""
        number, max_lpips, budget = self.exit, self.max_lpips, self.budget_gmacs
        if number is not None:
            number = int(number) if number.strip().isdecimal() else number
        if max_lpips is None and number is None and budget is None:
            if self.rate is None:
                max_lpips = MAX_LPIPS
            else:
                budget = self.rate.per_frame
        return Choice(max_lpips, number, budget, self.confidence, self.risk_delta)

    @property
    def policy(self) -> str:
        """The policy in words."""
        choice, words = self.choice, []
        if choice.exit is not None:
            return f"exit {choice.exit}"
        if choice.max_lpips is not None:
            confidence = "" if self.confidence is None else f" at confidence {self.confidence:g}"
            delta = "" if self.risk_delta is None else f", risk-delta {self.risk_delta:g}"
            words.append(f"max_lpips {choice.max_lpips:g}{confidence}{delta}")
        if self.budget_gmacs is not None:
            words.append(f"budget {self.budget_gmacs:g} GMACs per frame")
        if self.rate is not None:
            words.append(f"budget {self.rate.per_second:g} GMACs per second")
        return " within ".join(words)

    def check(self) -> None:
        """Raises UserError for values that are wrong with any model."""
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; it must be 0 or more.")
        if self.batch_size < 1:
            raise UserError(f"batch-size is {self.batch_size}; it must be 1 or more.")
        check_fps(self.fps)
        self.hysteresis.check()
        other = {"exit": self.exit, "budget-gmacs": self.budget_gmacs}
        given = [name for name, value in other.items() if value is not None]
        if self.rate is not None and given:
            raise UserError(
                f"budget-gmacs-per-second goes alone or with max-lpips; found {given[0]} too."
            )
