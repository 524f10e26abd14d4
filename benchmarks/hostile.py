"""Malformed files by the thousand: each is read, or refused in one clear message.

    python -m benchmarks.hostile --count 1000

For every kind of file that the program reads, good samples are made and mutated at random: bytes
flipped, cut, doubled, numbers made absurd, PNG headers with right checksums, JSON values of other
types and depths. Readers may return or raise `UserError`. Any other exception, a reader that takes
longer than 20 seconds, a file that appears beside the input or a gigabyte of memory is a failure,
which is named by its kind and seed: `tests/test_hostile.py` has those that found something.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pathlib
import pickle
import random
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy
import tyro
from PIL import Image

from benchmarks.mutants import json_mutated, mutated
from fiancee_jax import box, cli
from fiancee_jax.config import Config, load_config, read_config, to_dict
from fiancee_jax.config_check import check_config
from fiancee_jax.data.clip_files import read_frame
from fiancee_jax.data.folders import read_classes
from fiancee_jax.data.labels import read_image, survey
from fiancee_jax.errors import UserError
from fiancee_jax.inference import load
from fiancee_jax.weights import read_weights

SECONDS, GIBIBYTE = 20, 2**30


class Stuck(BaseException):
    """A reader took too long; no `except Exception` may hide it."""


# --- kinds of files -----------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        place: writes the mutant of a seed into a folder, and returns what the reader is given.
        read: the reader.
        share: of `Options.count` that is tried: loading a checkpoint takes a second.
    """

    place: Callable[[pathlib.Path, random.Random], pathlib.Path]
    read: Callable[[pathlib.Path], Any]
    share: float = 1.0


def placing(samples: Callable[[], list[tuple[str, bytes]]]) -> Callable[..., pathlib.Path]:
    """Places a mutant of one of the samples (suffix, bytes), now and then under another suffix."""

    def place(folder: pathlib.Path, rng: random.Random) -> pathlib.Path:
        suffix, data = rng.choice(samples())
        path = folder / f"input{suffix}"
        path.write_bytes(mutated(data, rng))
        return path

    return place


