"""Renders a folder of label maps: pictures, ``manifest.jsonl`` and ``index.html``.

Everything is checked first; then batches stream through: while one is computed, the next is read
and the one before it is written.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import io
import json
import math
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fiancee_jax import cli, inference
from fiancee_jax.colors import class_colors
from fiancee_jax.data.labels import LabelFile, fit_labels, raise_problems, read_label_folder
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.inference import Choice, Renderer, file_latent
from fiancee_jax.models.staged import Inputs
from fiancee_jax.pictures import to_uint8
from fiancee_jax.report import MAX_CARDS, ExitLine, Picture, figures, page, share_of_full
from fiancee_jax.routing import policies

MAX_LPIPS = 0.1  # taken when no policy is given
THUMBNAIL = 512  # longest side of the label maps in the page, pixels
FEW = 20  # files named in one message

Size = tuple[int, int]


# --- what is asked for --------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Request:
    """Renders every label map of a folder, each only as deep as it needs.

    Give at most one of max-lpips, exit and budget-gmacs; with none of them, max-lpips 0.1 is taken.
    A file's picture depends on the model, the seed, its name and these options, never on the other
    files (but a budget is shared by the folder).

    Attributes:
        model: a workdir of train.py, or the name of a model in the box.
        labels: folder of label maps, NAME.png each, whose pixels are class ids.
        out: folder for NAME.png, manifest.jsonl and index.html; made if it is not there.
        max_lpips: take the cheapest exit whose predicted LPIPS-alex to the backbone's picture is at
            most this (0.1 if no policy is given).
        confidence: with max-lpips: share of inputs that must keep it, say 0.9; needs a calibrated
            model.
        exit: take this exit for all: its number, or full.
        budget_gmacs: spend at most this many GMACs per picture on average over the folder.
        seed: the latent of a file comes from the seed and its name.
        size: model: cut and resize every map to the size the model was trained for; native: render
            maps as they are.
        batch_size: maps in one call.
    """

    model: str
    labels: pathlib.Path
    out: pathlib.Path
    max_lpips: float | None = None
    confidence: float | None = None
    exit: str | None = None
    budget_gmacs: float | None = None
    seed: int = 0
    size: Literal["model", "native"] = "model"
    batch_size: int = 16

    @property
    def choice(self) -> Choice:
        """The policy asked for."""
        number = self.exit
        if number is not None:
            number = int(number) if number.strip().isdecimal() else number
        max_lpips = self.max_lpips
        if max_lpips is None and number is None and self.budget_gmacs is None:
            max_lpips = MAX_LPIPS
        return Choice(max_lpips, number, self.budget_gmacs, self.confidence)

    @property
    def policy(self) -> str:
        """The policy in words."""
        choice = self.choice
        if choice.exit is not None:
            return f"exit {choice.exit}"
        if choice.budget_gmacs is not None:
            return f"budget {choice.budget_gmacs:g} GMACs"
        confidence = "" if choice.confidence is None else f", confidence {choice.confidence:g}"
        return f"max_lpips {choice.max_lpips:g}{confidence}"

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
    """

    pictures: list[Picture]
    exits: list[ExitLine]
    seconds: float
    per_second: float | None
    out: pathlib.Path

    def print(self) -> None:
        """Prints the table of exits and the paths written."""
        total = len(self.pictures)
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


# --- the work -----------------------------------------------------------------------------------
def run(request: Request) -> Summary:
    """Loads the model and renders the folder."""
    request.check()
    return render_folder(inference.load(request.model), request)


def render_folder(renderer: Renderer, request: Request) -> Summary:
    """Renders the folder of `request` by `renderer` (its `model` is only a title then).

    Raises:
        UserError: a mistake in the request, the label maps or the output folder; nothing has been
            compiled or written then.
    """
    request.check()
    request.choice.check(renderer.model)
    _check_trained(renderer, request.choice)
    files = _read_folder(renderer, request)
    sizes = _sizes(renderer, request, files)
    job = _Job(renderer, request, sizes)
    job.check_budget()
    out = _writable_folder(request)
    started = time.monotonic()
    with (
        concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1) + 1) as pool,
        cli.Progress("pictures", len(files)) as progress,
    ):
        pictures, per_second = _render_all(job, pool, progress, out, _shown(files))
    pictures.sort(key=lambda picture: picture.name)
    exits = job.exit_lines(pictures)
    lines = [json.dumps(picture.record()) + "\n" for picture in pictures]
    write_atomically(out / "manifest.jsonl", "".join(lines).encode())
    classes = getattr(renderer.model.family, "classes", ())
    title = pathlib.Path(request.model).name or request.model
    html = page(title, request.policy, pictures, exits, classes, class_colors(classes))
    write_atomically(out / "index.html", html.encode())
    return Summary(pictures, exits, time.monotonic() - started, per_second, out)


