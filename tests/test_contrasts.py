import numpy as np
import pytest
from studies import GMACS
from test_table import whole

from fiancee_jax.evaluation import contrasts


def test_gaps_and_comparisons_are_about_the_same_inputs():
    table = whole()
    gaps = {g["policy"]: g for g in contrasts.gaps(table, 0.1)}
    assert set(gaps) == {"learned", "lambda", "ridge", "ridge_products"}
    assert 0 < gaps["learned"]["taken"] <= 1
    pairs = contrasts.comparisons(table, 0.1)
    assert [p["b"] for p in pairs] == [
        "no_guides",
        "zero_guides",
        "ridge",
        "ridge_products",
        *(f"student_{i}" for i in (1, 2, 3)),
    ]
    for pair in pairs[4:]:
        assert pair["a_gmacs"] == pytest.approx(pair["b_gmacs"], rel=0.1)
    assert table.full_gmacs == GMACS[-1]


def test_at_equal_violations_the_mixture_breaks_the_threshold_as_often_as_the_router():
    table = whole()
    lpips, gmacs = table.subject.records.lpips, table.subject.gmacs
    learned = table.learned(0.1)
    found = {g["policy"]: g for g in contrasts.gaps_in_violations(table, 0.1)}
    assert set(found) == {"learned", "lambda", *(r.policy for r in table.guaranteed(0.1))}
    rate = (learned.taken * (lpips > 0.1)).sum(1).mean()
    rates = (lpips > 0.1).mean(0)  # of each exit for all
    pairs = [(a, b) for a in range(len(rates)) for b in range(len(rates)) if rates[a] > rates[b]]
    costs = [
        gmacs[a] + (gmacs[b] - gmacs[a]) * (rates[a] - rate) / (rates[a] - rates[b])
        for a, b in pairs
        if rates[b] <= rate <= rates[a]
    ]
    assert found["learned"]["mixture"] == pytest.approx(min(costs))
    assert found["learned"]["router"] == pytest.approx(
        float(np.mean(learned.taken @ gmacs)) + learned.overhead
    )
    # what the table calls the saving of an oracle that breaks it as often is the same oracle's
    share = learned.columns(0.1, gmacs[-1], 0)["share_of_oracle_saving"]
    oracle = gmacs[-1] - (gmacs[-1] - found["learned"]["router"]) / share
    assert found["learned"]["oracle"] == pytest.approx(oracle, rel=1e-3)
