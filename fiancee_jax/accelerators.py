"""TPUs that need not be there: their published numbers, and their topologies for the compiler.

libtpu, the compiler and runtime of TPUs, compiles for a topology that is only described. It is no
dependency of the package: ``pip install -r requirements-tpu.txt`` brings the one that fits jax.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fiancee_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip as its vendor describes it.

    Attributes:
        name: of its generation, as topologies are called by.
        hbm: its memory, as published; the compiler itself says what does not fit.
        flops: peak floating-point operations per second in bfloat16 (1 MAC = 2). Float32 products
            run on the same units, by default in one bfloat16 pass, so it is their peak too.
        bandwidth: of its memory, bytes per second.
    """

    name: str
    hbm: str
    flops: float
    bandwidth: float

    def seconds(self, flops: float, accessed: float) -> tuple[float, str]:
        """The roofline: the least time for so many operations and bytes, and what binds it.

        Returns:
            Seconds, and "compute" or "memory".
        """
        times = {"compute": flops / self.flops, "memory": accessed / self.bandwidth}
        binding = max(times, key=lambda what: times[what])
        return times[binding], binding


# Per chip, from Google's Cloud TPU documentation, the pages "TPU v4", "TPU v5e", "TPU v5p" and
# "TPU v6e", section "System architecture": "Peak compute per chip (bf16)", "HBM capacity and
# bandwidth". GBps there are 10^9 bytes per second.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "32 GiB", 275e12, 1200e9),
        Chip("v5e", "16 GB", 197e12, 819e9),
        Chip("v5p", "95 GB", 459e12, 2765e9),
        Chip("v6e", "32 GB", 918e12, 1638e9),
    )
}

# Tried with the compiler; others of these generations may do as well.
TORI = ("1x1", "2x2", "2x4", "4x4", "8x8", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x2x4", "4x4x4")
KNOWN = {"v4": CUBES, "v5e": TORI, "v5p": CUBES, "v6e": TORI}

# Off a TPU machine libtpu would ask a metadata server, wait for it and complain. Nothing here
# touches a chip, so any number of processes may describe one at the same time.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # of the machine that is not there, not of the topology
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips to compile for, along one mesh axis called "data".

    Attributes:
        name: ``v5e:2x2``.
        chip: their kind.
        mesh: devices that can be compiled for; one for each chip.
    """

    name: str
    chip: Chip
    mesh: Mesh

    @property
    def chips(self) -> int:
        """How many."""
        return self.mesh.size

    def replicated(self, tree: Any) -> Any:
        """Shapes of arrays of which every chip holds a copy."""
        return _placed(tree, NamedSharding(self.mesh, P()))

    def split(self, tree: Any) -> Any:
        """Shapes of arrays that are split over the chips along their first axis."""
        return _placed(tree, NamedSharding(self.mesh, P("data")))


def describe(name: str) -> Topology:
    """The topology called ``GENERATION:SHAPE``. JAX itself is kept on the CPU from here on.

    Raises:
        UserError: no such topology, or libtpu is not installed.
    """
    generation, _, shape = name.partition(":")
    if generation not in CHIPS or not re.fullmatch(r"\d+(x\d+)+", shape):
        raise UserError(f"there is no topology {name!r}. {_known()}")
    if importlib.util.find_spec("libtpu") is None and not os.environ.get("TPU_LIBRARY_PATH"):
        raise UserError(
            f"compiling for {name} needs libtpu, which is not installed. It needs no TPU: "
            "pip install -r requirements-tpu.txt (best into an environment of its own)."
        )
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")
    try:
        found = topologies.get_topology_desc(name, "tpu", **_options(generation, shape))
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"libtpu knows no topology {name!r} ({reason}). {_known()}") from None
    mesh = Mesh(np.asarray(found.devices), ("data",), axis_types=(AxisType.Auto,))
    return Topology(name, CHIPS[generation], mesh)


def _options(generation: str, shape: str) -> dict[str, Any]:
    """What libtpu has to be told: v4's two cores as one device, and hosts of a single chip."""
    options: dict[str, Any] = {"chip_config_name": "megacore"} if generation == "v4" else {}
    if math.prod(map(int, shape.split("x"))) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    return options


def _known() -> str:
    every = (f"{kind}: {', '.join(shapes)}" for kind, shapes in KNOWN.items())
    return f"Write GENERATION:SHAPE, v5e:2x2 say. Known ones are {'; '.join(every)}."


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return placed(tree, jax.tree.map(lambda _: sharding, tree))


def placed(tree: Any, shardings: Any) -> Any:
    """Shapes of arrays that lie as told, each by its own sharding."""

    def place(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(place, tree, shardings)
