"""Dealing: a routed batch over several devices, each of which runs branches of its own.

Whole micro-batches (rows) are dealt, because they are what really runs, padding included: dearest
first, each to the device with the least work so far that has room (longest processing time first,
Graham 1969). The busiest device has at most the mean of all plus the row it was given last, if none
is full, and the cheap rows come last. No dealing can give it less than the dearest row: fewer rows
than devices cannot be balanced.

Work of the busiest of 8 devices with the costs of the quickstart config (.16 to 1), as
``python -m benchmarks.devices`` finds it: over the mean of the devices, on average and at worst of
300 even mixes (in brackets: of lopsided ones), and over a perfect split without padding::

    samples  micro-batch   over the mean   at worst        over a perfect split
    64       1             1.02            1.04 (1.09)     1.02
    64       2             1.04            1.08 (1.19)     1.08
    64       4             1.09            1.26 (2.02)     1.21
    256      1             1.01            1.01 (1.02)     1.01
    256      4             1.02            1.04 (1.08)     1.05

Eight rows for each device are thus enough, and `suited_micro_batch` leaves as many.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from fiancee_jax.routing.dispatch import PyTree, plan_rows, run_rows

Path = Callable[[PyTree, PyTree], Any]  # variables, inputs [m, ...] -> pictures [m, h, w, 3]

AXIS = "data"
ROWS_EACH = 8  # rows for each device: fewer cannot be balanced within 5 %
ROOM = 2  # places of a device over an equal share: cheap rows may pile up where no dear one is


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:  # pyright: ignore[reportInvalidTypeForm]
    """The devices along one axis."""
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def suited_micro_batch(batch: int, devices: int, most: int) -> int:
    """Samples in a row: as many as leave each device `ROWS_EACH` rows; 1 to `most`."""
    return max(1, min(most, batch // (ROWS_EACH * devices)))


def deal(
    row_exits: Int[Array, "m"], costs: Float[Array, "n"], devices: int
) -> tuple[Int[Array, "d k"], Int[Array, "m"]]:
    """Deals rows to devices so that each has about the same work; shapes do not depend on the mix.

    Args:
        row_exits: exit of each row, 0-based; n is an idle row, which costs nothing.
        costs: of a row by exit, in any unit.
        devices: d.

    Returns:
        The rows of each device, where m means none, and the place (device * k + turn) of each row.
    """
    num_rows = row_exits.shape[0]
    room = min(num_rows, ROOM * -(-num_rows // devices))
    cost = jnp.append(jnp.asarray(costs, jnp.float32), 0)[row_exits]

    def give(state: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], Array]:
        load, held = state
        device = jnp.argmin(jnp.where(held < room, load, jnp.inf))
        place = device * room + held[device]
        return (load.at[device].add(cost[row]), held.at[device].add(1)), place

    order = jnp.argsort(-cost, stable=True).astype(jnp.int32)
    nothing = jnp.zeros(devices), jnp.zeros(devices, jnp.int32)
    _, places = jax.lax.scan(give, nothing, order)
    dealt = jnp.full(devices * room, num_rows, jnp.int32).at[places].set(order)
    return dealt.reshape(devices, room), jnp.zeros_like(order).at[order].set(places)


def dispatch_sharded(
    paths: Sequence[Path],
    variables: PyTree,
    inputs: PyTree,
    exits: Int[Array, "b"],
    *,
    costs: Sequence[float],
    micro_batch: int,
    exact: bool,
    mesh: Mesh,
) -> tuple[Float[Array, "b h w 3"], Int[Array, "b"]]:
    """As `dispatch.dispatch`, on all devices of a mesh; what comes out is on each of them.

    Every device has all inputs, which are small beside the activations of a micro-batch, and takes
    those of its rows. Devices talk to each other only afterwards, when the pictures go back to
    their places: a device that is done never waits within a branch.

    Args:
        paths: one function of variables and inputs for each exit 1..n.
        variables: what the paths take, on every device.
        inputs, exits, micro_batch, exact: as for `dispatch.dispatch`.
        costs: of a picture by exit 1..n, in any unit; only their proportions matter.
        mesh: of `mesh_of`.
    """
    size = min(micro_batch, exits.shape[0])
    rows, row_exits, slots = plan_rows(exits, size, len(paths), exact)
    dealt, places = deal(row_exits, jnp.asarray(costs, jnp.float32), mesh.size)
    # the row after the last is the idle one
    own_rows = jnp.pad(rows, ((0, 1), (0, 0)))[dealt]
    own_exits = jnp.append(row_exits, len(paths))[dealt]

    def on_one(variables: PyTree, inputs: PyTree, rows: Array, row_exits: Array) -> Array:
        runs = [functools.partial(path, variables) for path in paths]
        return run_rows(runs, inputs, rows[0], row_exits[0])

    specs = (P(), P(), P(AXIS), P(AXIS))
    pictures = on_each(on_one, mesh, specs)(variables, inputs, own_rows, own_exits)
    pictures = pictures.reshape(-1, *pictures.shape[2:])
    found = pictures[places[slots // size] * size + slots % size]
    return _everywhere(found, mesh), row_exits[slots // size] + 1


def split_evenly(function: Path, mesh: Mesh | None) -> Path:
    """`function`, each device doing an equal part of the inputs.

    The last input is repeated until all parts are equal. Without a mesh `function` itself.
    """
    if mesh is None:
        return function

    def split(variables: PyTree, inputs: PyTree) -> PyTree:
        batch = jax.tree.leaves(inputs)[0].shape[0]
        index = jnp.minimum(jnp.arange(-(-batch // mesh.size) * mesh.size), batch - 1)
        filled = jax.tree.map(lambda x: x[index], inputs)
        result = on_each(function, mesh, (P(), P(AXIS)))(variables, filled)
        return jax.tree.map(lambda x: _everywhere(x[:batch], mesh), result)

    return split


def on_each(
    function: Callable[..., Array], mesh: Mesh, specs: tuple[P, ...]
) -> Callable[..., Array]:
    """`function` done by every device on its part of what `specs` split; results stay there."""
    # check_vma would refuse a switch whose idle branch is the same on all devices.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)


def _everywhere(x: Array, mesh: Mesh) -> Array:
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P()))
