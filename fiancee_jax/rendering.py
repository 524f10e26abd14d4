"""The jitted calls of a model: one exit for all, the predictor, any mix of exits.

With a mesh (`dealing.mesh_of`) its devices share the batch; without one nothing is different.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.models.staged import Inputs
from fiancee_jax.routing.dealing import dispatch_sharded, split_evenly, suited_micro_batch
from fiancee_jax.routing.dispatch import dispatch, guard_vmap, micro_batch_size


@functools.partial(jax.jit, static_argnames=("model", "number", "mesh"))
def render_exit(
    model: MultiExit, variables: Variables, inputs: Inputs, number: int, mesh: Mesh | None = None
) -> Float[Array, "b h w 3"]:
    """Pictures of exit `number`; plain and differentiable. Previews and inference both use it."""
    picture = functools.partial(model.picture, number=number)
    return split_evenly(picture, mesh)(variables, inputs)


def encode(
    model: MultiExit, variables: Variables, inputs: Inputs, mesh: Mesh | None = None
) -> Inputs:
    """The inputs with what all exits share beside them: computed once, then predicted from and
    rendered. Nothing runs for a family that does not encode.
    """
    return _encode(model, variables, inputs, mesh) if model.family.encodes else inputs


@functools.partial(jax.jit, static_argnames=("model", "mesh"))
def _encode(model: MultiExit, variables: Variables, inputs: Inputs, mesh: Mesh | None) -> Inputs:
    return split_evenly(model.encode, mesh)(variables, inputs)


@functools.partial(jax.jit, static_argnames=("model", "mesh"))
def predict(
    model: MultiExit, variables: Variables, inputs: Inputs, mesh: Mesh | None = None
) -> Float[Array, "b n"]:
    """Predicted distances of all exits."""
    return split_evenly(model.predict, mesh)(variables, inputs)


@functools.partial(jax.jit, static_argnames=("model", "exact", "micro_batch", "mesh"))
def render_routed(
    model: MultiExit,
    variables: Variables,
    inputs: Inputs,
    exits: Int[Array, "b"],
    *,
    exact: bool,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "b h w 3"], Int[Array, "b"]]:
    """Pictures of any mix of exits, and the exits that really ran: one trace for all mixes.

    `micro_batch` is `dispatch.micro_batch_size` if it is not given, on several devices less if
    they could not be given equal work (`dealing.suited_micro_batch`).
    """
    gmacs = sized(model, model.family.picture_size(inputs)).gmacs
    if micro_batch is None:
        most = micro_batch_size(len(exits), gmacs, jax.default_backend())
        micro_batch = most if mesh is None else suited_micro_batch(len(exits), mesh.size, most)

    def routed(variables: Variables, inputs: Inputs, exits: Array) -> tuple[Array, Array]:
        numbers = range(1, model.num_exits + 1)
        paths = [functools.partial(model.picture, number=number) for number in numbers]
        options = {"micro_batch": micro_batch, "exact": exact}
        if mesh is not None:
            options |= {"costs": gmacs, "mesh": mesh}
            return dispatch_sharded(paths, variables, inputs, exits, **options)
        runs = [functools.partial(path, variables) for path in paths]
        return dispatch(runs, inputs, exits, **options)

    return guard_vmap(routed)(variables, inputs, exits)


@functools.lru_cache(maxsize=32)
def sized(model: MultiExit, size: tuple[int, int]) -> MultiExit:
    """The same networks for inputs of another size, to count what they cost there."""
    return dataclasses.replace(model, family=model.family.with_size(size))
