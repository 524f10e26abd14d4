"""The contract of a generator family: ``stem -> stages -> head`` over a prepared condition.

A family is a frozen dataclass of hyper-parameters (its part of a config) whose methods build linen
modules and pure functions. Training, routing and inference know a generator only through these
words; a new family is one new file beside `oasis`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

PyTree = Any
Inputs = dict[str, Any]  # what one generator call is given, by name; "z" among it
Discriminate = Callable[[Array], Array]  # pictures -> logits, with parameters already bound


class StagedGenerator(Protocol):
    """A generator family. Stages are numbered 1..num_stages; exit n means "all of them"."""

    input_names: ClassVar[tuple[str, ...]]  # the fields of a data set's elements that are inputs

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures it is trained for, pixels."""
        ...

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        ...

    @property
    def latent_dim(self) -> int:
        """Length of z."""
        ...

    # --- networks -------------------------------------------------------------------------
    def stem(self) -> nn.Module:
        """Module (condition) -> features [b, h, w, c]."""
        ...

    def stage(self, index: int, *, width: float = 1.0) -> nn.Module:
        """Module (x, condition, *, train) -> x, stage `index`, its channels scaled by `width`.

        The number of input channels is whatever it is given. At a width below 1 it is light: no
        spectral norm, hidden channels scaled too.
        """
        ...

    def head(self) -> nn.Module:
        """Module (x, base=None) -> picture [b, h, w, 3] in [-1, 1].

        `base` is a picture in [-1, 1] that is added before the last activation.
        """
        ...

    def features(self, stage: int, width: float = 1.0) -> int:
        """Channels after `stage` (0 = after the stem)."""
        ...

    def stage_factor(self, stage: int) -> int:
        """Size of the picture divided by the size of the features after `stage`."""
        ...

    def condition(self, inputs: Inputs) -> PyTree:
        """What stem and stages look at, prepared once for each call."""
        ...

    def abstract_inputs(self, batch: int) -> Inputs:
        """Shapes of a batch of inputs, z included, as `jax.ShapeDtypeStruct`."""
        ...

    # --- guides ---------------------------------------------------------------------------
    @property
    def palette_shape(self) -> tuple[int, int]:
        """Shape (k, 3) of the colours that summarise one picture."""
        ...

    def summarise(
        self, images: Float[Array, "b h w 3"], inputs: Inputs
    ) -> tuple[Float[Array, "b k 3"], Float[Array, "b k"]]:
        """Mean colour of each part of the pictures, and each part's share of the pixels."""
        ...

    def paint(self, palette: Float[Array, "b k 3"], inputs: Inputs) -> Float[Array, "b h w 3"]:
        """The base picture: every pixel takes its part's colour."""
        ...

    # --- predictor ------------------------------------------------------------------------
    def view(self, inputs: Inputs) -> tuple[Float[Array, "b h w c"], Float[Array, "b d"]]:
        """A coarse grid and a vector: all that the predictor may see, before any stage has run."""
        ...

    # --- adversary ------------------------------------------------------------------------
    def discriminator(self) -> nn.Module:
        """Module (picture) -> logits, for the two losses below."""
        ...

    def generator_loss(
        self, discriminate: Discriminate, fake: Array, inputs: Inputs
    ) -> Float[Array, ""]:
        """What the generator minimises to pass for real."""
        ...

    def discriminator_losses(
        self, discriminate: Discriminate, fake: Array, real: Array, inputs: Inputs, key: Array
    ) -> dict[str, Array]:
        """Terms of the discriminator's loss, already weighted: their sum is minimised."""
        ...

    # --- host side ------------------------------------------------------------------------
    def with_classes(self, classes: tuple[str, ...]) -> StagedGenerator:
        """The family resolved for a data set's class names (a no-op where there are none)."""
        ...

    def with_size(self, size: tuple[int, int]) -> StagedGenerator:
        """The same networks for pictures of another size (for counting their cost)."""
        ...

    def check(self) -> None:
        """Raises UserError if these hyper-parameters cannot work together."""
        ...

    def check_inputs(self, inputs: Any) -> Inputs:
        """Host check of what a caller gives; a bare array is taken as the first input.

        Raises:
            UserError: wrong rank, size, dtype or values out of range.
        """
        ...

    def picture_of_inputs(self, inputs: Inputs) -> np.ndarray:
        """The inputs as something to look at, [b, h, w, 3] uint8, for grids and reports."""
        ...
