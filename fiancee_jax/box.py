"""Models in the box: a trained model as one small folder, without what training needs besides.

    pretrained/NAME/config.json            the resolved config
                    weights.safetensors    large arrays of backbone, guides and branches in float16
                    box.json               menu of exits, and the SHA-256 of the weights
                    discriminator.safetensors    if asked for: to train the backbone on
                    README.md              the model card, written by hand

A box is read without Orbax, wherever it lies, and is the same bytes for the same model. `unpack`
makes a workdir of it, to train on from there: a predictor or a calibration for other inputs, say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util

from fiancee_jax import checkpoint
from fiancee_jax.config import PHASES, Config, read_config, write_config
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.files import writable, write_atomically
from fiancee_jax.routing import menu as menus
from fiancee_jax.routing.calibration import Calibration
from fiancee_jax.trained import VARIABLES, Trained, columns, from_workdir, only
from fiancee_jax.training import backbone
from fiancee_jax.weights import read_safetensors

FORMAT_VERSION = 1
NOTE, WEIGHTS, CRITIC = "box.json", "weights.safetensors", "discriminator.safetensors"
HALVED = ("backbone", "bank", "branches", "params")  # whose large arrays are kept in float16
LARGE = 1024  # elements


def is_box(folder: pathlib.Path) -> bool:
    """Whether `folder` is a box, or a damaged one."""
    return (folder / NOTE).is_file() or (folder / WEIGHTS).is_file()


def read(folder: pathlib.Path) -> Trained:
    """A trained model from a box or a workdir of train.py.

    Raises:
        UserError: the backbone has not been trained, or files are absent, damaged or not of this
            program.
    """
    return _from_box(folder) if is_box(folder) else from_workdir(folder)


def _from_box(folder: pathlib.Path) -> Trained:
    config, note = read_config(folder), _note(folder)
    try:
        tree = _tree(folder / WEIGHTS, note.get("sha256"))
        calibration = tree.pop("calibration", None)
        kept = None if calibration is None else Calibration(**calibration)
    except (TypeError, IndexError, KeyError, AttributeError) as error:
        raise UserError(
            f"the arrays in {folder / WEIGHTS} are not a model's ({error}). Fetch it again."
        ) from None
    return Trained(config, tree, note["menu"], kept)


def _tree(path: pathlib.Path, expected: Any) -> Any:
    """The arrays of a file with this SHA-256, all in float32."""
    digest = _digest(path)
    if digest != expected:
        raise UserError(
            f"{path} is not the file that {NOTE} belongs to (its SHA-256 begins with "
            f"{digest[:12]}, expected {str(expected)[:12]}). Fetch both again."
        )
    arrays = read_safetensors(path)
    halved = [k for k, v in arrays.items() if v.dtype == np.float16]
    arrays |= {k: arrays[k].astype(np.float32) for k in halved}
    return traverse_util.unflatten_dict(arrays, sep="/")


def _note(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / NOTE
    try:
        note = json.loads(path.read_bytes())
        version, menu = note["format_version"], note["menu"]
        menus.kept(menu)
    except FileNotFoundError:
        raise UserError(f"{folder} has no {NOTE} beside its weights. Fetch it again.") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}). Fetch it again.") from None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}; this program reads {FORMAT_VERSION}."
        )
    return note


def _digest(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}). Fetch it again."
        ) from None


# --- writing ------------------------------------------------------------------------------------
def export(
    workdir: pathlib.Path,
    out: pathlib.Path,
    discriminator: bool = False,
    exits: Sequence[int] = (),
) -> pathlib.Path:
    """Writes a trained model as a box, over an older one; a card that is there stays.

    With its `discriminator`, which rendering never reads, the backbone can be trained on from the
    box. Some `exits` alone, by number, can be kept as long as there is no predictor.

    Large arrays are rounded to float16. Pictures change by about a grey level, so that a predictor
    and a calibration are best made from the box itself: `unpack` it, train these, export again,
    which rounds nothing any further.

    Returns:
        The folder.

    Raises:
        UserError: the backbone has not been trained, there are no such exits or a predictor of all,
            values that float16 does not reach, or `out` cannot be written.
    """
    trained = only(read(workdir), exits)
    tree = dict(trained.variables)
    if trained.calibration is not None:
        tree["calibration"] = columns(trained.calibration)
    contents = {WEIGHTS: safetensors.numpy.save(_flat(tree))}
    if discriminator:
        contents[CRITIC] = safetensors.numpy.save(_flat(critic(workdir, trained.config)))
    writable(out)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    note = {"format_version": FORMAT_VERSION, "sha256": sums[WEIGHTS], "menu": trained.menu}
    note |= {"discriminator_sha256": sums[CRITIC]} if discriminator else {}
    (out / CRITIC).unlink(missing_ok=True)  # an older model's
    for name, content in contents.items():
        write_atomically(out / name, content)
    write_config(_anywhere(trained.config), out)
    write_atomically(out / NOTE, (json.dumps(note, indent=1) + "\n").encode())
    return out


def _anywhere(config: Config) -> Config:
    """The config without this machine's paths to data."""
    changes = {"root": lambda root: f"data/{pathlib.Path(root).name}", "data_dir": lambda _: ""}
    known = {field.name for field in dataclasses.fields(config.data)} & changes.keys()
    made = {name: changes[name](getattr(config.data, name)) for name in known}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **made))


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """All arrays by path, halved where that is due."""
    flat = traverse_util.flatten_dict(jax.device_get(tree), sep="/")
    return {name: _kept(name, np.ascontiguousarray(value)) for name, value in flat.items()}


