"""The networks of MegaPortraits: encoders, warps, and poses that training knows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tiny_heads import heads_config

from fiancee_jax.exits import MultiExit
from fiancee_jax.models.layers import initialise
from fiancee_jax.models.megaportraits_modules import Encoder, Warp, _cells

SIZE = heads_config().model.size
RNG = np.random.default_rng(0)


def test_encoders_see_where_something_is():
    dot = np.zeros((2, *SIZE, 3), np.float32)
    dot[0, 4:8, 4:8], dot[1, 20:24, 20:24] = 1, 1
    encoder = Encoder(8, 1, 1, 3)
    fresh = initialise(jax.eval_shape(encoder.init, jax.random.key(0), dot), RNG, 1.0)
    codes: Any = encoder.apply({"params": fresh["params"]}, dot)
    assert codes.shape == (2, 3)
    assert np.abs(codes[0] - codes[1]).max() > 0.05 * np.abs(codes).max()


def test_cells_fill_any_map():
    for height, width in ((4, 4), (1, 2), (14, 14), (16, 32), (9, 6), (7, 5)):
        side = _cells(height, width)
        assert height % side == width % side == 0
        assert side == 1 or min(height, width) // side >= 4


def test_a_fresh_warp_hardly_moves_anything():
    warp, code = Warp(16, (4, 8, 8)), jnp.asarray(RNG.standard_normal((3, 9)), jnp.float32)
    shapes = jax.eval_shape(warp.init, jax.random.key(0), code)
    shifts: Any = warp.apply(initialise(shapes, np.random.default_rng(0), 1.0), code)
    assert shifts.shape == (3, 4, 8, 8, 3)
    assert 0 < float(jnp.abs(shifts).mean()) < 0.1
    assert float(jnp.abs(shifts).max()) < 0.5


def test_in_training_the_volume_turns_by_known_poses():
    model = MultiExit.of(heads_config())
    fresh = initialise(model.backbone_shapes, np.random.default_rng(0), 1.0)
    backbone = {"params": fresh["params"]}
    inputs = {
        name: RNG.uniform(-1, 1, (2, *SIZE, 3)).astype(np.float32) for name in ("source", "driver")
    }

    def features(poses, train):
        condition = model.condition({**inputs, **poses})
        return model.backbone().apply(backbone, condition, train=train)[0]

    encoded = model.encode({"backbone": backbone}, {**inputs, "z": jnp.zeros((2, 0))})
    own = {
        "source_pose": encoded["source_motion"][:, :6],
        "driver_pose": encoded["motion"][:, :6],
    }
    plain = features({}, train=True)
    np.testing.assert_allclose(features(own, train=True), plain, atol=1e-5)
    for name, pose in own.items():
        other = {name: pose + 0.2}
        assert np.abs(features(other, train=True) - plain).max() > 1e-3, name
        np.testing.assert_array_equal(features(other, train=False), features({}, train=False))
