"""A model with exits, as pure functions of its variables: trunk, branches, predictor, cost.

Variables are a dict of pytrees, each absent until its phase has run::

    backbone   {params, batch_stats}             spectral norm folded in
    bank       arrays of the guide bank
    branches   {exit name: {params, batch_stats}}
    predictor  {params}
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fiancee_jax import cost, guides
from fiancee_jax.config import Config, Exit, Guides, PredictorPhase
from fiancee_jax.models import winograd
from fiancee_jax.models.branches import Backbone, Branch, Guide, Taps
from fiancee_jax.models.predictor import CellPredictor, Predictor, Predictors
from fiancee_jax.models.staged import Inputs, PyTree, StagedGenerator
from fiancee_jax.phases import Precision

Variables = dict[str, PyTree]


@dataclasses.dataclass(frozen=True)
class MultiExit:
    """The static half of a model: which networks there are. Hashable, so jit takes it as static.

    Attributes:
        family: the generator family.
        exits: the early exits, cheapest first; exit number i is ``exits[i - 1]``, and exit number
            ``len(exits) + 1`` is the backbone itself.
        guides: form of the guide bank.
        predictor: size of the predictor.
        dtype: of the networks' computation. It enters with the condition, which is cast to it, and
            every layer keeps the dtype of its input; pictures come out as float32. Parameters,
            statistics, retrieval and the predictor are float32 whatever it is.
        remat: whether the backward pass recomputes each of the backbone's stages.
        sparse: whether equal work is done once (`StagedGenerator.sparse_condition`). Pictures are
            the same up to rounding; derivatives and vmap take the dense path. Costs are those of
            the dense path whatever it is: see `lossless` for what is left of them.
    """

    family: StagedGenerator
    exits: tuple[Exit, ...]
    guides: Guides
    predictor: PredictorPhase
    dtype: Precision = "float32"
    remat: bool = False
    sparse: bool = False

    @classmethod
    def of(cls, config: Config, exits: tuple[Exit, ...] | None = None) -> MultiExit:
        """The model a config describes, its exits (or the given ones) in order of cost."""
        chosen = config.exits if exits is None else exits
        model = cls(config.model, chosen, config.guides, config.predictor)
        order = sorted(chosen, key=lambda e: model.exit_gmacs(e))
        return dataclasses.replace(model, exits=tuple(order))

    @property
    def num_exits(self) -> int:
        """n, the backbone included."""
        return len(self.exits) + 1

    # --- modules --------------------------------------------------------------------------
    def backbone(self) -> Backbone:
        """The backbone module."""
        return Backbone(self.family, self.remat)

    def branch(self, exit: Exit) -> Branch:
        """The branch module of one exit."""
        return Branch(self.family, exit, self.guides)

    def predictor_net(self) -> Predictor | CellPredictor | Predictors:
        """The predictor module."""
        phase, exits = self.predictor, len(self.exits)
        if phase.cells:
            return CellPredictor(exits, phase.channels, phase.squares, phase.pool)
        options = (exits, phase.channels, phase.hidden, phase.sees, phase.squares)
        return Predictor(*options) if phase.members == 1 else Predictors(phase.members, *options)

    # --- computation ----------------------------------------------------------------------
    def prepared(self, variables: Variables) -> Variables:
        """`variables` with the kernels transformed that need fewer products so (`winograd`).

        For `sparse` in float32 on a CPU; elsewhere they are as they were. Pictures are the same up
        to rounding. It takes memory: 16/9 of the large 3x3 kernels, besides themselves.
        """
        if not (self.sparse and self.dtype == "float32" and jax.default_backend() == "cpu"):
            return variables
        branches = variables.get("branches", {})
        found = {"backbone": _with_transforms(variables["backbone"])}
        if branches:
            found["branches"] = {
                name: _with_transforms(branch) for name, branch in branches.items()
            }
        return {**variables, **found}

    def condition(self, inputs: Inputs) -> PyTree:
        """The family's condition; its floating-point leaves have the dtype of the computation."""
        prepare = self.family.sparse_condition if self.sparse else self.family.condition
        return jax.tree.map(lambda x: _cast(x, self.dtype), prepare(inputs))

    def encode(self, variables: Variables, inputs: Inputs) -> Inputs:
        """The inputs with what all exits share beside them, for a family that `encodes`.

        Other families' are what they were. Here and below inputs may have been encoded already.
        """
        if not self.family.encodes:
            return inputs
        condition = self.condition(inputs)
        found: Any = self.backbone().apply(variables["backbone"], condition, method="encode")
        return {**found, **inputs}

    def view(self, variables: Variables, inputs: Inputs) -> tuple[Array, Array]:
        """What the predictor sees of the inputs."""
        return self.family.view(self.encode(variables, inputs))

    def full(
        self, variables: Variables, inputs: Inputs, condition: PyTree = None
    ) -> tuple[Float[Array, "b h w 3"], Taps]:
        """The backbone's picture and the features after every stage.

        Here and below `condition` is that of the inputs, if the caller has it already.
        """
        condition = self.condition(inputs) if condition is None else condition
        found: Any = self.backbone().apply(variables["backbone"], condition)
        picture, taps = found
        return picture.astype(jnp.float32), taps

    def trunk(
        self, variables: Variables, inputs: Inputs, last: int, condition: PyTree = None
    ) -> Taps:
        """Features after stages 1..last, and nothing else."""
        condition = self.condition(inputs) if condition is None else condition
        return self.backbone().apply(variables["backbone"], condition, last, method="trunk")  # pyright: ignore[reportReturnType]

    def guide(self, variables: Variables, inputs: Inputs, taps: Taps) -> Guide:
        """What the bank gives for these inputs, which have been encoded."""
        with jax.named_scope("retrieval"):  # a name for `cost.by_scope`
            bank = variables.get("bank", {})
            return guides.retrieve(self.guides, self.family, bank, inputs, taps)

    def finish(
        self,
        branch: PyTree,
        exit: Exit,
        inputs: Inputs,
        taps: Taps,
        guide: Guide,
        condition: PyTree = None,
    ) -> Float[Array, "b h w 3"]:
        """One exit's picture from the trunk's taps, with the branch's own variables."""
        condition = self.condition(inputs) if condition is None else condition
        picture: Any = self.branch(exit).apply(branch, taps[exit.tap], condition, inputs, guide)
        return picture.astype(jnp.float32)

    def picture(self, variables: Variables, inputs: Inputs, number: int) -> Float[Array, "b h w 3"]:
        """The picture of exit `number` (1..num_exits); only that path is computed."""
        if not self.sparse:
            return self._picture(variables, inputs, number)
        path = functools.partial(self._picture, number=number)
        reference = functools.partial(self.dense._picture, number=number)
        return _transformed_as(reference, path)(variables, inputs)

    def _picture(self, variables: Variables, inputs: Inputs, number: int) -> Array:
        inputs = self.encode(variables, inputs)
        condition = self.condition(inputs)
        if number == self.num_exits:
            return self.full(variables, inputs, condition)[0]
        exit = self.exits[number - 1]
        taps = self.trunk(variables, inputs, exit.tap, condition)
        guide = self.guide(variables, inputs, taps)
        branch = variables["branches"][exit.name]
        return self.finish(branch, exit, inputs, taps, guide, condition)

    def pictures(self, variables: Variables, inputs: Inputs) -> list[Float[Array, "b h w 3"]]:
        """The pictures of all exits, the backbone's last; the trunk is computed once."""
        inputs = self.encode(variables, inputs)
        condition = self.condition(inputs)
        full, taps = self.full(variables, inputs, condition)
        guide = self.guide(variables, inputs, taps)
        early = [
            self.finish(variables["branches"][e.name], e, inputs, taps, guide, condition)
            for e in self.exits
        ]
        return [*early, full]

    def predict(self, variables: Variables, inputs: Inputs) -> Float[Array, "b n"]:
        """Predicted LPIPS-alex of every exit to the backbone, [b, n]; the last column is 0."""
        seen = self.view(variables, inputs)
        with jax.named_scope("predictor"):
            distances: Any = self.predictor_net().apply(variables["predictor"], *seen)
        return jnp.pad(distances, ((0, 0), (0, 1)))

    # --- shapes and cost, nothing is run --------------------------------------------------
    @functools.cached_property
    def backbone_shapes(self) -> PyTree:
        """Shapes of the backbone's variables: params, batch_stats and spectral."""
        if self._without_exits is not self:
            return self._without_exits.backbone_shapes
        init = jax.eval_shape(self.family.condition, self.family.abstract_inputs(1))
        return jax.eval_shape(self.backbone().init, jax.random.key(0), init)

    def branch_shapes(self, exit: Exit) -> PyTree:
        """Shapes of one branch's variables: params and batch_stats."""
        return _branch_shapes(self._without_exits, exit)

    @functools.cached_property
    def predictor_shapes(self) -> PyTree:
        """Shapes of the predictor's variables: params."""
        return jax.eval_shape(self.predictor_net().init, jax.random.key(0), *self.view_shapes)

    @property
    def view_shapes(self) -> tuple[Any, Any]:
        """Shapes of what the predictor sees of one input."""
        return jax.eval_shape(self.family.view, self._encoded[1])

    @property
    def bank_shapes(self) -> PyTree:
        """Shapes of the guide bank."""
        return self._abstract[0]["bank"]

    @functools.cached_property
    def _abstract(self) -> tuple[Variables, Inputs]:
        """Shapes of the backbone and the bank, and of a single input."""
        if self._without_exits is not self:
            return self._without_exits._abstract
        inputs = self.family.abstract_inputs(1)
        backbone = {k: v for k, v in self.backbone_shapes.items() if k != "spectral"}
        variables = {"backbone": backbone}
        taps = jax.eval_shape(lambda v, i: self.full(v, i)[1], variables, inputs)
        encoded = jax.eval_shape(self.encode, variables, inputs)
        length = jax.eval_shape(self.family.view, encoded)[1].shape[1]
        variables["bank"] = guides.abstract_bank(self.guides, self.family, taps, length)
        return variables, inputs

    @functools.cached_property
    def _encoded(self) -> tuple[Variables, Inputs]:
        """As `_abstract`, with what all exits share among the inputs."""
        if self._without_exits is not self:
            return self._without_exits._encoded
        variables, inputs = self._abstract
        return variables, jax.eval_shape(self.encode, variables, inputs)

    def exit_gmacs(self, exit: Exit | None) -> float:
        """GMACs of one picture by this exit: trunk, retrieval, branch; None is the backbone."""
        return sum(self.exit_macs(exit).values()) / 1e9

    def exit_macs(self, exit: Exit | None) -> Mapping[str, int]:
        """What `exit_gmacs` sums, in MACs, by scope of the program (see `cost.by_scope`)."""
        return _exit_macs(self._without_exits, exit)

    @functools.cached_property
    def _without_exits(self) -> MultiExit:
        """The dense networks before any branch: what is traced for it serves all equal models."""
        return _shared(dataclasses.replace(self.dense, exits=(), predictor=PredictorPhase()))

    @functools.cached_property
    def dense(self) -> MultiExit:
        """The same networks without savings: the reference, and what is differentiated."""
        return dataclasses.replace(self, sparse=False)

    def predictor_gmacs(self) -> float:
        """GMACs of the predictor for one input."""
        return sum(self.predictor_macs.values()) / 1e9

    @functools.cached_property
    def predictor_macs(self) -> Mapping[str, int]:
        """What `predictor_gmacs` sums, in MACs, by scope of the program."""
        variables, inputs = self._encoded
        predictor = {**variables, "predictor": self.predictor_shapes}
        return cost.by_scope(self.predict, predictor, inputs)

    def retrieval_gmacs(self) -> float:
        """GMACs of one retrieval, already part of `exit_gmacs`."""
        variables, inputs = self._encoded
        taps = jax.eval_shape(lambda v, i: self.full(v, i)[1], variables, inputs)
        return cost.gmacs(self.guide, variables, inputs, taps)

    def encoding_gmacs(self) -> tuple[float, float]:
        """GMACs of what all exits share, part of `exit_gmacs`: once, and for every picture.

        The first is that of the inputs that stay (`kept_names`), the second of all that follows.
        Both are 0 for a family that does not encode.
        """
        whole = sum(self._without_exits._encoding_macs.values()) / 1e9
        once = self._without_exits._kept_gmacs
        return once, whole - once

    @functools.cached_property
    def _encoding_macs(self) -> Mapping[str, int]:
        """MACs of what all exits share, by scope; {} for a family that does not encode."""
        return cost.by_scope(self.encode, *self._abstract) if self.family.encodes else {}

    @functools.cached_property
    def _kept_gmacs(self) -> float:
        """GMACs of encoding the inputs that stay."""
        variables, inputs = self._abstract
        kept = {name: inputs[name] for name in self.family.kept_names}
        return cost.gmacs(self.encode, variables, kept) if kept and self.family.encodes else 0.0

    @functools.cached_property
    def gmacs(self) -> tuple[float, ...]:
        """GMACs of exits 1..n for one picture, retrieval included, predictor not."""
        return tuple(self.exit_gmacs(e) for e in (*self.exits, None))


