"""Policies over time: exits for the frames of a video, in order, that do not flicker.

Each is a stream: what a frame needs to know of those before it is a small state, so that blocks of
any size get the same exits as the whole. Pure NumPy, on the host. `predicted` is [t, n] with the
last column (the backbone) 0, never rising with cost; `gmacs` is [n], rising.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fiancee_jax.errors import UserError
from fiancee_jax.routing.calibration import ROUNDING, chosen

MAX_FPS = 240
INFINITY = int(np.float32(np.inf).view(np.int32))  # floats of 0 or more are ordered as their bits


@dataclasses.dataclass(frozen=True)
class Hysteresis:
    """How reluctantly exits change from frame to frame.

    Attributes:
        margin: a cheaper exit must be predicted to stay this share below max-lpips, 0 or more and
            less than 1.
        hold: for so many frames in a row, 1 or more; under a budget per second, a dearer exit must
            be affordable for as many.
    """

    margin: float = 0.1
    hold: int = 5

    def check(self) -> None:
        """Raises UserError for impossible values."""
        if not 0 <= self.margin < 1:
            raise UserError(f"hysteresis.margin is {self.margin:g}; it must be in [0, 1).")
        if self.hold < 1:
            raise UserError(f"hysteresis.hold is {self.hold}; it must be 1 or more frames.")


@dataclasses.dataclass(frozen=True)
class Rate:
    """A budget per second of video. `per_second` counts GMACs, `fps` frames.

    Raises:
        UserError: impossible numbers.
    """

    per_second: float
    fps: float

    def __post_init__(self) -> None:
        check_fps(self.fps)
        if not 0 <= self.per_second < math.inf:
            found = f"budget-gmacs-per-second is {self.per_second:g}"
            raise UserError(f"{found}; it must be a number that is 0 or more.")

    @property
    def per_frame(self) -> float:
        """GMACs that accrue with each frame."""
        return self.per_second / self.fps

    def check(self, gmacs: Float[np.ndarray, "n"]) -> None:
        """Raises UserError if the budget cannot pay even exit 1 for every frame."""
        if self.per_frame < gmacs[0]:
            raise UserError(
                f"budget-gmacs-per-second is {self.per_second:g}, but at {self.fps:g} frames per "
                f"second the cheapest exit costs {gmacs[0] * self.fps:.4g} (the backbone "
                f"{gmacs[-1] * self.fps:.4g}). Give more, or fewer frames per second."
            )


def check_fps(fps: float) -> None:
    """Raises UserError for frame rates that no video has."""
    if not 1 <= fps <= MAX_FPS:
        raise UserError(f"fps is {fps:g}; it must be from 1 to {MAX_FPS} frames per second.")


# --- quality ------------------------------------------------------------------------------------
class Held(NamedTuple):
    """State of `hysteresis`.

    Attributes:
        exit: of the last frame, 1..n; 0 before the first.
        streak: for how many frames, up to the last, each early exit has been within the margin.
    """

    exit: int
    streak: Int[np.ndarray, "e"]


def hysteresis(
    state: Held, predicted: Float[np.ndarray, "t n"], max_lpips: float, options: Hysteresis
) -> tuple[Int[np.ndarray, "t"], Held]:
    """Exits that get dearer at once and cheaper reluctantly.

    A frame leaves its predecessor's exit for the cheapest within `max_lpips` when the exit is
    predicted to exceed it; and for the cheapest that has been within ``(1 - margin) * max_lpips``
    for the last `hold` frames, this one among them, when that is cheaper. So no frame is predicted
    to exceed `max_lpips`, as under `policies.threshold`, which this is at margin 0 and hold 1; and
    no frame's exit is cheaper than there.

    Args:
        state: of the frames before; see `start`.
        predicted: LPIPS of every exit for the next frames.
        max_lpips: the threshold (or a calibrated setting); compared in float32.
        options: margin and hold.

    Returns:
        Exit numbers, and the state after them.
    """
    early = np.asarray(predicted, np.float32)[:, :-1]
    index = np.arange(len(early))[:, None]
    low = early <= np.float32((1 - options.margin) * max_lpips)
    broken = np.maximum.accumulate(np.where(low, -1 - state.streak[None], index))
    streak = index - broken
    settled = np.pad(streak >= options.hold, ((0, 0), (0, 1)), constant_values=True).argmax(1) + 1
    exit, exits = state.exit, []
    for least, cheapest in zip(chosen(early, max_lpips).tolist(), settled.tolist(), strict=True):
        exit = max(least, min(exit, cheapest))
        exits.append(exit)
    return np.array(exits, np.int32), Held(exit, streak[-1] if len(streak) else state.streak)


def lowest_threshold(
    predicted: Float[np.ndarray, "t n"],
    gmacs: Float[np.ndarray, "n"],
    budget_gmacs: float,
    options: Hysteresis,
) -> float:
    """The smallest `max_lpips` whose `hysteresis` costs at most this per frame of the clip.

    Exits only get cheaper as the threshold rises, so bisection over the float32 numbers finds it.
    The budget must pay the cheapest exit (callers check).
    """
    begin = Held(0, np.zeros(predicted.shape[1] - 1, np.int64))
    low, high = -1, INFINITY
    while high - low > 1:
        middle = (low + high) // 2
        exits, _ = hysteresis(begin, predicted, _float(middle), options)
        keeps = np.mean(np.asarray(gmacs)[exits - 1]) <= budget_gmacs * (1 + ROUNDING)
        low, high = (low, middle) if keeps else (middle, high)
    return _float(high)


def _float(bits: int) -> float:
    return float(np.int32(bits).view(np.float32))


# --- budget -------------------------------------------------------------------------------------
class Bucket(NamedTuple):
    """State of `within_rate`: unspent GMACs, and the exit of the last frame (0: none yet)."""

    level: float = 0.0
    exit: int = 0


def within_rate(
    state: Bucket,
    wanted: Int[np.ndarray, "t"],
    gmacs: Float[np.ndarray, "n"],
    rate: Rate,
    hold: int = 1,
) -> tuple[Int[np.ndarray, "t"], Bucket]:
    """The wanted exits, or the dearest that a token bucket can pay.

    The bucket starts empty, gains ``rate.per_frame`` with each frame and holds at most one
    second's GMACs, ``rate.per_second``. An exit dearer than the last frame's is taken if the bucket
    could go on paying it for `hold` frames; an exit that can no longer be paid is left for such a
    one. Hence the bounds: the first k frames cost at most ``k * per_frame``, so from the beginning
    the budget is kept on average; any other k frames in a row cost at most
    ``per_second + (k - 1) * per_frame``, which for the frames of one second is less than twice the
    budget.

    Args:
        state: of the frames before.
        wanted: exit numbers of the next frames; n for the best that can be paid.
        gmacs: of exits 1..n; `Rate.check` has passed.
        rate: the budget.
        hold: frames.

    Returns:
        Exit numbers, and the state after them.
    """
    costs = np.asarray(gmacs, np.float64)
    ahead = hold * costs - (hold - 1) * rate.per_frame  # what `hold` frames ask of the bucket now
    ahead = np.maximum(ahead, costs)
    level, exit = state
    exits = []
    for most in wanted.tolist():
        level = min(rate.per_second, level + rate.per_frame)
        goes_on = exit > 0 and costs[exit - 1] <= level
        ceiling = max(int((ahead <= level).sum()), exit if goes_on else 1)
        exit = min(most, ceiling)
        level -= float(costs[exit - 1])
        exits.append(exit)
    return np.array(exits, np.int32), Bucket(level, exit)


# --- both ---------------------------------------------------------------------------------------
class State(NamedTuple):
    """What a `Policy` knows of the frames before."""

    held: Held
    bucket: Bucket


@dataclasses.dataclass(frozen=True)
class Policy:
    """What routes a clip.

    Attributes:
        exit: this exit for every frame; nothing else matters then.
        max_lpips: threshold of `hysteresis`; None wants the backbone for every frame.
        rate: what `within_rate` keeps; None spends what it takes.
        options: margin and hold.
    """

    exit: int | None = None
    max_lpips: float | None = None
    rate: Rate | None = None
    options: Hysteresis = dataclasses.field(default_factory=Hysteresis)

    def start(self, num_exits: int) -> State:
        """The state before the first frame."""
        return State(Held(0, np.zeros(num_exits - 1, np.int64)), Bucket())

    def route(
        self, state: State, predicted: Float[np.ndarray, "t n"], gmacs: Float[np.ndarray, "n"]
    ) -> tuple[Int[np.ndarray, "t"], State]:
        """Exit numbers of the next frames, and the state after them."""
        held, bucket = state
        exits = np.full(len(predicted), self.exit or predicted.shape[1], np.int32)
        if self.exit is not None:
            return exits, state
        if self.max_lpips is not None:
            exits, held = hysteresis(held, predicted, self.max_lpips, self.options)
        if self.rate is not None:
            exits, bucket = within_rate(bucket, exits, gmacs, self.rate, self.options.hold)
        return exits, State(held, bucket)


def switches(exits: Int[np.ndarray, "t"]) -> int:
    """How often the exit changes from one frame to the next."""
    return int((np.diff(exits) != 0).sum())
