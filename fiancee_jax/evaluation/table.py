"""Which rows the table has at one threshold, and the comparisons that decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from fiancee_jax.evaluation import replay
from fiancee_jax.evaluation.ridge import Ridge
from fiancee_jax.evaluation.rows import Row, Subject

CONTROLS = {"no_guides": "router without guides", "zero_guides": "router with zeros for guides"}
BUDGETS = (0.25, 0.5)  # shares of full
ABSENT = "python -m fiancee_jax baselines --model {model}"


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
        ridge: the plainest predictor, or None where its training data are absent.
        calibrated: settings by threshold. `budget_tau`: settings by share of full, where the model
            is calibrated.
        seed: of bootstraps and draws.
    """

    subject: Subject
    companions: Mapping[str, Subject]
    ridge: Ridge | None
    calibrated: Mapping[float, list[Promise]]
    budget_tau: Mapping[float, float]
    seed: int = 0

    @property
    def full_gmacs(self) -> float:
        """Of the backbone."""
        return float(self.subject.gmacs[-1])

    # --- rows -----------------------------------------------------------------------------
    def static(self) -> list[Row]:
        """The backbone, and each exit for all."""
        m, n = self.subject.records.lpips.shape
        backbone = Row("backbone", "backbone", replay.static(m, n, n), self.subject, group="static")
        exits = [
            Row(
                f"exit_{e}",
                f"exit {e} for all",
                replay.static(m, n, e),
                self.subject,
                group="static",
            )
            for e in range(1, n)
        ]
        return [backbone, *exits]

    def routed(self, key: str, label: str, subject: Subject, tau: float, setting: str = "") -> Row:
        """A router that takes the cheapest exit whose estimate is at most tau."""
        predicted = subject.records.predicted
        return Row(
            key,
            label,
            replay.threshold(predicted, tau),
            subject,
            setting or f"estimate <= {tau:.4g}",
            overhead=subject.predictor_gmacs,
            predicted=predicted,
            timed=True,
        )

    def learned(self, max_lpips: float) -> Row:
        """The router of the paper: estimates taken at their word."""
        return self.routed("learned", "learned router", self.subject, max_lpips)

    def blind(self, learned: Row) -> list[Row]:
        """What is possible without looking at the input."""
        lpips, gmacs = self.subject.records.lpips, self.subject.gmacs
        distance = replay.mean_of(learned.taken, lpips)
        cost = replay.mean_cost(learned.taken, gmacs) + learned.overhead
        near = replay.blind_frontier(lpips, gmacs).cost_at(distance)

        def row(key: str, label: str, taken: np.ndarray) -> Row:
            return Row(key, label, taken, self.subject, group="baseline")

        return [
            row(
                "mixture_equal_distance",
                "blind mixture, equal mean LPIPS",
                replay.blind_at(lpips, gmacs, near),
            ),
            row(
                "mixture_equal_cost",
                "blind mixture, equal GMACs",
                replay.blind_at(lpips, gmacs, cost),
            ),
            row(
                "random_router",
                "random router, same histogram",
                replay.random_router(learned.taken),
            ),
        ]

    def ridge_row(self, tau: float, key: str = "ridge") -> Row | None:
        """The router with ridge regression in the predictor's place."""
        if self.ridge is None:
            return None
        predicted = self.ridge_estimates()
        return Row(
            key,
            "ridge on class areas and z",
            replay.threshold(predicted, tau),
            self.subject,
            f"estimate <= {tau:.4g}",
            overhead=self.ridge.weights.size / 1e9,
            predicted=predicted,
            group="baseline",
        )

    def ridge_estimates(self) -> np.ndarray:
        """[m, n]."""
        assert self.ridge is not None
        return self.ridge.predict(self.subject.records.shares, self.subject.records.vector)

    def others(self, learned: Row) -> list[Row]:
        """The lambda rule at the learned router's cost, and budgets."""
        predicted, gmacs = self.subject.records.predicted, self.subject.gmacs
        overhead = self.subject.predictor_gmacs
        cost = replay.mean_cost(learned.taken, gmacs)
        weight = replay.weight_at_cost(predicted, gmacs, cost)
        rule = dataclasses.replace(
            learned,
            policy="lambda",
            label="lambda rule at the learned router's GMACs",
            taken=replay.lagrangian(predicted, gmacs, weight),
            setting=f"lambda {weight:.4g}",
        )
        rows = [rule]
        for share in BUDGETS:
            budget = share * self.full_gmacs
            if budget < gmacs[0] + overhead:
                continue
            weight = replay.weight_at_cost(predicted, gmacs, budget - overhead)
            rows.append(
                dataclasses.replace(
                    learned,
                    policy=f"budget_batch_{share:g}",
                    label=f"budget {share:.0%} of full over these inputs",
                    taken=replay.lagrangian(predicted, gmacs, weight),
                    setting=f"{budget:.4g} GMACs on average",
                )
            )
            if share in self.budget_tau:
                tau = self.budget_tau[share]
                key, label = f"budget_{share:g}", f"budget {share:.0%} of full, each input alone"
                rows.append(self.routed(key, label, self.subject, tau, f"{budget:.4g} GMACs"))
        return rows

    def guaranteed(self, max_lpips: float) -> list[Row]:
        """The calibrated router."""
        rows = []
        for setting in self.calibrated.get(max_lpips, []):
            words = f"estimate <= {setting.tau:.4g}" + (
                f"; {setting.reason}" if setting.reason else ""
            )
            label = f"calibrated router, confidence {setting.confidence:g}"
            row = self.routed(
                f"calibrated_{setting.confidence:g}", label, self.subject, setting.tau, words
            )
            rows.append(dataclasses.replace(row, group="guarantee"))
        return rows

    def oracle(self, max_lpips: float) -> Row:
        """Knows every distance beforehand."""
        taken = replay.oracle(self.subject.records.lpips, max_lpips)
        return Row("oracle", "oracle router", taken, self.subject, group="oracle")

    def students(self) -> list[tuple[Row, Row]]:
        """Each student for all, and the router at the threshold where it costs as much."""
        students = self.companions.get("students")
        if students is None:
            return []
        m, n = students.records.lpips.shape
        pairs = []
        for e in range(1, n):
            cost = float(students.gmacs[e - 1])
            student = Row(
                f"student_{e}",
                f"distilled student of {cost:.3g} GMACs",
                replay.static(m, n, e),
                students,
                group="student",
            )
            predicted, overhead = self.subject.records.predicted, self.subject.predictor_gmacs
            tau = replay.threshold_at_cost(predicted, self.subject.gmacs, cost - overhead)
            router = self.routed(
                f"learned_as_student_{e}",
                f"learned router at student {e}'s GMACs",
                self.subject,
                tau,
            )
            pairs.append((student, router))
        return pairs

    def rows(self, max_lpips: float) -> list[Row]:
        """All rows at one threshold, in the order of the table."""
        learned = self.learned(max_lpips)
        ridge = self.ridge_row(max_lpips)
        controls = [
            self.routed(name, CONTROLS[name], self.companions[name], max_lpips)
            for name in CONTROLS
            if name in self.companions
        ]
        return [
            *self.static(),
            *self.blind(learned),
            *([ridge] if ridge else []),
            *controls,
            learned,
            *self.others(learned),
            *self.guaranteed(max_lpips),
            self.oracle(max_lpips),
            *[row for pair in self.students() for row in pair],
        ]
