"""What every phase works with: config, folder, checkpoints, devices, data, randomness."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from fiancee_jax import hosts
from fiancee_jax.checkpoint import Store
from fiancee_jax.config import PHASES, Config
from fiancee_jax.data import Batch, Cached, batches
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.models import lpips
from fiancee_jax.trained import VARIABLES
from fiancee_jax.training.interruption import Interruption
from fiancee_jax.training.log import Log
from fiancee_jax.training.sharding import shardings

# Randomness that is not of one phase comes after the first four, and later phases after that:
# their places are part of every random key, so they stay.
KEYS = (*PHASES[:4], "preview", "init", *PHASES[4:])


@dataclasses.dataclass
class Workspace:
    """One run of train.py. All randomness comes from (seed, phase, step)."""

    config: Config
    workdir: pathlib.Path
    store: Store
    log: Log
    interruption: Interruption = dataclasses.field(default_factory=Interruption)
    sources: dict[str, Cached] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def model(self) -> MultiExit:
        """The networks, with all exits of the config."""
        return MultiExit.of(self.config)

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """All devices along one axis: the batch is split over it (and what `place` splits)."""
        return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))

    @property
    def replicated(self) -> NamedSharding:
        """Sharding of parameters."""
        return NamedSharding(self.mesh, P())

    def place(self, state: Any) -> Any:
        """A training state onto the devices, large parameters split as the config says."""
        return jax.device_put(state, shardings(state, self.mesh, self.config))

    def key(self, phase: str, step: int | Array) -> Array:
        """The random key of one step of one phase."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), KEYS.index(phase))
        return jax.random.fold_in(key, step)

    def rng(self, phase: str) -> np.random.Generator:
        """Host randomness of a phase's start."""
        return np.random.default_rng([self.config.seed, PHASES.index(phase)])

    def perceptual(self, net: str) -> lpips.LpipsParams:
        """LPIPS weights on all devices."""
        return jax.device_put(lpips.load(net), self.replicated)

    def put(self, batch: Batch) -> Batch:
        """This host's part of a batch onto the devices, split along its first axis."""
        sharding = NamedSharding(self.mesh, P("data"))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def put_whole(self, batch: Batch) -> Batch:
        """A batch that every host has, onto all devices, split along its first axis."""
        sharding = NamedSharding(self.mesh, P("data"))
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda at: x[at]), batch
        )

    def source(self, split: str) -> Cached:
        """A split of the data set, checked when it is first opened, kept in memory if small."""
        if split not in self.sources:
            opened = self.config.data.open(split, self.config.model.size)
            self.sources[split] = Cached(opened)
        return self.sources[split]

    def loader(self, split: str, batch_size: int, phase: str) -> Any:
        """Endless shuffled batches of this host's share; a resumable grain iterator."""
        count, source, family = jax.process_count(), self.source(split), self.config.model
        beside = [name for name in family.training_names if name in source[0]]
        return batches(
            source,
            size=self.config.model.size,
            batch_size=batch_size // count,
            seed=self.config.seed + PHASES.index(phase),
            augment=self.config.augment,
            keys=(*family.input_names, *beside),
            shard=(jax.process_index(), count),
        )

    def draw(self, split: str, count: int, batch_size: int, phase: str) -> Iterator[Batch]:
        """At least `count` random inputs of a split, in batches on the devices."""
        loader = self.loader(split, batch_size, phase)
        for _ in range(-(-count // batch_size)):
            yield self.put(next(loader))

    def frozen(self, *phases: str) -> Variables:
        """Variables of finished phases, replicated on all devices."""
        variables = {VARIABLES[phase]: self.store.model(phase) for phase in phases}
        return jax.device_put(hosts.gathered(variables), self.replicated)
