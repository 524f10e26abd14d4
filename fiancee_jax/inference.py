"""Rendering: `load` a trained model, call it on inputs, get pictures of input-dependent depth."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from fiancee_jax import box, trained
from fiancee_jax.choice import Choice, Over, Policy
from fiancee_jax.config import Config
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.models.staged import Inputs
from fiancee_jax.rendering import encode, predict, render_exit, render_routed, sized
from fiancee_jax.routing.calibration import Calibration, Setting
from fiancee_jax.routing.dealing import mesh_of


class Rendered(NamedTuple):
    """What a renderer returns; b samples, n exits (the backbone is exit n).

    Attributes:
        images: [b, h, w, 3] float32 in [-1, 1].
        exits: [b] int32, the exit 1..n that ran.
        predicted_lpips: [b, n] predicted LPIPS-alex to the backbone's picture; the last column is
            0. NaN where no predictor has been trained.
        gmacs: [b] float32, GMACs spent, predictor and retrieval included.
    """

    images: Float[Array, "b h w 3"]
    exits: Int[Array, "b"]
    predicted_lpips: Float[Array, "b n"]
    gmacs: Float[Array, "b"]


# --- the renderer -------------------------------------------------------------------------------
class Renderer:
    """A trained model, ready to be called. Made by `load`.

    Attributes:
        config: the resolved config of its training run.
        model: its networks (`exits.MultiExit`).
        variables: its arrays.
        menu: what the branches phase measured for every exit (list of dicts).
        calibration: what a quality guarantee rests on; None before the phase ``calibration``.
        mesh: the devices that share a batch, each holding `variables`; None is one device (`over`).
    """

    def __init__(
        self,
        config: Config,
        model: MultiExit,
        variables: Variables,
        menu: list[dict[str, Any]],
        calibration: Calibration | None = None,
        mesh: Mesh | None = None,
    ) -> None:
        self.config, self.model, self.variables, self.menu = config, model, variables, menu
        self.calibration, self.mesh = calibration, mesh

    def over(self, devices: Sequence[jax.Device]) -> Renderer:  # pyright: ignore[reportInvalidTypeForm]
        """The same model on these devices, say ``jax.local_devices()``, which share every batch.

        A routed batch is dealt so that all have equal work, whatever the mix of exits; at least
        eight samples for each device are needed for that. A single sample, and what is
        differentiated or vmapped, stays on the first. Every device holds all pictures, which are
        the same up to rounding; without `exact` other inputs may be promoted.

        Raises:
            UserError: no devices.
        """
        if not devices:
            raise UserError("no devices to render on; give some, say jax.local_devices().")
        mesh = mesh_of(devices) if len(devices) > 1 else None
        everywhere = devices[0] if mesh is None else NamedSharding(mesh, PartitionSpec())
        variables = jax.device_put(self.variables, everywhere)
        return Renderer(self.config, self.model, variables, self.menu, self.calibration, mesh)

    @property
    def has_predictor(self) -> bool:
        """Whether inputs can be routed (or only rendered at a fixed exit)."""
        return "predictor" in self.variables

    def gmacs(self, size: tuple[int, int] | None = None) -> tuple[float, ...]:
        """GMACs of exits 1..n at `size` (default: the trained one), without the predictor."""
        return self.model.gmacs if size is None else sized(self.model, tuple(size)).gmacs

    def draw_latents(self, key: Array, batch: int) -> Float[Array, "b z"]:
        """z ~ N(0, 1), [batch, latent_dim]."""
        return jax.random.normal(key, (batch, self.model.family.latent_dim))

    def predict(self, inputs: Any, z: Array | None) -> Float[Array, "b n"]:
        """Predicted LPIPS-alex of every exit, before anything is generated."""
        checked = self._checked(inputs, None, z)
        self._need_predictor()
        return self.predict_checked(checked)

    def __call__(
        self,
        inputs: Any = None,
        *,
        key: Array | None = None,
        z: Array | None = None,
        max_lpips: float | None = None,
        exit: int | str | None = None,
        budget_gmacs: float | None = None,
        confidence: float | None = None,
        risk_delta: float | None = None,
        budget_over: Over = "batch",
        policy: Policy | None = None,
        exact: bool = False,
    ) -> Rendered:
        """Renders a batch.

        Args:
            inputs: what the family takes, a dict by name, or the array itself where there is one
                input: for OASIS label maps [b, h, w], integers. For a family without inputs the
                number of pictures; with `z` nothing.
            key: draws z; give either `key` or `z`, or neither to a family without z.
            z: latents [b, latent_dim].
            max_lpips: take the cheapest exit whose predicted LPIPS-alex is at most this.
            exit: take this exit for all, 1..n or "full". Can be differentiated with respect to z
                and vmapped; routed calls cannot.
            budget_gmacs: spend at most this on average over the batch, where it helps most.
            confidence: with `max_lpips`: a new input like those of the calibration keeps it with
                this probability or more (docs/guarantee.md); needs a calibrated model. Promotion
                keeps the promise too: it rests on the distance of an exit or any dearer one.
            risk_delta: with `confidence`: hold for all calibration sets but this share, not on
                average over them.
            budget_over: ``population`` routes each input by itself, so that inputs like those of
                the calibration cost `budget_gmacs` on average, whatever this batch then costs.
            policy: your own: a function of the predicted LPIPS [b, n] and of the exits' GMACs [n],
                the predictor's included, that returns exit numbers [b].
            exact: pad micro-batches so that no picture depends on its batch-mates; otherwise some
                inputs are promoted to a dearer exit to fill micro-batches (never under a budget or
                a policy of your own).

        Warns:
            UserWarning: `confidence` takes the backbone for everyone, and why.

        Raises:
            UserError: bad inputs or options; before anything compiles.
        """
        choice = Choice(max_lpips, exit, budget_gmacs, confidence, risk_delta, budget_over, policy)
        choice.check(self.model, self.calibration)
        checked = self._checked(inputs, key, z)
        size = self.model.family.picture_size(checked)
        choice.check_size(self.model, size)
        setting = choice.guarantee(self.calibration)
        if setting is not None and setting.reason:
            warnings.warn(setting.text, stacklevel=2)
        model = sized(self.model, size)
        if choice.exit is not None:
            return self._fixed(model, checked, choice.number(self.model))
        return self._routed(model, checked, choice, exact)

    def _fixed(self, model: MultiExit, inputs: Inputs, number: int) -> Rendered:
        if number < self.model.num_exits and "branches" not in self.variables:
            raise UserError("no branches have been trained; only exit='full' can be rendered.")
        images = self.render_exit(inputs, number)
        batch, n = images.shape[0], self.model.num_exits
        gmacs = jnp.full((batch,), model.gmacs[number - 1], jnp.float32)
        predicted = jnp.full((batch, n), jnp.nan)
        if self.has_predictor:
            predicted = self.predict_checked(inputs)
        return Rendered(images, jnp.full((batch,), number, jnp.int32), predicted, gmacs)

    def _routed(self, model: MultiExit, inputs: Inputs, choice: Choice, exact: bool) -> Rendered:
        self._need_predictor()
        predicted = self.predict_checked(inputs)
        table = self.table(model)
        exits = self.choose(predicted, choice, model)
        # promotion would overspend, or not be what a policy said
        exact = exact or choice.budget_gmacs is not None or choice.policy is not None
        images, ran = self.render_routed(inputs, exits, exact=exact)
        return Rendered(images, ran, predicted, table[ran - 1])

    # --- on one device or on several; inputs have been checked ----------------------------
    def encode(self, inputs: Inputs) -> Inputs:
        """The inputs with what all exits share beside them, for a family that encodes.

        Of those that stay (`StagedGenerator.kept_names`: a source) it can be computed once, given
        these alone, and be given with the others afterwards, repeated for each of them.
        """
        variables, inputs, mesh = self._placed(inputs)
        return encode(self.model, variables, inputs, mesh)

    def predict_checked(self, inputs: Inputs) -> Float[Array, "b n"]:
        """Predicted LPIPS-alex of every exit."""
        variables, inputs, mesh = self._placed(inputs)
        return predict(self.model, variables, inputs, mesh)

    def render_exit(self, inputs: Inputs, number: int) -> Float[Array, "b h w 3"]:
        """Pictures of exit `number`."""
        variables, inputs, mesh = self._placed(inputs)
        return render_exit(self.model, variables, inputs, number, mesh)

    def render_routed(
        self, inputs: Inputs, exits: Int[Array, "b"], *, exact: bool
    ) -> tuple[Float[Array, "b h w 3"], Int[Array, "b"]]:
        """Pictures by these exits, and the exits that really ran."""
        variables, (inputs, exits), mesh = self._placed((inputs, exits))
        return render_routed(self.model, variables, inputs, exits, exact=exact, mesh=mesh)

    def _placed(self, batch: Any) -> tuple[Variables, Any, Mesh | None]:
        """Variables and the batch on the devices that are to render it, and their mesh."""
        if self.mesh is None:
            return self.variables, batch, None
        leaves = jax.tree.leaves(batch)
        if any(isinstance(x, Tracer) for x in leaves):
            return self._on_first, batch, None
        if len(leaves[0]) == 1:
            return self._on_first, jax.device_put(batch, self.mesh.devices.flat[0]), None
        batch = jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec()))
        return self.variables, batch, self.mesh

    @functools.cached_property
    def _on_first(self) -> Variables:
        """The first device's copy of the variables."""
        return jax.tree.map(lambda x: x.addressable_data(0), self.variables)

    def table(self, model: MultiExit | None = None) -> Float[Array, "n"]:
        """GMACs of a routed picture by exit: trunk, retrieval, branch and predictor."""
        model = model or self.model
        return jnp.asarray(model.gmacs, jnp.float32) + model.predictor_gmacs()

    def choose(
        self, predicted: Float[Array, "b n"], choice: Choice, model: MultiExit | None = None
    ) -> Int[Array, "b"]:
        """Exit numbers by the chosen policy."""
        return choice.exits(self.model, predicted, self.table(model), self.calibration)

    def guarantee(
        self, max_lpips: float, confidence: float, risk_delta: float | None = None
    ) -> Setting:
        """What is done to keep `max_lpips` with probability `confidence`; see `__call__`.

        Raises:
            UserError: impossible numbers, or the model is not calibrated.
        """
        choice = Choice(max_lpips=max_lpips, confidence=confidence, risk_delta=risk_delta)
        choice.check(self.model, self.calibration)
        setting = choice.guarantee(self.calibration)
        assert setting is not None
        return setting

    def _need_predictor(self) -> None:
        if not self.has_predictor:
            raise UserError(
                "this model has no predictor yet, so it cannot route: train the phase 'predictor', "
                "or render with a fixed exit (exit=k or exit='full')."
            )

    def _checked(self, inputs: Any, key: Array | None, z: Any) -> Inputs:
        """The family's inputs and z, checked on the host."""
        family = self.model.family
        if family.input_names:
            checked = family.check_inputs(inputs)
            batch = len(checked[family.input_names[0]])
        else:
            checked, batch = {}, _count(inputs)
        return self.encode({**checked, "z": self._latents(batch, key, z)})

    def _latents(self, batch: int | None, key: Array | None, z: Any) -> Array:
        if z is None and self.model.family.latent_dim == 0 and batch:
            return jnp.zeros((batch, 0))
        if (z is None) == (key is None):
            raise UserError("give either key=jax.random.key(seed) or z=[batch, latent_dim].")
        if z is not None:
            z = self._check_latents(z)
            if batch not in (None, len(z)):
                raise UserError(f"z has {len(z)} rows for {batch} inputs; give one for each.")
            return z
        if batch is None:
            raise UserError(
                "this model has no inputs but z: say how many pictures to draw, "
                "renderer(8, key=jax.random.key(0), ...), or give z=[batch, latent_dim]."
            )
        return self.draw_latents(key, batch)  # pyright: ignore[reportArgumentType]

    def _check_latents(self, z: Any) -> Array:
        z, length = jnp.asarray(z, jnp.float32), self.model.family.latent_dim
        if z.ndim != 2 or z.shape[1] != length:
            raise UserError(f"z has shape {list(z.shape)}; this model takes [batch, {length}].")
        if not isinstance(z, Tracer) and not bool(jnp.isfinite(z).all()):
            raise UserError("z holds values that are not finite.")
        return z


