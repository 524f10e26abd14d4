"""Every config's size, to the last parameter; the full-size ones also against the papers."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from fiancee_jax import cost
from fiancee_jax.classes import unnamed
from fiancee_jax.config import Guides, PredictorPhase, config_names, load_config
from fiancee_jax.exits import MultiExit


class Golden(NamedTuple):
    """Parameters of both networks, and GMACs of the backbone for one picture."""

    classes: int  # of its data set, which need not be there; 0 for families without
    generator: int
    discriminator: int
    gmacs: float


GOLDENS = {
    "avatars": Golden(0, 1_461_285, 6_417, 0.80551),
    "camvid": Golden(12, 3_081_139, 720_749, 2.12918),
    "camvid_192": Golden(12, 6_719_307, 5_634_765, 17.2672),
    "camvid_small": Golden(12, 1_786_455, 698_157, 0.65806),
    "dcgan": Golden(0, 320_643, 54_193, 0.032612),
    "materials": Golden(10, 1_681_911, 293_035, 0.36040),
    "megaportraits_512": Golden(0, 211_693_269, 3_114_754, 1012.202),
    "oasis_ade20k": Golden(151, 74_314_691, 22_258_904, 194.358),
    "oasis_cityscapes": Golden(35, 71_107_523, 22_251_364, 318.620),
    "oasis_coco": Golden(183, 75_199_427, 22_260_984, 204.026),
    "quickstart": Golden(10, 1_662_903, 293_035, 0.34616),
}


def family_of(name):
    """A config's family with as many classes as its data set has."""
    return load_config(name).model.with_classes(unnamed(GOLDENS[name].classes))


def counted(name):
    """What the program itself says: shapes and jaxprs, nothing is run."""
    family = family_of(name)
    model = MultiExit(family, (), Guides(form="none"), PredictorPhase())
    variables, inputs = model._abstract
    picture = jax.ShapeDtypeStruct((1, *family.size, 3), jnp.float32)
    judge = jax.eval_shape(family.discriminator().init, jax.random.key(0), picture)
    return Golden(
        GOLDENS[name].classes,
        cost.parameters(variables["backbone"]["params"]),
        cost.parameters(judge["params"]),
        cost.gmacs(lambda v, i: model.full(v, i)[0], variables, inputs),
    )


def test_every_config_has_a_golden():
    assert sorted(GOLDENS) == config_names()


@pytest.mark.parametrize("name", config_names())
def test_size(name):
    golden, found = GOLDENS[name], counted(name)
    assert found._replace(gmacs=0) == golden._replace(gmacs=0)
    assert found.gmacs == pytest.approx(golden.gmacs, rel=1e-3)


@pytest.mark.parametrize("name", ["materials", "quickstart"])
def test_classes_are_those_of_the_data(name):
    assert len(load_config(name).data.classes()) == GOLDENS[name].classes


# --- the papers ---------------------------------------------------------------------------------
PUBLISHED = {  # classes, size; parameters of both networks in millions, GMACs of one picture
    "oasis_ade20k": (151, (256, 256), 74.31, 22.3, 194.4),
    "oasis_coco": (183, (256, 256), 75.20, 22.3, 204.0),
    "oasis_cityscapes": (35, (256, 512), 71.11, 22.3, 318.6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_goldens_are_the_published_sizes(name):
    classes, _, generator, discriminator, gmacs = PUBLISHED[name]
    golden = GOLDENS[name]
    assert golden.classes == classes
    assert golden.generator / 1e6 == pytest.approx(generator, abs=0.005)
    assert golden.discriminator / 1e6 == pytest.approx(discriminator, abs=0.05)
    assert golden.gmacs == pytest.approx(gmacs, abs=0.05)


@pytest.mark.parametrize("name", PUBLISHED)
def test_goldens_by_plain_arithmetic(name):
    classes, size, *_ = PUBLISHED[name]
    golden = GOLDENS[name]
    layers = generator_layers(classes, *size)
    assert golden.generator == sum(weights + biases for weights, biases, _ in layers)
    macs = sum(weights * pixels for weights, _, pixels in layers)
    assert golden.gmacs == pytest.approx(macs / 1e9, rel=1e-5)
    judge = discriminator_layers(classes)
    assert golden.discriminator == sum(weights + biases for weights, biases in judge)


def generator_layers(classes, height, width):
    """(weights, biases, output pixels) of each convolution of OASIS at width 64."""
    seg, hidden = classes + 64, 128  # z is concatenated to the one-hot labels
    channels = [1024, 1024, 1024, 512, 256, 128, 64]
    pixels = height * width // 32**2
    layers = [(9 * seg * channels[0], channels[0], pixels)]
    for stage, (before, after) in enumerate(itertools.pairwise(channels)):
        pixels = (height * width) // 4 ** (5 - stage)
        middle = min(before, after)
        normed = [before, middle] + ([before] if before != after else [])
        for c in normed:  # SPADE: shared, gamma, beta
            layers += [(9 * seg * hidden, hidden, pixels)]
            layers += 2 * [(9 * hidden * c, c, pixels)]
        layers += [(9 * before * middle, middle, pixels), (9 * middle * after, after, pixels)]
        if before != after:
            layers += [(before * after, 0, pixels)]
    return [*layers, (9 * channels[-1] * 3, 3, pixels)]


def discriminator_layers(classes):
    """(weights, biases) of each convolution of the U-Net; decoder inputs include the skip."""
    encoder = [(3, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    decoder = [(512, 512), (1024, 256), (512, 256), (512, 128), (256, 128), (256, 64)]
    layers = []
    for before, after in encoder + decoder:
        layers += [(9 * before * after, after), (9 * after * after, after)]
        layers += [(before * after, after)] if before != after else []
    return [*layers, (64 * (classes + 1), classes + 1)]
