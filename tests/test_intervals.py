import numpy as np
import pytest

from fiancee_jax.evaluation import intervals


def test_exact_is_clopper_pearson():
    # 0 of 10 and 3 of 10: (0, .3085) and (.0667, .6525), the standard table of exact intervals
    whole = np.repeat(np.arange(10), 4)
    assert intervals.exact(np.zeros(40), whole) == pytest.approx([0, 0.3085], abs=1e-4)
    three = np.repeat([1.0] * 3 + [0.0] * 7, 4)
    assert intervals.exact(three, whole) == pytest.approx([0.0667, 0.6525], abs=1e-4)
    assert intervals.exact(np.ones(40), whole)[1] == 1


def test_a_bootstrap_draws_units_not_records():
    broken = np.repeat([0.0, 1.0], [90, 10])
    alone = intervals.bootstrap(broken, np.arange(100), 0)
    clustered = intervals.bootstrap(broken, np.arange(100) // 10, 0)
    assert np.ptp(clustered) > np.ptp(alone)


def test_a_rate_is_exact_where_a_bootstrap_knows_nothing():
    units = np.arange(20) // 2
    assert intervals.rate(np.zeros(20), units, 0) == pytest.approx([0, 0.3085], abs=1e-4)
    assert intervals.rate(np.ones(20), units, 0) == pytest.approx([1 - 0.3085, 1], abs=1e-4)
    half = np.arange(20) % 2 * 1.0
    assert intervals.rate(half, units, 0) == intervals.bootstrap(half, units, 0)
    alike = np.full(20, 0.5)  # a mixture of a breaking and a keeping exit
    assert intervals.rate(alike, units, 0) == [0.5, 0.5]
