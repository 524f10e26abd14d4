"""Which policy the user asked for, and the exits that it leads to."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.routing import calibration as guarantees
from fiancee_jax.routing import policies
from fiancee_jax.routing.calibration import Calibration, Setting

Over = Literal["batch", "population"]
Policy = Callable[[Float[Array, "b n"], Float[Array, "n"]], Any]
MAX_LPIPS = 0.1  # taken by commands when no policy is given


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the user asked for: exactly one of the first three, or `policy`.

    Attributes:
        max_lpips: quality threshold, LPIPS-alex to the backbone's picture, >= 0.
        exit: exit number 1..n, or "full".
        budget_gmacs: mean GMACs per picture, predictor and retrieval included.
        confidence: probability with which a new input must keep `max_lpips`; needs a calibrated
            model. Without it the predictor is taken at its word.
        risk_delta: with `confidence`: the calibration set may be unlucky with this probability
            (`learn_then_test_setting`); None promises on average over calibration sets.
        budget_over: what `budget_gmacs` is the mean of: the ``batch``, spent where it helps most
            there, or the ``population`` that the calibration inputs stand for, where each input is
            routed by itself.
        policy: anybody's own: from predicted LPIPS [b, n] (0 in the last column) and GMACs [n] of
            the exits to exit numbers 1..n, integers [b].
    """

    max_lpips: float | None = None
    exit: int | str | None = None
    budget_gmacs: float | None = None
    confidence: float | None = None
    risk_delta: float | None = None
    budget_over: Over = "batch"
    policy: Policy | None = None

    def check(self, model: MultiExit, calibration: Calibration | None = None) -> None:
        """Raises UserError unless exactly one policy with possible values was asked for."""
        names = ("max_lpips", "exit", "budget_gmacs", "policy")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if len(given) != 1:
            found = given | ({"confidence": self.confidence} if self.confidence else {})
            raise UserError(f"give exactly one of {', '.join(names)}; found {found or 'none'}.")
        for name in ("max_lpips", "budget_gmacs"):
            value = given.get(name)
            if value is not None and not (_is_number(value) and 0 <= value < math.inf):
                raise UserError(f"{name} is {value!r}; it must be a number that is 0 or more.")
        if self.policy is not None and not callable(self.policy):
            raise UserError(
                f"policy is {self.policy!r}; it must be a function of predicted LPIPS [b, n] and "
                "GMACs [n] that returns exit numbers [b]."
            )
        self._check_guarantee(calibration)
        self._check_budget_over(calibration)
        if self.exit is not None:
            self.number(model)

    def _check_guarantee(self, calibration: Calibration | None) -> None:
        for name, needed in (("risk_delta", "confidence"), ("confidence", "max_lpips")):
            value = getattr(self, name)
            if value is None:
                continue
            if not (_is_number(value) and 0 < value < 1):
                raise UserError(f"{name} is {value!r}; it must be a number between 0 and 1.")
            if getattr(self, needed) is None:
                raise UserError(f"{name} goes with {needed}, which is not given.")
        if self.confidence is not None and calibration is None:
            raise UserError(
                "confidence needs a calibrated model, and this one has no calibration. Run: python "
                "train.py WORKDIR --phases calibration. Or leave confidence out, to use the "
                "predictor's own estimate."
            )

    def _check_budget_over(self, calibration: Calibration | None) -> None:
        if self.budget_over not in get_args(Over):
            raise UserError(f"budget_over is {self.budget_over!r}; it must be batch or population.")
        if self.budget_over == "batch":
            return
        if self.budget_gmacs is None:
            raise UserError("budget_over goes with budget_gmacs, which is not given.")
        if calibration is None:
            raise UserError(
                "a budget over the population needs a calibrated model, and this one has no "
                "calibration. Run: python train.py WORKDIR --phases calibration. Or take a budget "
                "over the batch."
            )

    def check_size(self, model: MultiExit, size: tuple[int, int]) -> None:
        """Raises UserError if a promise was asked for pictures of a size never calibrated."""
        if self.confidence is not None and size != tuple(model.family.size):
            height, width = model.family.size
            raise UserError(
                f"confidence rests on inputs of {height}x{width}, and these are {size[0]}x"
                f"{size[1]}: nothing can be promised for them. Bring them to {height}x{width} "
                "(infer.py does, without --size native), or leave confidence out."
            )

    def number(self, model: MultiExit) -> int:
        """The exit number of a fixed exit."""
        if self.exit == "full":
            return model.num_exits
        valid = isinstance(self.exit, int | np.integer) and not isinstance(self.exit, bool)
        if not valid or not 1 <= int(self.exit) <= model.num_exits:  # pyright: ignore[reportArgumentType]
            names = ", ".join(f"{i} = {e.name}" for i, e in enumerate(model.exits, start=1))
            raise UserError(
                f"exit is {self.exit!r}; this model has exits 1 to {model.num_exits} ({names}, "
                f'{model.num_exits} = the backbone, also "full").'
            )
        return int(self.exit)  # pyright: ignore[reportArgumentType]

    # --- what it leads to -----------------------------------------------------------------
    def guarantee(self, calibration: Calibration | None) -> Setting | None:
        """The calibrated setting; None if no confidence was asked for."""
        if self.confidence is None or self.max_lpips is None or calibration is None:
            return None
        return _setting(calibration, self.max_lpips, self.confidence, self.risk_delta)

    def exits(
        self,
        model: MultiExit,
        predicted: Float[Array, "b n"],
        gmacs: Float[Array, "n"],
        calibration: Calibration | None,
    ) -> Int[Array, "b"]:
        """Exit numbers by the chosen policy; it has been checked.

        Args:
            model: its networks.
            predicted: LPIPS of every exit; the last column is 0.
            gmacs: of exits 1..n, predictor and retrieval included.
            calibration: of the model.

        Raises:
            UserError: the budget is under the cost of the cheapest exit, or the user's own policy
                returned anything but exit numbers.
        """
        if self.exit is not None:
            return policies.fixed(predicted, self.number(model))
        if self.policy is not None:
            return _numbers(self.policy(predicted, gmacs), *predicted.shape)
        if self.max_lpips is not None:
            setting = self.guarantee(calibration)
            tau = self.max_lpips if setting is None else setting.tau
            return under_threshold(predicted, jnp.float32(tau))
        budget = self.budget_gmacs or 0.0
        guarantees.check_budget(np.asarray(gmacs), budget)
        if self.budget_over == "population" and calibration is not None:
            tau = guarantees.budget_setting(calibration, np.asarray(gmacs), budget)
            return under_threshold(predicted, jnp.float32(tau))
        return under_budget(predicted, gmacs, jnp.float32(budget))


