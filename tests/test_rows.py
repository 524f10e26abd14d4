import dataclasses
import re

import numpy as np
import pytest
from studies import GMACS, made_records, made_subject

from fiancee_jax import metrics
from fiancee_jax.evaluation import replay, rows
from fiancee_jax.evaluation.rows import Row

SUBJECT = made_subject(inputs=40)


def columns(row, max_lpips=0.1):
    return row.columns(max_lpips, full_gmacs=8.0, seed=0)


def router(subject=SUBJECT, tau=0.1, **changes):
    predicted = subject.records.predicted
    options = {"overhead": 0.01, "predicted": predicted, "timed": True, **changes}
    return Row("learned", "router", replay.threshold(predicted, tau), subject, **options)


def test_shares_beyond_what_all_exits_share():
    subject = dataclasses.replace(SUBJECT, shared_gmacs=2.0)
    row = Row("exit_2", "exit 2", replay.static(len(subject.records.lpips), 4, 2), subject)
    found = columns(row)
    assert found["share_beyond"] == pytest.approx((found["gmacs"] - 2) / (8 - 2))
    alone = columns(dataclasses.replace(row, subject=SUBJECT))
    assert alone["share_beyond"] == alone["share"]


def test_all_keys_are_documented():
    found = columns(router())
    words = set(re.findall(r"\w+", rows.__doc__ or ""))
    for key in found:
        assert key in words or f"_{key.split('_')[-1]}" in words, key


def test_a_static_row_by_hand():
    m = len(SUBJECT.records.names)
    found = columns(Row("exit_2", "exit 2", replay.static(m, 4, 2), SUBJECT))
    lpips = SUBJECT.records.lpips[:, 1]
    assert found["gmacs"] == 2
    assert found["share"] == 0.25
    assert found["lpips_alex_mean"] == pytest.approx(lpips.mean())
    assert found["lpips_alex_p95"] == pytest.approx(np.sort(lpips)[int(np.ceil(0.95 * m)) - 1])
    assert found["lpips_alex_max"] == lpips.max()
    assert found["violation_rate"] == pytest.approx((lpips > 0.1).mean())
    low, high = found["violation_interval"]
    assert low <= found["violation_rate"] <= high
    assert found["exits"] == [0, 1, 0, 0]
    assert (found["ms_batch1"], found["ms_batched"]) == (2.0, 1.0)
    assert found["predictor_mae"] is None
    assert found["why_empty"]["predictor_mae"] == rows.NO_PREDICTOR


def test_a_router_pays_for_its_predictor():
    found = columns(router())
    taken = replay.threshold(SUBJECT.records.predicted, 0.1)
    assert found["gmacs"] == pytest.approx((taken @ GMACS).mean() + 0.01)
    assert found["ms_batch1"] == pytest.approx((taken @ [1, 2, 4, 8]).mean() + 0.25)
    assert len(found["predictor_mae"]) == 3
    assert all(0.8 < s < 1 for s in found["predictor_spearman"])


def test_decibels_are_those_of_the_mean_error():
    m = len(SUBJECT.records.names)
    half = replay.one_hot(np.where(np.arange(m) % 2, 4, 1), 4)
    psnr = np.tile([20.0, 30.0, 40.0, 100.0], (m, 1))
    records = dataclasses.replace(
        SUBJECT.records, distances={**SUBJECT.records.distances, "psnr": psnr}
    )
    found = columns(Row("half", "", half, dataclasses.replace(SUBJECT, records=records)))
    assert found["psnr_mean"] == pytest.approx(20 + 10 * np.log10(2), abs=1e-6)  # not 60


def test_what_is_no_number_breaks_a_threshold():
    lpips = SUBJECT.records.lpips.copy()
    lpips[0, 0] = np.nan
    distances = {**SUBJECT.records.distances, "lpips_alex": lpips}
    records = dataclasses.replace(SUBJECT.records, distances=distances)
    subject = dataclasses.replace(SUBJECT, records=records)
    assert Row("exit_1", "", replay.static(40, 4, 1), subject).violations(10.0).sum() == 1


