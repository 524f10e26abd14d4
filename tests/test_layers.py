"""Convolutions, spectral norm and resizing against NumPy."""

import functools

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.models.layers import (
    Conv,
    average_pool,
    fold_spectral,
    initialise,
    leaky_relu,
    power_iteration,
    upsample,
    xavier_normal,
)
from fiancee_jax.models.spade import Spade


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype(np.float32)


@pytest.fixture
def spectral_variables(x):
    return by_hand.filled(Conv(5, spectral=True).init, x)


@pytest.mark.parametrize("size", [1, 3])
def test_conv_is_a_same_correlation(x, size):
    module = Conv(5, size)
    variables = by_hand.filled(module.init, x)
    expected = by_hand.conv(variables["params"], x)
    np.testing.assert_allclose(jax.jit(module.apply)(variables, x), expected, atol=1e-5)


def test_conv_without_bias_has_none(x):
    variables = by_hand.filled(Conv(5, use_bias=False).init, x)
    assert set(variables["params"]) == {"kernel"}


def test_conv_computes_in_the_dtype_of_its_input(x):
    module = Conv(5)
    y = jax.eval_shape(module.apply, by_hand.filled(module.init, x), jnp.asarray(x, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize(("parts", "fan_out"), [(1, 64), (2, 32)])
def test_xavier_normal_has_the_gain_and_fans_of_each_part(parts, fan_out):
    # Glorot and Bengio (2010), eq. 16 as a normal; torch counts fans over the window too
    kernel = xavier_normal(parts=parts)(jax.random.key(0), (3, 3, 48, 64))
    std = 0.02 * np.sqrt(2 / (9 * 48 + 9 * fan_out))
    assert np.asarray(kernel).std() == pytest.approx(std, rel=0.02)
    assert abs(np.asarray(kernel).mean()) < 0.02 * std


def test_spectral_conv_divides_by_its_own_sigma(x, spectral_variables):
    params, spectral = spectral_variables["params"], spectral_variables["spectral"]
    sigma = spectral["v"] @ params["kernel"].reshape(-1, 5) @ spectral["u"]
    expected = by_hand.conv({**params, "kernel": params["kernel"] / sigma}, x)
    y = jax.jit(Conv(5, spectral=True).apply)(spectral_variables, x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_spectral_conv_without_its_collection_takes_the_kernel_as_it_is(x, spectral_variables):
    params = spectral_variables["params"]
    y = jax.jit(Conv(5, spectral=True).apply)({"params": params}, x)
    np.testing.assert_allclose(y, by_hand.conv(params, x), atol=1e-5)


def test_fresh_sigma_is_positive():
    # two independent random vectors would give either sign, and a sigma that is far too small
    init = jax.jit(Conv(8, spectral=True).init)
    for seed in range(5):
        variables = init(jax.random.key(seed), jnp.zeros((1, 2, 2, 8)))
        kernel = np.asarray(variables["params"]["kernel"]).reshape(-1, 8)
        u, v = (np.asarray(variables["spectral"][name]) for name in "uv")
        top = np.linalg.svd(kernel, compute_uv=False)[0]
        assert 0.3 * top < v @ kernel @ u <= 1.0001 * top


def test_power_iteration_finds_the_largest_singular_value(spectral_variables):
    params, spectral = spectral_variables["params"], spectral_variables["spectral"]
    kernel = params["kernel"].reshape(-1, 5)
    step = jax.jit(power_iteration)
    for _ in range(200):
        spectral = step(params, spectral)
    top = np.linalg.svd(kernel, compute_uv=False)[0]
    sigma = np.asarray(spectral["v"]) @ kernel @ np.asarray(spectral["u"])
    assert sigma == pytest.approx(top, rel=1e-4)
    assert np.linalg.norm(spectral["u"]) == pytest.approx(1, rel=1e-5)
    assert np.linalg.norm(spectral["v"]) == pytest.approx(1, rel=1e-5)


def test_power_iteration_is_one_step_of_miyato(spectral_variables):
    # Miyato et al. (2018), algorithm 1: v first, then u, with our matrix transposed (in x out)
    params, spectral = spectral_variables["params"], spectral_variables["spectral"]
    kernel = params["kernel"].reshape(-1, 5)
    v = kernel @ spectral["u"]
    v /= np.linalg.norm(v)
    u = kernel.T @ v
    new = power_iteration(params, spectral)
    np.testing.assert_allclose(new["v"], v, atol=1e-5)
    np.testing.assert_allclose(new["u"], u / np.linalg.norm(u), atol=1e-5)


def test_power_iteration_lets_no_gradient_through(spectral_variables):
    def total(kernel):
        new = power_iteration({"kernel": kernel}, spectral_variables["spectral"])
        return new["u"].sum() + new["v"].sum()

    assert not np.asarray(jax.grad(total)(spectral_variables["params"]["kernel"])).any()


def test_fold_spectral_touches_spectral_kernels_only():
    kernel = np.ones((1, 1, 2, 3), np.float32)
    u, v = np.full(3, 1.0, np.float32), np.full(2, 0.5, np.float32)
    params = {
        "a": {"conv": {"kernel": kernel, "bias": np.ones(3)}, "plain": {"kernel": kernel}},
        "b": {"kernel": kernel},
    }
    folded = fold_spectral(params, {"a": {"conv": {"u": u, "v": v}}})
    np.testing.assert_allclose(folded["a"]["conv"]["kernel"], kernel / 3)  # sigma = .5 * 6
    np.testing.assert_array_equal(folded["a"]["conv"]["bias"], 1)
    np.testing.assert_array_equal(folded["a"]["plain"]["kernel"], kernel)
    np.testing.assert_array_equal(folded["b"]["kernel"], kernel)
    np.testing.assert_array_equal(params["a"]["conv"]["kernel"], 1)  # its input is left alone


def test_host_initialisation_draws_from_the_distributions_of_init():
    # big enough for a standard deviation to be measured; gamma_beta holds two kernels of 48
    module = Spade(32)
    x, seg = jnp.zeros((1, 2, 2, 48)), jnp.zeros((1, 2, 2, 40))
    init = functools.partial(module.init, train=False)
    theirs = jax.jit(init)(jax.random.key(0), x, seg)
    ours = initialise(jax.eval_shape(init, jax.random.key(0), x, seg), np.random.default_rng(0))
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, theirs)
    assert jax.tree.map(lambda a: a.dtype, ours) == jax.tree.map(lambda a: a.dtype, theirs)
    for path, a in jax.tree_util.tree_leaves_with_path(ours):
        b = functools.reduce(lambda tree, key: tree[key.key], path, theirs)
        if path[-1].key == "kernel":
            assert a.std() == pytest.approx(float(b.std()), rel=0.1), path
            assert a.std() > 0
        else:
            np.testing.assert_array_equal(a, b)


def test_host_initialisation_draws_unit_vectors_for_spectral_norm(spectral_variables):
    ours = initialise(spectral_variables, np.random.default_rng(0))
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, spectral_variables)
    for name in "uv":
        assert np.linalg.norm(ours["spectral"][name]) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_upsample_repeats_pixels(x, factor):
    expected = x.repeat(factor, 1).repeat(factor, 2)
    np.testing.assert_array_equal(upsample(x, factor), expected)


def test_average_pool_is_the_mean_of_cells(x):
    y = average_pool(x)
    assert y.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(y[1, 1, 2], x[1, 2:4, 4:6].mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(average_pool(upsample(x, 2), 2), x, rtol=1e-6)


def test_average_pool_refuses_sides_it_does_not_divide():
    with pytest.raises(TypeError):
        average_pool(jnp.zeros((1, 5, 4, 1)))


def test_leaky_relu_has_slope_two_tenths():
    np.testing.assert_allclose(leaky_relu(jnp.array([-1.0, 0.0, 2.0])), [-0.2, 0.0, 2.0])
