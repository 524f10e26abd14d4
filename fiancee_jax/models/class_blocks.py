"""Light stages for OASIS that keep its channels and drop SPADE's label convolutions.

A label map is piecewise constant, and where the 5x5 labels around a pixel are equal, SPADE's gamma
and beta depend on the class and on z alone. A class block takes them so everywhere: a table of one
row for each class, made from z (as CLADE's, Tan et al., TPAMI 2021, but for z); a pixel takes its
own class's row and, by weights for each class and place, those of its eight neighbours. What is
left are the main convolutions, a fifth of an OASIS's cost. And it can begin as the backbone's own
stage: a 3x3 convolution of something constant is the sum of its nine kernels, so at first it
differs from that stage near borders between labels only. Training then mends these.

The width of an exit thins what lies between a block's two convolutions. What skips carry and stages
hand on stays whole: thinned as well, it has to be learnt anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fiancee_jax.config import Exit
from fiancee_jax.models.layers import Conv, PyTree, batch_norm, leaky_relu
from fiancee_jax.models.patterns import shifted
from fiancee_jax.models.sparse_spade import LabelMap, nine_rows

if TYPE_CHECKING:
    from fiancee_jax.models.oasis import Oasis


class Neighbourhood(nn.Module):
    """How much of the class at each of the nine places around a pixel counts for it.

    It begins as the pixel's own class alone; ``around`` is added to that.
    """

    classes: int

    @nn.compact
    def __call__(self, dtype: Any) -> Float[Array, "9 k"]:
        """Returns weights by place, row by row, and class."""
        around = self.param("around", nn.initializers.zeros, (9, self.classes))
        return (around + jax.nn.one_hot(4, 9)[:, None]).astype(dtype)


class ClassNorm(nn.Module):
    """``n * (1 + gamma) + beta`` with n the batch norm of x without affine.

    gamma and beta are one row for each class, weighed by how much of it a pixel sees.
    """

    hidden: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        seg: LabelMap,
        weights: Float[Array, "9 k"],
        seen: Float[Array, "b h w k"] | None,
        *,
        train: bool,
    ) -> Float[Array, "b h w c"]:
        """Normalises x and modulates it by its classes.

        Args:
            x: features.
            seg: the map, of the same height and width.
            weights: of `Neighbourhood`.
            seen: what `weights` make of the map, if that is known already (`seen_classes`).
            train: whether statistics are the batch's.
        """
        n = batch_norm(x, train, affine=False, name="norm")
        rows = nn.relu(Conv(self.hidden, 1, name="class_hidden")(_classes(seg)))
        table = Conv(2 * x.shape[-1], 1, parts=2, name="class_gamma_beta")(rows)[:, 0]

        def apply(gamma: Array, beta: Array) -> Array:
            return n * (1 + gamma) + beta

        def dense() -> Array:
            known = seen_classes(seg, weights) if seen is None else seen
            with jax.named_scope("looked_up"):
                both = jnp.einsum("bhwk,bkc->bhwc", known, table)
            return apply(*jnp.split(both, 2, axis=-1))

        if seg.patterns is None:
            return dense()
        placed = weights[None, :, :, None] * table[:, None]
        placed = jnp.pad(placed, ((0, 0), (0, 0), (0, 1), (0, 0)))  # nothing outside
        return nine_rows(placed.reshape(-1, table.shape[-1]), seg, apply, dense)


class ClassBlock(nn.Module):
    """A SPADE block (`spade.SpadeBlock`) with `ClassNorm` in the place of SPADE.

    `middle`: channels between its convolutions.
    """

    features: int
    hidden: int
    middle: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], seg: LabelMap, *, train: bool
    ) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        weights = Neighbourhood(seg.num_classes, name="neighbourhood")(x.dtype)
        seen = seen_classes(seg, weights) if seg.patterns is None else None

        def norm(name: str, x: Array) -> Array:
            return ClassNorm(self.hidden, name=name)(x, seg, weights, seen, train=train)

        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = Conv(self.features, 1, use_bias=False, name="conv_s")(norm("norm_s", x))
        dx = Conv(self.middle, name="conv_0")(leaky_relu(norm("norm_0", x)))
        return shortcut + Conv(self.features, name="conv_1")(leaky_relu(norm("norm_1", dx)))


def seen_classes(seg: LabelMap, weights: Float[Array, "9 k"]) -> Float[Array, "b h w k"]:
    """How much of each class a pixel sees; outside of the picture is no class at all."""
    places = jnp.stack(shifted(seg.labels, 1, seg.num_classes), axis=-1)
    onehot = jax.nn.one_hot(places, seg.num_classes, dtype=weights.dtype)
    with jax.named_scope("seen"):
        return jnp.einsum("bhwpk,pk->bhwk", onehot, weights)


def _classes(seg: LabelMap) -> Float[Array, "b 1 k s"]:
    """[z, one-hot] of every class, as a picture of one row."""
    batch, classes = len(seg.z), seg.num_classes
    z = jnp.broadcast_to(seg.z[:, None, None], (batch, 1, classes, seg.z.shape[-1]))
    onehot = jnp.eye(classes, dtype=z.dtype)[None, None]
    return jnp.concatenate([z, jnp.broadcast_to(onehot, (batch, 1, classes, classes))], axis=-1)


# --- from the backbone --------------------------------------------------------------------------
def inherited(family: Oasis, exit: Exit, fresh: PyTree, backbone: PyTree) -> PyTree:
    """The variables of a branch of class blocks that begins as the backbone's stages after the tap.

    At a width below 1 a block gets those channels between its convolutions that weigh most in the
    second one. A branch whose guide is concatenated stays as it was drawn.

    Args:
        family: the generator.
        exit: of the branch.
        fresh: its variables as drawn; what is not inherited stays (a learnt palette).
        backbone: {params, batch_stats} of the backbone, spectral norms folded in.
    """
    params, stats = dict(fresh["params"]), dict(fresh["batch_stats"])
    for i in range(exit.tap, family.num_stages):
        source = {k: backbone[k][f"stages_{i}"]["block"] for k in ("params", "batch_stats")}
        block, norms = _block(source, family.middle(i + 1, exit.width))
        block["neighbourhood"] = {"around": _around(source["params"], len(family.classes))}
        params[f"stages_{i - exit.tap}"] = {"block": block}
        stats[f"stages_{i - exit.tap}"] = {"block": norms}
    params["head"] = backbone["params"]["head"]
    found = {**fresh, "params": params, "batch_stats": stats}
    same = jax.tree.map(np.shape, found) == jax.tree.map(np.shape, fresh)
    return found if same else fresh


def _block(source: PyTree, middle: int) -> tuple[PyTree, PyTree]:
    """One block's parameters and statistics, with so many channels between its convolutions."""
    given, stats = source["params"], source["batch_stats"]
    weights = (np.asarray(given["conv_1"]["kernel"]) ** 2).sum((0, 1, 3))
    kept = np.sort(np.argsort(-weights, kind="stable")[:middle])
    params: dict[str, Any] = {name: given[name] for name in given if name.startswith("conv_")}
    params["conv_0"] = {k: np.asarray(v)[..., kept] for k, v in given["conv_0"].items()}
    second = given["conv_1"]
    params["conv_1"] = {**second, "kernel": np.asarray(second["kernel"])[:, :, kept]}
    norms: dict[str, Any] = {}
    for name, found in stats.items():
        which = kept if name == "norm_1" else np.arange(len(found["norm"]["mean"]))
        params[name] = _table(given[name], which)
        norms[name] = {"norm": {k: np.asarray(v)[which] for k, v in found["norm"].items()}}
    return params, norms


