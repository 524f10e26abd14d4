"""Pictures on the host: from the model's range to 8 bits, and contact sheets with captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (255, 255, 255), (25, 28, 34), (105, 110, 120)


def to_uint8(images: Float[ArrayLike, "*b h w 3"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """Pictures in [-1, 1] as 8 bits, ``round((x + 1) * 127.5)``; values outside are clipped."""
    x = np.asarray(images, np.float32)
    return np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    headers: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    *,
    scale: int = 1,
    font_size: int = 12,
    gap: int = 6,
) -> Image.Image:
    """A contact sheet.

    Args:
        rows: pictures [h, w, 3] uint8 of any sizes; rows may be of different lengths.
        headers: a title above each column.
        captions: a line under each picture, by row and column.
        scale: whole number by which every picture is enlarged (nearest).
        font_size: of headers and captions, pixels; what is too long for its column is shortened.
        gap: pixels between pictures and around them.

    Raises:
        ValueError: there is no picture, or one is not [h, w, 3] uint8.
    """
    cells = [[_enlarged(picture, scale) for picture in row] for row in rows]
    if not any(cells):
        raise ValueError("a grid needs at least one picture")
    count = max(map(len, cells))
    widths = [max((r[c].width for r in cells if c < len(r)), default=0) for c in range(count)]
    heights = [max((picture.height for picture in row), default=0) for row in cells]
    line = font_size + gap
    top = gap + (line if headers else 0)
    below = line if captions else 0
    size = (gap + sum(w + gap for w in widths), top + sum(h + below + gap for h in heights))
    sheet = Image.new("RGB", size, PAPER)
    text = _Writer(sheet, font_size)
    lefts = [gap + sum(w + gap for w in widths[:c]) for c in range(count)]
    for left, width, header in zip(lefts, widths, headers, strict=False):
        text.write(header, left, gap - 1, width, INK)
    for r, row in enumerate(cells):
        for c, picture in enumerate(row):
            sheet.paste(picture, (lefts[c] + (widths[c] - picture.width) // 2, top))
            if r < len(captions) and c < len(captions[r]):
                text.write(captions[r][c], lefts[c], top + heights[r] + 1, widths[c], FAINT)
        top += heights[r] + below + gap
    return sheet


def _enlarged(picture: np.ndarray, scale: int) -> Image.Image:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"a grid takes pictures [h, w, 3] uint8; found {picture.dtype} {list(picture.shape)}. "
            "Use to_uint8 for pictures in [-1, 1]."
        )
    return Image.fromarray(np.repeat(np.repeat(picture, scale, 0), scale, 1))


class _Writer:
    """Writes centred lines onto a sheet, shortened to the width they are given."""

    def __init__(self, sheet: Image.Image, font_size: int) -> None:
        self.draw, self.font = ImageDraw.Draw(sheet), ImageFont.load_default(size=font_size)

    def write(self, text: str, left: int, top: int, width: int, color: tuple[int, ...]) -> None:
        """One line in the box of this left, top and width."""
        text = " ".join(text.split())
        short = text
        while self.draw.textlength(short, self.font) > width and len(text) > 0:
            text = text[:-1]
            short = text.rstrip() + "\N{HORIZONTAL ELLIPSIS}" if text else ""
        spare = width - self.draw.textlength(short, self.font)
        self.draw.text((left + spare / 2, top), short, fill=color, font=self.font)
