"""What came out of `render_video`, and how it is printed."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from fiancee_jax import cli
from fiancee_jax.report import ExitLine, Picture, figures, share_of_full
from fiancee_jax.routing import video
from fiancee_jax.video.flicker import Flicker


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came out.

    Attributes:
        pictures: the frames, in order.
        exits: the model's exits, with the number of frames each rendered.
        seconds: wall time of rendering and writing, compilation included.
        per_second: frames per second, without the first batch (which compiles) and without the
            WebP; None where there was no other.
        out: the folder.
        policy: in words, with the calibrated setting where there is one.
        once: GMACs of what is computed of the source, once; not among those of the frames.
        over: frames predicted to exceed max-lpips because the budget could not pay for it.
        flicker: None if it was not measured.
    """

    pictures: list[Picture]
    exits: list[ExitLine]
    seconds: float
    per_second: float | None
    out: pathlib.Path
    policy: str
    once: float = 0.0
    over: int = 0
    flicker: Flicker | None = None

    @property
    def switches(self) -> int:
        """How often the exit changes from one frame to the next."""
        return video.switches(np.array([picture.exit for picture in self.pictures]))

    def print(self) -> None:
        """Prints the policy, the table of exits, what was measured and the paths written."""
        total = len(self.pictures)
        print(self.policy)
        rows = [
            (e.number, e.name, e.count, f"{100 * e.count / total:.0f} %", figures(e.gmacs))
            for e in self.exits
        ]
        cli.print_table(("exit", "name", "frames", "share", "GMACs"), rows)
        mean = sum(p.gmacs for p in self.pictures) / total
        share = 100 * share_of_full(self.pictures)
        once = f", and {figures(self.once)} once for the source" if self.once else ""
        print(f"{figures(mean)} GMACs per frame, {figures(share)} % of the backbone's{once}.")
        print(f"{self.switches} switches of the exit.")
        if self.over:
            print(f"{self.over} frames above max_lpips: the budget could not pay for it.")
        if self.flicker is not None:
            _print_flicker(self.flicker)
        speed = "one batch only, speed not measured"
        if self.per_second is not None:
            speed = f"{figures(self.per_second)} frames per second after the first batch"
        print(f"{total} frames in {self.seconds:.1f} s ({speed}).")
        names = (f"NAME.png ({total})", "manifest.jsonl", "video.webp", "index.html")
        print("\n".join(f"wrote {self.out / name}" for name in names))


def _print_flicker(found: Flicker) -> None:
    rows = [
        ("to the frame before", *map(figures, (found.rendered, found.backbone, found.added))),
        ("where the exit changes", "", "", figures(found.at_switches)),
        ("where it stays", "", "", figures(found.elsewhere)),
        ("to the backbone's frame", figures(found.distance), "", ""),
    ]
    cli.print_table(("LPIPS-alex, mean", "rendered", "backbone", "difference"), rows)
