"""Renders a folder of label maps: pictures, ``manifest.jsonl`` and ``index.html``.

Everything is checked first; then batches stream through: while one is computed, the next is read
and the one before it is written, and noted in a ledger from which a killed run goes on.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import time
from typing import Any, Literal

import jax
import numpy as np

from fiancee_jax import cli, hosts, inference
from fiancee_jax.choice import MAX_LPIPS, Choice, Over
from fiancee_jax.colors import class_colors
from fiancee_jax.data.labels import raise_problems
from fiancee_jax.errors import UserError
from fiancee_jax.files import write_atomically
from fiancee_jax.inference import Renderer
from fiancee_jax.ledger import Ledger, mark_of
from fiancee_jax.render_checks import FEW, check, read_folder, shown, sizes, writable_folder
from fiancee_jax.render_job import Batch, Job, Size, write_picture
from fiancee_jax.report import ExitLine, Picture, figures, page, share_of_full


# --- what is asked for --------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Request:
    """Renders every label map of a folder, each only as deep as it needs.

    Give at most one of max-lpips, exit and budget-gmacs; with none of them, max-lpips 0.1 is taken.
    A file's picture depends on the model, the seed, its name and these options, never on the other
    files (but a budget over the batch is shared by the folder).

    Attributes:
        model: a workdir of train.py, or the name of a model in the box.
        labels: folder of label maps, NAME.png each, whose pixels are class ids.
        out: folder for NAME.png, manifest.jsonl and index.html; made if it is not there.
        max_lpips: take the cheapest exit whose predicted LPIPS-alex to the backbone's picture is at
            most this (0.1 if no policy is given).
        confidence: with max-lpips: a new map keeps it with this probability or more, say 0.9, if it
            is like those of the calibration; needs a calibrated model.
        risk_delta: with confidence: hold for all calibration sets but this share, say 0.1, and not
            only on average over them.
        exit: take this exit for all: its number, or full.
        budget_gmacs: spend at most this many GMACs per picture on average.
        budget_over: average over this folder (batch), where it is spent where it helps most; or
            over the inputs that the model was calibrated for (population), file by file.
        seed: the latent of a file comes from the seed and its name.
        size: model: cut and resize every map to the size the model was trained for; native: render
            maps as they are.
        batch_size: maps in one call; eight or more for each device keep all of them busy.
        strict: stop before anything is rendered if a label map is bad; otherwise it is recorded in
            the manifest with the reason, and the others are rendered.
        hosts: how to join others that render the same folder into the same place: auto, or
            ADDRESS:PORT,INDEX,COUNT; clusters are found without it.
    """

    model: str
    labels: pathlib.Path
    out: pathlib.Path
    max_lpips: float | None = None
    confidence: float | None = None
    risk_delta: float | None = None
    exit: str | None = None
    budget_gmacs: float | None = None
    budget_over: Over = "batch"
    seed: int = 0
    size: Literal["model", "native"] = "model"
    batch_size: int = 16
    strict: bool = False
    hosts: str = ""

    @property
    def choice(self) -> Choice:
        """The policy asked for."""
        number = self.exit
        if number is not None:
            number = int(number) if number.strip().isdecimal() else number
        max_lpips = self.max_lpips
        if max_lpips is None and number is None and self.budget_gmacs is None:
            max_lpips = MAX_LPIPS
        return Choice(
            max_lpips,
            number,
            self.budget_gmacs,
            self.confidence,
            self.risk_delta,
            self.budget_over,
        )

    @property
    def marked(self) -> dict[str, Any]:
        """The options that pictures depend on."""
        return {**dataclasses.asdict(self.choice), "seed": self.seed, "size": self.size}

    @property
    def policy(self) -> str:
        """The policy in words."""
        choice = self.choice
        if choice.exit is not None:
            return f"exit {choice.exit}"
        if choice.budget_gmacs is not None:
            over = "" if choice.budget_over == "batch" else " over the population"
            return f"budget {choice.budget_gmacs:g} GMACs{over}"
        confidence = "" if choice.confidence is None else f" at confidence {choice.confidence:g}"
        delta = "" if choice.risk_delta is None else f", risk-delta {choice.risk_delta:g}"
        return f"max_lpips {choice.max_lpips:g}{confidence}{delta}"

    def check(self) -> None:
        """Raises UserError for values that are wrong with any model."""
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; it must be 0 or more.")
        if self.batch_size < 1:
            raise UserError(f"batch-size is {self.batch_size}; it must be 1 or more.")
        if self.size not in ("model", "native"):
            raise UserError(f"size is {self.size!r}; it must be model or native.")


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came out.

    Attributes:
        pictures: sorted by name.
        exits: the model's exits, with the number of pictures each rendered.
        seconds: wall time of rendering and writing, compilation included.
        per_second: pictures per second, without the first batch of each size (which compiles);
            None where there was no other.
        out: the folder.
        policy: in words, with the calibrated setting where there is one.
        failed: label maps that could not be rendered: name -> reason.
    """

    pictures: list[Picture]
    exits: list[ExitLine]
    seconds: float
    per_second: float | None
    out: pathlib.Path
    policy: str
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    def print(self) -> None:
        """Prints the policy, the table of exits and the paths written."""
        total = len(self.pictures)
        print(self.policy)
        rows = [
            (e.number, e.name, e.count, f"{100 * e.count / total:.0f} %", figures(e.gmacs))
            for e in self.exits
        ]
        cli.print_table(("exit", "name", "pictures", "share", "GMACs"), rows)
        mean = sum(p.gmacs for p in self.pictures) / total
        share = 100 * share_of_full(self.pictures)
        print(f"{figures(mean)} GMACs per picture, {figures(share)} % of the backbone's.")
        speed = "one batch only, speed not measured"
        if self.per_second is not None:
            speed = f"{figures(self.per_second)} pictures per second after the first batch"
        print(f"{total} pictures in {self.seconds:.1f} s ({speed}).")
        names = (f"NAME.png ({total})", "manifest.jsonl", "index.html")
        print("\n".join(f"wrote {self.out / name}" for name in names))
        if self.failed:
            maps = "1 label map" if len(self.failed) == 1 else f"{len(self.failed)} label maps"
            print(f"{maps} could not be rendered:")
            print("\n".join(f"  {reason}" for reason in list(self.failed.values())[:FEW]))
            print(f"The reasons are in {self.out / 'manifest.jsonl'} (--strict stops at once).")


