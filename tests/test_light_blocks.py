"""Blocks for light stages other than SPADE's."""

import dataclasses

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.config import Exit, Guides, PredictorPhase, load_config
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.layers import initialise
from fiancee_jax.models.light_blocks import InceptionBlock, InceptionConv, TransformerBlock, _attend

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 6, 8)).astype(np.float32)
SEG = RNG.standard_normal((2, 4, 6, 5)).astype(np.float32)
BLOCKS = [InceptionBlock, TransformerBlock]


def applied(module, *args, **options):
    variables = by_hand.filled(lambda *a: module.init(*a, **options), *args)
    return variables, jax.jit(lambda v, *a: module.apply(v, *a, **options))(variables, *args)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("features", [8, 6])
def test_shape_and_shortcut(block, features):
    variables, out = applied(block(features, 4), X, SEG, train=False)
    assert out.shape == (2, 4, 6, features)
    assert ("conv_s" in variables["params"]) == (features != 8)
    assert set(variables) == {"params", "batch_stats"}


@pytest.mark.parametrize("block", BLOCKS)
def test_variables_can_be_drawn_on_the_host(block):
    module = block(6, 4)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), X, SEG, train=False))
    initialise(shapes, np.random.default_rng(0), 1.0)  # knows every name


def test_paths_of_an_inception_convolution():
    variables, out = applied(InceptionConv(8), X)
    params = variables["params"]
    far = by_hand.lrelu(by_hand.conv(params["far_0"], X))
    expected = [by_hand.conv(params["point"], X), by_hand.conv(params["near"], X)]
    expected.append(by_hand.conv(params["far_1"], far))
    assert [x.shape[-1] for x in expected] == [2, 4, 2]
    np.testing.assert_allclose(out, np.concatenate(expected, -1), atol=1e-4)


def test_attention_by_hand():
    q, k, v = (RNG.standard_normal((1, 2, 2, 8)).astype(np.float32) for _ in range(3))
    found = np.asarray(jax.jit(_attend)(q, k, v)).reshape(4, 8)
    for head in range(4):  # two channels each
        part = slice(2 * head, 2 * head + 2)
        a, b, c = (x.reshape(4, 8)[:, part].astype(float) for x in (q, k, v))
        weights = np.exp(a @ b.T / 2**0.5)
        weights /= weights.sum(1, keepdims=True)
        np.testing.assert_allclose(found[:, part], weights @ c, atol=1e-5)


def test_every_place_sees_every_other():
    module = TransformerBlock(8, 4)
    variables, out = applied(module, X, SEG, train=False)
    other = X.copy()
    other[0, 0, 0] += 3
    changed = jax.jit(lambda v, x: module.apply(v, x, SEG, train=False))(variables, other)
    difference = np.abs(np.asarray(changed) - np.asarray(out)).max(-1)
    assert (difference[0] > 1e-6).all()
    np.testing.assert_array_equal(difference[1], 0)


@pytest.mark.parametrize("block", ["inception", "transformer"])
def test_light_blocks_cost_about_as_much(block):
    base = load_config("quickstart").model.with_classes(tuple(f"c{i}" for i in range(10)))

    def costs(family):
        model = MultiExit(family, (), Guides(), PredictorPhase())
        return np.array([model.exit_gmacs(e) for e in (Exit(1, 0.25), Exit(1, 0.5))])

    changed = dataclasses.replace(base, light_block=block)
    np.testing.assert_allclose(costs(changed), costs(base), rtol=0.15)
    assert MultiExit(changed, (), Guides(), PredictorPhase()).gmacs == pytest.approx(
        MultiExit(base, (), Guides(), PredictorPhase()).gmacs
    )


def test_the_transformer_stays_where_there_are_few_places():
    base = load_config("quickstart").model
    family = dataclasses.replace(base, light_block="transformer")
    blocks = [family.stage(i, width=0.25).block for i in range(1, 6)]
    assert blocks == ["transformer"] * 3 + ["spade"] * 2  # 4, 8, 16 rows; 32, 64
    assert [family.stage(i).block for i in range(1, 6)] == ["spade"] * 5


def test_attention_keeps_the_dtype():
    q = jnp.asarray(X[:, :2, :2], jnp.bfloat16)
    assert jax.eval_shape(_attend, q, q, q).dtype == jnp.bfloat16
