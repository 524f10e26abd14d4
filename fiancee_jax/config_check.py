"""Which values of a config cannot work together, said before anything else happens."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

from fiancee_jax.config import CalibrationPhase, Config, Guides, PredictorPhase
from fiancee_jax.errors import UserError
from fiancee_jax.phases import Precision


def check_config(config: Config) -> None:
    """Raises UserError for values that cannot work, before anything else happens."""
    _check_finite(dataclasses.asdict(config))
    config.model.check()
    stages = config.model.num_stages
    for e in config.exits:
        if not 0 <= e.tap < stages:
            raise UserError(
                f"exit {e.name} taps stage {e.tap}; a generator of {stages} stages can be tapped "
                f"after stages 1 to {stages - 1} (or 0, the stem: all stages are light then)."
            )
        if e.width == 1 and not config.model.light_at_full_width:
            raise UserError(
                f"exit {e.name} has width 1, which saves nothing with these light stages. Take a "
                "width below 1 (or, for OASIS, model.light_block class)."
            )
        if not 0 < e.width <= 1:
            raise UserError(f"exit {e.name} has width {e.width}; it must be between 0 and 1.")
    if len({e.name for e in config.exits}) != len(config.exits) or not config.exits:
        raise UserError("exits must be a non-empty list of different (tap, width) pairs.")
    if config.branches.adversarial > 0 and config.branches.exits_per_step:
        raise UserError(
            f"branches.adversarial is {config.branches.adversarial:g}, which needs "
            f"branches.exits_per_step 0 (all exits in every step); found "
            f"{config.branches.exits_per_step}."
        )
    if config.branches.lpips_vgg < 0 or (
        config.branches.lpips_vgg > 0 and config.branches.lpips_net == "vgg"
    ):
        raise UserError(
            f"branches.lpips_vgg is {config.branches.lpips_vgg:g} and branches.lpips_net is "
            f"{config.branches.lpips_net!r}. It is the weight, 0 or more, of LPIPS-vgg beside "
            "LPIPS-alex; with lpips_net vgg leave it at 0 and set branches.lpips."
        )
    if config.branches.running_statistics and not config.branches.inherit:
        raise UserError(
            "branches.running_statistics is true, but with branches.inherit false there are no "
            "statistics to run with: set the first to false or the second to true."
        )
    if not 0 <= config.branches.focus <= 1:
        raise UserError(
            f"branches.focus is {config.branches.focus:g}; it is a share, from 0 (all inputs count "
            "alike for every exit) to 1."
        )
    _check_composed(config)
    _check_numbers(config)
    _check_cells(config.predictor)
    _check_calibration(config.calibration)
    _check_precision(config)
    _check_guides(config.guides, config.model, min(e.tap for e in config.exits))


def _check_finite(value: Any, name: str = "") -> None:
    """No number anywhere is NaN or infinite: comparisons would let NaN pass."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            _check_finite(item, f"{name}.{key}" if name else str(key))
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} is {value}; it must be a number.")


def _check_composed(config: Config) -> None:
    for part in ("branches", "predictor"):
        share = getattr(config, part).compose
        if not 0 <= share <= 1:
            raise UserError(f"{part}.compose is {share:g}; it is a share, from 0 to 1.")
        if share and not config.model.composes:
            raise UserError(
                f"{part}.compose is {share:g}, but two inputs of this model cannot be made into "
                "one (OASIS: two label maps can). Set it to 0."
            )
    if config.branches.compose and config.branches.adversarial > 0:
        raise UserError(
            f"branches.compose is {config.branches.compose:g}, but inputs made of two have no "
            "photo to show the discriminator: set branches.adversarial to 0, or compose to 0."
        )


