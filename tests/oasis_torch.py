"""Published OASIS state dicts: random ones of any shape, and their mapping onto our trees by hand.

Written from the layer facts alone, apart from the importer, which is compared with it.
"""

import itertools

import numpy as np

from fiancee_jax.classes import unnamed
from fiancee_jax.models.oasis import Oasis

SMALL = Oasis(
    size=(32, 64),
    classes=unnamed(4),
    width=3,
    hidden=5,
    z_dim=7,
    discriminator_channels=(4, 5, 6, 7),
    discriminator_last=8,
)


def write(folder, tensors, name="G.npz"):
    """Writes a state dict; its path."""
    np.savez(folder / name, **tensors)
    return folder / name


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


# --- state dicts of random numbers --------------------------------------------------------------
def _conv(rng, name, fan_in, fan_out, size=3, bias=True, spectral=True):
    kernel = rng.standard_normal((fan_out, fan_in, size, size)) / (size * fan_in**0.5)
    found = {f"{name}.weight_orig" if spectral else f"{name}.weight": kernel}
    if spectral:
        u, _, v = np.linalg.svd(kernel.reshape(fan_out, -1), full_matrices=False)
        found |= {f"{name}.weight_u": u[:, 0], f"{name}.weight_v": v[0]}
    if bias:
        found[f"{name}.bias"] = 0.1 * rng.standard_normal(fan_out)
    return found


def _spade(rng, name, channels, seg, hidden):
    found = _conv(rng, f"{name}.mlp_shared.0", seg, hidden, spectral=False)
    for part in ("gamma", "beta"):
        found |= _conv(rng, f"{name}.mlp_{part}", hidden, channels, spectral=False)
    norm = f"{name}.first_norm.running"
    found[f"{norm}_mean"] = 0.1 * rng.standard_normal(channels)
    found[f"{norm}_var"] = rng.uniform(0.5, 2, channels)
    return found


def random_generator(family, seed=0):
    """A generator's state dict: 16c, 16c, 16c, 8c, 4c, 2c, c over as many blocks."""
    rng = np.random.default_rng(seed)
    channels = [m * family.width for m in (16, 16, 16, 8, 4, 2, 1)][-(family.blocks + 1) :]
    seg = family.z_dim + len(family.classes)
    found = _conv(rng, "fc", seg, channels[0], spectral=False)
    for i, (a, b) in enumerate(itertools.pairwise(channels)):
        mid = min(a, b)
        convs = [("0", a, mid, 3, True), ("1", mid, b, 3, True)]
        convs += [("s", a, b, 1, False)] if a != b else []
        for part, fan_in, fan_out, size, bias in convs:
            found |= _conv(rng, f"body.{i}.conv_{part}", fan_in, fan_out, size, bias)
            found |= _spade(rng, f"body.{i}.norm_{part}", fan_in, seg, family.hidden)
    found |= _conv(rng, "conv_img", channels[-1], 3, spectral=False)
    return {k: np.asarray(v, np.float32) for k, v in found.items()}


def random_discriminator(family, seed=1):
    """A discriminator's state dict: encoder, decoder with skips, one channel more than classes."""
    rng, found = np.random.default_rng(seed), {}
    channels = [3, *family.discriminator_channels]
    for i, (a, b) in enumerate(itertools.pairwise(channels)):
        found |= _conv(rng, f"body_down.{i}.conv1.{0 if i == 0 else 1}", a, b)
        found |= _conv(rng, f"body_down.{i}.conv2.1", b, b)
        if a != b:
            found |= _conv(rng, f"body_down.{i}.conv_s", a, b, 1)
    x = channels[-1]
    for i, b in enumerate([*channels[-2:0:-1], family.discriminator_last]):
        a = x if i == 0 else x + channels[-1 - i]
        found |= _conv(rng, f"body_up.{i}.conv1.2", a, b) | _conv(rng, f"body_up.{i}.conv2.1", b, b)
        if a != b:
            found |= _conv(rng, f"body_up.{i}.conv_s", a, b, 1)
        x = b
    last = _conv(rng, "layer_up_last", x, len(family.classes) + 1, 1, spectral=False)
    return {k: np.asarray(v, np.float32) for k, v in (found | last).items()}
