"""A family without label maps and without z, of two pictures: nothing generic needs more.

A source says what is shown and a driver how, as in face reenactment (`reenact.Reenact`).
"""

import numpy as np
import pytest
from reenact import CONFIG, SIZE

from fiancee_jax.checkpoint import Store
from fiancee_jax.config import Exit
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.inference import Renderer
from fiancee_jax.training.run import train


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    """Trained through all phases; not read by `load`, which knows the package's families only."""
    workdir = train(CONFIG, tmp_path_factory.mktemp("runs") / "reenact")
    store = Store(workdir)
    names = {"backbone": "backbone", "bank": "guides", "branches": "branches"}
    variables = {k: store.model(v) for k, v in {**names, "predictor": "predictor"}.items()}
    kept = [e for e in store.extra("branches")["menu"] if not e["dropped"]]
    store.close()
    exits = tuple(Exit(e["tap"], e["width"]) for e in kept)
    return Renderer(CONFIG, MultiExit.of(CONFIG, exits), variables, kept)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    names = ("source", "driver")
    return {name: rng.uniform(-1, 1, (3, *SIZE, 3)).astype(np.float32) for name in names}


def test_it_renders_at_any_depth_without_key_or_z(renderer, inputs):
    limit = float(np.median(renderer.predict(inputs, None)[:, 0]))
    for policy in ({"exit": "full"}, {"exit": 1}, {"max_lpips": limit}, {"budget_gmacs": 1.0}):
        r = renderer(inputs, **policy)
        assert r.images.shape == (3, *SIZE, 3)
        assert np.isfinite(r.images).all()
    assert set(renderer.variables["backbone"]) == {"params"}


def test_its_inputs_are_checked(renderer, inputs):
    with pytest.raises(UserError, match="the input 'driver' is missing"):
        renderer({"source": inputs["source"]}, exit=1)
    with pytest.raises(UserError, match=r"found 3 source, 2 driver"):
        renderer({**inputs, "driver": inputs["driver"][:2]}, exit=1)


def test_both_pictures_reach_every_exit(renderer, inputs):
    for name in inputs:
        changed = {**inputs, name: -inputs[name]}
        for exit in (1, "full"):
            moved = renderer(changed, exit=exit).images - renderer(inputs, exit=exit).images
            assert np.abs(moved).max() > 0
