"""The rows of the table: a policy over some records, and every column computed from them.

Keys of a row in ``evaluation.json``; a column without a value is null and `why_empty` says why:

    policy, label          stable key, and words for people
    group                  static, baseline, router, guarantee, oracle or student
    threshold              max_lpips that violations are counted against
    setting                what the policy itself was set to, in words
    gmacs, share           mean GMACs per picture, predictor and retrieval included; of full
    share_beyond           the same without what all exits share (`StagedGenerator.encodes`): of a
                           decoder, say; equal to share where nothing is shared
    lpips_alex_mean, _p95, _max; lpips_vgg_mean; l1_mean; psnr_mean (dB); ssim_mean
                           of the picture to the backbone's own of the same input and z; psnr_mean
                           is that of the mean squared error (a mean of decibels would only count
                           who takes the backbone, which is at 100)
    violation_rate, violation_interval
                           P(LPIPS-alex > threshold); 95 % by bootstrap over inputs (over blocks of
                           neighbouring frames where the calibration has them), Clopper and
                           Pearson's where none or all break it: `intervals.rate`. 0 to 0 only where
                           nothing can break it: the backbone for all, and the oracle
    share_of_oracle_saving (full - router) / (full - oracle), mean GMACs, the oracle of the row's
                           own exits breaking the threshold as often. Meant for rows that seldom
                           break it: the cheapest exit for all has 1, whatever it breaks
    predictor_mae, predictor_spearman
                           by early exit, of predicted against measured LPIPS-alex
    fd_efflite0, kid, kid_std, samples
                           to the real pictures; `samples` pictures (made, real)
    miou                   of the pictures under a segmenter trained on real pictures
    ms_batch1, ms_batched  per picture, added up from the medians of each exit and of the predictor,
                           each timed alone: a mixed batch pays for its padding beside that
    ms_routed              per picture, measured: real calls of the renderer on batches, warm, with
                           its checks, padding and promotion (`timing.time_routed`); only of the
                           learned and the calibrated routers, the middle threshold first
    exits                  share of the records by exit 1..n
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import stats

from fiancee_jax import metrics
from fiancee_jax.evaluation import intervals, replay
from fiancee_jax.evaluation.records import Records
from fiancee_jax.evaluation.replay import Policy
from fiancee_jax.evaluation.timing import Times

NO_PREDICTOR = "this policy predicts nothing"
NO_FEATURES = "the weights of EfficientNet-lite0 are absent (extra eval), or there are no pictures"
NO_SEGMENTER = "no segmenter: the family has no label maps, or the data no pictures to train one"
NOT_JUDGED = "left out by --no-judges"
NOT_ROUTED = "this policy calls no predictor, so there is no routed call to be timed"
NOT_TIMED = (
    "routed calls are timed for the learned and calibrated routers alone, while seconds last"
)
NO_SAVING = "an oracle that breaks the threshold as often saves nothing"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model whose exits were measured.

    Attributes:
        records: what was measured.
        gmacs: of its exits, without a predictor, [n].
        predictor_gmacs: of its predictor.
        times: milliseconds of its exits.
        shared_gmacs: of what all exits share, part of `gmacs`.
        void: class id without loss, or None.
        judged: whether networks were to judge the pictures as a set (--judges).
        blocks: of neighbouring frames, by record, [m] (see `config.CalibrationPhase.block`); None
            where every input stands for itself.
    """

    records: Records
    gmacs: np.ndarray
    predictor_gmacs: float
    times: Times
    void: int | None = None
    blocks: np.ndarray | None = None
    judged: bool = True
    shared_gmacs: float = 0.0

    @property
    def units(self) -> np.ndarray:
        """What records count as independent, [m]: their input, or its block. Bootstraps draw these.

        Neighbouring frames, like z's of one input, are alike: intervals that took them for
        independent would be too narrow.
        """
        return self.records.units if self.blocks is None else self.blocks


