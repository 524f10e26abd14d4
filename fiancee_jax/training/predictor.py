"""Phase 4: the predictor, by regression to measured distances (FIANCEE, section 3.3)."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from fiancee_jax.config import Exit, PredictorPhase
from fiancee_jax.exits import MultiExit
from fiancee_jax.hosts import is_first
from fiancee_jax.models.layers import average_pool
from fiancee_jax.routing import menu
from fiancee_jax.routing.policies import running_max
from fiancee_jax.training import measure
from fiancee_jax.training.log import Metrics, mean, norms
from fiancee_jax.training.loop import State, fit
from fiancee_jax.training.workspace import Workspace

FLOOR = 1e-3  # LPIPS below this is as good as 0; keeps logarithms sane


def optimizer(phase: PredictorPhase) -> optax.GradientTransformation:
    """AdamW along a cosine."""
    rate = optax.cosine_decay_schedule(phase.lr, phase.steps)
    return optax.adamw(rate, weight_decay=phase.weight_decay)


def init_state(model: MultiExit, phase: PredictorPhase, targets: Array, key: Array) -> State:
    """A fresh predictor that starts at the mean of the targets."""
    seen = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), model.view_shapes)
    params: Any = model.predictor_net().init(key, *seen)["params"]
    steps = targets - jnp.pad(targets[:, 1:], ((0, 0), (0, 1)))
    offset = jnp.log(jnp.maximum(steps.mean(0), 1e-5))
    if model.predictor.members == 1:
        params = {**params, "offset": offset}
    else:
        offset = jnp.broadcast_to(offset, params["member"]["offset"].shape)
        params = {**params, "member": {**params["member"], "offset": offset}}
    return {"params": params, "opt": optimizer(phase).init(params)}


def loss_fn(
    model: MultiExit,
    params: Any,
    grid: Array,
    vector: Array,
    target: Float[Array, "b n"],
    cells: Float[Array, "b n h w"] | None = None,
) -> Float[Array, ""]:
    """Mean squared difference of log distances, of each member by itself.

    With measured `cells` those of the cells beside it, in units of each exit's mean in the batch:
    they are not of logarithms, so that their sum has no bias.
    """
    method = "each" if model.predictor.members > 1 else None if cells is None else "cells"
    predicted: Any = model.predictor_net().apply({"params": params}, grid, vector, method=method)
    apart = jnp.float32(0)
    if cells is not None:
        scale = target.mean(0).reshape(1, 1, 1, -1)
        measured = average_pool(jnp.moveaxis(cells, 1, -1), model.predictor.pool)
        apart = jnp.mean(((predicted - measured) / scale) ** 2)
        predicted = predicted.mean((1, 2))
    target = jnp.broadcast_to(target, predicted.shape)
    whole = jnp.mean((jnp.log(predicted + FLOOR) - jnp.log(target + FLOOR)) ** 2)
    return whole + model.predictor.cells * apart


@functools.partial(jax.jit, static_argnames=("model", "phase"), donate_argnames=("state",))
def train_step(
    model: MultiExit, phase: PredictorPhase, state: State, batch: Any
) -> tuple[State, Metrics]:
    """One AdamW update on (grid, vector, target), or also cells."""
    loss, grad = jax.value_and_grad(functools.partial(loss_fn, model))(state["params"], *batch)
    step, opt = optimizer(phase).update(grad, state["opt"], state["params"])
    terms = {"loss": loss, **norms("", grad, step)}
    state = {"params": optax.apply_updates(state["params"], step), "opt": opt}
    return state, {k: mean(v) for k, v in terms.items()}


class Rows:
    """Endless random rows of measured inputs; batch k is a function of (seed, k) alone.

    Of each batch a host gets its part, `shard` being (index, count) of it.
    """

    def __init__(
        self,
        columns: tuple[np.ndarray, ...],
        batch_size: int,
        seed: int,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.columns, self.batch_size, self.seed, self.count = columns, batch_size, seed, 0
        part = batch_size // shard[1]
        self.part = slice(shard[0] * part, (shard[0] + 1) * part)

    def __next__(self) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng([self.seed, 3, self.count])
        self.count += 1
        rows = rng.integers(0, len(self.columns[0]), self.batch_size)[self.part]
        return tuple(c[rows].astype(np.float32) for c in self.columns)

    def get_state(self) -> dict[str, int]:
        """How many batches have been taken."""
        return {"count": self.count}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues after so many batches."""
        self.count = int(state["count"])