def test_frames_of_a_block_are_one_unit():
    order = np.argsort(SUBJECT.records.lpips[:, 0])  # neighbours are alike
    frames = dataclasses.replace(SUBJECT, blocks=order.argsort() // 8)
    rows_ = [Row("exit_1", "", replay.static(40, 4, 1), s) for s in (SUBJECT, frames)]
    alone, blocked = (np.ptp(columns(row)["violation_interval"]) for row in rows_)
    assert blocked > 1.5 * alone


def test_share_of_the_oracle_is_one_for_the_oracle_and_less_for_others():
    oracle = Row("oracle", "", replay.oracle(SUBJECT.records.lpips, 0.1), SUBJECT)
    assert columns(oracle)["share_of_oracle_saving"] == pytest.approx(1)
    assert 0 < columns(router())["share_of_oracle_saving"] < 1
    backbone = Row("backbone", "", replay.static(40, 4, 4), SUBJECT)
    assert columns(backbone)["share_of_oracle_saving"] == 0
    nothing = columns(backbone, max_lpips=1e-9)  # not even an oracle may leave early
    assert nothing["share_of_oracle_saving"] is None
    assert nothing["why_empty"]["share_of_oracle_saving"] == rows.NO_SAVING


def test_pictures_as_a_set():
    found = columns(router())
    taken = replay.threshold(SUBJECT.records.predicted, 0.1).argmax(1)
    assert SUBJECT.records.features is not None
    features = SUBJECT.records.features[np.arange(40), taken]
    real = SUBJECT.records.real_features
    assert real is not None
    assert found["fd_efflite0"] == pytest.approx(metrics.frechet_distance(features, real))
    assert found["samples"] == [40, 40]
    assert found["miou"] == 1
    bare = columns(router(made_subject(pictures=False)))
    assert bare["fd_efflite0"] is None
    assert bare["why_empty"]["fd_efflite0"] == rows.NO_FEATURES
    assert bare["why_empty"]["miou"] == rows.NO_SEGMENTER


def test_a_mixture_is_drawn_once_for_sets_but_exact_for_means():
    mixed = Row("mix", "", replay.blind_at(SUBJECT.records.lpips, GMACS, 3.0), SUBJECT)
    found = columns(mixed)
    assert found["gmacs"] == pytest.approx(3)
    assert columns(mixed) == found


def test_rank_correlation_of_a_constant_is_left_out():
    assert rows.spearman(np.ones(5), np.arange(5.0)) is None
    assert rows.spearman(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(1)


def test_a_rate_of_nothing_is_not_certain_unless_it_must_be():
    m = len(SUBJECT.records.names)
    kept = columns(Row("exit_1", "", replay.static(m, 4, 1), SUBJECT), max_lpips=10.0)
    assert kept["violation_rate"] == 0
    assert kept["violation_interval"] == pytest.approx([0, 1 - 0.025 ** (1 / m)])
    none = columns(Row("exit_1", "", replay.static(m, 4, 1), SUBJECT), max_lpips=1e-6)
    assert none["violation_interval"] == pytest.approx([0.025 ** (1 / m), 1])
    for row in (
        Row("backbone", "", replay.static(m, 4, 4), SUBJECT),
        Row("oracle", "", replay.oracle(SUBJECT.records.lpips, 0.1), SUBJECT, group="oracle"),
    ):
        assert columns(row)["violation_interval"] == [0, 0]


def test_judges_left_out_are_named():
    found = columns(router(dataclasses.replace(made_subject(pictures=False), judged=False)))
    assert found["why_empty"]["miou"] == found["why_empty"]["kid"] == rows.NOT_JUDGED


def test_units_are_inputs():
    records = made_records(inputs=3, latents=2)
    assert records.units.tolist() == [0, 0, 1, 1, 2, 2]
