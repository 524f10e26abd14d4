"""Crops, resizes and flips the pictures and maps of an element together.

Sizes are (height, width). A box is (top, left, height, width) in pixels of the source; its edges
may fall between pixels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from fiancee_jax.errors import UserError

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Augment:
    """Random changes made to training data.

    Attributes:
        flip: mirror left and right half of the time. Leave it off for data with a latent: it may
            say on which side the sun stands.
        min_scale: the crop's side is drawn from [min_scale, 1] times the largest crop of the
            target's aspect, and placed at random.
    """

    flip: bool = True
    min_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise UserError(
                f"Found min_scale {self.min_scale}; expected more than 0 and at most 1 (1: the "
                "largest crop that fits)."
            )


def centre_box(source: Size, target: Size) -> tuple[int, int, int, int]:
    """The largest centred box of `source` with the aspect of `target`, in whole pixels."""
    (h, w), (th, tw) = source, target
    height = min(h, max(1, round(w * th / tw)))
    width = min(w, max(1, round(h * tw / th)))
    return (h - height) // 2, (w - width) // 2, height, width


def random_box(source: Size, target: Size, min_scale: float, rng: np.random.Generator) -> Box:
    """A random box of the aspect of `target`, from min_scale to 1 times the largest that fits."""
    _, _, height, width = centre_box(source, target)
    scale = rng.uniform(min_scale, 1.0)
    height, width = scale * height, scale * width
    top, left = rng.uniform(size=2) * (source[0] - height, source[1] - width)
    return float(top), float(left), height, width


def resize_labels(labels: np.ndarray, box: Box, size: Size) -> np.ndarray:
    """Nearest: row i of the result is row floor(top + (i + 0.5) * height / size[0]) of `labels`."""
    rows = _nearest(box[0], box[2], size[0], labels.shape[0])
    columns = _nearest(box[1], box[3], size[1], labels.shape[1])
    return labels[rows[:, None], columns]


def _nearest(start: float, extent: float, target: int, limit: int) -> np.ndarray:
    index = np.floor(start + (np.arange(target) + 0.5) * extent / target)
    return np.minimum(index.astype(np.int64), limit - 1)


def resize_image(image: np.ndarray, box: Box, size: Size) -> np.ndarray:
    """Lanczos with antialiasing.

    Args:
        image: [h, w, 3] uint8.
        box: what to keep of it.
        size: (height, width) of the result.

    Returns:
        [*size, 3] uint8.
    """
    top, left, height, width = box
    edges = (left, top, min(left + width, image.shape[1]), min(top + height, image.shape[0]))
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.LANCZOS, edges)
    return np.asarray(resized)


def crop_and_resize(array: np.ndarray, box: Box, size: Size) -> np.ndarray:
    """`resize_image` of one picture or several, `resize_labels` of a map: at `size`."""
    if array.ndim == 4:
        return np.stack([resize_image(image, box, size) for image in array])
    return (resize_labels if array.ndim == 2 else resize_image)(array, box, size)


def augment(
    element: dict[str, Any],
    rng: np.random.Generator | None,
    size: Size,
    options: Augment | None = None,
) -> dict[str, Any]:
    """Brings an element of a `batch.Source` to `size`: all its pictures and maps in the same way.

    Args:
        element: pictures [h, w, 3] or [k, h, w, 3] uint8 and maps [h, w] of integers, one or
            more, all of one size; other entries stay as they are. It is not changed.
        rng: decides crop and flip; may be None without options.
        size: (height, width) wanted.
        options: None takes the largest centred crop of the aspect of `size`.

    Returns:
        A new element; the same object if nothing was to do.

    Raises:
        UserError: the element's pictures and maps differ in size.
    """
    if options is not None and rng is None:
        raise ValueError("augment() with options needs a random generator")
    planes = {k: v for k, v in element.items() if _has_pixels(v)}
    source = _common_size(element, planes)
    box: Box = centre_box(source, size)
    if options is not None and rng is not None:
        box = random_box(source, size, options.min_scale, rng)
    flip = options is not None and rng is not None and options.flip and rng.uniform() < 0.5
    whole = source == tuple(size) and box == (0, 0, *size)
    if whole and not flip:
        return element
    if not whole:
        planes = {k: crop_and_resize(v, box, size) for k, v in planes.items()}
    if flip:
        planes = {k: np.flip(v, _across(v)) for k, v in planes.items()}
    return {**element, **planes}


def _has_pixels(value: Any) -> bool:
    if not isinstance(value, np.ndarray):
        return False
    picture = value.dtype == np.uint8 and value.ndim in (3, 4)
    return picture or (value.dtype.kind in "iu" and value.ndim == 2)


def _across(plane: np.ndarray) -> int:
    """The axis of columns: the second, but of several pictures the third."""
    return 2 if plane.ndim == 4 else 1


def _common_size(element: dict[str, Any], planes: dict[str, np.ndarray]) -> Size:
    sizes = {plane.shape[_across(plane) - 1 : _across(plane) + 1] for plane in planes.values()}
    if len(sizes) != 1:
        shapes = {k: v.shape[_across(v) - 1 :] for k, v in planes.items()}
        found = ", ".join(f"{k} {w}x{h}" for k, (h, w, *_) in shapes.items()) or "none"
        raise UserError(
            f"The pictures and maps of {element.get('name', 'an element')} must be of one size; "
            f"found {found}. Let the data set cut them to the same place."
        )
    return sizes.pop()
