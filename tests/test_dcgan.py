"""DCGAN, the example of docs/adding-a-generator.md: its networks, all phases, rendering."""

import dataclasses
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fiancee_jax as fj
from fiancee_jax.config import (
    BackbonePhase,
    BranchesPhase,
    CalibrationPhase,
    Config,
    Exit,
    Guides,
    Logging,
    PredictorPhase,
)
from fiancee_jax.config_check import check_config
from fiancee_jax.data import Augment, Landscapes
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.dcgan import Dcgan
from fiancee_jax.models.staged import StagedGenerator
from fiancee_jax.render_folder import Request, render_folder
from fiancee_jax.rendering import render_routed

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZE, Z = (32, 32), 4
CONFIG = Config(
    name="tiny",
    model=Dcgan(size=SIZE, width=4, z_dim=Z, stages=3, min_channels=2),
    data=Landscapes(train=8, predictor=8, calibration=8, report=8),
    augment=Augment(),
    exits=(Exit(1, 0.5), Exit(2, 0.5)),
    guides=Guides(size=8, neighbours=2),
    backbone=BackbonePhase(steps=3, batch_size=4, step="fused", recollect=1, init_gain=1.0),
    branches=BranchesPhase(steps=3, batch_size=4, lpips_net="alex", measure=4),
    predictor=PredictorPhase(inputs=16, steps=3, batch_size=8, channels=4, hidden=8),
    calibration=CalibrationPhase(inputs=2),
    logging=Logging(every=3, preview_every=3, checkpoint_every=3),
)


# --- networks -----------------------------------------------------------------------------------
def test_channels_double_towards_the_stem():
    family = Dcgan(width=16, stages=4)
    assert [family.features(i) for i in range(5)] == [256, 128, 64, 32, 16]
    assert [family.features(i, 0.25) for i in range(5)] == [64, 32, 16, 8, 8]
    assert [family.stage_factor(i) for i in range(5)] == [16, 8, 4, 2, 1]


def test_parameters_by_hand():
    """z 4, 32 features at 4x4, then 16, 8, 4; batch norm has two vectors."""
    count = (4 + 1) * 16 * 32 + 2 * 32
    count += sum(9 * i * o + 3 * o for i, o in ((32, 16), (16, 8), (8, 4))) + (9 * 4 + 1) * 3
    assert count == sum(
        x.size for x in jax.tree.leaves(MultiExit.of(CONFIG).backbone_shapes["params"])
    )


