"""Calibration: the most permissive threshold that keeps a promise about unseen inputs.

The policy is `policies.threshold` at a *setting* tau: the cheapest exit whose predicted distance is
at most tau. Its settings are nested. As tau rises, exits only get cheaper and their distances (of
that exit or any dearer one) only rise, so for every input there is one *critical* value from which
on ``max_lpips`` is broken, and to calibrate is to sort these values. Pure NumPy, on the host.

The unit is an input (or a block of neighbouring frames), not a picture: several z of one label map
are as little independent as they look. The loss of a unit is the share of its pictures that break
``max_lpips``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from fiancee_jax.errors import UserError

BACKBONE = -1.0  # the setting below every prediction: the backbone for everyone
ROUNDING = 1e-9  # of sums of shares such as 1/3


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Measured pictures of inputs that nothing was trained on; m pictures, e early exits.

    Attributes:
        predicted: [m, e] float32, LPIPS as the predictor saw it coming.
        distance: [m, e] float32, LPIPS of each exit or any dearer one (see `from_measured`).
        unit: [m] int, which unit a picture is of.
    """

    predicted: Float[np.ndarray, "m e"]
    distance: Float[np.ndarray, "m e"]
    unit: Int[np.ndarray, "m"]

    @classmethod
    def from_measured(
        cls,
        predicted: Float[np.ndarray, "m e"],
        distances: Float[np.ndarray, "m e"],
        unit: Int[np.ndarray, "m"],
    ) -> Calibration:
        """From distances as measured: takes their running maximum from the dear end."""
        highest = np.maximum.accumulate(distances[:, ::-1], axis=1)[:, ::-1]
        return cls(predicted.astype(np.float32), highest.astype(np.float32), unit)

    @functools.cached_property
    def units(self) -> int:
        """n, the number of units."""
        return len(np.unique(self.unit))

    @functools.cached_property
    def weights(self) -> Float[np.ndarray, "m"]:
        """One over the pictures of the picture's unit: a weighted sum adds the units' shares."""
        _, index, counts = np.unique(self.unit, return_inverse=True, return_counts=True)
        return 1.0 / counts[index]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A threshold on predictions and what it rests on.

    Attributes:
        tau: exits whose predicted LPIPS is at most this may be taken; inf allows all, `BACKBONE`
            (below 0) none but the backbone. Exactly representable in float32.
        units: calibration units, n.
        risk: mean over the units of the share of their pictures that break max_lpips at `tau`.
        reason: why nobody may leave early; "" if some may.
    """

    tau: float
    units: int
    risk: float
    reason: str = ""

    @property
    def text(self) -> str:
        """The setting in words."""
        if self.reason:
            return f"the backbone for all: {self.reason}"
        found = f"broken on {100 * self.risk:.1f} % of {self.units} calibration units"
        allowed = "every exit is allowed" if math.isinf(self.tau) else f"tau {self.tau:.4g}"
        return f"{allowed} ({found})"


# --- the policy on the host ---------------------------------------------------------------------
def chosen(predicted: Float[np.ndarray, "m e"], tau: float) -> Int[np.ndarray, "m"]:
    """Exit numbers 1..e + 1 of the threshold policy, as `policies.threshold` gives them."""
    within = np.pad(predicted <= np.float32(tau), ((0, 0), (0, 1)), constant_values=True)
    return within.argmax(axis=1) + 1


def critical(calibration: Calibration, max_lpips: float) -> Float[np.ndarray, "m"]:
    """The setting from which on a picture breaks `max_lpips`; inf where none does.

    Exits that break it come before those that keep it, so one of them is chosen as soon as tau
    reaches the lowest of their predictions. What is not a number breaks it and is never chosen.
    """
    breaks = ~(calibration.distance.astype(np.float64) <= max_lpips)
    breaks &= ~np.isnan(calibration.predicted)
    return np.where(breaks, calibration.predicted, np.float32(np.inf)).min(axis=1)


def risk(calibration: Calibration, tau: float, max_lpips: float) -> float:
    """Mean over the units of the share of their pictures that break `max_lpips` at `tau`."""
    values = critical(calibration, max_lpips)
    broken = np.isfinite(values) & (values <= np.float32(tau))
    return float(calibration.weights[broken].sum() / calibration.units)


# --- guarantees ---------------------------------------------------------------------------------
def conformal_setting(calibration: Calibration, max_lpips: float, confidence: float) -> Setting:
    """Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814, theorem 1).

    With n units and a new one exchangeable with them, the chosen exits keep `max_lpips` with
    probability `confidence` or more, over the draw of the calibration units *and* the new one: R is
    the mean loss on the units, and tau the largest with (n R + 1) / (n + 1) <= 1 - confidence. The
    settings are the float32 numbers, finitely many, so a largest one exists.

    Args:
        calibration: measured units.
        max_lpips: quality to be kept, >= 0.
        confidence: in (0, 1).
    """
    level, n = _level(confidence), calibration.units
    allowed = float((n + 1) * level - 1)  # of the sum of losses, exact: 10 * 0.1 - 1 is 0
    needed = math.ceil((1 - level) / level)
    if n < needed:
        return _too_few(n, f"confidence {confidence:g}", needed)
    return _most_permissive(calibration, max_lpips, lambda total: total <= allowed + ROUNDING)


def learn_then_test_setting(
    calibration: Calibration, max_lpips: float, confidence: float, delta: float
) -> Setting:
    """Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052), for this calibration set.

    With probability 1 - `delta` over the calibration set, a new input keeps `max_lpips` with
    probability `confidence` or more. Fixed-sequence testing: from 0 upwards, each setting's
    hypothesis "its risk is above 1 - confidence" is tested at level `delta` until one cannot be
    rejected. The sequence is all float32 numbers, which owes nothing to the data; the p-value
    changes at critical values only and never falls, so sorting them walks it.

    Args:
        calibration: measured units, independent of each other.
        max_lpips: quality to be kept, >= 0.
        confidence: in (0, 1).
        delta: in (0, 1).
    """
    level, n = float(_level(confidence)), calibration.units
    needed = math.ceil(math.log(delta) / math.log(1 - level) - ROUNDING)
    if n < needed:
        return _too_few(n, f"confidence {confidence:g} at risk-delta {delta:g}", needed)
    return _most_permissive(
        calibration, max_lpips, lambda total: hoeffding_bentkus(total, n, level) <= delta
    )


def hoeffding_bentkus(
    total: Float[np.ndarray, "k"], n: int, level: float
) -> Float[np.ndarray, "k"]:
    """p-value of "the mean loss is above `level`" (arXiv 2110.01052, proposition 7).

    Args:
        total: sum of n independent losses in [0, 1].
        n: how many.
        level: in (0, 1).
    """
    mean = np.minimum(total / n, level)
    kl = special.rel_entr(mean, level) + special.rel_entr(1 - mean, 1 - level)
    bentkus = math.e * special.bdtr(np.ceil(total - ROUNDING), n, level)
    return np.minimum(np.exp(-n * kl), bentkus)


def _level(confidence: float) -> Fraction:
    """1 - confidence without rounding: 1 - 0.9 is less than 0.1 in floating point."""
    return 1 - Fraction(str(confidence))


def _too_few(n: int, what: str, needed: int) -> Setting:
    reason = f"{what} needs {needed} calibration units or more, and this model has {n}"
    return Setting(BACKBONE, n, 0.0, reason)


def _most_permissive(
    calibration: Calibration,
    max_lpips: float,
    keeps: Callable[[Float[np.ndarray, "k"]], Bool[np.ndarray, "k"]],
) -> Setting:
    """The largest setting at which, and below which, the sum of losses `keeps` the promise."""
    values = critical(calibration, max_lpips)
    order = np.argsort(values)
    total = np.cumsum(calibration.weights[order])  # at tau = a critical value, ties one by one
    failing = np.isfinite(values[order]) & ~keeps(total)
    tau = _below(values[order][np.argmax(failing)]) if failing.any() else math.inf
    reason = ""
    if not (calibration.predicted <= np.float32(tau)).any():
        reason = f"no early exit keeps max_lpips {max_lpips:g} on enough calibration inputs"
        tau = BACKBONE
    return Setting(tau, calibration.units, risk(calibration, tau, max_lpips), reason)


def _below(value: np.float32) -> float:
    """The float32 before `value`. XLA takes subnormal numbers for 0, so they are skipped."""
    lower = np.nextafter(value, np.float32(-np.inf))
    return float(lower) if lower >= np.finfo(np.float32).tiny else BACKBONE


# --- budget -------------------------------------------------------------------------------------
def budget_setting(
    calibration: Calibration, gmacs: Float[np.ndarray, "n"], budget_gmacs: float
) -> float:
    """The smallest tau at which the calibration pictures cost `budget_gmacs` or less on average.

    A policy for each input alone, whatever its batch-mates; what a batch really costs varies.

    Args:
        calibration: measured units.
        gmacs: of exits 1..n, rising.
        budget_gmacs: mean GMACs per picture.

    Raises:
        UserError: the cheapest exit costs more.
    """
    check_budget(gmacs, budget_gmacs)
    if gmacs[-1] <= budget_gmacs:
        return BACKBONE
    # From the lowest prediction of exits 1..i on, exit i or a cheaper one is taken.
    predicted = np.where(np.isnan(calibration.predicted), np.inf, calibration.predicted)
    reached = np.minimum.accumulate(predicted, axis=1)
    saved = np.broadcast_to(np.diff(np.asarray(gmacs, np.float64)), reached.shape)
    order = np.argsort(reached, axis=None)
    mean = gmacs[-1] - np.cumsum(saved.ravel()[order]) / len(reached)
    keeps = mean <= budget_gmacs * (1 + ROUNDING)
    return float(reached.ravel()[order][np.argmax(keeps)]) if keeps.any() else math.inf


def check_budget(gmacs: Float[np.ndarray, "n"], budget_gmacs: float) -> None:
    """Raises UserError if even the cheapest exit costs more than the budget."""
    if budget_gmacs < gmacs[0]:
        raise UserError(
            f"budget_gmacs is {budget_gmacs:g}, but the cheapest exit costs {gmacs[0]:.4g} GMACs "
            f"(the backbone {gmacs[-1]:.4g}). Give more."
        )
