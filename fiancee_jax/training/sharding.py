"""Where parameters lie: on every device, or, the large ones, split over all of them.

Splitting (`Config.shard_above`) is for models whose states do not fit one device: parameters, their
average and Adam's moments are stored in parts, and the compiler gathers a parameter where a step
uses it. Batches are split over the same devices, so the arithmetic is that of copies.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from fiancee_jax.config import Config


def shardings(tree: PyTree, mesh: Mesh, config: Config) -> PyTree:
    """A sharding for each array (or shape) of a training state."""
    return jax.tree.map(lambda x: NamedSharding(mesh, spec(np.shape(x), mesh.size, config)), tree)


def spec(shape: tuple[int, ...], devices: int, config: Config) -> P:
    """How an array of this shape lies on so many devices.

    An array of `Config.shard_above` elements or more is split along its longest axis that the
    devices divide; all others, and one without such an axis, are copied.
    """
    sides = {axis: side for axis, side in enumerate(shape) if side and side % devices == 0}
    if not 0 < config.shard_above <= np.prod(shape, dtype=np.int64) or not sides:
        return P()
    longest = max(sides, key=lambda axis: sides[axis])
    return P(*("data" if axis == longest else None for axis in range(len(shape))))


def step_shardings(state: PyTree, config: Config) -> Any:
    """What `jax.jit` is told about a step's results (state, metrics): the state stays as it lies.

    Nothing, where everything is copied: then the compiler keeps it so by itself.
    """
    if not config.shard_above:
        return None
    return jax.tree.map(lambda x: x.sharding, state), None
