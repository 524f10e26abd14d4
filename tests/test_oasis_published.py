"""Other spellings of a state dict are the same model; unsound ones are refused in their names."""

import zipfile

import jax.numpy as jnp
import numpy as np
import oasis_torch
import pytest
from oasis_torch import SMALL, write

from fiancee_jax import convert
from fiancee_jax.errors import UserError


@pytest.fixture(scope="module")
def small():
    """(generator, discriminator) state dicts of random numbers, under their published names."""
    return oasis_torch.random_generator(SMALL), oasis_torch.random_discriminator(SMALL)


# --- other spellings of the same weights --------------------------------------------------------
def newer(tensors):
    """The names of torch.nn.utils.parametrizations.spectral_norm."""
    names = {
        "weight_orig": "parametrizations.weight.original",
        "weight_u": "parametrizations.weight.0._u",
        "weight_v": "parametrizations.weight.0._v",
    }
    renamed = {}
    for name, value in tensors.items():
        stem, _, last = name.rpartition(".")
        renamed[f"{stem}.{names.get(last, last)}"] = value
    return renamed


def folded(tensors):
    """Spectral norm removed: weight = weight_orig / (u W v)."""
    plain = {k: v for k, v in tensors.items() if not k.endswith(("weight_u", "weight_v"))}
    for name in [k for k in plain if k.endswith("weight_orig")]:
        stem, kernel = name.removesuffix("_orig"), plain.pop(name)
        matrix = kernel.reshape(len(kernel), -1)
        plain[stem] = kernel / (tensors[f"{stem}_u"] @ matrix @ tensors[f"{stem}_v"])
    return plain


@pytest.mark.parametrize(
    "respell",
    [
        newer,
        folded,
        lambda t: {f"module.{k}": v for k, v in t.items()},
        lambda t: {**t, "body.0.norm_0.first_norm.num_batches_tracked": np.int64(7)},
    ],
    ids=["parametrization", "folded", "DataParallel", "counters"],
)
def test_other_spellings_render_the_same(small, tmp_path, respell):
    labels, z = np.ones((1, 32, 64), np.int32), np.ones((1, 7), np.float32)
    plain = convert.import_oasis(write(tmp_path, small[0]), z_dim=7, size=(32, 64))
    other = write(tmp_path, respell(small[0]), "other.npz")
    respelt = convert.import_oasis(other, z_dim=7, size=(32, 64))
    a, b = (m(labels, z=z, exit="full").images for m in (plain, respelt))
    assert float(jnp.std(a)) > 0.01
    np.testing.assert_allclose(a, b, atol=1e-6)


# --- bad files ----------------------------------------------------------------------------------
def without(tensors, *names):
    return {k: v for k, v in tensors.items() if k not in names}


BAD = {
    "absent": (
        lambda t: without(t, "body.1.conv_0.bias"),
        "missing: body.1.conv_0.bias",
    ),
    "renamed": (
        lambda t: {**without(t, "body.1.conv_0.bias"), "body.1.conv_0.bais": t["fc.bias"]},
        r"missing: body.1.conv_0.bias \(nearest: body.1.conv_0.bais\)\n.*not known: .*bais",
    ),
    "left over": (
        lambda t: {**t, "body.6.conv_0.bias": t["fc.bias"]},
        "found 7 blocks",
    ),
    "extra": (lambda t: {**t, "style.weight": t["fc.bias"]}, "not known: style.weight"),
    "shape": (
        lambda t: {**t, "body.2.conv_1.bias": np.ones(3, np.float32)},
        r"body.2.conv_1.bias has shape \[3\], expected \[24\]",
    ),
    "instance norm": (
        lambda t: {k: v for k, v in t.items() if "running" not in k},
        r"missing: body.0.norm_0.first_norm.running_mean.* and \d+ more",
    ),
    "nan": (
        lambda t: {**t, "conv_img.bias": np.full(3, np.nan, np.float32)},
        "not finite .*: conv_img.bias",
    ),
    "integers": (
        lambda t: {**t, "conv_img.bias": np.zeros(3, np.int64)},
        "not floating point: conv_img.bias",
    ),
    "overflow": (
        lambda t: {**t, "conv_img.bias": np.full(3, 1e300)},
        "not finite in float32 .*: conv_img.bias",
    ),
    "variance": (
        lambda t: {
            **t,
            "body.0.norm_0.first_norm.running_var": -t["body.0.norm_0.first_norm.running_var"],
        },
        "variances below 0: body.0.norm_0.first_norm.running_var",
    ),
    "zero direction": (
        lambda t: {**t, "body.1.conv_0.weight_u": 0 * t["body.1.conv_0.weight_u"]},
        "spectral norm of body.1.conv_0 .* is 0",
    ),
    "zero folded": (
        lambda t: {**folded(t), "body.1.conv_0.weight": 0 * t["body.1.conv_0.weight_orig"]},
        "spectral norm of body.1.conv_0 .* is 0",
    ),
    "half": (lambda t: without(t, "conv_img.weight"), "not a whole .* missing: conv_img.weight"),
    "twice": (
        lambda t: {**t, "body.0.conv_0.parametrizations.weight.original": t["fc.bias"]},
        "body.0.conv_0.weight_orig is there twice",
    ),
    "long names": (lambda t: {**t, "x\x1b" * 9000: t["fc.bias"]}, r"not known: (x\\x1b){40}$"),
    "another network": (
        lambda t: {"layer1.0.conv1.weight": np.ones((2, 2, 3, 3)), "fc.weight": np.ones((3, 3))},
        "layer1.0.conv1.weight.*not the names of an OASIS generator",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_unsound_generators(small, tmp_path, name):
    change, message = BAD[name]
    file = write(tmp_path, change(small[0]))
    with pytest.raises(UserError, match=f"(?s)G.npz: .*{message}"):
        convert.import_oasis(file, z_dim=7, size=(32, 64))


def test_swapped_files(small, tmp_path):
    g, d = (write(tmp_path, t, f"{n}.npz") for t, n in zip(small, "gd", strict=True))
    with pytest.raises(UserError, match=r"d\.npz holds a discriminator"):
        convert.import_oasis(d, discriminator=g)
    with pytest.raises(UserError, match=r"g\.npz: .*not the names of an OASIS discriminator"):
        convert.import_oasis(g, discriminator=g)


def test_code_in_a_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "G.pth", "w") as archive:
        archive.writestr("G/data.pkl", b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(UserError, match=r"G.pth: .*os.system.*[Nn]othing .*executed"):
        convert.import_oasis(tmp_path / "G.pth")