def test_losses_are_cross_entropies():
    logits: dict[Any, Any] = {"fake": jnp.asarray([0.5, -1.0]), "real": jnp.asarray([2.0, 0.0])}
    fake: Any = "fake"
    real: Any = "real"
    sigmoid = {name: 1 / (1 + np.exp(-np.asarray(x))) for name, x in logits.items()}
    family, discriminate = CONFIG.model, logits.__getitem__
    generator = family.generator_loss(discriminate, fake, {})
    terms = family.discriminator_losses(discriminate, fake, real, {}, jax.random.key(0))
    np.testing.assert_allclose(generator, -np.log(sigmoid["fake"]).mean(), rtol=1e-6)
    np.testing.assert_allclose(terms["d_fake"], -np.log(1 - sigmoid["fake"]).mean(), rtol=1e-6)
    np.testing.assert_allclose(terms["d_real"], -np.log(sigmoid["real"]).mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (40, 64)}, r"model.size is \[40, 64\] and model.stages 4"),
        ({"stages": 1}, "take 2 or more stages"),
        ({"width": 0}, "model.width is 0; it must be 1 or more"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(fj.UserError, match=message):
        Dcgan(**changes).check()


def test_the_config_works():
    config = fj.load_config("dcgan")
    check_config(config)
    composed = dataclasses.replace(config, predictor=PredictorPhase(compose=0.5))
    with pytest.raises(fj.UserError, match=r"predictor.compose is 0.5.*cannot be made into one"):
        check_config(composed)
    gmacs = MultiExit.of(config).gmacs
    assert gmacs[0] < 0.5 * gmacs[-1]


# --- all phases ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return fj.train(CONFIG, tmp_path_factory.mktemp("runs") / "dcgan")


@pytest.fixture(scope="module")
def renderer(workdir):
    return fj.load(workdir)


def latents(count):
    return np.random.default_rng(0).standard_normal((count, Z)).astype(np.float32)


def test_it_trains_through_all_phases(workdir, renderer):
    assert renderer.has_predictor
    assert set(renderer.variables) == {"backbone", "bank", "branches", "predictor"}
    assert renderer.variables["bank"]["palette"].shape == (8, 64, 3)
    assert renderer.calibration.units == 2 * 16  # nothing but z: each is an input of its own
    assert {path.name[:8] for path in (workdir / "samples").iterdir()} == {"backbone", "branches"}


def test_pictures_are_asked_for_by_number_or_by_z(renderer):
    key = jax.random.key(1)
    by_number = renderer(3, key=key, exit="full")
    assert by_number.images.shape == (3, *SIZE, 3)
    assert np.asarray(by_number.exits).tolist() == [renderer.model.num_exits] * 3
    z = renderer.draw_latents(key, 3)
    for inputs in (None, {}, 3, np.int64(3)):
        np.testing.assert_array_equal(renderer(inputs, z=z, exit="full").images, by_number.images)


@pytest.mark.parametrize("exact", [True, False])
def test_one_trace_serves_every_mix_of_exits(renderer, exact):
    z, n = latents(6), renderer.model.num_exits
    each = np.stack([renderer(z=z, exit=k).images for k in range(1, n + 1)])
    compiled = render_routed._cache_size  # pyright: ignore[reportAttributeAccessIssue]
    before = compiled()
    for mix in ([1] * 6, [n, 1] * 3, [n] * 6):
        args = (renderer.model, renderer.variables, {"z": z}, jnp.asarray(mix, jnp.int32))
        images, ran = render_routed(*args, exact=exact)
        expected = each[np.asarray(ran) - 1, np.arange(6)]
        np.testing.assert_allclose(images, expected, atol=1e-5)
    assert compiled() <= before + 1


def test_thresholds_and_budgets_route(renderer):
    z = latents(6)
    predicted = np.asarray(renderer.predict(None, z))
    limit = float(np.median(predicted[:, 0]))
    r = renderer(z=z, max_lpips=limit, exact=True)
    np.testing.assert_array_equal(np.asarray(r.exits) == 1, predicted[:, 0] <= np.float32(limit))
    table = np.asarray(renderer.table())
    r = renderer(6, key=jax.random.key(0), budget_gmacs=float(table.mean()))
    assert np.asarray(r.gmacs).mean() <= table.mean() * (1 + 1e-6)


def test_gradients_reach_z_through_an_exit(renderer):
    def brightness(z):
        return renderer(z=z, exit=1).images.mean()

    assert np.abs(jax.grad(brightness)(jnp.asarray(latents(2)))).max() > 0


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (None, {"key": jax.random.key(0)}, r"no inputs but z: say how many.*renderer\(8, key="),
        (0, {"key": jax.random.key(0)}, r"found 0. Give the number of pictures, 1 or more"),
        (2.0, {"key": jax.random.key(0)}, r"found 2.0. Give the number"),
        (True, {"key": jax.random.key(0)}, r"found True. Give the number"),
        (np.zeros((2, 8, 8)), {"key": jax.random.key(0)}, r"no inputs but z; found ndarray"),
        (3, {"z": np.zeros((2, Z))}, r"z has 2 rows for 3"),
        (None, {"z": np.zeros((2, 9))}, r"z has shape \[2, 9\]; this model takes \[batch, 4\]"),
        (2, {}, "give either key="),
    ],
)
def test_what_cannot_be_drawn_is_said(renderer, inputs, options, message):
    with pytest.raises(fj.UserError, match=message):
        renderer(inputs, exit=1, **options)


def test_a_folder_of_label_maps_is_refused(renderer, tmp_path):
    request = Request("runs/dcgan", tmp_path / "labels", tmp_path / "out")
    message = r"takes nothing but a latent z.*load\('runs/dcgan'\)\(8, key=jax.random.key\(0\)"
    with pytest.raises(fj.UserError, match=message):
        render_folder(renderer, request)
    assert not (tmp_path / "out").exists()


# --- the document -------------------------------------------------------------------------------
def squeezed(code):
    """Its lines without blank ones and without indentation, for methods are quoted dedented."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def test_the_document_quotes_the_code():
    """Python blocks of the document stand in the family's file or its config, word for word."""
    sources = ("fiancee_jax/models/dcgan.py", "configs/dcgan.py")
    code = squeezed("\n".join((ROOT / path).read_text() for path in sources))
    text = (ROOT / "docs" / "adding-a-generator.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    quoted = [block for block in blocks if "renderer(" not in block]
    assert len(quoted) == len(blocks) - 1 == 4
    for block in quoted:
        assert squeezed(block) in code


def test_the_document_names_all_of_the_contract():
    text = (ROOT / "docs" / "adding-a-generator.md").read_text()
    members = [name for name in vars(StagedGenerator) if not name.startswith("_")]
    assert len(members) >= 20
    assert [name for name in members if f"`{name}" not in text] == []