def pictures() -> list[tuple[str, bytes]]:
    """A few small pictures of all kinds."""
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8))
    found = []
    for suffix, image, options in (
        (".png", color, {}),
        (".png", color.convert("RGBA"), {}),
        (".png", color.convert("P"), {"transparency": 3}),
        (".jpg", color, {"quality": 90}),
        (".jpg", color, {"progressive": True, "exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00"}),
        (".webp", color.convert("RGBA"), {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, {".jpg": "JPEG"}.get(suffix, suffix[1:]), **options)
        found.append((suffix, buffer.getvalue()))
    return found


def label_maps() -> list[tuple[str, bytes]]:
    """Label maps as they should be, and as they should not."""
    ids = np.random.default_rng(0).integers(0, 4, (24, 20), np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(list(range(256)) * 3)
    images = [Image.fromarray(ids), palette, Image.fromarray(ids.astype(np.uint16) * 5)]
    images += [Image.fromarray(ids > 1), Image.fromarray(np.stack([ids] * 3, -1))]
    found = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        found.append((".png", buffer.getvalue()))
    return found


def weight_files() -> list[tuple[str, bytes]]:
    """Arrays in every format that is read without torch."""
    arrays = {f"layer.{i}": np.arange(12, dtype=np.float32).reshape(3, 4) for i in range(3)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    archive = buffer.getvalue()
    packed = safetensors.numpy.save(arrays)
    return [(".npz", archive), (".safetensors", packed), (".ckpt", pickle.dumps(arrays, 2))]


def place_classes(folder: pathlib.Path, rng: random.Random) -> pathlib.Path:
    """A mutated classes.json."""
    path = folder / "classes.json"
    path.write_bytes(json_mutated(["sky", "road", "void", "tree"], rng))
    return path


def place_config(folder: pathlib.Path, rng: random.Random) -> pathlib.Path:
    """A workdir with a mutated config.json."""
    config = load_config(rng.choice(("quickstart", "avatars", "dcgan", "oasis_cityscapes")))
    plain = {"format_version": 1, **to_dict(config)}
    (folder / "config.json").write_bytes(json_mutated(plain, rng))
    return folder


def read_and_check(workdir: pathlib.Path) -> Config:
    """A workdir's config, as training begins."""
    config = read_config(workdir)
    check_config(config)
    return config


def read_label_map(path: pathlib.Path) -> Any:
    """One label map of four classes.

    Raises:
        UserError: what is wrong with it.
    """
    _, bad = survey([path], 4)
    if bad:
        raise UserError(bad[path])


def checkpoint_kind(workdir: pathlib.Path) -> Kind:
    """A trained workdir one of whose files is mutated, sealed or not."""
    files = sorted(path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file())

    def place(folder: pathlib.Path, rng: random.Random) -> pathlib.Path:
        shutil.copytree(workdir, folder, dirs_exist_ok=True)
        if rng.random() < 0.7:
            for path in folder.rglob("digests.json"):
                path.unlink()
        path = folder / rng.choice([name for name in files if (folder / name).is_file()])
        path.write_bytes(mutated(path.read_bytes(), rng))
        return folder

    return Kind(place, load, share=0.25)


def box_kind(workdir: pathlib.Path) -> Kind:
    """A trained workdir as a box, one of whose files is mutated; half of them have its new hash."""
    with tempfile.TemporaryDirectory() as place_:
        whole = box.export(workdir, pathlib.Path(place_))
        files = {path.name: path.read_bytes() for path in sorted(whole.iterdir())}

    def place(folder: pathlib.Path, rng: random.Random) -> pathlib.Path:
        name = rng.choice(sorted(files))
        text = name.endswith(".json")
        data = json_mutated(json.loads(files[name]), rng) if text else mutated(files[name], rng)
        changed = {**files, name: data}
        if name == box.WEIGHTS and rng.random() < 0.5:
            note = {**json.loads(files[box.NOTE]), "sha256": hashlib.sha256(data).hexdigest()}
            changed[box.NOTE] = json.dumps(note).encode()
        for one, content in changed.items():
            (folder / one).write_bytes(content)
        return folder

    return Kind(place, load, share=0.25)


KINDS = {
    "label map": Kind(placing(label_maps), read_label_map),
    "picture": Kind(placing(pictures), read_image),
    "frame": Kind(placing(pictures), read_frame),
    "class list": Kind(place_classes, read_classes),
    "config": Kind(place_config, read_and_check),
    "weights": Kind(placing(weight_files), read_weights),
}


# --- trying -------------------------------------------------------------------------------------
def attempt(name: str, kind: Kind, seed: int, folder: pathlib.Path) -> str:
    """Reads one mutant in a new folder inside `folder`.

    Returns:
        "read" or "refused".

    Raises:
        Stuck: it took too long.
        AssertionError: it wrote something, or grew by a gigabyte.
        Exception: whatever else the reader let through.
    """
    place = pathlib.Path(tempfile.mkdtemp(dir=folder))
    given = kind.place(place, random.Random(f"{name} {seed}"))
    before, peak = listing(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, _stuck)
    signal.alarm(SECONDS)
    try:
        kind.read(given)
        outcome = "read"
    except UserError:
        outcome = "refused"
    finally:
        signal.alarm(0)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    assert grown < GIBIBYTE, f"grew by {grown} bytes"
    appeared = listing(folder) - before
    assert not appeared, f"wrote {sorted(appeared)[:3]}"
    shutil.rmtree(place)
    return outcome


def _stuck(*_: object) -> None:
    raise Stuck


def listing(folder: pathlib.Path) -> set[str]:
    """All that is there."""
    return {str(path) for path in folder.rglob("*")}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is tried.

    Attributes:
        count: mutants of each kind (a quarter as many of checkpoints and boxes).
        first: seed of the first.
        only: these kinds; all if none is named.
        model: a trained workdir whose checkpoints are mutated, and a box made of it; without it
            they are left out.
    """

    count: int = 1000
    first: int = 0
    only: tuple[str, ...] = ()
    model: pathlib.Path | None = None


def main(options: Options) -> None:
    """Tries all, and says what happened."""
    kinds = dict(KINDS)
    if options.model is not None:
        kinds["checkpoint"] = checkpoint_kind(options.model)
        kinds["box"] = box_kind(options.model)
    rows, failures = [], 0
    for name, kind in kinds.items():
        if options.only and name not in options.only:
            continue
        count, outcomes = round(options.count * kind.share), Counter()
        with (
            tempfile.TemporaryDirectory() as folder,
            cli.Progress(f"mutants of a {name}", count) as progress,
        ):
            for seed in range(options.first, options.first + count):
                try:
                    outcomes[attempt(name, kind, seed, pathlib.Path(folder))] += 1
                except (Exception, Stuck) as error:
                    outcomes["failed"] += 1
                    progress.say(f"{name} {seed}: {type(error).__name__}: {str(error)[:200]}")
                    progress.say("".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip())
                progress.advance(1)
        failures += outcomes["failed"]
        rows.append((name, count, outcomes["read"], outcomes["refused"], outcomes["failed"]))
    cli.print_table(("malformed input", "tried", "read", "refused", "failed"), rows)
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    cli.run(lambda: main(tyro.cli(Options)))
