"""Measures reenacted heads against the ground truth, which only rendered heads have.

Each pair of a split is driven twice in the same motion: by the source's own identity (``self``) and
by another one (``cross``). The truth is one picture for both: the source's identity, rendered in
that motion. So whatever differs between the two is what another identity's looks do.

Measured for m pairs and n exits, by name in a flat dict of arrays:

    names               [m]
    motion              [m, 14] the driver's (`head_parameters.Motion`); source_pose [m, 6]
    truth_vector        [m, d] the identity network's, of the truth; source_vector of the source
    truth_pose_error    [m, 1] as pose_error below, of the truth itself: the floor

and for each of `KINDS`, ``self.NAME`` or ``cross.NAME``, [m, n + 1] (the last column is that of the
source's picture, copied as the answer; the backbone's is the one before):

    lpips_alex, lpips_vgg, l1, psnr, ssim
                        to the truth, l1 in units of [-1, 1], psnr in dB; NAME_masked: both
                        pictures' background outside the truth's mask set to ground first, l1 and
                        psnr over the pixels of the mask alone
    lpips_to_backbone   LPIPS-alex to the backbone's picture
    identity            cosine of the identity network's vectors of the picture and of the truth
    driver              the same of the picture and of the driver
    pose_error          degrees between the driver's true head pose and the one that the model's own
                        motion encoder finds in the picture; absent if the family has none
    predicted           [m, n] LPIPS-alex to the backbone's picture that the predictor expects
    driver_vector       [m, d] the identity network's, of the driver
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fiancee_jax import cli, losses, metrics
from fiancee_jax.data import Batch, epoch
from fiancee_jax.data.ground import GROUND
from fiancee_jax.evaluation.records import BATCH, Judges
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.inference import Renderer
from fiancee_jax.models import lpips
from fiancee_jax.models.volume import POSE
from fiancee_jax.poses import rotation

KINDS = {"self": 0.0, "cross": 1.0}  # share of pairs whose driver is another identity
KNOWN = ("source", "driver", "mask", "source_pose", "driver_pose", "motion")
GREY = GROUND / 127.5 - 1

Measured = dict[str, np.ndarray]


def measure(renderer: Renderer, sources: Mapping[str, Any], judges: Judges) -> Measured:
    """Renders every exit of every pair once for each kind, and judges the pictures.

    Args:
        renderer: the model, of a family with inputs ``source`` and ``driver``.
        sources: by kind an opened split of rendered heads, alike but for the driver.
        judges: LPIPS, and as ``features`` the identity network.

    Returns:
        The arrays that the module describes.
    """
    rows: list[Measured] = []
    with cli.Progress("pairs", len(sources["self"])) as progress:
        for names, batches in paired(renderer, sources):
            found = jax.device_get(_rows(renderer, judges, batches))
            rows.append({"names": np.array(names), **_cut(found, len(names))})
            progress.advance(len(names))
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def _cut(found: Mapping[str, Any], count: int) -> Measured:
    return {key: np.asarray(value)[:count] for key, value in found.items()}


def paired(
    renderer: Renderer, sources: Mapping[str, Any]
) -> Iterator[tuple[list[str], dict[str, Batch]]]:
    """Names and batches by kind; arrays are padded to full batches by repeating the last."""
    size = renderer.model.family.size
    keys = dict.fromkeys((*KNOWN, *renderer.model.family.input_names))
    epochs = [epoch(source, size, BATCH, keys=tuple(keys)) for source in sources.values()]
    for found in zip(*epochs, strict=True):
        names = found[0][0]
        fill = np.minimum(np.arange(BATCH), len(names) - 1)
        batches = [jax.tree.map(lambda x, fill=fill: x[fill], batch) for _, batch in found]
        yield names, dict(zip(sources, batches, strict=True))


def rendered(renderer: Renderer, batch: Batch) -> tuple[list[Array], Float[Array, "b n"]]:
    """Pictures of all exits, the backbone's last, and what the predictor expects of them."""
    names = renderer.model.family.input_names
    inputs = {name: jnp.asarray(batch.inputs[name]) for name in names}
    inputs = renderer.encode({**inputs, "z": jnp.zeros((len(inputs["source"]), 0))})
    pictures = _pictures(renderer.model, renderer.variables, inputs)
    return pictures, renderer.predict_checked(inputs)


_pictures = jax.jit(MultiExit.pictures, static_argnums=0)


