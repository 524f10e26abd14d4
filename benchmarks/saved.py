"""Reads what a checkpoint holds, on whatever devices it was saved."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


def arrays(folder: pathlib.Path) -> dict[Any, np.ndarray]:
    """The leaves of one saved item by their paths."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.StandardCheckpointer() as reader:
        metadata: Any = reader.metadata(folder)
        tree = getattr(metadata, "item_metadata", metadata)
        shapes = jax.tree.map(
            lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding),
            getattr(tree, "tree", tree),
        )
        found = jax.tree_util.tree_leaves_with_path(reader.restore(folder, shapes))
    return {path: np.asarray(leaf) for path, leaf in found}
