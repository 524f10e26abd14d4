"""Which rows the table has at one threshold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from fiancee_jax.evaluation import replay, ridge
from fiancee_jax.evaluation.ridge import Ridge
from fiancee_jax.evaluation.rows import Row, Subject
from fiancee_jax.evaluation.timing import Setting

CONTROLS = {"no_guides": "router without guides", "zero_guides": "router with zeros for guides"}
BUDGETS = (0.25, 0.5)  # shares of full


@dataclasses.dataclass(frozen=True)
class Promise:
    """A calibrated setting: estimates up to `tau` keep the threshold with this confidence.

    `reason`: why the backbone is taken for all, or "".
    """

    confidence: float
    tau: float
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """All that rows are made of.

    Attributes:
        subject: the model itself. `companions`: baselines by name, those that are trained.
        ridges: the plainest predictors by row key; none where their training data are absent.
        calibrated: settings by threshold. `budget_tau`: settings by share of full, where the model
            is calibrated.
        seed: of bootstraps and draws.
        routed_ms: milliseconds per picture of real routed calls, those that were timed.
    """

    subject: Subject
    companions: Mapping[str, Subject]
    ridges: Mapping[str, Ridge]
    calibrated: Mapping[float, list[Promise]]
    budget_tau: Mapping[float, float]
    seed: int = 0
    routed_ms: Mapping[Setting, float] = dataclasses.field(default_factory=dict)

    @property
    def full_gmacs(self) -> float:
        """Of the backbone."""
        return float(self.subject.gmacs[-1])

    def rows(self, max_lpips: float) -> list[Row]:
        """All rows at one threshold, in the order of the table."""
        learned = self.learned(max_lpips)
        controls = [
            self.routed(name, CONTROLS[name], self.companions[name], max_lpips)
            for name in CONTROLS
            if name in self.companions
        ]
        return [
            *self.static(),
            *self.blind(learned),
            *(self.ridge_row(key, max_lpips) for key in self.ridges),
            *controls,
            learned,
            self.lambda_rule(learned),
            *self.budgets(learned),
            *self.guaranteed(max_lpips),
            self.oracle(max_lpips),
            *(row for pair in self.students() for row in pair),
        ]

    # --- without a predictor --------------------------------------------------------------
    def static(self) -> list[Row]:
        """The backbone, and each exit for all."""
        m, n = self.subject.records.lpips.shape
        names = {n: ("backbone", "backbone")}
        names |= {e: (f"exit_{e}", f"exit {e} for all") for e in range(1, n)}
        return [
            Row(key, label, replay.static(m, n, e), self.subject, group="static")
            for e, (key, label) in names.items()
        ]

    def blind(self, learned: Row) -> list[Row]:
        """What is possible without looking at the input."""
        lpips, gmacs = self.subject.records.lpips, self.subject.gmacs
        distance = replay.mean_of(learned.taken, lpips)
        cost = replay.mean_cost(learned.taken, gmacs) + learned.overhead
        near = replay.blind_frontier(lpips, gmacs).cost_at(distance)
        dealt = {
            ("mixture_equal_distance", "blind mixture, equal mean LPIPS"): replay.blind_at(
                lpips, gmacs, near
            ),
            ("mixture_equal_cost", "blind mixture, equal GMACs"): replay.blind_at(
                lpips, gmacs, cost
            ),
            ("random_router", "random router, same histogram"): replay.random_router(learned.taken),
        }
        return [
            Row(*names, taken, self.subject, group="baseline") for names, taken in dealt.items()
        ]

    def oracle(self, max_lpips: float) -> Row:
        """Knows every distance beforehand."""
        taken = replay.oracle(self.subject.records.lpips, max_lpips)
        return Row("oracle", "oracle router", taken, self.subject, group="oracle")

    # --- with one -------------------------------------------------------------------------
    def routed(self, key: str, label: str, subject: Subject, tau: float, setting: str = "") -> Row:
        """A router that takes the cheapest exit whose estimate is at most tau."""
        predicted = subject.records.predicted
        return Row(
            key,
            label,
            replay.threshold(predicted, tau),
            subject,
            setting or within(tau),
            overhead=subject.predictor_gmacs,
            predicted=predicted,
            timed=True,
        )

    def learned(self, max_lpips: float) -> Row:
        """The router of the paper: estimates taken at their word."""
        row = self.routed("learned", "learned router", self.subject, max_lpips)
        return dataclasses.replace(row, ms_routed=self.routed_ms.get((max_lpips, None)))

    def lambda_rule(self, learned: Row) -> Row:
        """Share of full + lambda x estimate, minimised, at the learned router's cost."""
        predicted, gmacs = self.subject.records.predicted, self.subject.gmacs
        cost = replay.mean_cost(learned.taken, gmacs)
        weight = replay.weight_at_cost(predicted, gmacs, cost)
        return self._weighed(
            learned,
            "lambda",
            "lambda rule at the learned router's GMACs",
            weight,
            f"lambda {weight:.4g}",
        )

    def budgets(self, learned: Row) -> list[Row]:
        """Shares of full as budgets, over these inputs and of each input by itself."""
        predicted, gmacs = self.subject.records.predicted, self.subject.gmacs
        rows = []
        for share in filter(self.affordable, BUDGETS):
            budget = share * self.full_gmacs
            weight = replay.weight_at_cost(predicted, gmacs, budget - learned.overhead)
            key, label = f"budget_batch_{share:g}", f"budget {share:.0%} of full over these inputs"
            words = f"{budget:.4g} GMACs on average"
            rows.append(self._weighed(learned, key, label, weight, words))
            if share in self.budget_tau:
                key, label = f"budget_{share:g}", f"budget {share:.0%} of full, each input alone"
                words = f"{budget:.4g} GMACs"
                rows.append(self.routed(key, label, self.subject, self.budget_tau[share], words))
        return rows

    def affordable(self, share: float) -> bool:
        """Whether exit 1 and the predictor cost no more than this share of full."""
        cheapest = self.subject.gmacs[0] + self.subject.predictor_gmacs
        return share * self.full_gmacs >= cheapest

    def _weighed(self, learned: Row, key: str, label: str, weight: float, words: str) -> Row:
        taken = replay.lagrangian(self.subject.records.predicted, self.subject.gmacs, weight)
        changes = {"taken": taken, "setting": words, "ms_routed": None}
        return dataclasses.replace(learned, policy=key, label=label, **changes)

    def guaranteed(self, max_lpips: float) -> list[Row]:
        """The calibrated router."""
        rows = []
        for promise in self.calibrated.get(max_lpips, []):
            c = promise.confidence
            words = within(promise.tau) + (f"; {promise.reason}" if promise.reason else "")
            label = f"calibrated router, confidence {c:g}"
            row = self.routed(f"calibrated_{c:g}", label, self.subject, promise.tau, words)
            timed = self.routed_ms.get((max_lpips, c))
            rows.append(dataclasses.replace(row, group="guarantee", ms_routed=timed))
        return rows

    # --- baselines ------------------------------------------------------------------------
    def ridge_row(self, key: str, tau: float) -> Row:
        """The router with a ridge regression in the predictor's place."""
        predicted = self.ridge_estimates(key)
        return Row(
            key,
            ridge.LABELS[key],
            replay.threshold(predicted, tau),
            self.subject,
            within(tau),
            overhead=self.ridges[key].gmacs,
            predicted=predicted,
            group="baseline",
        )

    def ridge_estimates(self, key: str) -> np.ndarray:
        """[m, n]."""
        return self.ridges[key].predict(self.subject.records.shares, self.subject.records.vector)

    def students(self) -> list[tuple[Row, Row]]:
        """Each student for all, and the router at the threshold where it costs as much."""
        students = self.companions.get("students")
        count = 0 if students is None else len(students.gmacs) - 1
        return [self._student(students, e) for e in range(1, count + 1) if students]

    def _student(self, students: Subject, number: int) -> tuple[Row, Row]:
        m, n = students.records.lpips.shape
        cost = float(students.gmacs[number - 1])
        label = f"distilled student of {cost:.3g} GMACs"
        taken = replay.static(m, n, number)
        student = Row(f"student_{number}", label, taken, students, group="student")
        predicted, overhead = self.subject.records.predicted, self.subject.predictor_gmacs
        tau = replay.threshold_at_cost(predicted, self.subject.gmacs, cost - overhead)
        key, label = f"learned_as_student_{number}", f"learned router at student {number}'s GMACs"
        return student, self.routed(key, label, self.subject, tau)


def within(tau: float) -> str:
    """A threshold on estimates in words."""
    if tau < 0:
        return "the backbone for all"
    return "every exit allowed" if math.isinf(tau) else f"estimate <= {tau:.4g}"
