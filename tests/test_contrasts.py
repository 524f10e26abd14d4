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
