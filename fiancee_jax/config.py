"""Typed configs: frozen dataclasses, found by name, overridden by flags, kept as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import json
import pathlib
from typing import Any, Generic, TypeVar

import cattrs

from fiancee_jax.errors import UserError
from fiancee_jax.phases import (
    BackbonePhase,
    BranchesPhase,
    CalibrationPhase,
    Exit,
    Guides,
    Logging,
    PredictorPhase,
)

FORMAT_VERSION = 1
PHASES = ("backbone", "guides", "branches", "predictor", "calibration")

Model = TypeVar("Model")
Data = TypeVar("Data")


@dataclasses.dataclass(frozen=True)
class Config(Generic[Model, Data]):
    """Everything a run is made of.

    Attributes:
        name: name of the config.
        model: the generator family's hyper-parameters (`models.oasis.Oasis`).
        data: the data set (`data.Landscapes`, `data.Folder` or `data.Tfds`).
        exits: the (tap, width) pairs to build; the backbone itself is always the last exit.
        seed: all randomness comes from (seed, phase, step).
        shard_above: parameters of backbone and branches with so many elements or more, and their
            optimiser states, are split over all devices while they are trained; 0 copies
            everything to every device.
    """

    name: str
    model: Model
    data: Data
    augment: Any
    exits: tuple[Exit, ...]
    guides: Guides = dataclasses.field(default_factory=Guides)
    backbone: BackbonePhase = dataclasses.field(default_factory=BackbonePhase)
    branches: BranchesPhase = dataclasses.field(default_factory=BranchesPhase)
    predictor: PredictorPhase = dataclasses.field(default_factory=PredictorPhase)
    calibration: CalibrationPhase = dataclasses.field(default_factory=CalibrationPhase)
    logging: Logging = dataclasses.field(default_factory=Logging)
    seed: int = 0
    shard_above: int = 0


# --- finding ------------------------------------------------------------------------------------
def config_dir() -> pathlib.Path:
    """`configs/`: inside the package in a wheel, beside it in a checkout."""
    package = pathlib.Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """Names of all configs that come with the package."""
    return sorted(p.stem for p in config_dir().glob("*.py") if not p.stem.startswith("_"))


def load_config(name: str) -> Config:
    """The config called `name`, or the one in a ``.py`` file (which is executed) or workdir."""
    path = pathlib.Path(name)
    if is_workdir(name):
        return read_config(path)
    if path.suffix != ".py":
        path = config_dir() / f"{name}.py"
    if not path.is_file():
        names = config_names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(
            f"no config, workdir or .py file called {name!r}.{hint} Configs: {', '.join(names)}."
        )
    spec = importlib.util.spec_from_file_location(f"fiancee_config_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, "config", None), Config):
        raise UserError(f"{path} must define `config = Config(...)`; see {config_dir()}.")
    return module.config


def is_workdir(name: str) -> bool:
    """Whether `name` is a folder; one without config.json does not hide the config of that name."""
    path = pathlib.Path(name)
    return path.is_dir() and ((path / "config.json").is_file() or name not in config_names())


# --- JSON ---------------------------------------------------------------------------------------
TYPED = ("model", "data", "augment")  # fields whose class is written beside their values


def to_dict(config: Config) -> dict[str, Any]:
    """JSON-ready dict; the fields of `TYPED` carry their class under ``"kind"``."""
    plain = cattrs.unstructure(config)
    for field in TYPED:
        kind = type(getattr(config, field))
        plain[field] = {"kind": f"{kind.__module__}.{kind.__qualname__}", **plain[field]}
    return json.loads(json.dumps(plain))


def from_dict(plain: dict[str, Any]) -> Config:
    """Inverse of `to_dict`; raises UserError on unknown or missing fields."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    absent = [field for field in TYPED if not isinstance(plain.get(field), dict)]
    if absent:
        raise UserError(f"this is not a config of this version: it has no {', '.join(absent)}.")
    plain = dict(plain)
    try:
        plain.update({field: _typed(converter, dict(plain[field])) for field in TYPED})
        return converter.structure(plain, Config[Any, Any])
    except UserError:
        raise
    except Exception as error:
        problems = "; ".join(cattrs.transform_error(error))
        raise UserError(f"this is not a config of this version: {problems}.") from None


def _typed(converter: cattrs.Converter, plain: dict[str, Any]) -> Any:
    module, _, name = str(plain.pop("kind", "")).rpartition(".")
    if not module.startswith(("fiancee_jax.models.", "fiancee_jax.data.")):
        raise UserError(f"a config names the class {module}.{name}, which is not one of ours.")
    return converter.structure(plain, getattr(importlib.import_module(module), name))


def read_config(workdir: pathlib.Path) -> Config:
    """The resolved config of a workdir.

    Raises:
        UserError: there is none, it is damaged, or it is of another format.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(
            f"{workdir} holds no config.json, so it is not a workdir of train.py. Start one with: "
            f"python train.py CONFIG --workdir {workdir}"
        )
    try:
        plain = json.loads(path.read_text())
        version = plain.pop("format_version", None)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # no JSON object
        raise UserError(f"{path} is damaged ({error}). Restore it, or train anew.") from None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}; this program reads {FORMAT_VERSION}. Use the "
            "version of fiancee_jax that wrote it, or train anew."
        )
    return from_dict(plain)


def write_config(config: Config, workdir: pathlib.Path) -> None:
    """Writes ``config.json`` atomically."""
    text = json.dumps({"format_version": FORMAT_VERSION, **to_dict(config)}, indent=1)
    temporary = workdir / "config.json.tmp"
    temporary.write_text(text + "\n")
    temporary.replace(workdir / "config.json")


def difference(old: Config, new: Config, fields: tuple[str, ...]) -> list[str]:
    """Lines ``field: old -> new`` for the dotted fields that are or lie under one of `fields`."""
    a, b = _flat(to_dict(old)), _flat(to_dict(new))
    keys = [k for k in sorted(a.keys() | b.keys()) if f"{k}.".startswith(_prefixes(fields))]
    return [f"{k}: {_short(a.get(k))} -> {_short(b.get(k))}" for k in keys if a.get(k) != b.get(k)]


def _prefixes(fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{field}." for field in fields)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        parts = [_flat(v, f"{prefix}.{k}" if prefix else k) for k, v in tree.items()]
        return {k: v for part in parts for k, v in part.items()}
    return {prefix: tree}
