"""What every data set yields: one batch type, and the two protocols that lead to it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Batch(NamedTuple):
    """A batch on the host. Axes: b samples, h rows, w columns.

    Attributes:
        inputs: what the generator is given besides z, by name. OASIS:
            ``{"labels": [b, h, w] int32}``; {} for a generator that is given z alone.
        target: the real picture, [b, h, w, 3] float32 in [-1, 1]; None where there is none.
        latent: the picture's own latent, [b, z] float32, where the data set knows it
            (procedural data only); else None.
    """

    inputs: dict[str, Any]
    target: Any | None = None
    latent: Any | None = None


class Source(Protocol):
    """Random access to the elements of one split.

    An element is a dict: ``name`` (str), one entry for each input of the models it is for, and
    where the data set has them ``image``, the target ([h, w, 3] uint8), and ``latent`` ([z]
    float32). Label maps are called ``labels`` ([h, w] uint8 or int32). Pictures and maps of one
    element have one size, and are cropped, resized and flipped together.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class Dataset(Protocol):
    """A frozen dataclass of a config (`landscapes.Landscapes`, `folders.Folder`, `tfds.Tfds`)."""

    def classes(self) -> tuple[str, ...]:
        """Names of the label classes, by id; one may be ``"void"`` (no loss). () if none."""
        ...

    def open(self, split: str, size: tuple[int, int]) -> Source:
        """Checks the whole split and opens it.

        Args:
            split: one of ``train``, ``predictor``, ``calibration``, ``report``.
            size: (height, width) of the pictures that the model makes, pixels.

        Raises:
            UserError: everything that is wrong with the split, all at once.
        """
        ...