def run(work: Workspace) -> None:
    """Measures every exit on the predictor's own split, then trains on all but a holdout."""
    phase = work.config.predictor
    exits = kept_exits(work)
    model = MultiExit.of(work.config, exits)
    found = _measured(work, exits, model)
    columns = tuple(found[name] for name in _columns(phase))
    train = int(len(found["target"]) * (1 - phase.holdout))
    shard = jax.process_index(), jax.process_count()
    rows = Rows(tuple(c[:train] for c in columns), phase.batch_size, work.config.seed, shard)
    held = tuple(np.asarray(c[train:], np.float32) for c in columns[:3])
    targets = jnp.asarray(found["target"][:train])
    state = init_state(model, phase, targets, work.key("init", 3))
    fit(
        work,
        "predictor",
        jax.device_put(state, work.replicated),
        lambda s, batch, _: train_step(model, phase, s, batch),
        rows,
        phase.steps,
        model_of=lambda s: {"params": s["params"]},
        extra_of=lambda trained: _report(work, model, trained, held),
    )


def _columns(phase: PredictorPhase) -> tuple[str, ...]:
    """What the predictor is trained on."""
    return ("grid", "vector", "target", *(["cells"] if phase.cells else []))


def kept_exits(work: Workspace) -> tuple[Exit, ...]:
    """The exits on the menu."""
    return menu.kept(work.store.extra("branches")["menu"])


def _measured(work: Workspace, exits: tuple[Exit, ...], model: MultiExit) -> Any:
    """Views and targets, measured once and kept in ``predictor_targets.npz`` for a resumed run."""
    phase, path = work.config.predictor, work.workdir / "predictor_targets.npz"
    drawn = f"{phase.inputs} {phase.compose:g} {phase.of_train:g}" + " cells" * bool(phase.cells)
    source = f"{work.store.latest('branches')} {drawn} {[e.name for e in exits]}"
    if work.store.latest("predictor") and path.is_file():
        with np.load(path) as kept:
            if str(kept["source"]) == source:
                return dict(kept)
    variables = work.frozen("backbone", "guides", "branches")
    count = phase.inputs, work.config.branches.batch_size
    found = measure.records(
        work,
        "predictor",
        variables,
        *count,
        compose=phase.compose,
        of_train=phase.of_train,
        by_cell=phase.cells > 0,
    )
    columns = [work.model.exits.index(e) for e in model.exits]
    found["target"] = np.asarray(running_max(jnp.asarray(found["lpips"][:, columns])))
    if phase.cells:
        found["cells"] = found["cells"][:, columns]
    arrays: dict[str, Any] = {"source": np.array(source), **found}
    if is_first():
        unfinished = path.with_name("predictor_targets.tmp.npz")
        np.savez(unfinished, **arrays)
        unfinished.replace(path)
    return found


def _report(work: Workspace, model: MultiExit, trained: Any, held: Any) -> dict[str, Any]:
    """Error and rank correlation on the holdout, by exit."""
    grid, vector, target = held
    net = model.predictor_net()
    predicted = np.asarray(jax.jit(net.apply)(trained, grid, vector))
    report = {}
    for i, exit in enumerate(model.exits):
        t = np.asarray(target[:, i])
        mae = float(np.abs(predicted[:, i] - t).mean())
        ranks = [np.argsort(np.argsort(x)) for x in (predicted[:, i], t)]
        spearman = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
        spread = float(np.abs(t - np.median(t)).mean())
        report[exit.name] = {"mae": mae, "spearman": spearman, "mae_of_median": spread}
        work.log.say(
            f"predictor, exit {exit.name}: error {mae:.4f} (a constant: {spread:.4f}), "
            f"rank correlation {spearman:.2f}, on {len(t)} held-out inputs"
        )
    share = model.predictor_gmacs() / model.gmacs[-1]
    work.log.say(f"predictor: {share:.3%} of the backbone's GMACs")
    return {"holdout": report, "share_of_backbone": share}
