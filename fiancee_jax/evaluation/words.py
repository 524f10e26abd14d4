"""What an evaluation found, in sentences: savings, broken thresholds, where the router loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]  # what evaluation.json holds

BETTER, WORSE, OPEN = "better", "worse", "no clear difference"
SPACE, MINUS, DASH = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}", "\N{EN DASH}"
CONFIDENCE = 0.9  # of the calibrated router in the headline, or the nearest to it
ORIGINS = {  # of the thresholds
    "options": "as asked for",
    "predictor_targets": "quartiles of the early exits\u2019 LPIPS-alex over the predictor\u2019s "
    "training inputs",
    "calibration": "quartiles of the early exits\u2019 LPIPS-alex over the calibration inputs",
    "inputs": "quartiles of the early exits\u2019 LPIPS-alex over these very inputs",
}


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent; a dash for none."""
    if value is None or not math.isfinite(value):
        return DASH
    rounded = round(100 * value, digits) + 0.0  # no minus before a zero
    return f"{rounded:.{digits}f}{SPACE}%".replace("-", MINUS)


def interval(pair: Sequence[float | None] | None, scale: float = 1.0, digits: int = 1) -> str:
    """Two shares in per cent, "3.1 to 4.0 %"; nothing for none."""
    if not known(pair):
        return ""
    low, high = (percent(scale * x, digits) for x in pair)  # pyright: ignore
    return f"{low.removesuffix(SPACE + '%')}{SPACE}to{SPACE}{high}"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def known(pair: Sequence[float | None] | None) -> bool:
    """Whether an interval has two ends."""
    return pair is not None and all(x is not None and math.isfinite(x) for x in pair)


