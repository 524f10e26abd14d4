"""Large parameters lie split over the devices, and training does not notice."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from small import SMALL, after_one_step, assert_same_gradients, batch_of, with_phase
from tiny import tiny_config

from fiancee_jax.config import BackbonePhase, Logging
from fiancee_jax.config_check import check_config
from fiancee_jax.errors import UserError
from fiancee_jax.training import backbone
from fiancee_jax.training.run import resolve, train
from fiancee_jax.training.sharding import shardings, spec, step_shardings

CONFIG = tiny_config()


def above(limit):
    return dataclasses.replace(CONFIG, shard_above=limit)


@pytest.mark.parametrize(
    ("shape", "limit", "expected"),
    [
        ((3, 3, 8, 16), 1, P(None, None, None, "data")),
        ((3, 3, 32, 16), 1, P(None, None, "data", None)),
        ((3, 3, 8, 16), 3 * 3 * 8 * 16, P(None, None, None, "data")),
        ((3, 3, 8, 16), 3 * 3 * 8 * 16 + 1, P()),
        ((3, 3, 8, 16), 0, P()),
        ((3, 5, 7), 1, P()),  # no axis that four devices divide
        ((), 1, P()),
        ((0, 4), 0, P()),
    ],
)
def test_where_an_array_is_split(shape, limit, expected):
    assert spec(shape, 4, above(limit)) == expected


@given(
    st.lists(st.integers(0, 40), max_size=4), st.sampled_from([1, 2, 4, 6]), st.integers(0, 2000)
)
def test_at_most_one_axis_is_split_and_it_can_be(shape, devices, limit):
    found = spec(tuple(shape), devices, above(limit))
    split = [shape[axis] for axis, name in enumerate(found) if name is not None]
    assert len(split) <= 1
    assert all(side % devices == 0 for side in split)
    if split:
        assert math.prod(shape) >= limit > 0


def test_a_step_leaves_the_state_where_it_lies_and_the_gradients_as_they_were():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    config, phase = above(32), with_phase(batch_size=4)
    state = backbone.init_state(SMALL, phase, np.random.default_rng(0))
    state = jax.device_put(state, shardings(state, mesh, config))
    step = backbone.make_step(SMALL, phase, step_shardings(state, config))
    batch = jax.device_put(batch_of(4), jax.NamedSharding(mesh, P("data")))
    after, _ = step(state, batch, jax.random.key(3), None)
    kernels = [leaf for leaf in jax.tree.leaves(after) if leaf.size >= 32 and leaf.ndim == 4]
    parts = {leaf.size // leaf.addressable_shards[0].data.size for leaf in kernels}
    assert 4 in parts
    for leaf in jax.tree.leaves(after):
        assert leaf.sharding.spec == spec(leaf.shape, 4, config)
    _, copied, _ = after_one_step(phase, batch_of(4))
    assert_same_gradients(jax.tree.map(np.asarray, after), copied)


@pytest.mark.slow
def test_a_split_run_is_continued_with_copies(tmp_path):
    learning = {"step": "fused", "lr_g": 1e-3, "lr_d": 1e-3, "recollect": 1, "init_gain": 1.0}
    config = dataclasses.replace(
        CONFIG,
        backbone=BackbonePhase(steps=4, batch_size=4, **learning),
        logging=Logging(every=1, preview_every=4, checkpoint_every=2),
    )
    config = resolve(config)
    train(config, tmp_path / "whole", phases=["backbone"])
    halfway = dataclasses.replace(config.backbone, steps=2)
    split = dataclasses.replace(config, backbone=halfway, shard_above=64)
    train(split, tmp_path / "split", phases=["backbone"])
    train(config, tmp_path / "split", phases=["backbone"])
    one, other = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "split")
    )
    assert [record["step"] for record in other] == [1, 2, 3, 4]
    for a, b in zip(one, other, strict=True):
        for name in a.keys() - {"phase", "step", "seconds_per_step", "loader_share"}:
            assert b[name] == pytest.approx(a[name], rel=2e-3, abs=1e-6), name


def test_a_negative_limit():
    with pytest.raises(UserError, match="shard_above is -1"):
        check_config(above(-1))