def _kept(name: str, value: np.ndarray) -> np.ndarray:
    half = name.split("/")[0] in HALVED and value.size >= LARGE and value.dtype == np.float32
    if not half:
        return value
    if np.abs(value).max() > np.finfo(np.float16).max:
        raise UserError(
            f"{name} holds {np.abs(value).max():.3g}, more than float16 can (65504). A model with "
            "such weights was not trained well; look at its samples/."
        )
    return value.astype(np.float16)


def critic(folder: pathlib.Path, config: Config) -> Variables:
    """The discriminator of a box or a workdir, ``{"params": ...}``.

    Raises:
        UserError: it has none.
    """
    if is_box(folder):
        note = _note(folder)
        if "discriminator_sha256" in note:
            return _tree(folder / CRITIC, note["discriminator_sha256"])
        raise UserError(f"{folder} holds no discriminator. Export it from where it was trained.")
    model = MultiExit.of(config, ())
    like = backbone.init_state(model, config.backbone, np.random.default_rng(0))
    with contextlib.closing(checkpoint.Store(folder)) as store:
        return {"params": store.train("backbone", like)["d_params"]}


def unpack(box: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """Makes a workdir of a box: every phase it holds is finished there.

    What the optimisers knew is not in a box: these phases can be trained anew, not continued. Only
    the backbone goes on from where it is, with fresh optimisers, if its discriminator is there and
    `backbone.steps` is raised.

    Raises:
        UserError: `box` is none, or `workdir` is not empty.
    """
    if not is_box(box):
        raise UserError(f"{box} is no model in the box: it has neither {NOTE} nor {WEIGHTS}.")
    trained, goes_on = read(box), {}
    if "discriminator_sha256" in _note(box):
        given = trained.variables["backbone"], critic(box, trained.config)
        model = MultiExit.of(trained.config, ())
        goes_on = backbone.restarted(model, trained.config.backbone, *given)
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"{workdir} is not empty. Choose another folder.")
    writable(workdir)
    write_config(trained.config, workdir)
    with contextlib.closing(checkpoint.Store(workdir)) as store:
        for phase, model in _phases(trained).items():
            steps = getattr(getattr(trained.config, phase), "steps", 1)
            extra = {"finished": True, "unpacked": True}
            extra |= {"menu": trained.menu} if phase == "branches" else {}
            train = goes_on if phase == "backbone" else {}
            store.save(phase, steps, model=model, train=train, extra=extra)
    return workdir


def _phases(trained: Trained) -> dict[str, Any]:
    """What each phase left, in order."""
    found = {phase: trained.variables.get(name) for phase, name in VARIABLES.items()}
    if found["branches"] is not None:
        found["guides"] = found["guides"] or {}  # a form without a bank
    if trained.calibration is not None:
        found["calibration"] = columns(trained.calibration)
    return {phase: found[phase] for phase in PHASES if found.get(phase) is not None}