# --- the work -----------------------------------------------------------------------------------
def run(request: Request) -> Summary:
    """Loads the model and renders the folder, or this host's part of it, on all its devices."""
    request.check()
    hosts.start(request.hosts)
    return render_folder(inference.load(request.model).over(jax.local_devices()), request)


def render_folder(renderer: Renderer, request: Request) -> Summary:
    """Renders the folder of `request` by `renderer` (its `model` is only a title then).

    A run that was cut short is continued by the same request. A label map that is bad is recorded
    and left out. Several hosts render a part each; the first writes manifest and page for all.

    Raises:
        UserError: a mistake in the request, in all label maps (with `strict`: in one) or in the
            output folder; nothing has been compiled or written then.
    """
    check(renderer, request)
    files, bad = read_folder(renderer, request)
    groups = sizes(renderer, request, files, bad)
    for size in groups:
        request.choice.check_size(renderer.model, size)
    setting = request.choice.guarantee(renderer.calibration)
    policy = request.policy if setting is None else f"{request.policy}: {setting.text}"
    job = Job(renderer, request.choice, groups, seed=request.seed, batch_size=request.batch_size)
    job.check_budget()
    out = writable_folder(request)
    ledger = Ledger(out, mark_of(renderer, request.marked), files)
    started, own = time.monotonic(), {file.name for file in hosts.part(files)}
    with (
        contextlib.closing(ledger),
        concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1) + 1) as pool,
        cli.Progress(hosts.named("pictures"), len(own)) as progress,
    ):
        done = len(own & ledger.done.keys())
        if done:
            progress.say(f"continuing: {done} of {len(own)} are done already")
            progress.advance(done)
        per_second = _render_all(job, pool, progress, out, shown(files), ledger, own)
        ledger.gather()
    pictures = sorted(ledger.done.values(), key=lambda picture: picture.name)
    failed = dict(sorted((bad | ledger.failed).items()))
    if not pictures:
        raise_problems(f"{len(files)} label maps", list(failed.values()), "None was rendered.")
    exits = job.exit_lines(pictures)
    summary = Summary(pictures, exits, time.monotonic() - started, per_second, out, policy, failed)
    if hosts.is_first():
        _write_results(renderer, request, summary, "" if setting is None else setting.text)
        ledger.finish()
    return summary


