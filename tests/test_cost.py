"""MACs against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fiancee_jax import cost


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def conv(x, k, stride=1, pad: str | tuple = "SAME", **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, k, (stride, stride), pad, dimension_numbers=numbers, **options
    )


CONV = 2 * 8 * 6 * 5 * 3 * 3 * 4 / 1e9  # b h w out, kernel, in
X, K = shape(2, 8, 6, 4), shape(3, 3, 4, 5)


def test_convolution():
    assert cost.gmacs(conv, X, K) == pytest.approx(CONV, rel=1e-12)


def test_stride_divides_the_output():
    assert cost.gmacs(lambda x, k: conv(x, k, 2), X, K) == pytest.approx(CONV / 4)


def test_groups_share_the_input_channels():
    def grouped(x, k):
        return conv(x, k, feature_group_count=2)

    assert cost.gmacs(grouped, X, shape(3, 3, 2, 6)) == pytest.approx(2 * 48 * 6 * 9 * 2 / 1e9)


def test_batch_groups_shrink_the_output():
    def grouped(x, k):
        return conv(x, k, batch_group_count=2)

    # output [1, 8, 6, 6]; each value sums 3 x 3 x 4
    assert cost.gmacs(grouped, X, shape(3, 3, 4, 6)) == pytest.approx(48 * 6 * 36 / 1e9)


def test_transposed_convolution_with_and_without_its_zeros():
    def up(x, k):
        return conv(x, k, pad=((1, 2), (1, 2)), lhs_dilation=(2, 2))

    dense = 2 * 16 * 12 * 5 * 36 / 1e9
    assert cost.gmacs(up, X, K) == pytest.approx(dense)
    assert cost.gmacs(up, X, K, dense=False) == pytest.approx(dense / 4)


def test_products_and_only_conv():
    def both(x, k, w):
        return jnp.einsum("bhwc,cd->bhwd", conv(x, k), w)

    args = X, K, shape(5, 7)
    assert cost.gmacs(both, *args) == pytest.approx(CONV + 2 * 48 * 5 * 7 / 1e9)
    assert cost.gmacs(both, *args, only="conv") == pytest.approx(CONV)
    with pytest.raises(ValueError, match="expected None"):
        cost.gmacs(both, *args, only="convs")  # pyright: ignore[reportArgumentType]


def test_batched_product():
    def attend(q, k):
        return jnp.einsum("bqd,bkd->bqk", q, k)

    assert cost.gmacs(attend, shape(3, 4, 8), shape(3, 5, 8)) == pytest.approx(3 * 4 * 5 * 8 / 1e9)


def test_scan_counts_every_turn():
    def repeated(x, k):
        return lax.scan(lambda h, _: (conv(h, k), None), x, length=7)[0]

    assert cost.gmacs(repeated, X, shape(3, 3, 4, 4)) == pytest.approx(7 * CONV * 4 / 5)


@jax.custom_vjp
def vjp_conv(x, k):
    return conv(x, k)


vjp_conv.defvjp(lambda x, k: (conv(x, k), None), lambda _, g: (g, None))


@jax.custom_jvp
def jvp_conv(x, k):
    return conv(x, k)


jvp_conv.defjvp(lambda primals, tangents: (conv(*primals), conv(*primals)))


@pytest.mark.parametrize(
    "fn", [jax.jit(conv), jax.checkpoint(conv), vjp_conv, jvp_conv, jax.jit(jax.jit(vjp_conv))]
)
def test_calls_are_followed_once(fn):
    assert cost.gmacs(fn, X, K) == pytest.approx(CONV)


def test_gradient_costs_two_more_convolutions():
    def pull_back(x, k):
        return jax.vjp(conv, x, k)[1](jnp.ones((2, 8, 6, 5)))

    assert cost.gmacs(pull_back, X, K) == pytest.approx(3 * CONV)


def test_branches_of_different_cost_are_refused():
    def choose(flag, x, k):
        return lax.cond(flag, lambda: conv(x, k), lambda: jnp.zeros((2, 8, 6, 5)))

    flag = jax.ShapeDtypeStruct((), bool)
    with pytest.raises(ValueError, match="Cost each branch alone"):
        cost.gmacs(choose, flag, X, K)


def test_branches_of_one_cost_are_counted_once():
    def choose(flag, x, k):
        return lax.cond(flag, lambda: conv(x, k), lambda: 2 * conv(x, k))

    assert cost.gmacs(choose, jax.ShapeDtypeStruct((), bool), X, K) == pytest.approx(CONV)


def test_while_is_refused_only_where_it_costs():
    def idle(x):
        return lax.while_loop(lambda h: h.sum() < 9, lambda h: h + 1, x)

    def busy(x, k):
        return lax.while_loop(lambda h: h.sum() < 9, lambda h: conv(h, k), x)

    assert cost.gmacs(idle, X) == 0
    with pytest.raises(ValueError, match="while loop"):
        cost.gmacs(busy, X, shape(3, 3, 4, 4))


def test_nothing_is_run():
    huge = shape(1, 1 << 16, 1 << 16, 64)  # 1 TB
    assert cost.gmacs(conv, huge, shape(1, 1, 64, 1)) == pytest.approx(2**32 * 64 / 1e9)


def test_parameters():
    tree = {"a": np.zeros((3, 4)), "b": (shape(5), jnp.zeros(())), "c": None}
    assert cost.parameters(tree) == 12 + 5 + 1
