"""Published OASIS state dicts, mapped onto our trees by name (test fixtures only)."""

import numpy as np


def conv(tensors, name):
    """-> (params, {u, v} or {}) of one convolution; kernels OIHW -> HWIO.

    torch's v runs over (in, kh, kw), ours over (kh, kw, in).
    """
    spectral = f"{name}.weight_orig" in tensors
    kernel = tensors[f"{name}.weight_orig" if spectral else f"{name}.weight"]
    params = {"kernel": kernel.transpose(2, 3, 1, 0)}
    if f"{name}.bias" in tensors:
        params["bias"] = tensors[f"{name}.bias"]
    if not spectral:
        return params, {}
    v = tensors[f"{name}.weight_v"].reshape(kernel.shape[1:]).transpose(1, 2, 0).reshape(-1)
    return params, {"u": tensors[f"{name}.weight_u"], "v": v}


def spade(tensors, name):
    gamma, beta = (conv(tensors, f"{name}.mlp_{part}")[0] for part in ("gamma", "beta"))
    params = {
        "shared": conv(tensors, f"{name}.mlp_shared.0")[0],
        "gamma_beta": {k: np.concatenate([gamma[k], beta[k]], -1) for k in gamma},
    }
    norm = f"{name}.first_norm.running"
    return params, {"norm": {"mean": tensors[f"{norm}_mean"], "var": tensors[f"{norm}_var"]}}


def generator(tensors, blocks=6):
    """-> variables of `models.branches.Backbone` over `Oasis`."""
    params = {
        "stem": {"fc": conv(tensors, "fc")[0]},
        "head": {"conv_img": conv(tensors, "conv_img")[0]},
    }
    stats, spectral = {}, {}
    for i in range(blocks):
        p, b, s = {}, {}, {}
        for part in ("0", "1", "s"):
            name = f"body.{i}.conv_{part}"
            if f"{name}.weight_orig" in tensors:
                p[f"conv_{part}"], s[f"conv_{part}"] = conv(tensors, name)
                p[f"norm_{part}"], b[f"norm_{part}"] = spade(tensors, f"body.{i}.norm_{part}")
        params[f"stages_{i}"] = {"block": p}
        stats[f"stages_{i}"], spectral[f"stages_{i}"] = {"block": b}, {"block": s}
    return {"params": params, "batch_stats": stats, "spectral": spectral}


def discriminator(tensors, blocks=6):
    """-> variables of `models.discriminator.Discriminator`."""
    params, spectral = {"last": conv(tensors, "layer_up_last")[0]}, {}
    for i in range(blocks):
        down = {"conv1": "conv1.0" if i == 0 else "conv1.1", "conv2": "conv2.1", "conv_s": "conv_s"}
        up = {"conv1": "conv1.2", "conv2": "conv2.1", "conv_s": "conv_s"}
        for side, parts in (("down", down), ("up", up)):
            found = {
                ours: conv(tensors, f"body_{side}.{i}.{theirs}")
                for ours, theirs in parts.items()
                if f"body_{side}.{i}.{theirs}.weight_orig" in tensors
            }
            params[f"{side}_{i}"] = {k: p for k, (p, _) in found.items()}
            spectral[f"{side}_{i}"] = {k: s for k, (_, s) in found.items()}
    return {"params": params, "spectral": spectral}
