import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_renderer

from fiancee_jax.evaluation import replay, timing
from fiancee_jax.evaluation.timing import Times, time_exits, time_routed


def test_means_by_the_exits_taken():
    times = Times([1.0, 3.0], [0.5, 2.0], 0.25, 0.1, 4)
    taken = replay.one_hot(np.array([1, 2, 2, 2]), 2)
    assert times.mean(taken, batched=False, predictor=False) == pytest.approx(2.5)
    assert times.mean(taken, batched=True, predictor=True) == pytest.approx(1.625 + 0.1)


def test_times_every_exit_and_the_predictor():
    renderer = tiny_renderer()
    inputs = {"labels": jnp.zeros((2, 32, 32), jnp.int32), "z": jnp.zeros((2, 4))}
    found = time_exits(renderer, inputs)
    assert len(found.single) == len(found.batched) == renderer.model.num_exits
    assert min(found.single + found.batched + [found.predictor_single]) > 0
    assert found.batch == 2


def test_times_real_routed_calls_until_the_seconds_are_over(monkeypatch):
    renderer, calls = tiny_renderer(), []
    inputs = {"labels": jnp.zeros((2, 32, 32), jnp.int32), "z": jnp.zeros((2, 4))}
    rendered = type(renderer).__call__

    def call(self, given, **options):
        calls.append((sorted(given), options["max_lpips"], options["confidence"]))
        return rendered(self, given, **options)

    monkeypatch.setattr(type(renderer), "__call__", call)
    found = time_routed(renderer, [inputs], [(0.1, None), (0.05, None)])
    assert found.keys() == {(0.1, None), (0.05, None)}
    assert min(found.values()) > 0
    each = timing.ROUTED_REPEATS + 1
    limits = [0.1] * 2 + [0.1] * each + [0.05] * each  # the first two compile and look how long
    assert calls == [(["labels"], limit, None) for limit in limits]
    assert time_routed(renderer, [inputs], [(0.1, None), (0.05, None)], seconds=0).keys() == {
        (0.1, None)
    }
