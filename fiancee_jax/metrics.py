"""Measures of pictures, of sets of features and of label maps; what a report is made of.

Statistics are computed in float64 on the host. PSNR and SSIM treat pictures as 8-bit ones are
treated everywhere: values from 0 to 1, which matters for SSIM, whose terms change with an offset.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fiancee_jax.errors import UserError

MAX_PSNR = 100.0  # dB; identical pictures have it, so that means stay finite
SSIM_WINDOW = 11  # pixels
KERNEL_SUBSETS, KERNEL_SIZE = 100, 1000  # of `kernel_distance`, as in Binkowski et al. (2018)

Pictures = Float[Array, "b h w 3"] | Float[np.ndarray, "b h w 3"]


def psnr(a: Pictures, b: Pictures) -> Float[Array, "b"]:
    """Peak signal-to-noise ratio of paired pictures in [-1, 1], dB: ``10 log10(2^2 / MSE)``.

    At most 100 dB (a root mean square difference of 2e-5), which identical pictures have.

    Raises:
        UserError: a and b are not [b,h,w,3] of one shape.
    """
    import dm_pix as pix

    return jnp.minimum(jnp.asarray(pix.psnr(*_unit_pair(a, b))), MAX_PSNR)


def ssim(a: Pictures, b: Pictures) -> Float[Array, "b"]:
    """Structural similarity of paired pictures in [-1, 1] (Wang et al., 2004), 1 = identical.

    Gaussian window of 11 pixels (sigma 1.5) that lies inside the picture, each channel on its own.

    Raises:
        UserError: a and b are not [b,h,w,3] of one shape, or smaller than the window.
    """
    import dm_pix as pix

    a, b = _unit_pair(a, b)
    if min(a.shape[1:3]) < SSIM_WINDOW:
        raise UserError(
            f"The pictures are {a.shape[1]}x{a.shape[2]}; SSIM's window needs at least "
            f"{SSIM_WINDOW}x{SSIM_WINDOW} pixels. Enlarge both first."
        )
    return jnp.asarray(jax.vmap(pix.ssim)(a, b))


def _unit_pair(a: Pictures, b: Pictures) -> tuple[Array, Array]:
    """Both in [0, 1], float32."""
    if np.shape(a) != np.shape(b) or np.ndim(a) != 4 or np.shape(a)[3] != 3:
        raise UserError(
            f"Found pictures of shape {list(np.shape(a))} and {list(np.shape(b))}; expected "
            "[b,h,w,3] twice: one of b's for each of a's, channels last."
        )
    a, b = (jnp.asarray(x, jnp.float32) / 2 + 0.5 for x in (a, b))
    return a, b


# --- sets of features ---------------------------------------------------------------------------
def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets of features.

    ``|mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2))`` (Dowson and Landau, 1982; Heusel et al., 2017)
    with A, B the unbiased covariances. For ``A = X^T X`` and ``B = Y^T Y`` the trace of the root is
    the sum of the singular values of ``X Y^T``: no root of a matrix is taken, and n < d is no harm
    to precision. It is biased upwards for small sets: compare only sets of the same n and m.

    Raises:
        UserError: not [n,d] and [m,d] of finite numbers, or fewer than two of a set.
    """
    a, b = _feature_pair(a, b)
    x, y = _covariance_root(a), _covariance_root(b)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    shift = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return float(max(shift + np.sum(x**2) + np.sum(y**2) - 2 * root, 0.0))


def _covariance_root(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "r d"]:
    """X with ``X^T X`` the covariance, of min(n, d) rows."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(features) <= features.shape[1]:
        return centred
    root: Any = np.linalg.qr(centred, mode="r")
    return root


def kernel_distance(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    *,
    subsets: int = KERNEL_SUBSETS,
    size: int = KERNEL_SIZE,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel distance (KID; Binkowski et al., ICLR 2018): its mean and deviation over subsets.

    The unbiased squared MMD with the kernel ``(x.y / d + 1)^3``; 0 on average for sets of one
    origin, and below 0 as often as above. The mean does not depend on the sets' sizes.

    Args:
        a, b: features.
        subsets: random subsets of both sets, each drawn without replacement.
        size: of a subset; at most half the smaller set, so that the subsets differ.
        seed: of the subsets.

    Raises:
        UserError: not [n,d] and [m,d] of finite numbers, fewer than four of a set, or a number of
            subsets or a size that makes no sense.
    """
    a, b = _feature_pair(a, b, least=4)
    if subsets < 1 or size < 2:
        raise UserError(
            f"Found {subsets} subsets of {size} features; expected at least 1 subset of 2 or more."
        )
    size, rng = min(size, len(a) // 2, len(b) // 2), np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        one, two = (x[rng.choice(len(x), size, replace=False)] for x in (a, b))
        values.append(_squared_mmd(one, two))
    return float(np.mean(values)), float(np.std(values))


def _squared_mmd(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]) -> float:
    """Unbiased: pairs of a feature with itself are left out."""
    (n, d), m = a.shape, len(b)
    aa, bb, ab = ((x @ y.T / d + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return within - 2 * ab.mean()


def _feature_pair(a: Any, b: Any, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise UserError(
            f"Found features of shape {list(a.shape)} and {list(b.shape)}; expected [n,d] and "
            f"[m,d] with n and m at least {least}. Take more pictures."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("Found features that are not finite; check the pictures for NaN.")
    return a, b


# --- label maps ---------------------------------------------------------------------------------
def confusion(
    truth: Int[np.ndarray, "*any"], predicted: Int[np.ndarray, "*any"], k: int
) -> Int[np.ndarray, "k k"]:
    """Pixels by true class (row) and predicted class (column); sums add up over batches.

    Raises:
        UserError: shapes that differ, or a class id that is not in [0, k).
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    ids = np.concatenate([truth.ravel(), predicted.ravel()])
    if truth.shape != predicted.shape or (ids.size and not 0 <= ids.min() <= ids.max() < k):
        span = f"{ids.min()} to {ids.max()}" if ids.size else "none"
        raise UserError(
            f"Found labels of shape {list(truth.shape)} and {list(predicted.shape)} with ids "
            f"{span}; expected one shape and ids from 0 to {k - 1}."
        )
    pairs = truth.astype(np.int64).ravel() * k + predicted.ravel()
    return np.bincount(pairs, minlength=k * k).reshape(k, k)


def mean_iou(matrix: Int[np.ndarray, "k k"], ignore: int | None = None) -> float:
    """Mean intersection over union, in [0, 1], over the classes that are present in the truth.

    Args:
        matrix: from `confusion`.
        ignore: id of the class whose true pixels do not count (void). Pixels that are predicted as
            it, though they are of another class, are mistakes.

    Raises:
        UserError: no pixel counts.
    """
    counts = np.array(matrix, np.float64)
    if ignore is not None:
        counts[ignore] = 0
    truth, hits = counts.sum(1), np.diag(counts)
    present = truth > 0
    if not present.any():
        raise UserError("Found no labelled pixel; expected some outside void. Check the labels.")
    union = truth + counts.sum(0) - hits
    return float(np.mean(hits[present] / union[present]))