def _count(inputs: Any) -> int | None:
    """How many pictures a caller asks of a family without inputs; None leaves it to z."""
    if inputs is None or (isinstance(inputs, dict) and not inputs):
        return None
    if not isinstance(inputs, int | np.integer) or isinstance(inputs, bool) or inputs < 1:
        found = repr(inputs) if isinstance(inputs, int | float) else type(inputs).__name__
        raise UserError(
            f"this model has no inputs but z; found {found}. Give the number of pictures, 1 or "
            "more, or nothing beside z=[batch, latent_dim]."
        )
    return int(inputs)


def file_latent(seed: int, name: str, latent_dim: int) -> Float[np.ndarray, "z"]:
    """z of a file: a function of (seed, file name) alone, never of its position."""
    digest = hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
    words = np.frombuffer(digest, np.uint32)
    rng = np.random.Generator(np.random.PCG64(words.tolist()))
    return rng.standard_normal(latent_dim, dtype=np.float32)


# --- loading ------------------------------------------------------------------------------------
def find_model(name: str | pathlib.Path) -> pathlib.Path:
    """The workdir `name`, or the model in the box of that name.

    A folder without config.json does not hide the model in the box of its name.
    """
    path, known = pathlib.Path(name), _boxes()
    if path.is_dir() and ((path / "config.json").is_file() or str(name) not in known):
        return path.resolve()
    if str(name) in known:
        return known[str(name)]
    names = ", ".join(sorted(known))
    listed = f"Models in the box: {names}." if names else "No model is in the box yet."
    raise UserError(f"no workdir or model called {str(name)!r}. {listed} Train one: see README.md.")


def _boxes() -> dict[str, pathlib.Path]:
    """The models in the box: inside the package in a wheel, beside it in a checkout."""
    package = pathlib.Path(__file__).resolve().parent
    places = [p / "pretrained" for p in (package.parent, package)]
    folders = [folder for p in places if p.is_dir() for folder in p.iterdir()]
    return {folder.name: folder for folder in folders if box.is_box(folder)}


def load(name: str | pathlib.Path, *, sparse: bool | None = None) -> Renderer:
    """Loads a trained model.

    Args:
        name: a workdir of train.py, or the name of a model in the box; from any directory.
        sparse: do equal work once, and on CPU with fewer products, which changes no picture but for
            rounding (docs/performance.md). None: where that was measured to be faster, on CPU.

    Raises:
        UserError: there is no such model, or its backbone has not been trained.
    """
    folder = find_model(name)
    kept = box.read(folder)
    sparse = jax.default_backend() == "cpu" if sparse is None else sparse
    model = dataclasses.replace(MultiExit.of(kept.config, kept.exits), sparse=sparse)
    trained.check_fits(model, kept, folder)
    variables = model.prepared(jax.tree.map(jnp.asarray, kept.variables))
    return Renderer(kept.config, model, variables, kept.menu, kept.calibration)
