"""The segmenter's training: weights of classes, jitter, when it is kept and when made anew."""

import dataclasses

import jax
import numpy as np
import pytest

from fiancee_jax import metrics
from fiancee_jax.data import Landscapes
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import segmentation
from fiancee_jax.evaluation.segmentation import Training
from fiancee_jax.models.dcgan import Dcgan
from tests.tiny import tiny_config

SHORT = Training(steps=30, batch_size=8)
CONFIG = tiny_config(data=Landscapes(train=32, report=12))


class Maps:
    """A source of label maps without pictures."""

    def __init__(self, *maps):
        self.maps = maps

    def __len__(self):
        return len(self.maps)

    def __getitem__(self, index):
        return {"name": str(index), "labels": self.maps[index]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("segmenter") / "new" / "segmenter.npz"
    return path, segmentation.load_or_train(CONFIG, path, SHORT)


def test_learns(trained):
    names = CONFIG.data.classes()
    found = segmentation.real_confusion(CONFIG, trained[1])
    assert found.sum() == 12 * 32 * 32
    blind = np.zeros_like(found)  # always the most frequent class
    blind[:, np.argmax(found.sum(1))] = found.sum(1)
    void = segmentation.void_of(names)
    assert metrics.mean_iou(found, void) > 2 * metrics.mean_iou(blind, void)


def test_is_kept_while_it_fits(trained, monkeypatch):
    path, params = trained

    def train(*_):
        raise AssertionError("trained anew")

    monkeypatch.setattr(segmentation, "train", train)
    again = segmentation.load_or_train(CONFIG, path, SHORT)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    larger = dataclasses.replace(CONFIG, data=Landscapes(train=33, report=12))
    for config, training in ((CONFIG, Training(steps=31, batch_size=8)), (larger, SHORT)):
        with pytest.raises(AssertionError, match="anew"):
            segmentation.load_or_train(config, path, training)


def test_class_weights_by_hand():
    maps = Maps(np.array([[0, 0], [0, 1]], np.uint8), np.array([[0, 2], [3, 3]], np.uint8))
    shares = np.array([4, 1, 1, 0]) / 6  # of what is not void, class 3
    roots = np.array([1.5**0.5, 6**0.5, 6**0.5, 0])
    found = segmentation.class_weights(maps, 5, void=3)
    np.testing.assert_allclose(found[:4], roots / np.sum(shares * roots), rtol=1e-6)
    assert found[3] == found[4] == 0  # void; a class that is never there
    np.testing.assert_allclose(np.sum(found[:4] * shares), 1, rtol=1e-6)
    whole = segmentation.class_weights(maps, 5, void=None)
    np.testing.assert_allclose(whole[3] / whole[0], 2**0.5, rtol=1e-6)


def test_jitter_changes_each_picture_within_range():
    grey = np.tile(np.linspace(-1, 1, 16, dtype=np.float32)[:, None, None], (3, 1, 8, 3))
    found = np.asarray(jax.jit(segmentation.jitter)(jax.random.key(0), grey))
    assert found.shape == grey.shape
    assert np.abs(found).max() <= 1
    assert np.all(np.diff(found, axis=1) >= -1e-5)  # what was brighter still is
    assert np.ptp(found.mean((1, 2, 3))) > 0.02


def test_void():
    assert segmentation.void_of(("sky", "void")) == 1
    assert segmentation.void_of(("sky",)) is None


def test_models_and_data_that_cannot_be_judged(tmp_path, monkeypatch):
    without = dataclasses.replace(CONFIG, model=Dcgan())
    with pytest.raises(UserError, match=r"inputs are z alone, .*10 classes"):
        segmentation.load_or_train(without, tmp_path / "x.npz")
    monkeypatch.setattr(Landscapes, "open", lambda *_: Maps(np.zeros((32, 32), np.uint8)))
    with pytest.raises(UserError, match="label maps without pictures"):
        segmentation.load_or_train(CONFIG, tmp_path / "x.npz")