def _numbers(exits: Any, batch: int, count: int) -> Int[Array, "b"]:
    """What a policy returned, checked on the host."""
    found = np.asarray(exits)
    kind = f"{found.dtype} of shape {list(found.shape)}"
    if found.shape != (batch,) or not np.issubdtype(found.dtype, np.integer):
        raise UserError(f"the policy returned {kind}; expected integers of shape [{batch}].")
    if found.min() < 1 or found.max() > count:
        raise UserError(
            f"the policy returned exits from {found.min()} to {found.max()}; this model has 1 to "
            f"{count}."
        )
    return jnp.asarray(found, jnp.int32)


@functools.lru_cache(maxsize=64)
def _setting(
    calibration: Calibration, max_lpips: float, confidence: float, delta: float | None
) -> Setting:
    """Kept, because every batch asks for it."""
    if delta is None:
        return guarantees.conformal_setting(calibration, max_lpips, confidence)
    return guarantees.learn_then_test_setting(calibration, max_lpips, confidence, delta)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


@jax.jit
def under_threshold(predicted: Array, tau: Array) -> Array:
    """Exit numbers [b]: the cheapest whose prediction is at most tau."""
    return policies.threshold(predicted, tau)


@jax.jit
def under_budget(predicted: Array, gmacs: Array, budget: Array) -> Array:
    """Exit numbers [b] whose mean cost keeps the budget."""
    weight = policies.budget_weight(predicted, gmacs, budget)
    return policies.lagrangian(predicted, gmacs, weight)
