"""What shows a rendered video: ``video.webp``, and ``index.html`` without scripts or requests."""

from __future__ import annotations

import io
import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fiancee_jax.data.frames import Clip
from fiancee_jax.report import Picture, render, share_of_full

QUALITY = 85  # of the WebP, lossy


class Run(NamedTuple):
    """`count` frames in a row, from `start` on, that took one exit."""

    start: int
    count: int
    exit: int


def runs(exits: Sequence[int]) -> list[Run]:
    """The exits of a clip, equal neighbours together."""
    found, start = [], 0
    for exit, group in itertools.groupby(exits):
        count = len(list(group))
        found.append(Run(start, count, exit))
        start += count
    return found


def page(pictures: Sequence[Picture], clip: Clip, **context: Any) -> str:
    """The HTML of a rendered video, which lies beside it.

    Args:
        pictures: the frames, in order.
        clip: source and driver.
        context: title, policy, setting, exits, once, switches, flicker and fps, as in
            `render_video`.
    """
    return render(
        "video/page.html",
        source=clip.path.name,
        driver=clip.frames[0].path.parent.name,
        total=len(pictures),
        width=clip.size[1],
        mean_gmacs=sum(p.gmacs for p in pictures) / len(pictures),
        share=share_of_full(pictures),
        runs=runs([p.exit for p in pictures]),
        **context,
    )


# --- WebP ---------------------------------------------------------------------------------------
def webp(clip: Clip, out: pathlib.Path, fps: float) -> bytes:
    """An animation of source, driver and rendered frames, side by side.

    One frame is read at a time, the rendered ones from ``NAME.png`` in `out`; only compressed
    frames are kept.
    """

    def triptych(index: int) -> Image.Image:
        with Image.open(out / f"{clip.frames[index].name}.png") as image:
            rendered = np.asarray(image.convert("RGB"))
        return Image.fromarray(np.hstack([clip.source, clip.read(index), rendered]))

    buffer = io.BytesIO()
    frames = _Sequence(triptych, len(clip.frames))
    times = durations(len(clip.frames), fps)
    frames.save(buffer, "WEBP", save_all=True, duration=times, loop=0, quality=QUALITY)
    return buffer.getvalue()


def durations(count: int, fps: float) -> list[int]:
    """Whole milliseconds for each frame, whose sums are never half of one off."""
    ends = np.rint(1000 * np.arange(count + 1) / fps).astype(int)
    return np.diff(ends).tolist()


class _Sequence(Image.Image):
    """Frames made when Pillow seeks them: of `append_images` it would make a list first."""

    def __init__(self, read: Callable[[int], Image.Image], count: int) -> None:
        super().__init__()
        self.n_frames, self._read, self._at = count, read, -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        """Makes this frame the picture's content."""
        if frame != self._at:
            picture = self._read(frame)
            self._mode, self._size, self.im = picture.mode, picture.size, picture.im
            self._at = frame

    def tell(self) -> int:
        """The number of the frame."""
        return self._at
