import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_renderer

import fiancee_jax as fj
from fiancee_jax.data import Landscapes
from fiancee_jax.evaluation import records
from fiancee_jax.evaluation.records import Judges
from fiancee_jax.inference import file_latent
from fiancee_jax.models import lpips

RENDERER = tiny_renderer(blocks=3)
SOURCE = Landscapes(report=5).open("report", (32, 32))


def judges(pictures=True):
    nets = lpips.load("alex"), lpips.load("vgg")
    if not pictures:
        return Judges(*nets)
    features = lambda x: jnp.asarray(x)[:, ::8, ::8].reshape(len(x), -1)  # noqa: E731
    segment = lambda x: jnp.zeros(np.shape(x)[:3], jnp.int32)  # noqa: E731
    return Judges(*nets, features, segment)


@pytest.fixture(scope="module")
def found():
    return records.measure(RENDERER, SOURCE, judges(), latents=2)


def test_every_input_with_every_z(found):
    names = [SOURCE[i]["name"] for i in range(5)]
    assert found.names.tolist() == sorted(names * 2)
    assert found.units.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert found.lpips.shape == (10, 3)
    assert found.shares.shape == (10, 10)
    np.testing.assert_allclose(found.shares.sum(1), 1, rtol=1e-5)
    z = file_latent(0, names[3], 4)  # the first z is that of infer.py
    np.testing.assert_array_equal(found.vector[6], z)
    assert not np.allclose(found.vector[7], z)


def test_distances_are_those_of_the_renderers_own_pictures(found):
    labels = np.stack([SOURCE[i]["labels"] for i in range(5)]).astype(np.int32)
    z = found.vector[::2]
    full = RENDERER(labels, z=z, exit="full").images
    for number in (1, 2):
        picture = RENDERER(labels, z=z, exit=number).images
        want = {
            "lpips_alex": fj.lpips(picture, full),
            "lpips_vgg": fj.lpips(picture, full, net="vgg"),
            "l1": np.abs(picture - full).mean((1, 2, 3)),
        }
        for name, values in want.items():
            np.testing.assert_allclose(found.distances[name][::2, number - 1], values, atol=2e-5)
    predicted = RENDERER.predict(labels, z)
    np.testing.assert_allclose(found.predicted[::2], predicted, rtol=1e-4)
    np.testing.assert_array_equal(found.lpips[:, -1], 0)
    assert np.all(found.distances["ssim"][:, -1] > 0.9999)
    np.testing.assert_allclose(
        found.features[0, -1], np.asarray(full)[0, ::8, ::8].ravel(), atol=1e-5
    )


def test_pictures_are_read_and_compared_with_the_map(found):
    labels = SOURCE[0]["labels"]
    want = np.zeros((10, 10))
    want[:, 0] = np.bincount(labels.ravel(), minlength=10)  # all was read as class 0
    np.testing.assert_array_equal(found.confusion[0, 0], want)
    assert found.real_confusion.sum() == 5 * 32 * 32  # each real picture once, not once for each z
    assert len(found.real_features) == 5


def test_crowdedness_is_none_for_one_class_and_grows_with_stripes():
    flat = np.zeros((1, 32, 32), np.int32)
    half, stripes = flat.copy(), flat.copy()
    half[:, 16:], stripes[:, :, ::2] = 1, 1
    stripes = np.repeat(np.arange(4)[None, None, :] % 2, 32, 1).repeat(8, 2)
    edges = []
    for labels in (flat, half, stripes):
        inputs = {"labels": jnp.asarray(labels), "z": jnp.zeros((1, 4))}
        edges.append(float(records._seen(RENDERER.model, {}, inputs)["edges"][0]))
    assert edges[0] == 0 < edges[1] < edges[2]


def test_confusions_are_counted_in_the_smallest_type_that_holds_a_picture(found):
    assert found.confusion.dtype == np.uint16  # 32 x 32 pixels
    assert found.real_confusion.dtype == np.int64
    assert records.count_type(255 * 257) == np.uint16
    assert records.count_type(256 * 256) == np.uint32
