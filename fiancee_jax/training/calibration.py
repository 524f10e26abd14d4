"""Phase 5: what a quality guarantee rests on, measured on inputs that nothing was trained on."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from fiancee_jax import rendering
from fiancee_jax.data import Batch, Source, collate
from fiancee_jax.data.transforms import augment
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.hosts import gathered
from fiancee_jax.models import lpips
from fiancee_jax.models.staged import Inputs, StagedGenerator
from fiancee_jax.routing import calibration as guarantees
from fiancee_jax.routing.calibration import Calibration
from fiancee_jax.training.measure import distances
from fiancee_jax.training.predictor import kept_exits
from fiancee_jax.training.workspace import Workspace

CONFIDENCE = 0.9  # for what the log says

Measured = tuple[Float[np.ndarray, "b e"], Float[np.ndarray, "b e"]]  # predicted and true LPIPS


def run(work: Workspace) -> None:
    """Measures the exits on the menu for several z of every input, as inference would render it."""
    phase, model = work.config.calibration, MultiExit.of(work.config, kept_exits(work))
    source, rng = work.source("calibration"), work.rng("calibration")
    units = units_of(source, phase.block, phase.inputs, rng)
    indices = np.concatenate(units)
    latents = draw_latents(rng, len(indices), phase.latents, model.family)
    started = time.perf_counter()
    predicted, measured = _measure(work, model, source, indices, latents)
    unit = np.repeat(np.repeat(np.arange(len(units)), list(map(len, units))), latents.shape[1])
    if not model.family.input_names:
        unit = np.arange(len(predicted))  # nothing but z, and every z is drawn anew
    found = Calibration.from_measured(predicted, measured, unit)
    work.log.say(
        f"calibration: {len(indices)} inputs in {found.units} units, {len(predicted)} pictures by "
        f"each exit, {time.perf_counter() - started:.0f} s"
    )
    _report(work, found)
    kept = {"predicted": found.predicted, "distance": found.distance, "unit": found.unit}
    extra = {"finished": True, "inputs": len(indices), "units": found.units}
    work.store.save("calibration", 1, model=kept, train={}, extra=extra)
    work.store.wait()


# --- inputs -------------------------------------------------------------------------------------
def units_of(
    source: Source, block: int, most: int, rng: np.random.Generator
) -> list[Int[np.ndarray, "k"]]:
    """Indices of the inputs of each unit, in the order of the split.

    Args:
        source: the split.
        block: inputs of one unit; more than 1 for films, see `film_blocks`.
        most: take at most so many inputs, whole units drawn at random; 0 takes all.
        rng: draws them.
    """
    units = [np.array([i]) for i in range(len(source))]
    if block > 1:
        units = film_blocks([source[i]["name"] for i in range(len(source))], block)
    if not 0 < most < len(source):
        return units
    order = rng.permutation(len(units))
    fits = np.cumsum([len(units[i]) for i in order]) <= most
    return [units[i] for i in np.sort(order[fits])]


def film_blocks(names: Sequence[str], block: int) -> list[Int[np.ndarray, "k"]]:
    """Blocks of up to `block` neighbours whose names differ only in the numbers at their end.

    A block never reaches from one film into the next, so the last one of each may be shorter.

    Raises:
        UserError: no two neighbours have such names.
    """
    film = [re.sub(r"([_.-]?\d+)+\D*$", "", name) for name in names]
    units = []
    for _, group in itertools.groupby(range(len(names)), key=lambda i: film[i]):
        frames = np.array(list(group))
        units += [frames[i : i + block] for i in range(0, len(frames), block)]
    if len(units) == len(names):
        raise UserError(
            f"calibration.block is {block}, but in the split calibration no two neighbours have "
            f"names that differ only in the numbers at their end (the first is {names[0]!r}), so "
            "films cannot be told apart. Name frames FILM_NUMBER, or set calibration.block to 1 "
            "if these are no frames of films."
        )
    return units


def draw_latents(
    rng: np.random.Generator, count: int, latents: int, family: StagedGenerator
) -> Float[np.ndarray, "i k z"]:
    """z ~ N(0, 1) for `count` inputs, `latents` each; one each where the family has no z."""
    shape = (count, latents if family.latent_dim else 1, family.latent_dim)
    return rng.standard_normal(shape, dtype=np.float32)


def pairs(
    source: Source,
    indices: Int[np.ndarray, "i"],
    latents: Float[np.ndarray, "i k z"],
    family: StagedGenerator,
    batch: int,
) -> Iterator[Inputs]:
    """All (input, z) pairs, input by input, cut to the centre as inference does; host arrays.

    The last batch repeats its last pair: one shape, one compile.
    """
    of_pair = np.repeat(indices, latents.shape[1])
    z = latents.reshape(len(of_pair), -1)
    for start in range(0, len(of_pair), batch):
        rows = np.minimum(np.arange(start, start + batch), len(of_pair) - 1)
        yield {**_inputs(source, of_pair[rows], family), "z": z[rows]}


def _inputs(source: Source, indices: Int[np.ndarray, "b"], family: StagedGenerator) -> Inputs:
    names = family.input_names
    if not names:
        return {}
    fitted = {}
    for i in set(indices.tolist()):
        element = source[i]
        fitted[i] = augment({name: element[name] for name in names}, None, family.size)
    return collate([fitted[i] for i in indices.tolist()], names).inputs


# --- measuring ----------------------------------------------------------------------------------
def measure(
    model: MultiExit, variables: Variables, inputs: Inputs, net: lpips.LpipsParams
) -> Measured:
    """Predicted and true LPIPS-alex of every early exit to the backbone, both [b, e]."""
    inputs = rendering.encode(model, variables, inputs)
    predicted = rendering.predict(model, variables, inputs)[:, :-1]
    return gathered((predicted, distances(model, variables, inputs, net)[0]))


def _measure(
    work: Workspace,
    model: MultiExit,
    source: Source,
    indices: Int[np.ndarray, "i"],
    latents: Float[np.ndarray, "i k z"],
) -> Measured:
    variables = work.frozen("backbone", "guides", "branches", "predictor")
    net, size = work.perceptual("alex"), work.config.branches.batch_size
    count, rows = latents.shape[0] * latents.shape[1], []
    work.log.begin("calibration (measuring exits)", 0, -(-count // size))
    for inputs in pairs(source, indices, latents, model.family, size):
        rows.append(measure(model, variables, work.put_whole(Batch(inputs)).inputs, net))
        work.log.advance(len(rows))
    work.log.end()
    predicted, measured = (np.concatenate(column)[:count] for column in zip(*rows, strict=True))
    return predicted, measured


def _report(work: Workspace, found: Calibration) -> None:
    """What the predictor alone and what a calibrated setting would do, at three thresholds."""
    for quantile in (0.25, 0.5, 0.75):
        limit = round(float(np.quantile(found.distance[:, 0], quantile)), 3)
        alone = guarantees.risk(found, limit, limit)
        setting = guarantees.conformal_setting(found, limit, CONFIDENCE)
        exits = guarantees.chosen(found.predicted, setting.tau)
        shares = np.bincount(exits, minlength=found.predicted.shape[1] + 2)[1:] / len(exits)
        work.log.say(
            f"calibration: max_lpips {limit:g} is broken on {100 * alone:.1f} % by the predictor "
            f"alone. At confidence {CONFIDENCE:g}: {setting.text}, exits "
            + " / ".join(f"{100 * share:.0f}" for share in shares)
            + " %"
        )
