"""How training should scale to many chips, on paper, and what the loader of a host can feed.

    python -m benchmarks.scaling --out docs/results/scaling [--loader]

The model takes a step as compiled for four chips (docs/scaling-tpu.md): its operations and bytes,
and what it sends. More chips with the same pictures each take the same time to compute; what is
sent goes around a torus. ``--loader`` measures how many pictures a second one core of this machine
decodes, crops and flips, from files drawn for it. Writes a figure and prints both tables.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pathlib
import tempfile
import time

import numpy as np
import tyro
from matplotlib.figure import Figure
from PIL import Image

from fiancee_jax import cli
from fiancee_jax.data import Augment, Folder
from fiancee_jax.data.loader import batches
from fiancee_jax.files import write_atomically

# Of TPU v5e, from Google's page "TPU v5e", "System architecture": all-reduce bandwidth of a pod,
# 51.2 TB/s, over its 256 chips; and a customary latency of a link.
SENT_PER_SECOND, LINK_SECONDS = 51.2e12 / 256, 1e-6
CHIPS = (4, 16, 32, 64, 256)
CHIPS_PER_HOST = 8


@dataclasses.dataclass(frozen=True)
class Step:
    """One training step of a chip, from docs/scaling-tpu.md.

    Attributes:
        name: of the row.
        pictures: of one chip.
        fastest, slowest: seconds at peak operations, and by all bytes that are accessed.
        sends, sent: all-reduces and their bytes.
        files: (height, width, suffix) of the pictures that it reads.
    """

    name: str
    pictures: int
    fastest: float
    slowest: float
    sends: int
    sent: float
    files: tuple[int, int, str]

    def sending(self, chips: float) -> float:
        """Seconds to send everything around a square torus, nothing of it behind computation."""
        around = 2 * (chips - 1) / chips * self.sent / SENT_PER_SECOND
        return around + self.sends * 2 * math.sqrt(chips) * LINK_SECONDS

    def efficiency(self, chips: float) -> tuple[float, float]:
        """Share of the time spent computing, (if a chip is at its fastest, at its slowest)."""
        sending = self.sending(chips)
        return self.fastest / (self.fastest + sending), self.slowest / (self.slowest + sending)

    def per_second(self, chips: int) -> tuple[float, float]:
        """Pictures per second of all chips, (at the slowest, at the fastest)."""
        sending = self.sending(chips)
        low, high = (chips * self.pictures / (t + sending) for t in (self.slowest, self.fastest))
        return low, high


STEPS = (
    Step("ade20k, backbone", 8, 0.101, 0.237, 41, 0.564e9, (512, 683, "jpg")),
    Step("ade20k, branches", 8, 0.0784, 0.403, 85, 0.0961e9, (512, 683, "jpg")),
    Step("cityscapes, backbone", 5, 0.116, 0.452, 42, 0.276e9, (1024, 2048, "png")),
    Step("cityscapes, branches", 5, 0.0821, 0.859, 85, 0.0852e9, (1024, 2048, "png")),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is made.

    Attributes:
        out: gets ``scaling.png``.
        loader: measure the loader as well.
        pictures: that are drawn for it, and read twice.
    """

    out: pathlib.Path
    loader: bool = False
    pictures: int = 24


# --- loader -------------------------------------------------------------------------------------
def loader_rate(height: int, width: int, suffix: str, pictures: int) -> float:
    """Pictures a second that one thread reads, cuts to a half or whole side, flips and stacks."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        _draw(root, height, width, suffix, pictures)
        size = (256, 512) if width == 2 * height else (256, 256)
        source = Folder(str(root)).open("train", size)
        flip, keys = Augment(flip=True), ("labels",)
        stream = batches(
            source, size=size, batch_size=4, seed=0, keys=keys, augment=flip, threads=1
        )
        next(stream)
        began = time.perf_counter()
        for _ in range(2 * pictures // 4):
            next(stream)
        return 2 * pictures / (time.perf_counter() - began)


def _draw(root: pathlib.Path, height: int, width: int, suffix: str, pictures: int) -> None:
    """Pictures with the grain of photos: smooth shapes and noise."""
    for kind in ("images", "labels"):
        (root / "train" / kind).mkdir(parents=True)
    (root / "classes.json").write_text('["one", "two"]')
    rng = np.random.default_rng(0)
    for i in range(pictures):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        pixels = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "train" / "images" / f"{i}.{suffix}")
        labels = (smooth[..., 0] > 128).astype(np.uint8)
        Image.fromarray(labels).save(root / "train" / "labels" / f"{i}.png")


# --- what is said -------------------------------------------------------------------------------
def figure() -> bytes:
    """Efficiency over chips: a band for each step, from fastest to slowest computation."""
    chart = Figure(figsize=(6, 3.6), layout="constrained")
    axes = chart.subplots()
    chips = np.geomspace(1, 256, 40)
    for i, step in enumerate(STEPS):
        low, high = (
            100 * np.array(side) for side in zip(*map(step.efficiency, chips), strict=True)
        )
        axes.fill_between(chips, low, high, alpha=0.35, color=f"C{i}", label=step.name)
        axes.plot(chips, low, color=f"C{i}", linewidth=1)
    axes.set(xscale="log", xlabel="chips of TPU v5e", ylabel="time spent computing, %")
    axes.set(ylim=(90, 100.2), xticks=CHIPS, xticklabels=CHIPS)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("On paper, nothing hidden behind computation", fontsize=9)
    buffer = io.BytesIO()
    chart.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def main(options: Options) -> None:
    """Prints the model's table, measures the loader, writes the figure."""
    rows = []
    for step in STEPS:
        for chips in CHIPS:
            low, high = step.efficiency(chips)
            slow, fast = step.per_second(chips)
            cells = (f"{1e3 * step.sending(chips):.1f}", f"{100 * low:.0f} to {100 * high:.0f}")
            rows.append((step.name, chips, *cells, f"{slow:,.0f} to {fast:,.0f}"))
    headers = ("step", "chips", "ms to send", "% computing", "pictures/s")
    cli.print_table(headers, rows)
    if options.loader:
        rates = {f: loader_rate(*f, options.pictures) for f in {step.files for step in STEPS}}
        rows = []
        for step in STEPS:
            slow, fast = (CHIPS_PER_HOST * r / 4 for r in step.per_second(4))
            rate = rates[step.files]
            cores = f"{slow / rate:.0f} to {fast / rate:.0f}"
            rows.append((step.name, f"{rate:.1f}", f"{slow:.0f} to {fast:.0f}", cores))
        cli.print_table(("step", "pictures/s of a core", "of a host", "cores needed"), rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "scaling.png", figure())
    print(f"wrote {options.out / 'scaling.png'}")


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
