"""The phase that calibrates: what it measures, on which inputs, and how it counts them."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from tiny import tiny_config, tiny_renderer, tiny_workdir

import fiancee_jax as fj
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import CalibrationPhase, from_dict, to_dict
from fiancee_jax.config_check import check_config
from fiancee_jax.data import Augment
from fiancee_jax.models.dcgan import Dcgan
from fiancee_jax.training.calibration import draw_latents, film_blocks, units_of
from fiancee_jax.training.workspace import KEYS

MAPS, LATENTS = 8, 16


def config(**changes):
    """Inputs may be flipped in training; calibration must not notice."""
    return tiny_config(**{"augment": Augment(flip=True), "blocks": 3, **changes})


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    renderer = tiny_renderer(augment=Augment(flip=True), blocks=3)
    tiny_workdir(folder, renderer)
    return folder


@pytest.fixture(scope="module")
def calibrated(workdir):
    fj.train(config(), workdir, phases=["calibration"])
    return fj.load(workdir)


def test_it_measures_what_the_renderer_would_make(calibrated):
    found = calibrated.calibration
    assert found.predicted.shape == found.distance.shape == (MAPS * LATENTS, 2)
    np.testing.assert_array_equal(found.unit, np.repeat(np.arange(MAPS), LATENTS))
    latents = np.random.default_rng([0, 4]).standard_normal((MAPS, LATENTS, 4), np.float32)
    source, i = calibrated.config.data.open("calibration", (32, 32)), 5
    labels, z = np.stack([source[i]["labels"]] * LATENTS), latents[i]
    one, two, full = (calibrated(labels, z=z, exit=k) for k in (1, 2, 3))
    distances = np.stack([fj.lpips(x.images, full.images) for x in (one, two)], 1)
    expected = np.stack([distances.max(1), distances[:, 1]], 1)
    rows = found.unit == i
    np.testing.assert_allclose(found.distance[rows], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.predicted[rows], full.predicted_lpips[:, :-1], rtol=1e-4)


def test_a_calibrated_model_promises(calibrated):
    labels = np.zeros((2, 32, 32), int)
    limit = float(calibrated.calibration.distance.max())
    assert calibrated.guarantee(limit, 0.8).tau == np.inf  # 8 maps, 4 are needed
    r = calibrated(labels, key=jax.random.key(0), max_lpips=limit, confidence=0.8)
    np.testing.assert_array_equal(r.exits, [1, 1])


def test_it_says_what_it_found_and_is_not_done_twice(calibrated, workdir, capsys):
    fj.train(config(), workdir, phases=["calibration"])
    assert "calibration: finished already" in capsys.readouterr().out
    fj.train(config(), workdir, phases=["calibration"], rerun=True)
    said = capsys.readouterr().out
    assert f"{MAPS} inputs in {MAPS} units, {MAPS * LATENTS} pictures by each exit" in said
    assert len(re.findall(r"max_lpips 0\.\d+ is broken on .* by the predictor alone", said)) == 3
    assert "needs 9 calibration units or more, and this model has 8" in said


def test_another_way_of_counting_is_noticed(calibrated, workdir):
    other = config(calibration=CalibrationPhase(block=2))
    message = r"calibration.block: 1 -> 2\n.*--phases calibration --rerun"
    with pytest.raises(fj.UserError, match=message):
        fj.train(other, workdir)


def test_new_predictors_make_a_calibration_stale(workdir, calibrated, tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    tiny_workdir(other, tiny_renderer())
    store = Store(other)
    store.save("calibration", 1, model={"x": np.zeros(1)}, train={}, extra={"finished": True})
    store.close()
    with pytest.raises(fj.UserError, match=r"'calibration' needs 'predictor'.*anew"):
        fj.train(tiny_config(), other, phases=["branches", "calibration"], rerun=True)


# --- units --------------------------------------------------------------------------------------
CAMVID = [*(f"0001TP_{i:06d}" for i in range(8280, 8430, 30)), "0006R0_f03450", "0006R0_f03480"]


def test_blocks_end_where_a_film_ends():
    blocks = film_blocks(CAMVID, 3)
    assert [b.tolist() for b in blocks] == [[0, 1, 2], [3, 4], [5, 6]]


def test_numbers_of_sequence_and_frame_are_both_taken_off():
    names = ["aachen_000000_000019", "aachen_000001_000019", "zurich_000000_000019"]
    assert [b.tolist() for b in film_blocks(names, 2)] == [[0, 1], [2]]


def test_films_that_cannot_be_told_apart_are_refused():
    with pytest.raises(fj.UserError, match=r"calibration.block is 2.*'beach'.*FILM_NUMBER"):
        film_blocks(["beach", "forest", "street"], 2)


class Names:
    """A source of which only names are read."""

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return {"name": self.names[index]}


def test_at_most_so_many_inputs_by_whole_units():
    rng, source = np.random.default_rng(0), Names(CAMVID)
    assert [u.tolist() for u in units_of(source, 1, 0, rng)] == [[i] for i in range(7)]
    seen = set()
    for _ in range(20):
        units = units_of(source, 3, 4, rng)
        flat = [i for unit in units for i in unit.tolist()]
        assert 2 <= len(flat) <= 4
        assert flat == sorted(flat)
        assert all(u.tolist() in ([0, 1, 2], [3, 4], [5, 6]) for u in units)
        seen.update(flat)
    assert seen == set(range(7))


def test_a_family_without_z_is_measured_once():
    rng = np.random.default_rng(0)
    assert draw_latents(rng, 3, 16, Dcgan(z_dim=5)).shape == (3, 16, 5)
    without = dataclasses.replace(Dcgan(), z_dim=0)
    assert draw_latents(rng, 3, 16, without).shape == (3, 1, 0)


# --- config -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": 15}, r"calibration.latents is 15; take 16 or more.*share of its z's"),
        ({"block": 0}, "calibration.block is 0"),
        ({"block": 5, "inputs": 4}, "calibration.block is 5 and calibration.inputs 4"),
        ({"inputs": -1}, "calibration.inputs -1"),
    ],
)
def test_values_that_cannot_work(changes, message):
    with pytest.raises(fj.UserError, match=message):
        check_config(config(calibration=CalibrationPhase(**changes)))


def test_workdirs_from_before_there_was_calibration():
    plain = to_dict(config())
    plain.pop("calibration")
    assert from_dict(plain) == config()


def test_older_phases_keep_their_random_keys():
    assert [KEYS.index(name) for name in ("backbone", "predictor", "preview", "init")] == [
        *(0, 3, 4, 5)
    ]