def _check_numbers(config: Config) -> None:
    """Counts that must be 1 or more, whatever the rest is."""
    counts = {
        "backbone": ("steps", "batch_size", "recollect", "accumulate"),
        "branches": ("steps", "batch_size", "measure"),
        "predictor": ("steps", "batch_size", "members", "pool"),
        "logging": ("every", "preview_every", "checkpoint_every", "keep"),
    }
    for part, names in counts.items():
        for name in names:
            value = getattr(getattr(config, part), name)
            if value < 1:
                raise UserError(f"{part}.{name} is {value}; it must be 1 or more.")
    for name in ("channels", "hidden"):
        value = getattr(config.predictor, name)
        if value < 0:
            raise UserError(f"predictor.{name} is {value}; it must be 0 (none) or more.")
    if config.shard_above < 0:
        raise UserError(f"shard_above is {config.shard_above}; it must be 0 or more.")
    if config.logging.roll_backs < 0:
        raise UserError(f"logging.roll_backs is {config.logging.roll_backs}; it must be 0 or more.")
    saved, kept = config.logging.checkpoint_every, config.logging.keep_every
    if kept < 0 or kept % saved:
        raise UserError(
            f"logging.keep_every is {kept}; it must be 0 or a multiple of "
            f"logging.checkpoint_every, {saved}: others are never saved."
        )
    size, parts = config.backbone.batch_size, config.backbone.accumulate
    if size % parts:
        raise UserError(
            f"backbone.batch_size is {size}, which cannot be split into backbone.accumulate = "
            f"{parts} equal micro-batches. Take a batch size of {-(-size // parts) * parts}, or an "
            f"accumulate that divides {size}."
        )
    phase = config.predictor
    if not 0 <= phase.of_train <= 1:
        raise UserError(f"predictor.of_train is {phase.of_train:g}; it is a share, from 0 to 1.")
    held = phase.inputs - int(phase.inputs * (1 - phase.holdout))
    if not 0 < held < phase.inputs:
        raise UserError(
            f"predictor.inputs is {phase.inputs} and predictor.holdout {phase.holdout:g}; at least "
            "one input must be held out and one left to train on: take a holdout of, say, 0.1."
        )


def _check_cells(phase: PredictorPhase) -> None:
    if phase.cells < 0:
        raise UserError(f"predictor.cells is {phase.cells:g}; it is a weight, 0 or more.")
    wanted = {"hidden": 0, "members": 1, "sees": "both"}
    other = [f"{k} {getattr(phase, k)}" for k, v in wanted.items() if getattr(phase, k) != v]
    other += ["channels 0"] if not phase.channels else []
    if phase.cells and other:
        raise UserError(
            f"predictor.cells is {phase.cells:g}, which predicts cell by cell; that goes with "
            f"predictor.hidden 0, members 1, sees both and some channels. Found {', '.join(other)}."
        )
    if phase.pool != 1 and not phase.cells:
        raise UserError(
            f"predictor.pool is {phase.pool}, which joins the cells that predictor.cells teaches, "
            "and that is 0. Give it a weight, say 0.3, or leave pool at 1."
        )


def _check_calibration(phase: CalibrationPhase) -> None:
    if phase.latents < 16:
        raise UserError(
            f"calibration.latents is {phase.latents}; take 16 or more. The loss of an input is the "
            "share of its z's that break max_lpips: with few of them it is little but noise, and "
            "the guarantee pays for that in GMACs."
        )
    if phase.block < 1 or not (phase.inputs == 0 or phase.inputs >= phase.block):
        raise UserError(
            f"calibration.block is {phase.block} and calibration.inputs {phase.inputs}; a block "
            "has 1 input or more, and inputs is 0 (all of them) or no less than a block."
        )


def _check_precision(config: Config) -> None:
    for part in ("backbone", "branches"):
        value = getattr(config, part).precision
        if value not in get_args(Precision):
            raise UserError(
                f"{part}.precision is {value!r}; choose from {', '.join(get_args(Precision))}."
            )


def _check_guides(guides: Guides, model: Any, first_tap: int) -> None:
    if guides.form in ("palette", "random", "image", "patch") and guides.size < 1:
        raise UserError(f"guides.size is {guides.size}; a bank needs at least 1 entry.")
    if guides.form in ("palette", "random") and not 1 <= guides.neighbours <= guides.size:
        raise UserError(
            f"guides.neighbours is {guides.neighbours}, but a palette averages 1 to {guides.size} "
            "neighbours: the bank holds no more entries (guides.size)."
        )
    if guides.hidden < 0:
        raise UserError(f"guides.hidden is {guides.hidden}; it must be 0 (linear) or more.")
    if guides.form == "own" and "own" not in model.input_names:
        raise UserError(
            "guides.form is 'own', but no frames come with the inputs of this model. For a source "
            "and a driver set model.own and data.own to the same number of frames, 4 say; or take "
            "another form."
        )
    if guides.form != "patch":
        return
    if guides.population != "random":
        raise UserError(
            f"guides.population is {guides.population!r}, but the cells of form 'patch' are drawn "
            "at random: take 'random', or another form."
        )
    if not 1 <= guides.patch_stage <= first_tap:
        raise UserError(
            f"guides.patch_stage is {guides.patch_stage}; choose a stage from 1 to {first_tap}, "
            "the first tap: every exit has it."
        )
    pixels = model.stage_factor(guides.patch_stage)
    if guides.cell < 1 or pixels % guides.cell:
        raise UserError(
            f"guides.cell is {guides.cell}, but a cell of stage {guides.patch_stage} covers "
            f"{pixels}x{pixels} pixels: choose a divisor of {pixels}."
        )
