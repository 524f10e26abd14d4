"""Small networks in NumPy, and arrays to fill parameter trees with, without compiling anything."""

import jax
import numpy as np


def conv(params, x):
    """'SAME' correlation of odd size plus bias, one kernel position at a time."""
    kernel = np.asarray(params["kernel"], np.float64)
    _, h, w, _ = x.shape
    k = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (k, k), (k, k), (0, 0)))
    y = np.zeros(kernel.shape[-1]) + params.get("bias", 0.0)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            y = y + padded[:, i : i + h, j : j + w] @ kernel[i, j]
    return y


def lrelu(x):
    return np.where(x < 0, 0.2 * x, x)


def spade(params, stats, x, seg):
    """Park et al. (2019), eq. 1 and 2, with gamma as an offset from 1."""
    n = (x - np.asarray(stats["mean"])) / np.sqrt(np.asarray(stats["var"]) + 1e-5)
    a = np.maximum(conv(params["shared"], seg), 0)
    gamma, beta = np.split(conv(params["gamma_beta"], a), 2, -1)
    return n * (1 + gamma) + beta


def filled(function, *args, seed=0, scale=1.0, **options):
    """The variables that `function(key, *args, **options)` would make, filled by NumPy.

    Kernels are normal with standard deviation scale / sqrt(fan in), other values a tenth of normal
    ones; variances are around 1.
    """
    shapes = jax.eval_shape(lambda key, *a: function(key, *a, **options), jax.random.key(0), *args)
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        values = rng.standard_normal(leaf.shape)
        if path[-1].key == "kernel":
            values /= np.prod(leaf.shape[:-1]) ** 0.5
        elif path[-1].key == "var":
            return (0.5 + values**2).astype(np.float32)
        elif path[-1].key not in ("u", "v"):
            values *= 0.1
        return (scale * values).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)
