"""What an evaluation is about: the inputs, the model and its baselines, and who judges pictures."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiancee_jax import inference
from fiancee_jax.data import Folder
from fiancee_jax.data.splits import SPLITS
from fiancee_jax.errors import UserError
from fiancee_jax.evaluation import records, ridge, segmentation
from fiancee_jax.evaluation.options import Options
from fiancee_jax.evaluation.records import Judges, Records
from fiancee_jax.evaluation.rows import Subject
from fiancee_jax.evaluation.table import BUDGETS, Promise, Table
from fiancee_jax.evaluation.timing import time_exits
from fiancee_jax.inference import Renderer
from fiancee_jax.models import efficientnet, lpips, segmenter
from fiancee_jax.routing.calibration import budget_setting
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
    data, split = renderer.config.data, options.split
    if options.data is not None:
        like = data if isinstance(data, Folder) else Folder("")
        data = dataclasses.replace(like, root=str(options.data))
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
def measure(study: Study) -> Table:
    """Measures the model and those of its baselines that are trained (or reads what is kept)."""
    options, workdir = study.options, study.workdir
    judges = find_judges(study)
    subject = measured(study, study.renderer, judges, "own")
    companions: dict[str, Subject] = {}
    for name in BASELINES:
        other = trained_baseline(study, name)
        if other is not None:
            companions[name] = measured(study, other, judges, name)
    limits = options.max_lpips or quartiles(subject.records)
    return Table(
        subject,
        companions,
        ridge.fit_targets(workdir / "predictor_targets.npz"),
        {limit: settings(study.renderer, limit, options.confidence) for limit in limits},
        budgets(study.renderer, subject),
        options.seed,
    )


def find_judges(study: Study) -> Judges:
    """LPIPS, and where they can be had the feature network and a segmenter trained here."""
    features = segment = None
    if "image" in study.source[0]:
        try:
            features = functools.partial(efficientnet.features, efficientnet.load())
        except UserError as error:
            print(f"no FD and KID: {error}", flush=True)
    try:
        config = dataclasses.replace(study.renderer.config, data=study.data)
        params = segmentation.load_or_train(config, study.options.out / "segmenter.npz")
        segment = functools.partial(segmenter.predict, params)
    except UserError as error:
        print(f"no mIoU: {error}", flush=True)
    return Judges(lpips.load("alex"), lpips.load("vgg"), features, segment)


def trained_baseline(study: Study, name: str) -> Renderer | None:
    """A baseline of the same backbone; None if it is not trained to its end."""
    folder = study.workdir / "baselines" / name
    if not (folder / "config.json").is_file():
        return None
    try:
        other = inference.load(folder)
    except UserError:
        return None  # not even a backbone yet
    complete = "branches" in other.variables and (name == "students" or other.has_predictor)
    return other if complete and _same_backbone(study.renderer, other) else None


def _same_backbone(one: Renderer, other: Renderer) -> bool:
    a, b = (jax.tree.leaves(r.variables["backbone"]) for r in (one, other))
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def measured(study: Study, renderer: Renderer, judges: Judges, name: str) -> Subject:
    """A model's exits, measured or read from OUT/records[_NAME].npz."""
    options, family = study.options, renderer.model.family
    mark = records.fingerprint(
        renderer,
        study.data,
        inputs=[options.split, len(study.source)],
        z=[options.seed, options.latents],
        judged=[judges.features is not None, judges.segment is not None],
    )
    measure = functools.partial(
        records.measure,
        renderer,
        study.source,
        judges,
        seed=options.seed,
        latents=options.latents,
        what=f"inputs ({name})",
    )
    stem = "records" if name == "own" else f"records_{name}"
    found = records.kept(options.out / f"{stem}.npz", mark, measure)
    names, batch = next(records.batches(renderer, study.source))
    z = jnp.asarray(records.latents_of(renderer, names, options.seed, 0))
    times = time_exits(renderer, {**batch.inputs, "z": z})
    overhead = renderer.model.predictor_gmacs() if renderer.has_predictor else 0.0
    void = getattr(family, "void", None)
    gmacs = np.array(renderer.model.gmacs)
    blocks_ = blocks(found, study.renderer.config.calibration.block)
    return Subject(found, gmacs, overhead, times, void, blocks_)


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


# --- settings -----------------------------------------------------------------------------------
def quartiles(found: Records) -> tuple[float, ...]:
    """Of the early exits' LPIPS-alex, two digits."""
    values = np.quantile(found.lpips[:, :-1], (0.25, 0.5, 0.75))
    return tuple(float(f"{v:.2g}") for v in values)


def settings(renderer: Renderer, limit: float, confidences: Sequence[float]) -> list[Promise]:
    """Calibrated settings of a threshold; none without a calibration."""
    if renderer.calibration is None:
        return []
    pairs = [(c, renderer.guarantee(limit, c)) for c in confidences]
    return [Promise(c, setting.tau, setting.reason) for c, setting in pairs]


def budgets(renderer: Renderer, subject: Subject) -> dict[float, float]:
    """Settings that meet a share of full on average over the calibration inputs."""
    if renderer.calibration is None:
        return {}
    table = subject.gmacs + subject.predictor_gmacs
    wanted = {share: share * float(subject.gmacs[-1]) for share in BUDGETS}
    return {
        share: budget_setting(renderer.calibration, table, gmacs)
        for share, gmacs in wanted.items()
        if gmacs >= table[0]
    }
