"""What is said of an evaluation: savings, promises, defeats, and numbers in words."""

import pytest

from fiancee_jax.evaluation import words

GAP = {
    "policy": "learned", "threshold": 0.1, "router": 5.0, "mixture": 6.0, "oracle": 4.0,
    "gain": 1.0, "gain_interval": [0.5, 1.5], "taken": 0.5, "taken_interval": [0.2, 0.8],
}  # fmt: skip
ROW = {
    "policy": "learned", "label": "learned router", "threshold": 0.1, "share": 0.5,
    "group": "router",    "violation_rate": 0.2, "violation_interval": [0.1, 0.3],
    "share_of_oracle_saving": 0.7,
}  # fmt: skip


def said(**changes):
    found = {"max_lpips": [0.1], "rows": [ROW], "gaps": [GAP], "promises": [], "full_gmacs": 10.0,
             "exchangeable": True, "exchangeable_why": "alike"}  # fmt: skip
    return " ".join(words.headline({**found, **changes})).replace("\N{NO-BREAK SPACE}", " ")


def test_headline_says_savings_and_breaks():
    text = said()
    assert "spends 50.0 % of the backbone\u2019s GMACs and breaks the threshold on 20.0 %" in text
    assert "takes 70.0 % of what an oracle saves that breaks it as often" in text
    assert "needs 60.0 % for the same mean LPIPS: the learned router saves 10.0 points" in text
    assert "50 % of the way from the blind mixture to an oracle of equal mean LPIPS" in text
    assert "(95 % interval 20 to 80 %)" in text
    assert "of the way" not in said(gaps=[{**GAP, "taken": None, "taken_interval": [None, None]}])


def test_headline_does_not_promise_for_other_inputs():
    promise = {"threshold": 0.1, "confidence": 0.9, "violations": 0.3, "share": 0.7,
               "violations_interval": [0.2, 0.5]}  # fmt: skip
    text = said(promises=[promise], exchangeable=False, exchangeable_why="other drives")
    assert "is asked to break it on at most 10 % and breaks it on 30.0 %" in text
    assert "no promise for these inputs: other drives." in text
    assert "more than promised" not in text


@pytest.mark.parametrize(
    ("gain", "ends", "part"),
    [(-1.0, [-1.5, -0.5], "costs 10.0 points more"), (0.2, [-0.1, 0.5], "is not clearly cheaper"),
     (0.2, [None, None], "is not clearly cheaper")],
)  # fmt: skip
def test_headline_says_plainly_where_it_loses(gain, ends, part):
    assert part in said(gaps=[{**GAP, "gain": gain, "gain_interval": ends}])


@pytest.mark.parametrize(
    ("observed", "low", "part"),
    [(0.08, 0.05, "breaks it on 8.0 %, for"), (0.12, 0.05, "though not more than chance may do"),
     (0.3, 0.2, "breaks it on 30.0 %, more than promised, for")],
)  # fmt: skip
def test_headline_holds_a_promise_against_what_was_observed(observed, low, part):
    promise = {"threshold": 0.1, "confidence": 0.9, "violations": observed, "share": 0.7,
               "violations_interval": [low, 0.5]}  # fmt: skip
    other = {**promise, "confidence": 0.8}
    assert part in said(promises=[other, promise])
    assert words.broken(promise) == (low > 0.1)


def test_losses_name_every_clear_defeat():
    pair = {"a": "learned", "b": "ridge", "threshold": 0.1, "lpips_difference": 0.01,
            "lpips_interval": [0.005, 0.02], "violation_difference": -0.1,
            "violation_interval": [-0.2, -0.01],
            "a_gmacs": 5.0, "b_gmacs": 5.0, "equal_gmacs": True}  # fmt: skip
    dearer = {**pair, "a_gmacs": 5.5, "equal_gmacs": False}
    worse = {**GAP, "gain": -1.0, "gain_interval": [-2.0, -0.5]}
    found = {"rows": [], "gaps": [GAP, worse], "comparisons": [pair, dearer], "full_gmacs": 10.0}
    assert words.losses(found) == [
        "at max_lpips 0.1 the blind mixture of equal mean LPIPS costs 10.0 points less",
        "at max_lpips 0.1, equal GMACs, ridge is 0.0100 LPIPS nearer on average",
        "at max_lpips 0.1, where the router costs 10.0\N{NO-BREAK SPACE}% more GMACs, ridge is "
        "0.0100 LPIPS nearer on average",
    ]


def test_numbers_have_no_minus_before_zero():
    assert words.percent(-1e-12) == "0.0\N{NO-BREAK SPACE}%"
    assert words.percent(None) == words.percent(float("nan")) == "\N{EN DASH}"
    assert words.interval([-0.031, 0.04]).split() == ["\N{MINUS SIGN}3.1", "to", "4.0", "%"]
    assert words.interval([None, 0.1]) == words.interval(None) == ""
