"""What an evaluation is about: the inputs, the model and its baselines, and who judges pictures."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax.data import Folder
from fiancee_jax.data.folders import at_root
from fiancee_jax.data.splits import SPLITS
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import companions, keeping, records, ridge, segmentation, settings
from fiancee_jax.evaluation.options import Options
from fiancee_jax.evaluation.records import Judges, Records
from fiancee_jax.evaluation.rows import Subject
from fiancee_jax.evaluation.table import Table
from fiancee_jax.evaluation.timing import ROUTED_BATCHES, Setting, time_exits, time_routed
from fiancee_jax.inference import Renderer
from fiancee_jax.models import efficientnet, lpips, segmenter
from fiancee_jax.models.staged import Inputs
from fiancee_jax.training.calibration import film_blocks
from fiancee_jax.training.derive import BASELINES

FEWEST = 4  # inputs: what a kernel distance needs


class Study(NamedTuple):
    """A model and the inputs it is tried on.

    Attributes:
        source: the inputs, checked; `data`: the data set they are of.
    """

    renderer: Renderer
    workdir: pathlib.Path
    options: Options
    source: Any
    data: Any


def open_study(renderer: Renderer, workdir: pathlib.Path, options: Options) -> Study:
    """Opens and checks the inputs.

    Raises:
        UserError: no such data or split, other classes than the model's, or too few inputs.
    """
    data, split = at_root(renderer.config.data, options.data), options.split
    if split not in SPLITS:
        if not isinstance(data, Folder):
            raise UserError(f"split is {split!r}; this data set has {', '.join(SPLITS)}.")
        data, split = dataclasses.replace(data, report=split), "report"
    family = renderer.model.family.with_classes(data.classes())
    source = data.open(split, family.size)
    if options.limit and options.limit < len(source):
        source = First(source, options.limit)
    if len(source) < FEWEST:
        raise UserError(
            f"found {len(source)} inputs in {options.split}; an evaluation wants {FEWEST} or more. "
            "Take a larger split or --limit."
        )
    return Study(renderer, workdir, options, source, data)


class First:
    """The first elements of a source."""

    def __init__(self, source: Any, count: int) -> None:
        self.source, self.count = source, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.source[index]


# --- measuring ----------------------------------------------------------------------------------
class Measured(NamedTuple):
    """What was measured and found on disk.

    Attributes:
        table: all that rows are made of.
        limits_from: where the thresholds are from, see `settings.thresholds`.
        absent: baselines that are not in the table, and why.
    """

    table: Table
    limits_from: str
    absent: dict[str, str]


def measure(study: Study) -> Measured:
    """Measures the model and those of its baselines that are trained (or reads what is kept)."""
    options, workdir, renderer = study.options, study.workdir, study.renderer
    judges = find_judges(study)
    others, absent = _baselines(study)
    subject = measured(study, renderer, judges, "own")
    beside = {
        name: _with_photos_of(subject, measured(study, other, judges, name))
        for name, other in others.items()
    }
    targets = ridge.read_targets(workdir / "predictor_targets.npz", len(subject.gmacs) - 1)
    limits, origin = settings.thresholds(options.max_lpips, targets, renderer, subject.records)
    table = Table(
        subject,
        beside,
        {} if targets is None else ridge.fit_both(targets),
        {limit: settings.settings(renderer, limit, options.confidence) for limit in limits},
        settings.budgets(renderer, subject),
        options.seed,
    )
    wanted = routed_settings(table)
    routed = time_routed(renderer, list(_full_batches(study)), wanted)
    return Measured(dataclasses.replace(table, routed_ms=routed), origin, absent)


def _with_photos_of(subject: Subject, other: Subject) -> Subject:
    """The real pictures are the same for all, so they were looked at once."""
    own = subject.records
    real = {"real_features": own.real_features, "real_confusion": own.real_confusion}
    return dataclasses.replace(other, records=dataclasses.replace(other.records, **real))


def _baselines(study: Study) -> tuple[dict[str, Renderer], dict[str, str]]:
    """Those that may stand beside the model; and why others may not, said at once."""
    there: dict[str, Renderer] = {}
    absent: dict[str, str] = {}
    for name in BASELINES:
        found = companions.trained_baseline(
            study.renderer, study.workdir, name, str(study.options.model)
        )
        if isinstance(found, Renderer):
            there[name] = found
            continue
        absent[name] = found
        if found.endswith("--rerun"):
            print(f"baseline {name} was {found}", flush=True)
    return there, absent


def routed_settings(table: Table) -> list[Setting]:
    """What to time routed calls at, the middle threshold and the learned router first."""
    limits = list(table.calibrated)
    middle = sorted(limits)[(len(limits) - 1) // 2]
    limits.sort(key=lambda limit: limit != middle)
    learned: list[Setting] = [(limit, None) for limit in limits]
    promised: list[Setting] = [(x, p.confidence) for x in limits for p in table.calibrated[x]]
    count = len(table.calibrated[middle])
    return learned[:1] + promised[:count] + learned[1:] + promised[count:]


def _full_batches(study: Study) -> Iterator[Inputs]:
    """The first few batches of real inputs with their z; one that is not full only if alone."""
    renderer, seed = study.renderer, study.options.seed
    found = itertools.islice(records.batches(renderer, study.source), ROUTED_BATCHES)
    for i, (names, batch) in enumerate(found):
        if not i or len(names) == records.BATCH:
            z = records.latents_of(renderer, names, seed, 0)
            yield {**batch.inputs, "z": jnp.asarray(z)}


def find_judges(study: Study) -> Judges:
    """LPIPS, and where they are wanted and can be had the feature network and a segmenter."""
    perceptual = lpips.load("alex"), lpips.load("vgg")
    if not study.options.judges:
        return Judges(*perceptual)
    features = segment = None
    if "image" in study.source[0]:
        try:
            features = jax.tree_util.Partial(efficientnet.features, efficientnet.load())
        except UserError as error:
            print(f"no FD and KID: {error}", flush=True)
    try:
        config = dataclasses.replace(study.renderer.config, data=study.data)
        params = segmentation.load_or_train(config, study.options.out / "segmenter.npz")
        segment = jax.tree_util.Partial(segmenter.predict, params)
    except UserError as error:
        print(f"no mIoU: {error}", flush=True)
    return Judges(*perceptual, features, segment)


def measured(study: Study, renderer: Renderer, judges: Judges, name: str) -> Subject:
    """A model's exits, measured or read from OUT/records[_NAME][_unjudged].npz."""
    options, family = study.options, renderer.model.family
    split, seed, latents = options.split, options.seed, options.latents
    own = name == "own"  # the backbone and the photos are the same for all
    asked = {"real": options.real, "spread": options.spread}
    choices = {k: v for k, v in asked.items() if own and v not in ("split", False)}
    mark = keeping.fingerprint(
        renderer,
        judges,
        study.data,
        study.source,
        split=split,
        seed=seed,
        latents=latents,
        **choices,
    )
    measure = functools.partial(
        records.measure,
        renderer,
        study.source,
        judges,
        seed=seed,
        latents=latents,
        photos=_photos(study) if own else None,
        again=options.spread and own,
        what=f"inputs ({name})",
    )
    stem = "records" if own else f"records_{name}"
    stem += "" if options.judges else "_unjudged"  # what took longer to measure stays
    found = keeping.kept(options.out / f"{stem}.npz", mark, measure)
    names, batch = next(records.batches(renderer, study.source))
    z = jnp.asarray(records.latents_of(renderer, names, seed, 0))
    times = time_exits(renderer, {**batch.inputs, "z": z})
    overhead = renderer.model.predictor_gmacs() if renderer.has_predictor else 0.0
    void = getattr(family, "void", None)
    gmacs = np.array(renderer.model.gmacs)
    blocks_ = blocks(found, study.renderer.config.calibration.block)
    shared = sum(renderer.model.encoding_gmacs())
    return Subject(found, gmacs, overhead, times, void, blocks_, options.judges, shared)


def _photos(study: Study) -> list[Any]:
    """All splits of the data set, where their photos are wanted."""
    if study.options.real != "all":
        return []
    size = study.renderer.model.family.size
    return [study.data.open(split, size) for split in SPLITS]


def blocks(found: Records, block: int) -> np.ndarray | None:
    """The block that each record belongs to, as the calibration would cut the inputs, [m].

    None where there are none: `block` is 1, or no two inputs are frames of one film (inputs of
    another data set may be none, though those of the calibration are).
    """
    names = list(dict.fromkeys(found.names.tolist()))
    try:
        units = film_blocks(names, block) if block > 1 else []
    except UserError:
        units = []
    if not units:
        return None
    of_name = {names[i]: k for k, unit in enumerate(units) for i in unit}
    return np.array([of_name[name] for name in found.names.tolist()])
