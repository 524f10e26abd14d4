"""The contract of a generator family: ``stem -> stages -> head`` over a prepared condition.

A family is a frozen dataclass of hyper-parameters (its part of a config) whose methods build linen
modules and pure functions. Training, routing and inference know a generator only through these
words; a new family is one new file beside `dcgan`, see docs/adding-a-generator.md.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from fiancee_jax.config import Exit
from fiancee_jax.errors import UserError

PyTree = Any
Inputs = dict[str, Any]  # what one generator call is given, by name; "z" among it
Discriminate = Callable[[Array], Any]  # pictures -> logits, with parameters already bound
RunGenerator = Callable[..., Any]  # (method of the backbone, arguments) -> what it returns

CELLS = 8  # the default palette: the picture's colours on a grid of 8 x 8 cells


@dataclasses.dataclass(frozen=True)
class StagedGenerator(abc.ABC):
    """A generator family. Stages are numbered 1..num_stages; exit n means "all of them".

    What is abstract every family must say; the rest has a default that suits a family whose only
    input is z. All fields have defaults. Modules may keep the collections ``params``,
    ``batch_stats`` (by `layers.batch_norm`) and ``spectral`` (by `layers.Conv`); parameters are
    called kernel, bias or scale, which is what `layers.initialise` knows how to draw.

    Attributes:
        input_names: the entries of a data set's elements that are inputs; a batch of input `name`
            is ``inputs[name]``, samples along its first axis. z is not among them.
        training_names: entries beside them that training finds among the inputs too, where the
            data set has them: for `own_losses`.
        encodes: whether the stem has a method ``encode(condition)``, a dict of arrays by name that
            are inputs from then on: what all exits share, computed before an exit is chosen, and
            seen by `view`. The stem itself starts from them where they are there.
        kept_names: inputs that stay while the others change (a source over the frames of a driver):
            ``encode`` can be given these alone, and does not do that again afterwards.
        composes: whether two inputs can be made into one (`composed`).
        size: (height, width) of the pictures it is trained for, pixels.
        light_fields: fields that shape light stages or guides but not the backbone.
        layer_words: name of a layer's module -> what tables of cost call it; its own if absent.
    """

    input_names: ClassVar[tuple[str, ...]] = ()
    training_names: ClassVar[tuple[str, ...]] = ()
    kept_names: ClassVar[tuple[str, ...]] = ()
    encodes: ClassVar[bool] = False
    composes: ClassVar[bool] = False
    layer_words: ClassVar[Mapping[str, str]] = {}
    light_fields: ClassVar[tuple[str, ...]] = ()

    size: tuple[int, int] = (64, 64)

    # --- networks -------------------------------------------------------------------------
    @property
    @abc.abstractmethod
    def num_stages(self) -> int:
        """How many stages there are, 2 or more: exits tap the stages before the last."""

    @property
    def latent_dim(self) -> int:
        """Length of z; 0 for a family whose pictures depend on its inputs alone."""
        return 0

    def condition(self, inputs: Inputs) -> PyTree:
        """What stem and stages look at, prepared once for each call, without parameters.

        Training in bfloat16 casts its floating-point arrays; every module keeps the dtype that it
        is given (`layers.Conv` and `layers.batch_norm` do), and heads return float32.
        """
        return inputs

    def sparse_condition(self, inputs: Inputs) -> PyTree:
        """What the modules take instead at inference, if equal work can then be done only once.

        Pictures stay the same up to rounding. It need not be differentiable, and may hold loops and
        choices that depend on the inputs. Here: nothing is saved.
        """
        return self.condition(inputs)

    @abc.abstractmethod
    def stem(self) -> nn.Module:
        """Module (condition, *, train) -> features [b, h_0, w_0, c].

        Work that all exits share, however heavy, belongs here (or into the first stages).
        """

    @abc.abstractmethod
    def stage(self, index: int, *, width: float | None = None) -> nn.Module:
        """Module (x, condition, *, train) -> x: stage `index`, of the backbone or of a branch.

        The number of input channels is whatever it is given. With a `width` it is a branch's light
        stage, its channels scaled by that: no spectral norm, hidden channels scaled too.
        """

    @abc.abstractmethod
    def head(self) -> nn.Module:
        """Module (x, base=None) -> picture [b, h, w, 3] in [-1, 1].

        `base` is a picture in [-1, 1] that is added before the last activation: a head whose
        parameters are all 0 returns it (see `layers.to_picture`).
        """

    @abc.abstractmethod
    def features(self, stage: int, width: float = 1.0) -> int:
        """Channels after `stage` (0 = after the stem)."""

    @abc.abstractmethod
    def stage_factor(self, stage: int) -> int:
        """Size of the picture divided by the size of the features after `stage`."""

    def abstract_inputs(self, batch: int) -> Inputs:
        """Shapes of a batch of inputs, z [batch, latent_dim] included, as `jax.ShapeDtypeStruct`.

        A family with inputs adds them, at the size of its field `size`.
        """
        return {"z": jax.ShapeDtypeStruct((batch, self.latent_dim), jnp.float32)}

    def picture_size(self, inputs: Inputs) -> tuple[int, int]:
        """(height, width) of the pictures made of these inputs; other than `size` if it may be."""
        del inputs
        return self.size

    # --- branches -------------------------------------------------------------------------
    @property
    def light_at_full_width(self) -> bool:
        """Whether a light stage of width 1 costs less than the stage itself."""
        return False

    def inherited(self, exit: Exit, fresh: PyTree, backbone: PyTree) -> PyTree:
        """A branch's variables to begin with, taken from the backbone where its stages allow it.

        Args:
            exit: of the branch.
            fresh: its variables as they are drawn, {params, batch_stats}; not changed.
            backbone: the backbone's, spectral norms folded in.
        """
        del exit, backbone
        return fresh

    # --- guides ---------------------------------------------------------------------------
    @property
    def palette_shape(self) -> tuple[int, int]:
        """Shape (k, 3) of the colours that summarise one picture."""
        return CELLS * CELLS, 3

    def summarise(
        self, images: Float[Array, "b h w 3"], inputs: Inputs
    ) -> tuple[Float[Array, "b k 3"], Float[Array, "b k"]]:
        """Mean colour of each part of the pictures, and each part's share of the pixels."""
        del inputs
        parts = self.palette_shape[0]
        coarse = jax.image.resize(images, (len(images), CELLS, CELLS, 3), "linear")
        return coarse.reshape(-1, parts, 3), jnp.full((len(images), parts), 1 / parts)

    def paint(self, palette: Float[Array, "b k 3"], inputs: Inputs) -> Float[Array, "b h w 3"]:
        """The base picture: every pixel takes its part's colour (here: smoothly enlarged)."""
        coarse = palette.reshape(-1, CELLS, CELLS, 3)
        return jax.image.resize(coarse, (len(coarse), *self.picture_size(inputs), 3), "linear")

    def composed(self, key: Array, inputs: Inputs) -> Inputs:
        """Each input made of two of the batch, for a family that `composes`: inputs that no data
        set has, for phases that need no target. Others' are what they were.
        """
        del key
        return inputs

    def own_frames(
        self, inputs: Inputs
    ) -> tuple[Float[Array, "b k d"], Float[Array, "b d"], Float[Array, "b k h w 3"]] | None:
        """The bank that comes with an input: keys, what to search them by, and pictures.

        For guides of form ``own`` (a source's other frames, by their motion); None: there is none.
        """
        del inputs
        return None

    # --- predictor ------------------------------------------------------------------------
    def view(self, inputs: Inputs) -> tuple[Float[Array, "b h w c"], Float[Array, "b d"]]:
        """A coarse grid and a vector: all that the predictor may see, before any stage has run.

        The grid lies in [0, 1] (class shares, or a small picture); here it is constant. The vector,
        d >= 1, says what the input is as a whole (here z): guide banks are searched by it.
        """
        return jnp.ones((len(inputs["z"]), 1, 1, 1)), inputs["z"]

    @property
    def view_names(self) -> tuple[str, ...]:
        """What the channels of the view's grid are called; () where they have no names."""
        return ()

    # --- adversary ------------------------------------------------------------------------
    @abc.abstractmethod
    def discriminator(self) -> nn.Module:
        """Module (picture [b, h, w, 3]) -> logits, an array or a pytree, for the losses below.

        It keeps the dtype of the pictures. If it has a field `remat`, that asks it to recompute its
        blocks in the backward pass; without one it is recomputed as a whole.
        """

    @abc.abstractmethod
    def generator_loss(
        self, discriminate: Discriminate, fake: Array, inputs: Inputs
    ) -> Float[Array, ""]:
        """What the generator minimises to pass for real."""

    @abc.abstractmethod
    def discriminator_losses(
        self, discriminate: Discriminate, fake: Array, real: Array, inputs: Inputs, key: Array
    ) -> dict[str, Array]:
        """Terms of the discriminator's loss, already weighted: their sum is minimised."""

    def target_losses(
        self, discriminate: Discriminate, fake: Array, real: Array, inputs: Inputs
    ) -> dict[str, Array]:
        """Terms of the generator's loss against the target by the discriminator, weighted."""
        del discriminate, fake, real, inputs
        return {}

    def own_losses(self, run: RunGenerator, images: Array, inputs: Inputs) -> dict[str, Array]:
        """Terms of the generator's loss that ask its networks for more than the picture, weighted.

        Args:
            run: ``run(method, *arguments)`` calls ``method(backbone, *arguments)`` of the bound
                `branches.Backbone`, parameters as they are now.
            images: its pictures of the inputs, with gradients.
            inputs: those of `training_names` among them, where the data set has them.
        """
        del run, images, inputs
        return {}

    # --- host side ------------------------------------------------------------------------
    def with_classes(self, classes: tuple[str, ...]) -> Self:
        """The family resolved for a data set's class names (here: they do not matter)."""
        del classes
        return self

    def with_size(self, size: tuple[int, int]) -> Self:
        """The same networks for pictures of another size (for counting their cost)."""
        return dataclasses.replace(self, size=tuple(size))

    def check(self) -> None:
        """Raises UserError if these hyper-parameters cannot work together."""
        return

    def check_inputs(self, inputs: Any) -> Inputs:
        """Host check of what a caller gives; a bare array is taken as the only input.

        Here: arrays of the shapes of `abstract_inputs`, of one batch size, without NaN. A family
        without inputs is never asked. What else is in the dict stays in it.

        Raises:
            UserError: wrong rank, size, dtype or values out of range.
        """
        given = inputs if isinstance(inputs, dict) else {self.input_names[0]: inputs}
        absent = [name for name in self.input_names if name not in given]
        if absent:
            raise UserError(f"the input {absent[0]!r} is missing; found {sorted(given) or 'none'}.")
        wanted = self.abstract_inputs(1)
        checked = {name: _checked(name, given[name], wanted[name]) for name in self.input_names}
        if len({len(value) for value in checked.values()}) > 1:
            counts = ", ".join(f"{len(value)} {name}" for name, value in checked.items())
            raise UserError(f"inputs must be one of each for every picture; found {counts}.")
        return {**given, **checked}

    def picture_of_inputs(self, inputs: Inputs) -> np.ndarray | None:
        """The inputs as something to look at, [b, h, w, 3] uint8; None if there is nothing."""
        del inputs
        return None


def _checked(name: str, value: Any, wanted: jax.ShapeDtypeStruct) -> Array:
    """`value` as an array of the shape and dtype of `wanted`, but for its batch size."""
    found = value if isinstance(value, jax.Array) else np.asarray(value)
    kind = np.integer if np.issubdtype(wanted.dtype, np.integer) else np.number
    shape, known = tuple(found.shape), np.issubdtype(found.dtype, kind)
    if (
        len(shape) != len(wanted.shape)
        or shape[1:] != wanted.shape[1:]
        or not shape[0]
        or not known
    ):
        expected = ", ".join(["batch", *map(str, wanted.shape[1:])])
        raise UserError(
            f"{name} must be {wanted.dtype} of shape [{expected}]; found {found.dtype} of shape "
            f"{list(shape)}. A single one needs {name}[None]."
        )
    if not isinstance(found, Tracer) and not np.isfinite(np.asarray(found)).all():
        raise UserError(f"{name} holds values that are not finite.")
    return jnp.asarray(found, wanted.dtype)
