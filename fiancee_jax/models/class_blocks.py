"""Light stages for OASIS that keep its channels and drop SPADE's label convolutions.

A label map is piecewise constant, and where the 5x5 labels around a pixel are equal, SPADE's gamma
and beta depend on the class and on z alone. A class block takes them so everywhere: a table of one
row for each class, made from z (as CLADE's, Tan et al., TPAMI 2021, but for z), looked up by every
pixel. What is left are the main convolutions, a fifth of an OASIS's cost. And it can begin as the
backbone's own stage: a 3x3 convolution of something constant is the sum of its nine kernels, so at
first it differs from that stage near borders between labels only. Training then mends these.
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
from fiancee_jax.models.sparse_spade import LabelMap

if TYPE_CHECKING:
    from fiancee_jax.models.oasis import Oasis


class ClassNorm(nn.Module):
    """``n * (1 + gamma[label]) + beta[label]`` with n the batch norm of x without affine."""

    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], seg: LabelMap, *, train: bool
    ) -> Float[Array, "b h w c"]:
        """Normalises x and modulates it by the classes of its pixels."""
        n = batch_norm(x, train, affine=False, name="norm")
        rows = nn.relu(Conv(self.hidden, 1, name="class_hidden")(_classes(seg)))
        table = Conv(2 * x.shape[-1], 1, parts=2, name="class_gamma_beta")(rows)[:, 0]
        gamma, beta = jnp.split(_looked_up(table, seg.labels, train), 2, axis=-1)
        return n * (1 + gamma) + beta


class ClassBlock(nn.Module):
    """A SPADE block (`spade.SpadeBlock`) with `ClassNorm` in the place of SPADE."""

    features: int
    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], seg: LabelMap, *, train: bool
    ) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = ClassNorm(self.hidden, name="norm_s")(x, seg, train=train)
            shortcut = Conv(self.features, 1, use_bias=False, name="conv_s")(shortcut)
        dx = leaky_relu(ClassNorm(self.hidden, name="norm_0")(x, seg, train=train))
        dx = Conv(min(x.shape[-1], self.features), name="conv_0")(dx)
        dx = leaky_relu(ClassNorm(self.hidden, name="norm_1")(dx, seg, train=train))
        return shortcut + Conv(self.features, name="conv_1")(dx)


def _classes(seg: LabelMap) -> Float[Array, "b 1 k s"]:
    """[z, one-hot] of every class, as a picture of one row."""
    batch, classes = len(seg.z), seg.num_classes
    z = jnp.broadcast_to(seg.z[:, None, None], (batch, 1, classes, seg.z.shape[-1]))
    onehot = jnp.eye(classes, dtype=z.dtype)[None, None]
    return jnp.concatenate([z, jnp.broadcast_to(onehot, (batch, 1, classes, classes))], axis=-1)


def _looked_up(
    table: Float[Array, "b k c"], labels: Int[Array, "b h w"], train: bool
) -> Float[Array, "b h w c"]:
    """``table[label]``; in training as a product, whose gradient is one too and no scatter."""
    if not train:
        return jax.vmap(lambda rows, at: rows[at])(table, labels)
    onehot = jax.nn.one_hot(labels, table.shape[1], dtype=table.dtype)
    return jnp.einsum("bhwk,bkc->bhwc", onehot, table)


# --- from the backbone --------------------------------------------------------------------------
def inherited(family: Oasis, exit: Exit, fresh: PyTree, backbone: PyTree) -> PyTree:
    """The variables of a branch of class blocks that begins as the backbone's stages after the tap.

    At a width below 1 it gets the channels that weigh most in what follows: of those a stage hands
    on and of those between its two convolutions, by the norms of the kernels that make them. A
    branch whose guide is concatenated stays as it was drawn.

    Args:
        family: the generator.
        exit: of the branch.
        fresh: its variables as drawn; what is not inherited stays (a learnt palette).
        backbone: {params, batch_stats} of the backbone, spectral norms folded in.
    """
    params, stats = dict(fresh["params"]), dict(fresh["batch_stats"])
    kept = np.arange(family.features(exit.tap))
    if "adapter" in params:
        kept = _heaviest(_made(backbone["params"], exit.tap), family.features(exit.tap, exit.width))
        params["adapter"] = _selection(family.features(exit.tap), kept)
    for i in range(exit.tap, family.num_stages):
        source = {k: backbone[k][f"stages_{i}"]["block"] for k in ("params", "batch_stats")}
        block, norms, kept = _block(source, kept, family.features(i + 1, exit.width))
        params[f"stages_{i - exit.tap}"] = {"block": block}
        stats[f"stages_{i - exit.tap}"] = {"block": norms}
    head = backbone["params"]["head"]["conv_img"]
    params["head"] = {"conv_img": {**head, "kernel": head["kernel"][:, :, kept]}}
    found = {**fresh, "params": params, "batch_stats": stats}
    same = jax.tree.map(np.shape, found) == jax.tree.map(np.shape, fresh)
    return found if same else fresh


def _block(
    source: PyTree, inside: Int[np.ndarray, "i"], width: int
) -> tuple[PyTree, PyTree, Int[np.ndarray, "o"]]:
    """One block's parameters, statistics and the channels that it hands on, for those it gets."""
    given, stats = source["params"], source["batch_stats"]
    plain = "conv_s" not in given  # the skip is the input itself: so are its channels
    outside = inside if plain else _heaviest(_norms(given["conv_1"]), width)
    middle = _heaviest(_norms(given["conv_0"]), min(len(inside), len(outside)))
    ends = {"0": (inside, middle), "1": (middle, outside), "s": (inside, outside)}
    params: dict[str, Any] = {}
    norms: dict[str, Any] = {}
    for end, (entering, leaving) in ends.items():
        if f"conv_{end}" not in given:
            continue
        params[f"norm_{end}"] = _table(given[f"norm_{end}"], entering)
        norms[f"norm_{end}"] = {
            "norm": {k: np.asarray(v)[entering] for k, v in stats[f"norm_{end}"]["norm"].items()}
        }
        conv = given[f"conv_{end}"]
        cut = {"kernel": np.asarray(conv["kernel"])[:, :, entering][..., leaving]}
        cut |= {"bias": np.asarray(conv["bias"])[leaving]} if "bias" in conv else {}
        params[f"conv_{end}"] = cut
    return params, norms, outside


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


def _summed(kernel: Array) -> Float[np.ndarray, "1 1 i o"]:
    return np.asarray(kernel).sum((0, 1), keepdims=True)


def _made(params: PyTree, stage: int) -> Float[np.ndarray, "c"]:
    """How much each channel after a stage weighs: the norm of the kernels that make it."""
    return _norms(
        params["stem"]["fc"] if stage == 0 else params[f"stages_{stage - 1}"]["block"]["conv_1"]
    )


def _norms(conv: PyTree) -> Float[np.ndarray, "o"]:
    return np.linalg.norm(np.asarray(conv["kernel"]).reshape(-1, conv["kernel"].shape[-1]), axis=0)


def _heaviest(weights: Float[np.ndarray, "c"], count: int) -> Int[np.ndarray, "k"]:
    return np.sort(np.argsort(-weights, kind="stable")[:count])


def _selection(channels: int, kept: Int[np.ndarray, "k"]) -> PyTree:
    """A 1x1 convolution that hands on the channels `kept`."""
    kernel = np.eye(channels, dtype=np.float32)[:, kept]
    return {"kernel": kernel[None, None], "bias": np.zeros(len(kept), np.float32)}
