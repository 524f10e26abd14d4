"""Convolutions, spectral norm and resizing shared by every network here. All NHWC."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax.models import kernel_gradient, winograd

PyTree = Any

GAIN = 0.02  # the gain of OASIS's xavier-normal initialisation
MOMENTUM = 0.9  # of running batch statistics; 1 - PyTorch's 0.1
STARTS = {
    "bias": 0.0,
    "scale": 1.0,
    "gain": 0.0,
    "around": 0.0,
    "mean": 0.0,
    "var": 1.0,
}  # where variables begin, by name
BASE_LIMIT = 0.97  # base pictures are clipped to this before arctanh


def xavier_std(shape: tuple[int, ...], parts: int = 1, gain: float = GAIN) -> float:
    """Standard deviation of xavier-normal weights [..., in, out]."""
    *window, fan_in, fan_out = shape
    return gain * (2.0 / (math.prod(window) * (fan_in + fan_out // parts))) ** 0.5


def xavier_normal(parts: int = 1) -> Callable[..., Array]:
    """Xavier-normal initialiser; `parts` > 1 fills that many stacked kernels independently."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return xavier_std(shape, parts) * jax.random.normal(key, shape, dtype)

    return init


def initialise(
    shapes: PyTree, rng: np.random.Generator, gain: float = GAIN, *, name: str = "", parts: int = 1
) -> PyTree:
    """Fresh variables for the shapes of a module, drawn on the host.

    The distributions of ``module.init`` for modules of `Conv`, ``nn.Dense`` and normalisations;
    ``module.init`` itself took over a minute to compile for a small model.

    Args:
        shapes: what ``jax.eval_shape(module.init, ...)`` returned.
        rng: source of randomness.
        gain: of the xavier-normal kernels.
        name: name of this node in the tree.
        parts: stacked kernels in this module.

    Raises:
        ValueError: a variable has a name that is none of ``STARTS``, kernel, u and v.
    """
    if isinstance(shapes, dict):
        parts = 2 if name.endswith("gamma_beta") else 1
        return {k: initialise(v, rng, gain, name=k, parts=parts) for k, v in shapes.items()}
    shape, dtype = shapes.shape, shapes.dtype
    if name == "kernel" and len(shape) == 2:  # nn.Dense: LeCun normal
        return (shape[0] ** -0.5 * rng.standard_normal(shape)).astype(dtype)
    if name == "kernel":
        return (xavier_std(shape, parts, gain) * rng.standard_normal(shape)).astype(dtype)
    if name in ("u", "v"):
        x = rng.standard_normal(shape)
        return (x / np.linalg.norm(x)).astype(dtype)
    if name not in STARTS:
        raise ValueError(
            f"found a variable {name!r} of shape {shape}; expected kernel, {', '.join(STARTS)}. "
            "Only these can be drawn: give it one of these names."
        )
    return np.full(shape, STARTS[name], dtype)


class Conv(nn.Module):
    """A 'SAME' convolution of odd size, optionally with spectral norm (Miyato et al., 2018).

    The kernel is divided by ``sigma = u^T W v``. u and v live in the collection ``spectral`` and
    are only read here: training advances them with `power_iteration`, inference folds them into the
    kernel once with `fold_spectral` and applies the module without the collection. So an imported
    checkpoint keeps its own sigma. Where `winograd.kernels` has transformed the kernel, the
    transform is used.
    """

    features: int
    size: int = 3
    use_bias: bool = True
    spectral: bool = False
    parts: int = 1  # stacked kernels that are initialised as if they were separate

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Returns [b, h, w, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", xavier_normal(parts=self.parts), shape)
        if self.spectral and (self.is_initializing() or self.has_variable("spectral", "u")):
            kernel = kernel / self._sigma(kernel)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve(x, kernel, bias, self.get_variable(winograd.COLLECTION, "kernel"))

    def _sigma(self, kernel: Array) -> Array:
        def start() -> Array:
            return _unit(jax.random.normal(self.make_rng("params"), (self.features,)))

        matrix = kernel.reshape(-1, self.features)
        u = self.variable("spectral", "u", start).value
        # Half a power iteration: with v drawn too, sigma would be near 0 and of either sign.
        v = self.variable("spectral", "v", lambda: _unit(matrix @ u)).value
        return v @ matrix @ u


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k l c d"],
    bias: Float[Array, "d"] | None,
    transform: Float[Array, "4 4 c d"] | None = None,
) -> Float[Array, "b h w d"]:
    """A 'SAME' convolution with step 1, in the dtype of x.

    `transform` is that of the kernel (`winograd.transformed`), used where x suits it.
    """
    if transform is not None and winograd.suits(x):
        return winograd.convolve(x, transform, bias)
    kernel = kernel.astype(x.dtype)
    if kernel.shape[:2] == (1, 1):  # as a product: on CPU up to 3 times as fast, gradients too
        y = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)
    elif kernel_gradient.suits(x, kernel):
        y = kernel_gradient.convolve(x, kernel)
    else:
        y = kernel_gradient.plain(x, kernel)
    return y if bias is None else y + bias.astype(x.dtype).reshape(1, 1, 1, -1)


