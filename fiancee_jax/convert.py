"""Imports published PyTorch checkpoints as ordinary workdirs, without torch.

    python -m fiancee_jax convert oasis G.pth --out runs/imported --discriminator D.pth

What comes out renders at once (``exit="full"``), and ``train.py DIR --phases guides branches
predictor --data.root ...`` gives it early exits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax import checkpoint
from fiancee_jax.classes import is_unnamed, unnamed
from fiancee_jax.config import Config, load_config, read_config, write_config
from fiancee_jax.config_check import check_config
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.inference import Rendered, Renderer
from fiancee_jax.models import oasis_published as published
from fiancee_jax.models.layers import fold_spectral
from fiancee_jax.models.oasis import Oasis
from fiancee_jax.training import backbone
from fiancee_jax.weights import PathLike, read_weights

CONFIG = "oasis_ade20k"  # whose exits, guides and phases an import takes, unless told otherwise
Z_DIM = 64  # as published, where neither a discriminator nor a flag tells
ROLES = ("generator", "discriminator")
STEP = 1  # an import is saved as a backbone that was trained for one step


@dataclasses.dataclass(frozen=True)
class Imported:
    """An imported model: call it like any `Renderer` (``exit="full"``), or `save` it.

    Attributes:
        config: as it is written into the workdir.
        generator: {params, batch_stats, spectral} as in the file.
        discriminator: {params, spectral}, or None.
        source: SHA-256 of each file, by its role.
        notes: what was found and what was assumed, a line each.
    """

    config: Config
    generator: Any
    discriminator: Any
    source: dict[str, str]
    notes: tuple[str, ...]

    @functools.cached_property
    def renderer(self) -> Renderer:
        """The generator, spectral norm folded in, without early exits."""
        params = fold_spectral(self.generator["params"], self.generator["spectral"])
        stats = self.generator["batch_stats"]
        variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": stats})
        return Renderer(self.config, MultiExit.of(self.config, ()), {"backbone": variables}, [])

    def __call__(self, inputs: Any, **options: Any) -> Rendered:
        """Pictures of label maps [b, h, w]; options as for `Renderer`."""
        return self.renderer(inputs, **options)

    def logits(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b h w n"]:
        """The discriminator's logits [b, h, w, classes + 1] of pictures in [-1, 1].

        Raises:
            UserError: no discriminator was imported, or the pictures have another shape.
        """
        if self.discriminator is None:
            raise UserError("no discriminator was imported; give discriminator=D.pth.")
        divisor = 2 ** len(self.config.model.discriminator_channels)
        shape = np.shape(images)
        if len(shape) != 4 or shape[3] != 3 or any(s == 0 or s % divisor for s in shape[1:3]):
            raise UserError(
                f"pictures must have shape [batch, height, width, 3] with sides divisible by "
                f"{divisor}; found {list(shape)}."
            )
        return self.config.model.discriminator().apply(self.discriminator, jnp.asarray(images))

    def save(self, out: PathLike) -> pathlib.Path:
        """Writes the workdir `out`, all of it or nothing; one that holds this import is left as is.

        Raises:
            UserError: `out` holds anything else, or cannot be written.
        """
        return _save(self, pathlib.Path(out).expanduser().resolve())

    def is_saved_in(self, out: PathLike) -> bool:
        """Whether `out` is a workdir of this very import, perhaps trained further."""
        return _holds(pathlib.Path(out).expanduser().resolve(), self)


def import_oasis(
    path: PathLike,
    *,
    discriminator: PathLike | None = None,
    z_dim: int | None = None,
    num_classes: int | None = None,
    size: tuple[int, int] | None = None,
    classes: tuple[str, ...] | None = None,
    config: str = CONFIG,
) -> Imported:
    """A published OASIS generator (EMA or G), and its discriminator if given.

    Width, blocks, hidden channels and the discriminator's channels follow from the tensors. A
    generator holds only the sum of classes and z: the discriminator, `num_classes`, `classes` or
    `z_dim` settles it; else z is taken to be 64-dimensional.

    Args:
        path: .pth, .safetensors or .npz of the state dict; nothing in it is executed.
        discriminator: file of the discriminator; needed to train on adversarially.
        z_dim: length of z.
        num_classes: label classes, "unknown" included.
        size: (height, width) of the pictures; no file holds it. Default: the config's.
        classes: names by id; void (no loss) goes by name. Default: stand-ins, 0 being void, that
            a data set with as many classes renames.
        config: name of the config whose data, exits and phases the model takes.

    Raises:
        UserError: unreadable files, another architecture, missing, left-over or misshapen tensors,
            values that are not finite, or numbers that contradict each other.
    """
    _check_options(z_dim, num_classes, size, classes)
    tensors = _read(path)
    if published.is_discriminator(tensors) and not published.is_generator(tensors):
        raise UserError(f"{path} holds a discriminator; give the generator first.")
    critic = None if discriminator is None else _read(discriminator)
    base, notes = _base(config), []
    family, total = _said(path, published.generator_family, tensors, base.model)
    notes.append(f"generator: width {family.width}, {family.blocks} blocks, hidden {family.hidden}")
    told = num_classes if classes is None else _agree("classes", num_classes, len(classes))
    if critic is not None:
        family, count = _with_discriminator(discriminator, critic, family, notes)
        told = _agree(f"{discriminator}: its classes", told, count)
    told, z_dim = _split(f"{path}", total, told, z_dim, notes)
    names = unnamed(told) if classes is None else tuple(classes)
    family = _sized(dataclasses.replace(family, z_dim=z_dim, classes=names), size, notes)
    if critic is None:
        family = _poolable(family)
    phase = dataclasses.replace(base.backbone, steps=STEP)
    new = dataclasses.replace(base, name="imported", model=family, backbone=phase)
    _said(path, check_config, new)
    return Imported(
        new,
        _said(path, published.generator, tensors, family),
        None if critic is None else _said(discriminator, published.discriminator, critic, family),
        {k: _sha256(p) for k, p in zip(ROLES, (path, discriminator), strict=True) if p is not None},
        tuple(notes),
    )


def _check_options(
    z_dim: Any, num_classes: Any, size: Any, classes: tuple[str, ...] | None
) -> None:
    """Raises UserError for what is wrong with any file."""
    for name, value in (("z_dim", z_dim), ("num_classes", num_classes)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"{name} is {value!r}; it must be a whole number, 1 or more.")
    if size is not None and (
        not isinstance(size, tuple | list)
        or len(size) != 2
        or not all(isinstance(side, int) for side in size)
    ):
        raise UserError(f"size is {size!r}; it must be two whole numbers, (height, width).")
    if classes is not None and (isinstance(classes, str) or len(set(classes)) != len(classes)):
        raise UserError(f"classes are {classes!r}; they must be different names, by id.")


# --- reading ------------------------------------------------------------------------------------
def _read(path: PathLike) -> dict[str, np.ndarray]:
    found = read_weights(path)
    if not isinstance(found, dict) or not all(isinstance(x, np.ndarray) for x in found.values()):
        raise UserError(f"{path}: expected a state dict (tensors by name), found nested data.")
    return _said(path, published.canonical, found)


def _said(path: PathLike | None, function: Any, *args: Any) -> Any:
    """`function(*args)`, its errors beginning with the file's name."""
    try:
        return function(*args)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _base(name: str) -> Config:
    base = load_config(name)
    if not isinstance(base.model, Oasis):
        raise UserError(f"config {name!r} is not of the OASIS family; choose one that is.")
    return base


