"""Distance over a plane of z: which plane, and that it is what the model renders there."""

import types
from typing import Any

import numpy as np
import pytest
import studies
from measured import measured_table
from tiny import tiny_renderer

import fiancee_jax as fj
from fiancee_jax.evaluation import examples, latent_map
from fiancee_jax.evaluation.latent_map import main_directions, plane


@pytest.mark.parametrize("d", [2, 5])
def test_main_directions_find_slope_and_bend(d):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((600, d))
    first, second = np.linalg.qr(rng.standard_normal((d, d)))[0][:2]
    distance = np.exp(0.8 * z @ first + 0.2 * (z @ second) ** 2)
    found = main_directions(z, distance)
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-9)
    assert abs(found[0] @ first) > 0.99
    assert abs(found[1] @ second) > 0.99


def test_main_directions_of_long_latents_are_orthonormal():
    z = np.random.default_rng(0).standard_normal((100, 40))
    found = main_directions(z, np.exp(z[:, 3] ** 2 / 2))
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-9)
    assert abs(found[0, 3]) > 0.9


def test_plane_runs_along_rows_first():
    z = plane(np.eye(2), np.array([-1.0, 0.0, 1.0]))
    assert z[:4].tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 0]]


def test_latent_map_is_the_distance_of_exit_one(monkeypatch):
    monkeypatch.setattr(latent_map, "STEPS", np.array([-2.0, 2.0]))
    renderer = tiny_renderer()
    source = renderer.config.data.open("report", (32, 32))
    table = measured_table(renderer, source)
    rec = table.subject.records
    found = latent_map.latent_map(renderer, rec, source, rec.lpips[:, 0])
    assert not isinstance(found, str)
    middle = np.argsort(rec.lpips[:, 0])[3]  # of eight
    assert found["name"] == rec.names[middle]
    inputs = examples.inputs_of(renderer, source, [found["name"]])[found["name"]]
    z = plane(np.array(found["directions"]), np.array([-2.0, 2.0]))[1:2]
    early, _, full = examples.pictures(renderer, [inputs], z)
    assert found["lpips_alex"][0][1] == pytest.approx(float(fj.lpips(early, full)[0]), rel=1e-3)


def test_latent_map_needs_two_coordinates():
    family = types.SimpleNamespace(latent_dim=1)
    renderer: Any = types.SimpleNamespace(model=types.SimpleNamespace(family=family))
    found = latent_map.latent_map(renderer, studies.made_records(), None, np.zeros(60))
    assert found == "z has fewer than two coordinates"


def test_latent_map_needs_a_vector_that_is_z():
    family = types.SimpleNamespace(latent_dim=3)
    renderer: Any = types.SimpleNamespace(model=types.SimpleNamespace(family=family))
    found = latent_map.latent_map(renderer, studies.made_records(), None, np.zeros(60))
    assert found == "the family's vector is not z"