def _write_results(renderer: Renderer, request: Request, summary: Summary, said: str) -> None:
    """Writes ``manifest.jsonl`` and ``index.html``; `said` is what a calibrated policy promises."""
    records = [{**picture.record(), "policy": summary.policy} for picture in summary.pictures]
    records += [{"name": name, "error": reason} for name, reason in summary.failed.items()]
    lines = [json.dumps(record) + "\n" for record in records]
    write_atomically(summary.out / "manifest.jsonl", "".join(lines).encode())
    classes = getattr(renderer.model.family, "classes", ())
    colors = class_colors(classes)
    title = pathlib.Path(request.model).name or request.model
    pictures, exits = summary.pictures, summary.exits
    html = page(title, request.policy, pictures, exits, classes, colors, said)
    write_atomically(summary.out / "index.html", html.encode())


def _render_all(
    job: Job,
    pool: concurrent.futures.Executor,
    progress: cli.Progress,
    out: pathlib.Path,
    shown: set[str],
    ledger: Ledger,
    own: set[str],
) -> float | None:
    """Writes those of `own` that are not done yet.

    Returns:
        How many pictures a second after each size's first batch.
    """
    written, missing = _Written(job, pool, progress, out, shown, ledger), own - ledger.done.keys()
    timed, seconds = 0, 0.0
    for size, files in job.sizes.items():
        left = [file for file in files if file.name in missing]
        if not left:
            continue
        progress.say(_compiling(job, size))
        chosen = job.exits_under_budget(size, pool)
        begun, waiting = None, None
        for batch in job.batches(left, size, pool):
            exits, predicted = job.route(batch, chosen)
            images = job.images(batch, exits)  # computed while the host writes those before
            if waiting is not None:
                written.add(*waiting)
                begun = begun or time.monotonic()
            waiting = batch, exits, predicted, images
        if waiting is not None:
            written.add(*waiting)
        if begun is not None:  # the first batch, which compiled, is not timed
            seconds += time.monotonic() - begun
            timed += len(left) - job.batch_size
    written.wait()
    ledger.add_failed({name: why for name, why in job.failed.items() if name in own})
    return timed / seconds if timed else None


@dataclasses.dataclass
class _Written:
    """Pictures on their way to files, those of one batch at a time."""

    job: Job
    pool: concurrent.futures.Executor
    progress: cli.Progress
    out: pathlib.Path
    shown: set[str]
    ledger: Ledger
    pictures: list[Picture] = dataclasses.field(default_factory=list)
    writes: list[concurrent.futures.Future[None]] = dataclasses.field(default_factory=list)

    def add(
        self, batch: Batch, exits: np.ndarray, predicted: np.ndarray, images: jax.Array
    ) -> None:
        """Waits for the pictures and for the files of the batch before, then writes these."""
        done, pixels = self.job.pictures(batch, exits, predicted), np.asarray(images)
        self.wait()
        for row, picture in enumerate(done):
            shown = picture.name in self.shown
            args = self.job, self.out, batch, row, pixels[row], shown
            self.writes.append(self.pool.submit(write_picture, *args))
        self.pictures = done
        self.progress.advance(len(done))

    def wait(self) -> None:
        """Raises what went wrong with the files of the last batch; notes them if nothing did."""
        for write in self.writes:
            write.result()
        self.writes.clear()
        self.ledger.add(self.pictures)
        self.pictures = []


def _compiling(job: Job, size: Size) -> str:
    """What the wait before the first picture is for."""
    last = job.renderer.model.num_exits
    which = f"exits 1 to {last}" if job.number is None else f"exit {job.number}"
    height, width = size
    return f"compiling {which} of {last} for pictures of {height}x{width} (once) ..."