def _with_transforms(network: PyTree) -> PyTree:
    kernels = winograd.kernels(network["params"])
    return {**network, winograd.COLLECTION: kernels} if kernels else network


def _transformed_as(
    reference: Callable[..., Array], path: Callable[..., Array]
) -> Callable[..., Array]:
    """`path`, but what differentiates or vmaps it gets `reference`, of the same values."""
    mapped = jax.custom_batching.custom_vmap(path)

    @mapped.def_vmap
    def batched(axis_size: int, in_batched: Any, *args: Any) -> tuple[Array, bool]:
        axes = jax.tree.map(lambda x: 0 if x else None, in_batched)
        return jax.vmap(reference, axes, axis_size=axis_size)(*args), True

    derived = jax.custom_jvp(mapped)

    @derived.defjvp
    def derivative(primals: Any, tangents: Any) -> tuple[Array, Array]:
        return jax.jvp(reference, primals, tangents)

    return derived


def _cast(x: Array, dtype: Precision) -> Array:
    return jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


@functools.lru_cache(maxsize=64)
def _shared(model: MultiExit) -> MultiExit:
    """The first of all equal models, which keeps what it has traced."""
    return model


@functools.lru_cache(maxsize=512)
def _branch_shapes(model: MultiExit, exit: Exit) -> PyTree:
    variables, inputs = model._encoded
    taps = jax.eval_shape(lambda v, i: model.trunk(v, i, exit.tap), variables, inputs)
    guide = jax.eval_shape(model.guide, variables, inputs, taps)
    condition = jax.eval_shape(model.family.condition, inputs)
    init = model.branch(exit).init
    return jax.eval_shape(init, jax.random.key(0), taps[exit.tap], condition, inputs, guide)


@functools.lru_cache(maxsize=512)
def _exit_macs(model: MultiExit, exit: Exit | None) -> Mapping[str, int]:
    """Kept, because it traces the networks: a quarter of a second for each exit."""
    variables, inputs = model._encoded  # what exits share is counted once for all
    if exit is None:
        own = cost.by_scope(lambda v, i: model.full(v, i)[0], variables, inputs)
    else:
        alone = dataclasses.replace(model, exits=(exit,))
        variables = {**variables, "branches": {exit.name: model.branch_shapes(exit)}}
        own = cost.by_scope(lambda v, i: alone.picture(v, i, 1), variables, inputs)
    return Counter(model._encoding_macs) + Counter(own)
