"""Several hosts as one program: who they are, what one of them does for all, and what all share.

Every host runs the same command (multi-controller SPMD, `jax.distributed`). Computation spans all
of their devices; files in a common folder are written by the first host.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import PyTree

from fiancee_jax.errors import UserError

T = TypeVar("T")

AUTO = "auto"
TASKS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JAX_NUM_PROCESSES")  # more than 1: a cluster
WORKERS = "TPU_WORKER_HOSTNAMES"  # of a TPU slice, with commas between them


def start(asked: str = "", environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other hosts, if there are any; to be called before anything else of JAX.

    Args:
        asked: "" to join if the environment tells of several hosts (Cloud TPU slices, Slurm, Open
            MPI, or ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``);
            ``auto`` to let JAX find them in any case; or ``ADDRESS:PORT,INDEX,COUNT``.
        environment: variables.

    Raises:
        UserError: `asked` cannot be understood, or the others cannot be joined.
    """
    if asked in ("", AUTO):
        if asked or in_cluster(environment):
            _join(_of_environment(environment))
        return
    address, *numbers = asked.split(",")
    if len(numbers) != 2 or not all(n.isdecimal() for n in numbers) or ":" not in address:
        raise UserError(
            f"--hosts is {asked!r}; give {AUTO}, or ADDRESS:PORT,INDEX,COUNT: where the first host "
            "listens, which host this is (from 0), and how many there are."
        )
    index, count = map(int, numbers)
    if index >= count:
        raise UserError(f"--hosts says host {index} of {count}; hosts are counted from 0.")
    _join({"coordinator_address": address, "num_processes": count, "process_id": index})


def in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether the environment tells of several hosts."""
    counts = (environment.get(name, "") for name in TASKS)
    several = any(count.isdecimal() and int(count) > 1 for count in counts)
    return several or "," in environment.get(WORKERS, "")


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What JAX does not read by itself."""
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    if address is None or not all(name in environment for name in names.values()):
        return {}
    numbers = {key: int(environment[name]) for key, name in names.items()}
    return {"coordinator_address": address, **numbers}


def _join(options: dict[str, Any]) -> None:
    try:
        jax.distributed.initialize(**options)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the other hosts cannot be joined: {str(error).splitlines()[0]} Start the same "
            "command on every host, or leave out --hosts."
        ) from None


def is_first() -> bool:
    """Whether this host is the one that writes."""
    return jax.process_index() == 0


def part(whole: Sequence[T]) -> Sequence[T]:
    """This host's share of what all hosts list in the same order: no other has any of it."""
    return whole[jax.process_index() :: jax.process_count()]


def named(what: str) -> str:
    """`what`, and of which host where there are several."""
    index, count = jax.process_index(), jax.process_count()
    return what if count == 1 else f"{what} of host {index + 1} of {count}"


def meet(where: str) -> None:
    """Waits until all hosts are here; `where` names the place."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def gathered(tree: PyTree) -> PyTree:
    """Arrays that may lie on all hosts as NumPy arrays, whole on every host."""

    def whole(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            from jax.experimental import multihost_utils

            x = multihost_utils.process_allgather(x, tiled=True)
        return np.asarray(x)

    return jax.tree.map(whole, tree)