def _rows(renderer: Renderer, judges: Judges, batches: Mapping[str, Batch]) -> dict[str, Any]:
    batch = batches["self"]  # the driver is all that differs
    mask = batch.inputs["mask"][..., None] > 0
    see = functools.partial(_see, judges, mask=mask)
    truth, copied = see(batch.target), see(batch.inputs["source"])
    pose_error = functools.partial(_pose_errors, renderer, batch.inputs["driver_pose"])
    found = {name: batch.inputs[name] for name in ("motion", "source_pose")}
    found |= {"truth_vector": truth.vector, "source_vector": copied.vector}
    found |= pose_error("truth_pose_error", [batch.target])
    for kind, batch in batches.items():
        pictures, predicted = rendered(renderer, batch)
        full, driver = see(pictures[-1]), _vector(judges, batch.inputs["driver"])
        shown = (*map(see, pictures[:-1]), full, copied)
        columns = [_compare(judges, mask, x, truth, full, driver) for x in shown]
        table = {key: jnp.stack([c[key] for c in columns], axis=1) for key in columns[0]}
        table |= pose_error("pose_error", [*pictures, batch.inputs["source"]])
        table |= {"driver_vector": driver, "predicted": predicted}
        found |= {f"{kind}.{key}": value for key, value in table.items()}
    return found


# --- what is seen of a picture, and of two of them ------------------------------------------------
class _Seen(NamedTuple):
    """Pictures, whole and with ground outside their masks, by suffix: themselves, LPIPS' features.

    `vector` is the identity network's, of the whole pictures.
    """

    pictures: dict[str, Array]
    features: dict[str, lpips.Features]
    vector: Array


def _nets(judges: Judges) -> dict[str, lpips.LpipsParams]:
    return {"lpips_alex": judges.alex, "lpips_vgg": judges.vgg}


@jax.jit
def _see(judges: Judges, picture: Float[Array, "b h w 3"], mask: Array) -> _Seen:
    views = {"": picture, "_masked": jnp.where(mask, picture, GREY)}
    features = {
        name + suffix: lpips.features(net, view)
        for name, net in _nets(judges).items()
        for suffix, view in views.items()
    }
    return _Seen(views, features, _vector(judges, picture))


@jax.jit
def _vector(judges: Judges, picture: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
    assert judges.features is not None
    return judges.features(picture)


@jax.jit
def _compare(
    judges: Judges, mask: Array, picture: _Seen, truth: _Seen, full: _Seen, driver: Array
) -> dict[str, Array]:
    apart = {
        key: lpips.distance_from_features(net, picture.features[key], truth.features[key])
        for name, net in _nets(judges).items()
        for key in (name, f"{name}_masked")
    }
    a, b = picture.pictures, truth.pictures
    near, base = picture.features["lpips_alex"], full.features["lpips_alex"]
    return {
        **apart,
        **{f"ssim{suffix}": metrics.ssim(a[suffix], b[suffix]) for suffix in a},
        "l1": losses.l1(a[""], b[""]),
        "psnr": metrics.psnr(a[""], b[""]),
        **_over_mask(a[""], b[""], mask),
        "lpips_to_backbone": lpips.distance_from_features(judges.alex, near, base),
        "identity": jnp.sum(picture.vector * truth.vector, axis=-1),
        "driver": jnp.sum(picture.vector * driver, axis=-1),
    }


def _over_mask(a: Array, b: Array, mask: Float[Array, "b h w 1"]) -> dict[str, Array]:
    """L1 and PSNR over the pixels of a mask, which has some."""
    count = 3 * mask.sum((1, 2, 3))
    absolute = (jnp.abs(a - b) * mask).sum((1, 2, 3)) / count
    squared = (jnp.square(a - b) * mask).sum((1, 2, 3)) / count
    psnr = 10 * jnp.log10(4 / jnp.maximum(squared, 1e-12))
    return {"l1_masked": absolute, "psnr_masked": jnp.minimum(psnr, metrics.MAX_PSNR)}


def _pose_errors(
    renderer: Renderer, pose: Array, name: str, pictures: list[Any]
) -> dict[str, Float[Array, "b k"]]:
    """Degrees between a pose and the one found in each of k pictures; {} if none can be found."""
    found = [_pose(renderer.model, renderer.variables, x) for x in pictures]
    apart = [degrees_apart(x, jnp.asarray(pose)) for x in found if x is not None]
    return {name: jnp.stack(apart, axis=1)} if apart else {}


@functools.partial(jax.jit, static_argnames=("model",))
def _pose(model: MultiExit, variables: Variables, picture: Array) -> Float[Array, "b 6"] | None:
    found = model.encode(variables, {"source": picture}).get("source_motion")
    return None if found is None else found[:, :POSE]


@jax.jit
def degrees_apart(a: Float[Array, "b 6"], b: Float[Array, "b 6"]) -> Float[Array, "b"]:
    """Angle of the turn from one head pose to another, degrees."""
    apart = jnp.linalg.norm(rotation(a[:, :3]) - rotation(b[:, :3]), axis=(1, 2))
    return jnp.degrees(2 * jnp.arcsin(jnp.minimum(apart / 8**0.5, 1.0)))
