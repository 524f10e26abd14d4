"""TFDS data sets: read at random without TensorFlow, never downloaded, mistakes named."""

import io
import json
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from fiancee_jax.data import Tfds, epoch
from fiancee_jax.data.tfds import prepare
from fiancee_jax.errors import UserError

CLASSES = ("sky", "road", "void")
SIZE = (6, 8)


def png(array):
    data = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(data, "png")
    data.seek(0)
    return data


class TinyMaps(tfds.core.GeneratorBasedBuilder):
    """Pictures with label maps: `rgb` as scene_parse150 has them, `one` as Cityscapes."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = epath.Path(__file__).parent

    def _info(self):
        picture = tfds.features.Image(shape=(None, None, 3))
        one = tfds.features.Image(shape=(None, None, 1))
        features = {"image": picture, "rgb": picture, "one": one, "number": np.int64}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(6)), "validation": self._odd()}

    def _generate_examples(self, numbers):
        for i in numbers:
            yield i, self._example(i % 3, np.full((6, 8, 3), i % 3), i)

    def _odd(self):
        yield 0, self._example(7, np.full((6, 8, 3), 7), 0)  # an unknown id
        yield 1, self._example(1, np.full((6, 8, 3), [1, 1, 2]), 1)  # a colour map
        yield 2, {**self._example(1, np.full((3, 4, 3), 1), 2), "one": png(np.ones((3, 4)))}

    def _example(self, label, rgb, i):
        one = png(np.full((6, 8), label))
        return {"image": png(np.full((6, 8, 3), 40 * i)), "rgb": png(rgb), "one": one, "number": i}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    path = prepare("tiny_maps", str(folder))
    assert path == folder / "tiny_maps" / "1.0.0"
    assert list(path.glob("*.array_record*"))
    return str(folder)


def tiny(data_dir, **changes):
    options = {"label_key": "rgb", "class_names": CLASSES, "train": "train", **changes}
    return Tfds("tiny_maps", data_dir=data_dir, **options)


@pytest.mark.parametrize("key", ["rgb", "one"])
def test_elements_are_read_at_random(data_dir, key):
    source = tiny(data_dir, label_key=key).open("train", SIZE)
    assert len(source) == 6
    element = source[5]
    assert element["name"] == "tiny_maps_train_000005"
    np.testing.assert_array_equal(element["image"], np.full((6, 8, 3), 200))
    np.testing.assert_array_equal(element["labels"], np.full((6, 8), 2))
    assert element["labels"].dtype == np.uint8
    labels = [
        batch.inputs["labels"][:, 0, 0].tolist()
        for _, batch in epoch(source, SIZE, 4, keys=["labels"])
    ]
    assert labels == [[0, 1, 2, 0], [1, 2]]
    assert "tensorflow" not in sys.modules


def test_splits_are_written_as_tfds_does(data_dir):
    data = tiny(data_dir, train="train[:50%]", predictor="train[50%:]")
    assert [e["image"][0, 0, 0] for e in data.open("train", SIZE)] == [0, 40, 80]
    assert [e["image"][0, 0, 0] for e in data.open("predictor", SIZE)] == [120, 160, 200]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, r"Element 0 of tiny_maps_report holds class ids 7; expected 0 to 2 .*class_names|list"),
        (1, r"Element 1 of tiny_maps_report has label channels that differ, \(6, 8, 3\)"),
        (2, r"Element 2 of .* has a picture \(6, 8, 3\) for labels \(3, 4\)"),
    ],
)
def test_bad_elements_are_named(data_dir, index, expected):
    source = tiny(data_dir).open("report", SIZE)
    with pytest.raises(UserError, match=expected):
        source[index]


def test_what_is_not_prepared_is_said_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(UserError, match="not prepared in") as caught:
        tiny(str(tmp_path)).open("train", SIZE)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert "\n" not in message  # one paragraph
    assert f"`python -m fiancee_jax prepare tiny_maps --data-dir {tmp_path}`" in message
    assert not list(tmp_path.iterdir())


def test_a_catalogue_data_set_is_never_downloaded(tmp_path):
    with pytest.raises(UserError, match=r"scene_parse150 is not prepared.*Nothing is downloaded"):
        Tfds("scene_parse150", class_names=CLASSES, data_dir=str(tmp_path)).open("train", SIZE)
    assert not list(tmp_path.iterdir())


def test_the_default_folder_is_named(monkeypatch):
    with pytest.raises(UserError, match=r"--data-dir \S*tensorflow_datasets`"):
        Tfds("scene_parse150", class_names=CLASSES).open("train", SIZE)


def test_a_format_that_cannot_be_read_at_random(tmp_path):
    path = prepare("tiny_maps", str(tmp_path))
    info = json.loads((path / "dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
    (path / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=r"is prepared as tfrecord in .*removing its old files"):
        tiny(str(tmp_path)).open("train", SIZE)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_key": "photo"}, "Found no feature photo in data set tiny_maps; it has .*rgb"),
        ({"label_key": "seg"}, "Found no feature seg.*Set image_key and label_key"),
        ({"train": "trai"}, r"Found split 'trai'.*it has train, validation"),
        ({"train": "train[:1%]"}, r"Found split 'train\[:1%\]'"),
    ],
)
def test_bad_fields_are_named(data_dir, changes, expected):
    with pytest.raises(UserError, match=expected):
        tiny(data_dir, **changes).open("train", SIZE)


def test_an_unknown_split(data_dir):
    with pytest.raises(UserError, match="Found split 'val'; expected one of train"):
        tiny(data_dir).open("val", SIZE)


def test_an_unknown_data_set(tmp_path):
    unknown = Tfds("no_such_set", class_names=CLASSES, data_dir=str(tmp_path))
    for use in (lambda: prepare("no_such_set", str(tmp_path)), lambda: unknown.open("train", SIZE)):
        with pytest.raises(UserError, match=r"cannot find the data set 'no_such_set'.*catalogue"):
            use()


def test_class_names_come_from_the_config_or_a_file(tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(CLASSES))
    assert Tfds("x", class_names=CLASSES).classes() == CLASSES
    assert Tfds("x", classes_json=str(path)).classes() == CLASSES
    with pytest.raises(UserError, match="Found neither of class_names and classes_json"):
        Tfds("x").classes()
    with pytest.raises(UserError, match="Found both of class_names and classes_json"):
        Tfds("x", class_names=CLASSES, classes_json=str(path)).classes()