def _render_all(
    job: _Job,
    pool: concurrent.futures.Executor,
    progress: cli.Progress,
    out: pathlib.Path,
    shown: set[str],
) -> tuple[list[Picture], float | None]:
    """All pictures, written; and how many there were in a second after each size's first batch."""
    pictures: list[Picture] = []
    writes: list[concurrent.futures.Future[None]] = []
    timed, seconds = 0, 0.0
    for size in job.sizes:
        progress.say(f"compiling for pictures of {size[0]}x{size[1]} (once) ...")
        chosen = job.exits_under_budget(size, pool)
        begun = time.monotonic()
        for index, batch in enumerate(job.batches(size, pool)):
            exits, predicted = job.route(batch, chosen)
            images = job.images(batch, exits)
            for write in writes:
                write.result()
            done = job.pictures(batch, exits, predicted)
            writes = [
                pool.submit(_write_picture, job, out, batch, row, images[row], p.name in shown)
                for row, p in enumerate(done)
            ]
            pictures += done
            progress.advance(len(done))
            timed, begun = (timed + len(done), begun) if index else (timed, time.monotonic())
        seconds += time.monotonic() - begun
    for write in writes:
        write.result()
    return pictures, timed / seconds if timed else None


class _Batch(NamedTuple):
    """Files of one size; the arrays are padded to the full batch by repeating the last file.

    `labels` is on the host, `inputs` is what the networks take.
    """

    files: list[LabelFile]
    size: Size
    labels: np.ndarray
    inputs: Inputs