def _agree(what: str, told: int | None, found: int) -> int:
    if told is not None and told != found:
        raise UserError(f"{what}: found {found}, but told {told}. Leave one of them out.")
    return found


def _with_discriminator(
    path: PathLike | None, tensors: Any, family: Oasis, notes: list[str]
) -> tuple[Oasis, int]:
    """The family with the discriminator's channels, and how many classes it tells apart."""
    channels, last, count = _said(path, published.discriminator_shape, tensors)
    notes.append(f"discriminator: channels {', '.join(map(str, channels))}, last {last}")
    new = dataclasses.replace(family, discriminator_channels=channels, discriminator_last=last)
    return new, count


def _sized(family: Oasis, size: tuple[int, int] | None, notes: list[str]) -> Oasis:
    if size is not None:
        return family.with_size((size[0], size[1]))
    height, width = family.size
    notes.append(f"size {height}x{width}: no file holds it; --size H W gives another")
    return family


def _split(
    path: str, total: int, count: int | None, z_dim: int | None, notes: list[str]
) -> tuple[int, int]:
    """(classes, z_dim) that make up the generator's input channels."""
    if z_dim is None:
        z_dim = Z_DIM if count is None else total - count
        if count is None:
            notes.append(
                f"z_dim {Z_DIM} is assumed: the file holds only classes + z_dim = {total}. "
                "--discriminator, --num-classes or --z-dim settle it"
            )
    count = total - z_dim if count is None else count
    if count + z_dim != total:
        raise UserError(
            f"{path}: {count} classes and z_dim {z_dim} make {count + z_dim}, but the generator "
            f"takes classes + z_dim = {total} channels. Give one of the two."
        )
    if count < 2 or z_dim < 1:
        raise UserError(
            f"{path}: the generator takes classes + z_dim = {total} channels, and z_dim {z_dim} "
            f"leaves {count} classes. There must be at least 2 classes and a z: give the "
            "discriminator of this generator, or the right --num-classes or --z-dim."
        )
    notes.append(f"{count} classes, z_dim {z_dim}")
    return count, z_dim


