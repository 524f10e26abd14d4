"""SPADE and its block against the equations written out in NumPy."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.models.spade import Spade, SpadeBlock

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 4, 3)).astype(np.float32)
SEG = RNG.standard_normal((2, 4, 4, 5)).astype(np.float32)


def shapes(module):
    return jax.tree.map(jnp.shape, by_hand.filled(module.init, X, SEG, train=False))


def test_spade_is_its_equation():
    variables = by_hand.filled(Spade(6).init, X, SEG, train=False)
    expected = by_hand.spade(variables["params"], variables["batch_stats"]["norm"], X, SEG)
    y = jax.jit(lambda v: Spade(6).apply(v, X, SEG, train=False))(variables)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_spade_has_no_affine_and_a_hidden_layer():
    tree = shapes(Spade(6))
    assert set(tree["params"]) == {"shared", "gamma_beta"}
    assert tree["params"]["shared"]["kernel"] == (3, 3, 5, 6)
    assert tree["params"]["gamma_beta"]["kernel"] == (3, 3, 6, 6)
    assert tree["batch_stats"] == {"norm": {"mean": (3,), "var": (3,)}}


def test_training_uses_batch_statistics_and_the_momentum_of_torch():
    variables = by_hand.filled(Spade(6).init, X, SEG, train=False)
    old = variables["batch_stats"]["norm"]
    y, new = jax.jit(lambda v: Spade(6).apply(v, X, SEG, train=True, mutable=["batch_stats"]))(
        variables
    )
    mean, var = X.mean((0, 1, 2)), X.var((0, 1, 2))
    # torch's momentum 0.1 is 0.9 here
    norm = new["batch_stats"]["norm"]
    np.testing.assert_allclose(norm["mean"], 0.9 * old["mean"] + 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(norm["var"], 0.9 * old["var"] + 0.1 * var, rtol=1e-5)
    expected = by_hand.spade(variables["params"], {"mean": mean, "var": var}, X, SEG)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("features", [2, 3, 7])
def test_block_is_its_diagram(features):
    module = SpadeBlock(features, 6, spectral=False)
    variables = by_hand.filled(module.init, X, SEG, train=False)
    p, s = variables["params"], variables["batch_stats"]

    def normed(part, x):
        return by_hand.spade(p[f"norm_{part}"], s[f"norm_{part}"]["norm"], x, SEG)

    # OASIS: neither activation nor bias on the shortcut, which is learnt if widths differ
    shortcut = X if features == 3 else by_hand.conv(p["conv_s"], normed("s", X))
    dx = by_hand.conv(p["conv_0"], by_hand.lrelu(normed("0", X)))
    dx = by_hand.conv(p["conv_1"], by_hand.lrelu(normed("1", dx)))
    y = jax.jit(lambda v: module.apply(v, X, SEG, train=False))(variables)
    np.testing.assert_allclose(y, shortcut + dx, rtol=1e-4, atol=1e-4)
    assert p["conv_0"]["kernel"].shape == (3, 3, 3, min(3, features))
    assert ("conv_s" in p) == (features != 3)
    if features != 3:
        assert {k: a.shape for k, a in p["conv_s"].items()} == {"kernel": (1, 1, 3, features)}


@pytest.mark.parametrize("spectral", [True, False])
def test_spectral_norm_is_on_the_three_convolutions_only(spectral):
    tree = shapes(SpadeBlock(7, 6, spectral))
    assert set(tree.get("spectral", {})) == ({"conv_0", "conv_1", "conv_s"} if spectral else set())