class _Job:
    """A renderer with a request: reads batches, routes them and renders them."""

    def __init__(
        self, renderer: Renderer, request: Request, sizes: dict[Size, list[LabelFile]]
    ) -> None:
        self.renderer, self.request, self.sizes = renderer, request, sizes
        self.choice = request.choice
        self.total = sum(map(len, sizes.values()))
        self.tables = {size: self._table(size) for size in sizes}
        self.full = {size: renderer.gmacs(size)[-1] for size in sizes}

    @property
    def number(self) -> int | None:
        """The exit number that all take, if one was asked for."""
        return None if self.choice.exit is None else self.choice.number(self.renderer.model)

    def _sized(self, size: Size) -> MultiExit:
        model = self.renderer.model
        return dataclasses.replace(model, family=model.family.with_size(size))

    def _table(self, size: Size) -> np.ndarray:
        """GMACs of a picture by exit, [n]; a fixed exit is not charged for the predictor."""
        gmacs = np.asarray(self.renderer.gmacs(size))
        routed = self.number is None
        return gmacs + self._sized(size).predictor_gmacs() if routed else gmacs

    # --- budget ---------------------------------------------------------------------------
    def budget(self, size: Size) -> float:
        """The budget of a picture of this size: the same share of full for all sizes."""
        mean = sum(self.full[s] * len(files) for s, files in self.sizes.items()) / self.total
        return (self.choice.budget_gmacs or 0.0) * self.full[size] / mean

    def check_budget(self) -> None:
        """Raises UserError if even the cheapest exit costs more than the budget."""
        if self.choice.budget_gmacs is None:
            return
        for size, table in self.tables.items():
            if self.budget(size) < table[0]:
                raise UserError(
                    f"budget-gmacs is {self.choice.budget_gmacs:g}, but for these maps the "
                    f"cheapest exit costs {self.mean(0):.4g} GMACs (the backbone "
                    f"{self.mean(-1):.4g}). Give more."
                )

    def mean(self, index: int) -> float:
        """Mean GMACs over all files if all took the exit of this index."""
        return sum(self.tables[s][index] * len(f) for s, f in self.sizes.items()) / self.total

    def exits_under_budget(
        self, size: Size, pool: concurrent.futures.Executor
    ) -> dict[str, int] | None:
        """A first pass over all files of a size: exits by name. None without a budget."""
        if self.choice.budget_gmacs is None:
            return None
        names, predicted = [], []
        for batch in self.batches(size, pool):
            names += [file.name for file in batch.files]
            predicted.append(self.predict(batch)[: len(batch.files)])
        distances, table = jnp.concatenate(predicted), jnp.asarray(self.tables[size], jnp.float32)
        weight = _budget_weight(distances, table, jnp.float32(self.budget(size)))
        exits = np.asarray(policies.lagrangian(distances, table, weight))
        return dict(zip(names, exits.tolist(), strict=True))

    # --- batches --------------------------------------------------------------------------
    def batches(self, size: Size, pool: concurrent.futures.Executor) -> Iterator[_Batch]:
        """All batches of a size, the next one being read while the caller uses this one."""
        files, step = self.sizes[size], self.request.batch_size
        chunks = [files[i : i + step] for i in range(0, len(files), step)]
        ahead = pool.submit(self._read, chunks[0], size)
        for following in [*chunks[1:], None]:
            batch = ahead.result()
            if following is not None:
                ahead = pool.submit(self._read, following, size)
            yield batch

    def _read(self, files: list[LabelFile], size: Size) -> _Batch:
        family, seed = self.renderer.model.family, self.request.seed
        labels = [fit_labels(file.read(), size) for file in files]
        latents = [file_latent(seed, file.name, family.latent_dim) for file in files]
        missing = self.request.batch_size - len(files)
        stacked = np.stack(labels + labels[-1:] * missing)
        z = jnp.asarray(np.stack(latents + latents[-1:] * missing))
        return _Batch(files, size, stacked, family.check_inputs({"labels": stacked, "z": z}))

    def predict(self, batch: _Batch) -> jax.Array:
        """Predicted distances of the whole batch, [b, n]; NaN without a predictor."""
        model, variables = self.renderer.model, self.renderer.variables
        if not self.renderer.has_predictor:
            return jnp.full((len(batch.labels), model.num_exits), jnp.nan)
        return inference.predict(model, variables, batch.inputs)

    def route(self, batch: _Batch, chosen: dict[str, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """Exits [files] and predicted distances [files, n]."""
        count, predicted = len(batch.files), self.predict(batch)
        if chosen is not None:
            exits = np.array([chosen[file.name] for file in batch.files], np.int32)
        else:
            exits = np.asarray(self.renderer.choose(predicted, self.choice))[:count]
        return exits, np.asarray(predicted)[:count]

    def images(self, batch: _Batch, exits: np.ndarray) -> np.ndarray:
        """Pictures [files, h, w, 3] in [-1, 1]."""
        model, variables = self.renderer.model, self.renderer.variables
        if self.number is not None:
            images = inference.render_exit(model, variables, batch.inputs, self.number)
            return np.asarray(images)[: len(exits)]
        # Padding takes the exit after the last, which dispatch leaves idle: it costs nothing.
        idle = np.full(len(batch.labels) - len(exits), model.num_exits + 1, np.int32)
        rows = jnp.asarray(np.concatenate([exits, idle]))
        images, _ = inference.render_routed(model, variables, batch.inputs, rows, exact=True)
        return np.asarray(images)[: len(exits)]

    # --- results --------------------------------------------------------------------------
    def pictures(self, batch: _Batch, exits: np.ndarray, predicted: np.ndarray) -> list[Picture]:
        """What is to be said about each picture of a batch."""
        table, full = self.tables[batch.size], self.full[batch.size]
        return [
            Picture(file.name, int(e), tuple(map(float, p)), float(table[e - 1]), full)
            for file, e, p in zip(batch.files, exits, predicted, strict=True)
        ]

    def exit_lines(self, pictures: Sequence[Picture]) -> list[ExitLine]:
        """The model's exits with their mean costs and counts."""
        full = sum(picture.full_gmacs for picture in pictures) / len(pictures)
        lines = []
        for i, exit in enumerate((*self.renderer.model.exits, None)):
            name, tap, width = ("backbone", None, 1.0)
            if exit is not None:
                name, tap, width = exit.name, exit.tap, exit.width
            count, mean = sum(p.exit == i + 1 for p in pictures), self.mean(i)
            lines.append(ExitLine(i + 1, name, tap, width, mean, mean / full, count))
        return lines


_budget_weight = jax.jit(policies.budget_weight)


# --- checks -------------------------------------------------------------------------------------
def _check_trained(renderer: Renderer, choice: Choice) -> None:
    if choice.exit is None and not renderer.has_predictor:
        raise UserError(
            "this model has no predictor yet, so it cannot route: train the phase 'predictor', or "
            "give --exit NUMBER or --exit full."
        )
    early = choice.exit is None or choice.number(renderer.model) < renderer.model.num_exits
    if early and "branches" not in renderer.variables:
        raise UserError("no branches have been trained; only --exit full can be rendered.")


def _read_folder(renderer: Renderer, request: Request) -> list[LabelFile]:
    """All label maps, checked."""
    classes = getattr(renderer.model.family, "classes", ())
    try:
        files = read_label_folder(request.labels, classes)
    except UserError as error:
        known = ", ".join(f"{i} = {name}" for i, name in enumerate(classes))
        raise UserError(f"{error}\nThe model knows these classes: {known}.") from None
    names = [file.name for file in files]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"two label maps of {request.labels} have the same name but for the ending: "
            f"{', '.join(sorted(twice)[:FEW])}. Each writes NAME.png; rename one."
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"the file name {name!r} is not valid UTF-8; rename it.") from None
    return files


def _sizes(
    renderer: Renderer, request: Request, files: list[LabelFile]
) -> dict[Size, list[LabelFile]]:
    """Files by the size of their pictures."""
    family = renderer.model.family
    if request.size == "model":
        height, width = family.size
        other = [file for file in files if file.size != family.size]
        if other:
            print(
                f"{len(other)} of {len(files)} label maps are not {height}x{width}: their centres "
                "are cut to its aspect and resized by nearest (--size native renders as is).",
                flush=True,
            )
        return {family.size: files}
    divisor = family.stage_factor(1)
    wrong = [f for f in files if any(side == 0 or side % divisor for side in f.size)]
    if wrong:
        raise_problems(
            f"{len(files)} label maps with --size native",
            [f"{f.path}: is {f.size[0]}x{f.size[1]}" for f in wrong],
            f"Height and width must be divisible by {divisor}: crop or resize these maps, or leave "
            "out --size native.",
        )
    groups: dict[Size, list[LabelFile]] = {}
    for file in files:
        groups.setdefault(file.size, []).append(file)
    return dict(sorted(groups.items()))


def _writable_folder(request: Request) -> pathlib.Path:
    """The output folder with ``_labels/`` in it, made if need be and tried."""
    out = request.out.expanduser().resolve()
    if out == request.labels.expanduser().resolve():
        raise UserError(f"--out is the folder of the label maps, {out}; they would be overwritten.")
    try:
        (out / "_labels").mkdir(parents=True, exist_ok=True)
        for folder in (out, out / "_labels"):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise UserError(
            f"cannot write into the output folder {out}: {error.strerror or error}. Give --out a "
            "folder that can be made or written."
        ) from None
    return out


# --- writing ------------------------------------------------------------------------------------
def _shown(files: Sequence[LabelFile]) -> set[str]:
    """Names of the files that get a card in the page."""
    return set(sorted(file.name for file in files)[:MAX_CARDS])


def _write_picture(
    job: _Job, out: pathlib.Path, batch: _Batch, row: int, image: np.ndarray, shown: bool
) -> None:
    name = f"{batch.files[row].name}.png"
    _write_png(out / name, to_uint8(image))
    if shown:
        step = math.ceil(max(batch.size) / THUMBNAIL)
        labels = {"labels": batch.labels[row : row + 1, ::step, ::step]}
        _write_png(out / "_labels" / name, job.renderer.model.family.picture_of_inputs(labels)[0])


def _write_png(path: pathlib.Path, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that nobody ever finds half of it.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from None
