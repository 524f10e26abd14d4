"""The identity network's training: pairs, contrast, blur, and when it is kept or made anew."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiancee_jax.data import Heads
from fiancee_jax.evaluation import identity
from fiancee_jax.evaluation.identity import Training
from fiancee_jax.models import identity_net

SIZE = (32, 32)
SHORT = Training(steps=25, batch_size=16, identities=24, views=2)
HEADS = Heads(identities=24)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("identity") / "new" / "identity.npz"
    return path, identity.load_or_train(HEADS, SIZE, path, SHORT)


def told_apart(params, shown):
    """How often a picture is nearer to its pair than to another identity."""
    one, two = (jax.jit(identity_net.embed)(params, x) for x in shown)
    cosine = np.asarray(one) @ np.asarray(two).T
    return (np.diagonal(cosine)[:, None] > cosine)[~np.eye(len(cosine), dtype=bool)].mean()


def test_tells_identities_apart_that_it_has_not_seen(trained):
    others = identity.views(dataclasses.replace(HEADS, seed=1), SIZE, SHORT)
    shown = identity.pairs(others, 24, np.random.default_rng(0))
    assert told_apart(trained[1], shown) > 0.85


def test_is_kept_while_it_fits(trained, monkeypatch):
    path, params = trained

    def train(*_):
        raise AssertionError("trained anew")

    monkeypatch.setattr(identity, "train", train)
    monkeypatch.setattr(identity, "views", lambda *_: None)
    again = identity.load_or_train(dataclasses.replace(HEADS, cross=1.0), SIZE, path, SHORT)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    longer = dataclasses.replace(SHORT, steps=26)
    for data, size, training in (
        (HEADS, SIZE, longer),
        (HEADS, (64, 64), SHORT),
        (dataclasses.replace(HEADS, seed=1), SIZE, SHORT),
    ):
        with pytest.raises(AssertionError, match="anew"):
            identity.load_or_train(data, size, path, training)


def test_views_are_of_the_train_split_in_motions_of_their_own():
    few = Training(identities=3, views=2)
    shown = identity.views(HEADS, SIZE, few)
    assert (shown.shape, shown.dtype) == ((3, 2, *SIZE, 3), np.uint8)
    assert len(np.unique(shown.reshape(6, -1), axis=0)) == 6


def test_pairs_are_two_motions_of_one_identity_and_no_identity_twice():
    shown = np.arange(12, dtype=np.uint8).reshape(4, 3, 1, 1, 1)  # identity // 3, motion % 3
    one, two = identity.pairs(shown, 8, np.random.default_rng(0))
    codes = [np.rint((x.ravel() + 1) * 127.5).astype(int) for x in (one, two)]
    np.testing.assert_array_equal(codes[0] // 3, codes[1] // 3)
    assert sorted(codes[0] // 3) == [0, 1, 2, 3]
    assert np.all(codes[0] != codes[1])


def test_contrast_by_hand():
    a = b = jnp.eye(3)
    wrong = 2 * np.exp(-identity.SCALE)
    np.testing.assert_allclose(identity.contrast(a, b), np.log(1 + wrong), rtol=1e-3)
    assert identity.contrast(a, b[::-1]) > 6


def test_blur_changes_edges_by_a_share_of_their_own():
    picture = np.full((3, 16, 16, 3), -1, np.float32)
    picture[:, :, 8:] = 1
    found = np.asarray(identity.blurred(jax.random.key(0), jnp.asarray(picture)))
    assert np.abs(found).max() <= 1
    np.testing.assert_allclose(found[:, :, 0], -1, atol=1e-6)  # far from the edge
    assert len(np.unique(found[:, 8, 8, 0].round(3))) == 3
    assert np.all(found[:, 8, 8] < 1)
