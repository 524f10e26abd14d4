"""The rows of reenactment's table: an exit for all, the router, or the source copied as the answer.

Keys of a row in ``reenactment.json``; MEAN is {"mean", "interval"}, a mean over the pairs with its
95 % bootstrap interval (pairs are drawn), or null where it cannot be had:

    row, label          exit_1.., backbone, routed or copy; words for people
    max_lpips           of a routed row; else null
    exits               share of the pairs by exit 1..n; null for copy
    gmacs               mean of the whole model, a routed row's predictor included; null for copy
    decoder_gmacs       of P and all that follows (exits, guides, predictor); null for copy
    saved               {"model", "frame", "decoder"}: share of the backbone's GMACs that is saved:
                        of all, of what a frame of a video costs (the source encoded before), of the
                        decoder (P and all that follows); null for copy
    truth, truth_masked {"lpips_alex", "lpips_vgg", "l1", "psnr", "ssim"}: MEAN, to the ground
                        truth, see `reenactment`; of psnr the mean of decibels
    above_backbone      MEAN of the LPIPS-alex to the truth less the backbone's of the same pair
    lpips_to_backbone   MEAN
    identity            MEAN cosine to the truth (the identity network)
    driver              MEAN cosine to the driver: of cross-reenactment how much of it leaks, see
                        ``anchors`` for what the truth itself has; null for self-reenactment
    pose_error          MEAN degrees; null if the family has no motion encoder
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiancee_jax.evaluation import intervals, replay
from fiancee_jax.evaluation.reenactment import Measured
from fiancee_jax.exits import MultiExit

DISTANCES = ("lpips_alex", "lpips_vgg", "l1", "psnr", "ssim")


# --- cost -----------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Costs:
    """GMACs of a picture, in parts.

    Attributes:
        once: what depends on the source alone.
        shared: for every frame, by every exit: P included. `project`: P.
        predictor: of one choice.
        exits: the whole model by exit, [n].
    """

    once: float
    shared: float
    project: float
    predictor: float
    exits: np.ndarray

    @classmethod
    def of(cls, model: MultiExit) -> Costs:
        """Counted from the networks; P is the scope ``project`` of the program."""
        once, shared = model.encoding_gmacs()
        scopes = model.exit_macs(None)
        project = sum(macs for scope, macs in scopes.items() if "project" in scope.split("/"))
        return cls(once, shared, project / 1e9, model.predictor_gmacs(), np.array(model.gmacs))

    @property
    def decoder(self) -> np.ndarray:
        """P and all that follows by exit, [n]."""
        return self.exits - self.once - self.shared + self.project

    def columns(self, mean: float) -> dict[str, Any]:
        """What a row says of its cost, given the mean GMACs of the whole model."""
        before = {"model": 0.0, "frame": self.once, "decoder": self.exits[-1] - self.decoder[-1]}
        saved = {part: 1 - (mean - less) / (self.exits[-1] - less) for part, less in before.items()}
        return {
            "gmacs": mean,
            "decoder_gmacs": mean - before["decoder"],
            "saved": {part: float(share) for part, share in saved.items()},
        }

    def document(self) -> dict[str, Any]:
        """The key ``gmacs`` of ``reenactment.json``."""
        plain = {**dataclasses.asdict(self), "exits": self.exits.tolist()}
        return {**plain, "decoder": self.decoder.tolist()}


# --- rows -----------------------------------------------------------------------------------------
def chosen(found: Measured, kind: str, limit: float) -> np.ndarray:
    """Exits 0..n - 1 that the router takes at a threshold, [m]."""
    return replay.threshold(found[f"{kind}.predicted"], limit).argmax(1)


def rows(
    found: Measured, kind: str, costs: Costs, limits: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    """All rows of self- or cross-reenactment, the cheapest exit first."""
    n, m = len(costs.exits), len(found["names"])
    names = [(f"exit_{i}", f"exit {i}") for i in range(1, n)] + [("backbone", "backbone")]
    made = []
    for i, (row, label) in enumerate(names):
        made.append(_row(found, kind, np.full(m, i), seed, row, label) | _cost(costs, [i]))
    for limit in limits:
        taken, label = chosen(found, kind, limit), f"routed, max_lpips {limit:g}"
        row = _row(found, kind, taken, seed, "routed", label, limit)
        made.append(row | _cost(costs, taken, costs.predictor))
    copied = dict.fromkeys(("gmacs", "decoder_gmacs", "saved", "exits"))
    return [*made, _row(found, kind, np.full(m, n), seed, "copy", "copy the source") | copied]


def _cost(costs: Costs, taken: Any, predictor: float = 0.0) -> dict[str, Any]:
    shares = np.bincount(taken, minlength=len(costs.exits)) / len(taken)
    mean = float(shares @ costs.exits) + predictor
    return {"exits": shares.tolist(), **costs.columns(mean)}


def _row(
    found: Measured,
    kind: str,
    taken: np.ndarray,
    seed: int,
    row: str,
    label: str,
    limit: float | None = None,
) -> dict[str, Any]:
    def column(key: str) -> np.ndarray | None:
        values = found.get(f"{kind}.{key}")
        return None if values is None else values[np.arange(len(taken)), taken]

    def means(suffix: str) -> Mapping[str, Any]:
        return {key: summary(column(key + suffix), seed) for key in DISTANCES}

    distances = found[f"{kind}.lpips_alex"]
    return {
        "row": row,
        "label": label,
        "max_lpips": limit,
        "truth": means(""),
        "truth_masked": means("_masked"),
        "above_backbone": summary(column("lpips_alex") - distances[:, -2], seed),
        "lpips_to_backbone": summary(column("lpips_to_backbone"), seed),
        "identity": summary(column("identity"), seed),
        "driver": summary(column("driver"), seed) if kind == "cross" else None,
        "pose_error": summary(column("pose_error"), seed),
    }


def summary(values: np.ndarray | None, seed: int) -> dict[str, Any] | None:
    """Mean of values [m] and its interval; None of none."""
    if values is None:
        return None
    interval = intervals.bootstrap(values, np.arange(len(values)), seed)
    return {"mean": float(values.mean(dtype=np.float64)), "interval": interval}


# --- anchors --------------------------------------------------------------------------------------
def anchors(found: Measured, who: np.ndarray, seed: int) -> dict[str, Any]:
    """What cosines of the identity network and errors of the motion encoder are to be read beside.

    Args:
        found: what was measured.
        who: the source's identity of each pair, [m]; two or more of them.
        seed: of intervals.

    Returns:
        MEANs of cosines to the truth: same_identity (the source: another motion of the identity),
        other_identity (sources of other identities), driver (of cross-reenactment: another identity
        in the same motion); told_apart, the share of cases in which the first is above the second;
        truth_pose_error, the MEAN error of the motion encoder on the truth itself, or null.
    """
    truth, source = found["truth_vector"], found["source_vector"]
    cosine, other = truth @ source.T, who[:, None] != who[None]
    same = np.diagonal(cosine)
    floor = found.get("truth_pose_error")
    return {
        "same_identity": summary(same, seed),
        "other_identity": summary((cosine * other).sum(1) / other.sum(1), seed),
        "told_apart": float((same[:, None] > cosine)[other].mean()),
        "driver": summary((truth * found["cross.driver_vector"]).sum(1), seed),
        "truth_pose_error": summary(None if floor is None else floor[:, 0], seed),
    }
