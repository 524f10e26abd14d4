"""MACs against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
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


def test_products_are_counted():
    def both(x, k, w):
        return jnp.einsum("bhwc,cd->bhwd", conv(x, k), w)

    args = X, K, shape(5, 7)
    assert cost.gmacs(both, *args) == pytest.approx(CONV + 2 * 48 * 5 * 7 / 1e9)


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


# --- by scope -----------------------------------------------------------------------------------
KERNEL = shape(3, 3, 4, 4)  # keeps the channels, so that a turn of a loop can follow another
SQUARE = round(CONV * 4 / 5 * 1e9)


def named(x, k):
    with jax.named_scope("inside"):
        return conv(x, k)


def test_scopes_are_module_paths_and_add_up():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(5, (3, 3), name="first")(x)
            return nn.Dense(7, name="second")(x).sum() + jnp.einsum("bhwc,bhwd->cd", x, x).sum()

    module = Two()
    variables = jax.eval_shape(module.init, jax.random.key(0), X)
    found = cost.by_scope(module.apply, variables, X)
    first, second, product = 2 * 48 * 5 * 36, 2 * 48 * 5 * 7, 2 * 48 * 5 * 5
    assert found["Two/first"] == first
    assert found["Two/second"] == second
    assert sum(found.values()) == first + second + product
    assert cost.gmacs(module.apply, variables, X) == (first + second + product) / 1e9


def test_what_has_no_name_is_the_empty_scope():
    assert cost.by_scope(conv, X, K) == {"": round(CONV * 1e9)}
    assert cost.by_scope(lambda x: x + 1, X) == {}


@pytest.mark.parametrize(
    ("call", "times"),
    [
        (named, 1),
        (jax.jit(named), 1),
        (jax.checkpoint(named), 1),
        (jax.jit(jax.checkpoint(jax.jit(named))), 1),
        (lambda x, k: lax.scan(lambda h, _: (named(h, k), None), x, length=3)[0], 3),
        (lambda x, k: lax.cond(x.sum() > 0, named, lambda x, k: 2 * named(x, k), x, k), 1),
        (lambda x, k: jax.vmap(named, (0, None))(x[None], k), 1),
        (jax.custom_vjp(named), 1),
    ],
)
def test_inner_scopes_are_joined_to_the_callers(call, times):
    if isinstance(call, jax.custom_vjp):
        call.defvjp(lambda x, k: (named(x, k), None), lambda _, g: (g, None))

    def outer(x, k):
        with jax.named_scope("outside"):
            return call(x, k)

    assert cost.by_scope(outer, X, KERNEL) == {"outside/inside": times * SQUARE}


def test_one_scope_in_several_calls_is_one_entry():
    def twice(x, k):
        return jax.jit(named)(named(x, k), k)

    assert cost.by_scope(twice, X, KERNEL) == {"inside": 2 * SQUARE}


def test_names_survive_differentiation():
    def loss(x, k):
        with jax.named_scope("loss"):
            return named(x, k).sum()

    forward_and_back = {"loss/inside": 2 * SQUARE}
    assert cost.by_scope(jax.grad(loss), X, KERNEL) == forward_and_back


# --- parameters ---------------------------------------------------------------------------------
def test_parameters():
    tree = {"a": np.zeros((3, 4)), "b": (shape(5), jnp.zeros(())), "c": None}
    assert cost.parameters(tree) == 12 + 5 + 1