def _table(spade: PyTree, kept: Int[np.ndarray, "c"]) -> PyTree:
    """SPADE's convolutions where all labels are equal, gamma and beta of the channels `kept`."""
    hidden, made = spade["shared"], spade["gamma_beta"]
    both = np.concatenate([kept, kept + made["bias"].shape[0] // 2])
    return {
        "class_hidden": {"kernel": _summed(hidden["kernel"]), "bias": np.asarray(hidden["bias"])},
        "class_gamma_beta": {
            "kernel": _summed(made["kernel"])[..., both],
            "bias": np.asarray(made["bias"])[both],
        },
    }


def _around(block: PyTree, classes: int) -> Float[np.ndarray, "9 k"]:
    """The share that each place of the gamma/beta kernels has in how classes differ, at z = 0.

    Least squares: what a class adds to gamma and beta from one place is its share of what it adds
    from all nine. The mean over the block's SPADEs, less the centre that `Neighbourhood` adds.
    """
    shares = []
    for name in sorted(k for k in block if k.startswith("norm_")):
        first, last = block[name]["shared"], np.asarray(block[name]["gamma_beta"]["kernel"])
        rows = np.asarray(first["kernel"]).sum((0, 1))[-classes:] + np.asarray(first["bias"])
        placed = np.einsum("kh,phc->pkc", np.maximum(rows, 0), last.reshape(9, *last.shape[2:]))
        placed = placed - placed.mean(1, keepdims=True)
        total = placed.sum(0)
        shares.append((placed * total).sum(-1) / ((total * total).sum(-1) + 1e-12))
    around = np.mean(shares, axis=0)
    around[4] -= 1.0
    return around.astype(np.float32)


def _summed(kernel: Array) -> Float[np.ndarray, "1 1 i o"]:
    return np.asarray(kernel).sum((0, 1), keepdims=True)