def middle(found: Found) -> float:
    """The threshold that the headline is about."""
    limits = sorted(found["max_lpips"])
    return limits[(len(limits) - 1) // 2]


def row(found: Found, max_lpips: float, policy: str) -> Found | None:
    """The row of a policy at a threshold."""
    rows = (r for r in found["rows"] if r["threshold"] == max_lpips and r["policy"] == policy)
    return next(rows, None)


def gap(found: Found, max_lpips: float) -> Found | None:
    """The learned router between blind mixture and oracle at a threshold."""
    some = (g for g in found["gaps"] if g["threshold"] == max_lpips and g["policy"] == "learned")
    return next(some, None)


def calibrated(found: Found, max_lpips: float) -> Found | None:
    """The promise nearest to `CONFIDENCE` at a threshold, if there is any."""
    some = [
        p for p in found["promises"] if p["threshold"] == max_lpips and p["confidence"] is not None
    ]
    return min(some, key=lambda p: abs(p["confidence"] - CONFIDENCE), default=None)


# --- the headline -------------------------------------------------------------------------------
def headline(found: Found) -> list[str]:
    """The sentences under the title, about the middle threshold."""
    limit = middle(found)
    learned = row(found, limit, "learned")
    taken = gap(found, limit)
    said = [_spent(limit, learned)] if learned else []
    promise = calibrated(found, limit)
    said += [_promised(found, promise)] if promise else []
    said += [_against_mixture(taken, found["full_gmacs"])] if taken else []
    oracle = row(found, limit, "oracle")
    if oracle:
        said.append(
            "An oracle that knows every distance beforehand keeps the threshold always, for "
            f"{percent(oracle['share'])}."
        )
    return said


def _spent(limit: float, learned: Found) -> str:
    part = learned["share_of_oracle_saving"]
    of_oracle = (
        f" It takes {percent(part)} of what an oracle saves that breaks it as often."
        if part
        else ""
    )
    return (
        f"At max_lpips {limit:g} the learned router spends {percent(learned['share'])} of the "
        "backbone\u2019s GMACs and breaks the threshold on "
        f"{percent(learned['violation_rate'])} of the pictures (95{SPACE}% interval "
        f"{interval(learned['violation_interval'])}).{of_oracle}"
    )


def _promised(found: Found, promise: Found) -> str:
    allowed, observed = 1 - promise["confidence"], percent(promise["violations"])
    start = f"Calibrated with confidence {promise['confidence']:g} it "
    end = f"for {percent(promise['share'])} of the GMACs."
    if not found["exchangeable"]:
        return (
            f"{start}is asked to break it on at most {percent(allowed, 0)} and breaks it on "
            f"{observed}, {end} That is no promise for these inputs: {found['exchangeable_why']}."
        )
    kept = "" if promise["violations"] <= allowed else ", more than promised"
    if kept and not broken(promise):
        kept += ", though not more than chance may do"
    promised = f"promises to break it on at most {percent(allowed, 0)}"
    return f"{start}{promised}; it breaks it on {observed}{kept}, {end}"


def broken(promise: Found) -> bool:
    """Whether a promise is clearly broken: the whole 95 % interval lies above what it allows."""
    if promise["confidence"] is None or not known(promise["violations_interval"]):
        return False
    return promise["violations_interval"][0] > 1 - promise["confidence"]


def _against_mixture(gap: Found, full: float) -> str:
    points = f"{100 * abs(gap['gain']) / full:.1f} points"
    within = interval(gap["gain_interval"], 1 / full)
    start = (
        "A blind mixture of two exits, which looks at nothing, needs "
        f"{percent(gap['mixture'] / full)} for the same mean LPIPS: the learned router "
    )
    word = verdict(gap["gain_interval"], higher_is_better=True)
    end = f" (95{SPACE}% interval of the saving {within})" if within else ""
    if word == WORSE:
        return f"{start}costs {points} more than that{end}.{_way(gap)}"
    if word == OPEN:
        return f"{start}is not clearly cheaper{end}.{_way(gap)}"
    return f"{start}saves {points}{end}.{_way(gap)}"


def _way(gap: Found) -> str:
    """How far the router goes; nothing where mixture and oracle cost the same."""
    if not known([gap["taken"]]):
        return ""
    within = interval(gap["taken_interval"], digits=0)
    return (
        f" That is {percent(gap['taken'], 0)} of the way from the blind mixture to an oracle of "
        "equal mean LPIPS" + (f" (95{SPACE}% interval {within})." if within else ".")
    )


def one_seed(found: Found) -> str:
    """What no interval here covers."""
    return (
        f"One training seed ({found['training_seed']}): intervals are over inputs and say nothing "
        "of other trainings; see docs/results for others."
    )


# --- verdicts -----------------------------------------------------------------------------------
def verdict(pair: Sequence[float | None] | None, *, higher_is_better: bool) -> str:
    """What a 95 % interval of a difference says."""
    if not known(pair):
        return OPEN
    low, high = (float(x) for x in pair)  # pyright: ignore
    if low > 0:
        return BETTER if higher_is_better else WORSE
    if high < 0:
        return WORSE if higher_is_better else BETTER
    return OPEN


def losses(found: Found) -> list[str]:
    """Every comparison that the learned router clearly loses."""
    full, said = found["full_gmacs"], []
    for gap in found["gaps"]:
        lost = verdict(gap["gain_interval"], higher_is_better=True) == WORSE
        if gap["policy"] == "learned" and lost:
            points = f"{-100 * gap['gain'] / full:.1f} points"
            said.append(
                f"at max_lpips {gap['threshold']:g} the blind mixture of equal mean LPIPS costs "
                f"{points} less"
            )
    for pair in found["comparisons"]:
        other = name(found, pair["threshold"], pair["b"])
        more = pair["a_gmacs"] / pair["b_gmacs"] - 1
        cost = "equal GMACs" if pair["equal_gmacs"] else _unequal(more)
        at = f"at max_lpips {pair['threshold']:g}, {cost}, {other}"
        if verdict(pair["lpips_interval"], higher_is_better=False) == WORSE:
            said.append(f"{at} is {pair['lpips_difference']:.4f} LPIPS nearer on average")
        if verdict(pair["violation_interval"], higher_is_better=False) == WORSE:
            points = f"{100 * pair['violation_difference']:.1f} points"
            said.append(f"{at} breaks the threshold on {points} fewer pictures")
    return said


def apart(pair: Found) -> str:
    """By how much the GMACs of two differ that should be equal; nothing if they are."""
    if pair["equal_gmacs"]:
        return ""
    return f"({percent(abs(pair['a_gmacs'] / pair['b_gmacs'] - 1))} apart)"


def _unequal(more: float) -> str:
    """That the learned router costs this share more than what it is compared with."""
    word = "more" if more > 0 else "fewer"
    return f"where the router costs {percent(abs(more))} {word} GMACs"


def name(found: Found, max_lpips: float, policy: str) -> str:
    """A policy in words."""
    known = row(found, max_lpips, policy)
    return known["label"] if known else policy.replace("_", " ")
