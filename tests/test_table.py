import dataclasses

import numpy as np
import pytest
from studies import GMACS, TIMES, made_records, made_subject, made_table

from fiancee_jax.evaluation import ridge
from fiancee_jax.evaluation.rows import NOT_ROUTED, NOT_TIMED, Subject
from fiancee_jax.evaluation.table import within


def students():
    records = made_records(seed=3)
    return Subject(records, np.array([1.5, 3.0, 5.0, 8.0]), 0.0, TIMES)


def whole():
    records = made_records()
    fitted = ridge.fit_both(ridge.Targets(records.shares, records.vector, records.lpips[:, :-1]))
    controls = {"no_guides": made_subject(seed=1), "zero_guides": made_subject(seed=2)}
    return made_table({**controls, "students": students()}, fitted)


def test_every_row_of_the_issue_is_there():
    keys = [row.policy for row in whole().rows(0.1)]
    assert len(keys) == len(set(keys))
    assert keys == [
        *("backbone", "exit_1", "exit_2", "exit_3"),
        *("mixture_equal_distance", "mixture_equal_cost", "random_router"),
        *("ridge", "ridge_products"),
        *("no_guides", "zero_guides", "learned", "lambda"),
        *("budget_batch_0.25", "budget_batch_0.5", "budget_0.5"),
        *("calibrated_0.8", "calibrated_0.95", "oracle"),
        *("student_1", "learned_as_student_1", "student_2", "learned_as_student_2"),
        *("student_3", "learned_as_student_3"),
    ]


def test_what_is_absent_leaves_its_rows_out():
    keys = [row.policy for row in made_table().rows(0.1)]
    assert not {"ridge", "ridge_products", "no_guides", "zero_guides", "student_1"} & set(keys)
    table = dataclasses.replace(made_table(), calibrated={0.1: []}, budget_tau={})
    keys = [row.policy for row in table.rows(0.1)]
    assert not [key for key in keys if key.startswith(("calibrated", "budget_0"))]


def by_key(table, max_lpips=0.1):
    return {row.policy: row.columns(max_lpips, 8.0, 0) for row in table.rows(max_lpips)}


def test_mixtures_are_as_near_or_as_dear_as_the_router():
    rows = by_key(whole())
    learned = rows["learned"]
    near, dear = rows["mixture_equal_distance"], rows["mixture_equal_cost"]
    assert near["lpips_alex_mean"] == pytest.approx(learned["lpips_alex_mean"])
    assert near["gmacs"] > learned["gmacs"]  # the router sees something here
    assert dear["gmacs"] == pytest.approx(learned["gmacs"])
    assert dear["lpips_alex_mean"] > learned["lpips_alex_mean"]
    assert rows["random_router"]["gmacs"] == pytest.approx(learned["gmacs"] - 0.01)
    assert rows["lambda"]["gmacs"] <= learned["gmacs"] + 1e-9


def test_budgets_are_kept():
    rows = by_key(whole())
    for share in (0.25, 0.5):
        assert rows[f"budget_batch_{share:g}"]["gmacs"] <= 8 * share + 1e-9
        assert rows[f"budget_batch_{share:g}"]["gmacs"] == pytest.approx(8 * share, rel=0.05)


def test_students_meet_a_router_of_their_cost():
    rows = by_key(made_table({"students": students()}, inputs=400))
    for e, gmacs in enumerate((1.5, 3.0, 5.0), start=1):
        assert rows[f"student_{e}"]["gmacs"] == gmacs
        assert rows[f"learned_as_student_{e}"]["gmacs"] == pytest.approx(gmacs, rel=0.02)


def test_a_promise_that_cannot_be_kept_takes_the_backbone():
    row = by_key(whole())["calibrated_0.95"]
    assert row["exits"] == [0, 0, 0, 1]
    assert "too few units" in row["setting"]


def test_only_the_learned_predictor_takes_its_time():
    rows = by_key(whole())
    for key, milliseconds in (("ridge", 0.0), ("random_router", 0.0), ("learned", 0.25)):
        exits = np.dot(rows[key]["exits"], TIMES.single)
        assert rows[key]["ms_batch1"] == pytest.approx(exits + milliseconds), key


def test_products_are_paid_for():
    rows = by_key(whole())
    plain, products = rows["ridge"], rows["ridge_products"]
    exits = [np.dot(row["exits"], GMACS) for row in (plain, products)]
    # 3 areas and 2 z's for 3 exits; with 3 pairs of z and 6 of area and z: 14 columns
    assert plain["gmacs"] - exits[0] == pytest.approx(15e-9, rel=1e-3)
    assert products["gmacs"] - exits[1] == pytest.approx((14 * 3 + 14) * 1e-9, rel=1e-3)


def test_routed_times_are_those_of_timed_settings():
    table = dataclasses.replace(made_table(), routed_ms={(0.1, None): 3.5, (0.1, 0.8): 4.5})
    rows = by_key(table)
    assert (rows["learned"]["ms_routed"], rows["calibrated_0.8"]["ms_routed"]) == (3.5, 4.5)
    for key in ("lambda", "calibrated_0.95", "budget_0.5"):
        assert rows[key]["ms_routed"] is None
        assert rows[key]["why_empty"]["ms_routed"] == NOT_TIMED
    for key in ("backbone", "oracle", "random_router"):
        assert rows[key]["why_empty"]["ms_routed"] == NOT_ROUTED
    assert by_key(table, 0.2)["learned"]["ms_routed"] is None


def test_settings_in_words():
    assert within(0.05) == "estimate <= 0.05"
    assert within(np.inf) == "every exit allowed"
    assert within(-1.0) == "the backbone for all"


def test_budgets_that_nothing_meets_have_no_rows():
    dear = dataclasses.replace(made_subject(), gmacs=np.array([3.0, 4.0, 5.0, 8.0]))
    table = dataclasses.replace(made_table(), subject=dear)
    assert not table.affordable(0.25)
    keys = [row.policy for row in table.rows(0.1)]
    assert "budget_batch_0.25" not in keys
    assert "budget_batch_0.5" in keys