def _unit(x: Array) -> Array:
    return x / (jnp.linalg.norm(x) + 1e-12)


def power_iteration(params: PyTree, spectral: PyTree) -> PyTree:
    """One step of v <- W^T u, u <- W v (both normalised) for every spectrally normalised kernel.

    Args:
        params: the ``params`` collection of a module.
        spectral: its ``spectral`` collection, the same tree with {u, v} at the leaves.

    Returns:
        The new ``spectral`` collection; no gradient flows through it.
    """
    if "u" in spectral:
        matrix = jax.lax.stop_gradient(params["kernel"]).reshape(-1, spectral["u"].shape[0])
        v = _unit(matrix @ spectral["u"])
        return {"u": _unit(matrix.T @ v), "v": v}
    return {name: power_iteration(params[name], child) for name, child in spectral.items()}


def fold_spectral(params: PyTree, spectral: PyTree) -> PyTree:
    """`params` with every spectrally normalised kernel divided by its sigma."""
    if "u" in spectral:
        kernel = params["kernel"]
        sigma = spectral["v"] @ kernel.reshape(-1, kernel.shape[-1]) @ spectral["u"]
        return {**params, "kernel": kernel / sigma}
    folded = {name: fold_spectral(params[name], child) for name, child in spectral.items()}
    return {**params, **folded}


def upsample(x: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b h2 w2 c"]:
    """Nearest-neighbour enlargement by an integer factor."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return x.reshape(b, h * factor, w * factor, c)


def average_pool(x: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b h2 w2 c"]:
    """Mean over non-overlapping factor x factor cells; the sides must be divisible by it."""
    b, h, w, c = x.shape
    return x.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))


def batch_norm(x: Array, train: bool, *, affine: bool = True, name: str | None = None) -> Array:
    """Batch norm of x, inside a compact module, with the momentum that training counts on.

    Keeps the dtype of x; epsilon is PyTorch's.
    """
    norm = nn.BatchNorm(
        use_running_average=not train,
        momentum=MOMENTUM,
        epsilon=1e-5,
        use_bias=affine,
        use_scale=affine,
        dtype=x.dtype,
        name=name,
    )
    return norm(x)


def to_picture(
    x: Float[Array, "b h w 3"], base: Float[Array, "b h w 3"] | None = None
) -> Float[Array, "b h w 3"]:
    """``tanh(x)``, a float32 picture in [-1, 1]; on top of a base picture in [-1, 1], if given.

    Where x is 0 it is the base picture, but for values beyond `BASE_LIMIT`.
    """
    x = x.astype(jnp.float32)
    if base is not None:
        x = x + jnp.arctanh(jnp.clip(base, -BASE_LIMIT, BASE_LIMIT))
    return jnp.tanh(x)


def leaky_relu(x: Array) -> Array:
    """Leaky ReLU with slope 0.2, the one used throughout OASIS."""
    return nn.leaky_relu(x, 0.2)