def _poolable(family: Oasis) -> Oasis:
    """Where no discriminator was given: no more of its blocks than the size can be halved."""
    channels = family.discriminator_channels
    while len(channels) > 1 and any(side % 2 ** len(channels) for side in family.size):
        channels = channels[:-1]
    return dataclasses.replace(family, discriminator_channels=channels)


def _sha256(path: PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- writing ------------------------------------------------------------------------------------
def _save(model: Imported, out: pathlib.Path) -> pathlib.Path:
    partial: pathlib.Path | None = None
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            if _holds(out, model):
                return out
            raise UserError(f"{out} is not empty, and not this import. Choose another --out.")
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name[:50]}.", dir=out.parent))
        _write(model, partial)
        partial.chmod(0o755)  # mkdtemp's is for its owner only
        partial.replace(out)
    except UserError:
        raise
    except Exception as error:  # Orbax raises what it likes where a disk is full
        reason = getattr(error, "strerror", None) or str(error)[:200] or type(error).__name__
        raise UserError(f"cannot write {out}: {reason}. Nothing was written.") from error
    finally:
        if partial is not None and partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
    return out


def _write(model: Imported, folder: pathlib.Path) -> None:
    write_config(model.config, folder)
    extra = {"finished": True, "imported": model.source}
    variables, store = model.renderer.variables["backbone"], checkpoint.Store(folder)
    store.save("backbone", STEP, model=variables, train=_train_state(model), extra=extra)
    store.close()


def _holds(out: pathlib.Path, model: Imported) -> bool:
    """Whether `out` is this very import; a data set may have named its classes since."""
    if not os.path.isfile(out / "config.json"):
        return False
    own, found = model.config.model, read_config(out).model
    if is_unnamed(own.classes) and len(getattr(found, "classes", ())) == len(own.classes):
        own = dataclasses.replace(own, classes=found.classes)
    with contextlib.closing(checkpoint.Store(out)) as store:
        known = store.latest("backbone") is not None
        return own == found and known and store.extra("backbone").get("imported") == model.source


def _train_state(model: Imported) -> Any:
    """What training goes on from: the file's weights, fresh optimisers. Nothing without a D."""
    if model.discriminator is None:
        return {}
    net = MultiExit.of(model.config, ())
    return backbone.restarted(net, model.config.backbone, model.generator, model.discriminator)
