"""What a video is asked for: the policy in words, and the choice that it leads to."""

import dataclasses
import pathlib

import pytest

from fiancee_jax.routing.video import Rate
from fiancee_jax.video.request import Request

PLAIN = Request("m", pathlib.Path("s"), pathlib.Path("d"), pathlib.Path("o"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "max_lpips 0.1"),
        ({"max_lpips": 0.2, "confidence": 0.9}, "max_lpips 0.2 at confidence 0.9"),
        (
            {"confidence": 0.9, "risk_delta": 0.1},
            "max_lpips 0.1 at confidence 0.9, risk-delta 0.1",
        ),
        ({"exit": "full"}, "exit full"),
        ({"exit": " 2 "}, "exit 2"),
        ({"budget_gmacs": 20.0}, "budget 20 GMACs per frame"),
        ({"budget_gmacs_per_second": 300.0}, "budget 300 GMACs per second"),
        (
            {"budget_gmacs_per_second": 300.0, "max_lpips": 0.2},
            "max_lpips 0.2 within budget 300 GMACs per second",
        ),
    ],
)
def test_the_policy_in_words(options, words):
    request = dataclasses.replace(PLAIN, **options)
    request.check()
    assert request.policy == words


def test_the_choice_stands_for_a_budget_per_second():
    assert PLAIN.choice.max_lpips == 0.1
    assert dataclasses.replace(PLAIN, exit="2").choice.exit == 2
    rate = dataclasses.replace(PLAIN, budget_gmacs_per_second=300.0, fps=30.0)
    assert rate.rate == Rate(300.0, 30.0)
    assert (rate.choice.max_lpips, rate.choice.budget_gmacs) == (None, 10.0)
    both = dataclasses.replace(rate, max_lpips=0.2)
    assert (both.choice.max_lpips, both.choice.budget_gmacs) == (0.2, None)
