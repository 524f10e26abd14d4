"""Renders a source in the motion of a driver: frames, ``manifest.jsonl``, video and ``index.html``.

Everything is checked first; then batches stream through in the order of the clip: while one is
computed, the next is decoded and the one before it is written.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

from fiancee_jax import cli, inference
from fiancee_jax.data.frames import Clip, read_clip, read_own
from fiancee_jax.errors import UserError
from fiancee_jax.files import writable, write_atomically
from fiancee_jax.inference import Renderer
from fiancee_jax.models import lpips
from fiancee_jax.render_checks import check_takes, check_trained
from fiancee_jax.report import Picture
from fiancee_jax.routing import calibration
from fiancee_jax.routing.calibration import Setting
from fiancee_jax.routing.video import Policy
from fiancee_jax.video.job import Batch, Job
from fiancee_jax.video.page import page, webp
from fiancee_jax.video.request import Request
from fiancee_jax.video.summary import Summary
from fiancee_jax.video.writer import Computed, Writer

__all__ = ["Request", "Summary", "check", "render_video", "run"]


# --- the work -----------------------------------------------------------------------------------
def run(request: Request) -> Summary:
    """Loads the model and renders the clip on all devices of this host."""
    request.check()
    return render_video(inference.load(request.model).over(jax.local_devices()), request)


def render_video(renderer: Renderer, request: Request) -> Summary:
    """Renders the clip of `request` by `renderer` (its `model` is only a title then).

    Raises:
        UserError: a mistake in the request, the pictures or the output folder; nothing has been
            compiled or written then.
    """
    check(renderer, request)
    clip = _read(renderer, request)
    setting = request.choice.guarantee(renderer.calibration)
    policy = _policy(renderer, request, setting)
    job = Job(renderer, clip, policy, seed=request.seed, batch_size=request.batch_size)
    _check_budget(job, request)
    out = _writable_folder(request, clip)
    if clip.note:
        print(clip.note, flush=True)
    started = time.monotonic()
    writer, per_second = _render_all(job, request, out)
    words = request.policy if setting is None else f"{request.policy}: {setting.text}"
    write_atomically(out / "manifest.jsonl", writer.manifest(words).encode())
    write_atomically(out / "video.webp", webp(clip, out, request.fps))
    summary = Summary(
        writer.pictures,
        job.exit_lines(writer.pictures),
        time.monotonic() - started,
        per_second,
        out,
        words,
        job.once,
        _over(writer.pictures, policy),
        writer.meter.flicker if request.measure_flicker else None,
    )
    html = _page(summary, request, clip, setting)
    write_atomically(out / "index.html", html.encode(errors="replace"))
    return summary


def _read(renderer: Renderer, request: Request) -> Clip:
    """Source and driver, and what else the model takes of the source."""
    family: Any = renderer.model.family
    clip = read_clip(request.source, request.driver, family.size)
    if "own" not in family.input_names:
        return clip
    assert request.own is not None
    return dataclasses.replace(clip, own=read_own(request.own, family.own, family.size))


def _policy(renderer: Renderer, request: Request, setting: Setting | None) -> Policy:
    choice, rate = request.choice, request.rate
    number = None if choice.exit is None else choice.number(renderer.model)
    limit = choice.max_lpips if setting is None else setting.tau
    return Policy(number, limit, rate, request.hysteresis)


def _render_all(job: Job, request: Request, out: pathlib.Path) -> tuple[Writer, float | None]:
    """All frames, written; and how many there were in a second after the first batch."""
    begun, waiting, total = None, None, len(job.clip.frames)
    with (
        concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1) + 1) as pool,
        cli.Progress("frames", total) as progress,
    ):
        writer = Writer(pool, progress, out)
        progress.say(_compiling(job))
        if request.budget_gmacs is not None:
            job.plan(pool, request.budget_gmacs)
        for batch in job.batches(pool):
            computed = _compute(job, batch, request.measure_flicker)
            if waiting is not None:
                writer.add(waiting)  # while this one is computed
                begun = begun or time.monotonic()
            waiting = computed
        if waiting is not None:
            writer.add(waiting)
        writer.wait()
    if begun is None:  # the first batch, which compiled, is not timed
        return writer, None
    return writer, (total - job.batch_size) / (time.monotonic() - begun)


def _compute(job: Job, batch: Batch, measured: bool) -> Computed:
    """Routes a batch and starts its frames."""
    exits, predicted = job.route(batch)
    images = job.images(batch, exits)
    full = job.backbone(batch) if measured else None
    return Computed(job.pictures(batch, exits, predicted), images, full)


def _compiling(job: Job) -> str:
    """What the wait before the first frame is for."""
    last, number = job.renderer.model.num_exits, job.policy.exit
    which = f"exits 1 to {last}" if number is None else f"exit {number}"
    height, width = job.clip.size
    return f"compiling {which} of {last} for frames of {height}x{width} (once) ..."


# --- what is said -------------------------------------------------------------------------------
def _over(pictures: list[Picture], policy: Policy) -> int:
    """How many frames are predicted to exceed the threshold, for want of budget."""
    if policy.rate is None or policy.max_lpips is None:
        return 0
    limit = np.float32(policy.max_lpips)
    return sum(bool(np.float32(p.predicted[p.exit - 1]) > limit) for p in pictures)


def _page(summary: Summary, request: Request, clip: Clip, setting: Setting | None) -> str:
    return page(
        summary.pictures,
        clip,
        title=pathlib.Path(request.model).name or request.model,
        policy=request.policy,
        setting="" if setting is None else setting.text,
        exits=summary.exits,
        once=summary.once,
        switches=summary.switches,
        flicker=summary.flicker,
        fps=request.fps,
    )


# --- checks -------------------------------------------------------------------------------------
def check(renderer: Renderer, request: Request) -> None:
    """Raises UserError for options that cannot work with this model."""
    request.check()
    check_takes(renderer, ("source", "driver"), request.model)
    wants = "own" in renderer.model.family.input_names
    if wants != (request.own is not None):
        found = ("leave out --own", "give --own DIR, a folder with further pictures of the source")
        raise UserError(
            f"this model takes a source {'and more' if wants else 'alone'}: {found[wants]}."
        )
    request.choice.check(renderer.model, renderer.calibration)
    check_trained(renderer, request.choice)
    if request.measure_flicker:
        _check_measurable(renderer)


def _check_measurable(renderer: Renderer) -> None:
    size, least = renderer.model.family.size, lpips.MIN_SIZE["alex"]
    if min(size) < least:
        raise UserError(
            f"the flicker of frames of {size[0]}x{size[1]} cannot be measured: LPIPS-alex needs "
            f"{least}x{least} pixels or more. Leave out --measure-flicker."
        )
    lpips.load("alex")


def _check_budget(job: Job, request: Request) -> None:
    """Raises UserError if even the cheapest exit costs more than the budget."""
    if request.rate is not None:
        request.rate.check(job.table)
    elif request.budget_gmacs is not None:
        calibration.check_budget(job.table, request.budget_gmacs)


def _writable_folder(request: Request, clip: Clip) -> pathlib.Path:
    """The output folder, made if need be and tried."""
    out = request.out.expanduser().resolve()
    written = {out / f"{frame.name}.png" for frame in clip.frames} | {out / "video.webp"}
    frames = {frame.path.resolve() for frame in clip.frames}
    for what, inputs in (("the driver's frames", frames), ("the source", {clip.path.resolve()})):
        if inputs & written or out == request.driver.expanduser().resolve():
            raise UserError(f"{what} would be overwritten in {out}; give --out another folder.")
    writable(out)
    return out
