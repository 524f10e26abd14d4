import dataclasses

import numpy as np
import pytest
from studies import GMACS, made_records, made_subject

from fiancee_jax.evaluation import replay
from fiancee_jax.evaluation.gap import gap, paired
from fiancee_jax.evaluation.rows import Row

RECORDS = made_records(inputs=200)


def gap_of(policy, overhead=0.0, records=RECORDS):
    return gap(policy, overhead, records.lpips, GMACS, records.units)


def test_an_oracle_takes_the_whole_gap():
    found = gap_of(replay.lagrangian(RECORDS.lpips, GMACS, 5.0))
    assert found.taken == pytest.approx(1, abs=0.01)
    assert found.router == pytest.approx(found.oracle, rel=0.01)


def test_a_blind_mixture_takes_nothing_and_a_random_router_less():
    mixture = gap_of(replay.blind_at(RECORDS.lpips, GMACS, 3.0))
    assert mixture.taken == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(0)
    dealt = replay.one_hot(rng.integers(1, 5, len(RECORDS.names)), 4)
    assert gap_of(dealt).taken < 0.1


def test_a_router_that_sees_lies_between_with_its_interval_and_pays_for_its_predictor():
    policy = replay.threshold(RECORDS.predicted, 0.1)
    found = gap_of(policy)
    assert 0 < found.gain_interval[0] < found.gain < found.gain_interval[1]
    assert found.taken_interval[0] < found.taken < found.taken_interval[1] <= 1
    dearer = gap_of(policy, overhead=0.5)
    assert dearer.gain == pytest.approx(found.gain - 0.5)


def test_inputs_are_drawn_not_records():
    many = made_records(inputs=30, latents=8)
    blocked = gap(replay.threshold(many.predicted, 0.1), 0, many.lpips, GMACS, many.units)
    alone = gap(
        replay.threshold(many.predicted, 0.1), 0, many.lpips, GMACS, np.arange(len(many.names))
    )
    width = [np.ptp(g.gain_interval) for g in (blocked, alone)]
    assert width[0] > width[1]  # 30 inputs know less than 240 independent ones would


def test_nothing_to_take_is_not_a_number():
    policy = replay.static(len(RECORDS.names), 4, 4)
    assert np.isnan(gap_of(policy).taken)


def test_a_gap_of_rounding_is_nothing_to_take():
    """All inputs at the cheapest exit: mixture and oracle differ by their last digits alone."""
    policy = replay.threshold(RECORDS.predicted, 1e3)
    found = gap_of(policy, overhead=1e-3)
    assert np.isnan(found.taken)
    assert np.isnan(found.taken_interval).all()
    assert found.gain == pytest.approx(-1e-3)


def test_paired_differences():
    subject = made_subject(inputs=100)
    m = len(subject.records.names)
    near, far = (Row(f"exit_{e}", "", replay.static(m, 4, e), subject) for e in (3, 1))
    found = paired(near, far, 0.1)
    mean = subject.records.lpips.mean(0)
    assert found["lpips_difference"] == pytest.approx(mean[2] - mean[0])
    assert found["lpips_interval"][0] < found["lpips_difference"] < found["lpips_interval"][1] < 0
    assert (found["a_gmacs"], found["b_gmacs"]) == (4, 1)
    assert found["b_violations"] == pytest.approx((subject.records.lpips[:, 0] > 0.1).mean())
    same = paired(near, near, 0.1)
    assert same["lpips_difference"] == 0
    assert same["violation_interval"] == [0, 0]


def test_pairs_say_whether_their_costs_are_equal_and_draw_blocks():
    subject = made_subject(inputs=100)
    order = np.argsort(subject.records.lpips[:, 0])  # neighbours are alike
    blocked = dataclasses.replace(subject, blocks=order.argsort() // 10)
    dear, cheap, dear_, cheap_ = (
        Row("exit", "", replay.static(100, 4, e), s) for s in (subject, blocked) for e in (3, 1)
    )
    assert paired(dear, cheap, 0.1)["equal_gmacs"] is False
    for overhead, equal in ((0.07, True), (0.09, False)):  # of 4: 1.75 % and 2.25 %
        other = dataclasses.replace(dear, overhead=overhead)
        assert paired(other, dear, 0.1)["equal_gmacs"] is equal
    found, wide = paired(dear, cheap, 0.1), paired(dear_, cheap_, 0.1)
    assert np.ptp(wide["lpips_interval"]) > 1.5 * np.ptp(found["lpips_interval"])