@dataclasses.dataclass(frozen=True)
class Row:
    """A policy, before its columns are computed.

    Attributes:
        policy: stable key. `label`: words for people.
        taken: probabilities of the exits, [m, n].
        subject: whose exits.
        setting: what it was set to, in words.
        overhead: what it costs to choose, in GMACs.
        predicted: estimates to be judged, [m, n], or None.
        timed: whether the subject's own predictor runs, so that its milliseconds count.
        ms_routed: of a real routed call, per picture; None where none was timed.
        group: what the page draws together: static, baseline, router, guarantee, oracle, student.
    """

    policy: str
    label: str
    taken: Policy
    subject: Subject
    setting: str = ""
    overhead: float = 0.0
    predicted: np.ndarray | None = None
    timed: bool = False
    group: str = "router"
    ms_routed: float | None = None

    def columns(self, max_lpips: float, full_gmacs: float, seed: int) -> dict[str, Any]:
        """All keys of the module's docstring."""
        found: dict[str, Any] = {
            "policy": self.policy,
            "label": self.label,
            "group": self.group,
            "threshold": max_lpips,
            "setting": self.setting,
        }
        why: dict[str, str] = {}
        found |= self._distances(max_lpips, seed)
        for part in (self._costs(max_lpips, full_gmacs), self._predictor(), self._pictures(seed)):
            for key, value in part.items():
                found[key] = None if isinstance(value, str) else value
                if isinstance(value, str):
                    why[key] = value
        return {**found, "why_empty": why}

    def _costs(self, max_lpips: float, full_gmacs: float) -> dict[str, Any]:
        records, gmacs = self.subject.records, self.subject.gmacs
        mean = replay.mean_cost(self.taken, gmacs) + self.overhead
        rate = self.violations(max_lpips).mean()
        best = replay.oracle_at_violation(records.lpips, gmacs, max_lpips, float(rate))
        saving = full_gmacs - replay.mean_cost(best, gmacs)
        times, runs, shared = self.subject.times, self.timed, self.subject.shared_gmacs
        return {
            "gmacs": mean,
            "share": mean / full_gmacs,
            "share_beyond": (mean - shared) / (full_gmacs - shared),
            "share_of_oracle_saving": (full_gmacs - mean) / saving if saving > 0 else NO_SAVING,
            "ms_batch1": times.mean(self.taken, batched=False, predictor=runs),
            "ms_batched": times.mean(self.taken, batched=True, predictor=runs),
            "ms_routed": self.ms_routed or (NOT_TIMED if runs else NOT_ROUTED),
            "exits": self.taken.mean(0).tolist(),
        }

    def violations(self, max_lpips: float) -> np.ndarray:
        """Probability of each record to break the threshold, [m]; what is no number breaks it."""
        return (self.taken * ~(self.subject.records.lpips <= max_lpips)).sum(1)

    def _distances(self, max_lpips: float, seed: int) -> dict[str, Any]:
        distances, taken = self.subject.records.distances, self.taken
        lpips = distances["lpips_alex"]
        broken = self.violations(max_lpips)
        flat, weights = lpips.ravel(), taken.ravel()
        p95 = np.quantile(flat, 0.95, weights=weights, method="inverted_cdf")
        error = 10 ** (-distances["psnr"].astype(np.float64) / 10)
        return {
            "lpips_alex_mean": replay.mean_of(taken, lpips),
            "lpips_alex_p95": float(p95),
            "lpips_alex_max": float(flat[weights > 0].max()),
            "lpips_vgg_mean": replay.mean_of(taken, distances["lpips_vgg"]),
            "l1_mean": replay.mean_of(taken, distances["l1"]),
            "psnr_mean": float(-10 * np.log10(replay.mean_of(taken, error))),
            "ssim_mean": replay.mean_of(taken, distances["ssim"]),
            "violation_rate": float(broken.mean()),
            "violation_interval": self._interval(broken, seed),
        }

    def _interval(self, broken: np.ndarray, seed: int) -> list[float]:
        cannot = self.group == "oracle" or bool((self.taken[:, -1] == 1).all())
        if cannot and not broken.any():
            return [0.0, 0.0]
        return intervals.rate(broken, self.subject.units, seed)

    def _predictor(self) -> dict[str, Any]:
        if self.predicted is None:
            return dict.fromkeys(("predictor_mae", "predictor_spearman"), NO_PREDICTOR)
        lpips = self.subject.records.lpips
        pairs = [(self.predicted[:, i], lpips[:, i]) for i in range(lpips.shape[1] - 1)]
        return {
            "predictor_mae": [float(np.abs(p - d).mean()) for p, d in pairs],
            "predictor_spearman": [spearman(p, d) for p, d in pairs],
        }

    def _pictures(self, seed: int) -> dict[str, Any]:
        """What the pictures look like as a set: one draw of a policy that mixes."""
        records, rng = self.subject.records, np.random.default_rng(seed)
        drawn = (self.taken.cumsum(1) > rng.random((len(self.taken), 1))).argmax(1)
        rows = np.arange(len(drawn))
        off = None if self.subject.judged else NOT_JUDGED
        keys = ("fd_efflite0", "kid", "kid_std", "samples")
        found: dict[str, Any] = dict.fromkeys(keys, off or NO_FEATURES)
        if records.features is not None and records.real_features is not None:
            found = set_distances(records.features[rows, drawn], records.real_features)
        miou: Any = off or NO_SEGMENTER
        if records.confusion is not None:
            pixels = records.confusion[rows, drawn].sum(0, np.int64)
            miou = metrics.mean_iou(pixels, self.subject.void)
        return {**found, "miou": miou}


def set_distances(made: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """FD-EffLite0 and KID of made [n, f] to real [m, f] features, four or more of both."""
    kid, deviation = metrics.kernel_distance(made, real)
    return {
        "fd_efflite0": metrics.frechet_distance(made, real),
        "kid": kid,
        "kid_std": deviation,
        "samples": [len(made), len(real)],
    }


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation; None where one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(a, b).statistic)  # pyright: ignore[reportAttributeAccessIssue]
