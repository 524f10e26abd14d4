"""The menu of exits."""

import dataclasses
import json

import numpy as np
import pytest

from fiancee_jax.config import Exit
from fiancee_jax.routing import menu
from fiancee_jax.routing.menu import Entry


def entry(tap, width, gmacs, mean, **rest):
    return Entry(tap, width, gmacs, mean, p10=mean / 2, p90=mean * 2, l1=mean / 3, **rest)


def kept(marked):
    return menu.kept([dataclasses.asdict(e) for e in marked])


def test_an_exit_that_is_dearer_and_no_better_is_dropped():
    cheap, worse, equal, good = (
        entry(1, 0.25, 1.0, 0.08),
        entry(3, 0.25, 2.0, 0.09),
        entry(2, 0.25, 3.0, 0.08),
        entry(1, 0.5, 4.0, 0.05),
    )
    marked = menu.drop_dominated([good, equal, cheap, worse])
    assert [e.exit for e in marked] == [e.exit for e in (cheap, worse, equal, good)]
    reason = "dearer and no better than tap1_w25"
    assert [e.dropped for e in marked] == ["", reason, reason, ""]
    assert kept(marked) == (Exit(1, 0.25), Exit(1, 0.5))


def test_of_equally_dear_exits_the_better_one_stays():
    marked = menu.drop_dominated([entry(1, 0.5, 1.0, 0.09), entry(2, 0.5, 1.0, 0.08)])
    assert kept(marked) == (Exit(2, 0.5),)


def test_an_exit_is_compared_with_the_best_cheaper_one_that_stays():
    entries = [entry(t, 0.5, float(t), m) for t, m in ((1, 0.05), (2, 0.09), (3, 0.07))]
    marked = menu.drop_dominated(entries)
    assert [e.dropped for e in marked][1:] == ["dearer and no better than tap1_w50"] * 2


def test_dropping_is_brute_force_dominance():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [tuple(rng.integers(1, 6, 2)) for _ in range(6)]
        entries = [entry(i + 1, 0.5, float(g), float(m)) for i, (g, m) in enumerate(points)]
        expected = {
            (e.gmacs, e.mean)
            for e in entries
            if not any(
                o.gmacs <= e.gmacs and o.mean <= e.mean and (o.gmacs, o.mean) != (e.gmacs, e.mean)
                for o in entries
            )
        }
        marked = menu.drop_dominated(entries)
        assert {(e.gmacs, e.mean) for e in marked if not e.dropped} == expected
        assert len(kept(marked)) == len(expected)  # of equals, one stays
        assert len(marked) == len(entries)  # nothing disappears unseen


def test_nothing_gives_nothing():
    assert menu.drop_dominated([]) == []
    assert menu.kept([]) == ()


def test_measure():
    lpips = np.arange(11, dtype=np.float32) / 100  # 0, .01, ... .1
    measured = menu.measure(Exit(2, 0.25), 1.5, lpips, np.array([0.1, 0.3]))
    assert measured.exit == Exit(2, 0.25)
    assert (measured.gmacs, measured.l1) == (1.5, 0.2)
    assert (measured.p10, measured.mean, measured.p90) == pytest.approx((0.01, 0.05, 0.09))
    assert measured.dropped == ""
    assert json.loads(json.dumps(dataclasses.asdict(measured))) == dataclasses.asdict(measured)
