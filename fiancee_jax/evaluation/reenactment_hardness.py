"""Which poses, expressions and identities are hard to reenact; does the router spend more there?

Keys of ``hardness`` in ``reenactment.json``:

    features        names of what is known of a pair, see `features`
    exits           for each exit 1..n (the backbone last): exit, and rank, Spearman's correlation
                    by feature of its LPIPS-alex {"to_backbone" (of the backbone null), "to_truth"};
                    null where one of them is constant
    routers         for each threshold: max_lpips, and rank, of the GMACs that the router spends
    yaw, hair, glasses
                    the pairs in groups: by |yaw| of the driver in degrees ("0-15", "15-30",
                    "30-45", ">45"), by the source's hair style, and by whether the source wears
                    glasses; a group of none is left out:
        name, count what the group is, and its pairs
        to_backbone, to_truth
                    mean LPIPS-alex by exit 1..n
        routed      for each threshold: max_lpips, exit (the mean number), gmacs (mean, predictor
                    included), decoder_saved (share of the backbone's decoder)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fiancee_jax.data.head_hair import Hair
from fiancee_jax.data.head_identities import Identity
from fiancee_jax.data.head_parameters import POSE_DIM
from fiancee_jax.evaluation.reenactment import Measured, degrees_apart
from fiancee_jax.evaluation.reenactment_rows import Costs, chosen
from fiancee_jax.evaluation.rows import spearman

YAW_EDGES = (15.0, 30.0, 45.0)  # degrees
STYLES = ("bald", "short", "parted", "bob", "long", "curly", "tied")
CURLY, LONG = 0.019, 0.7  # curls at least so high; hair at least so long

Groups = dict[str, np.ndarray]


def hardness(
    found: Measured, kind: str, who: Sequence[Identity], costs: Costs, limits: Sequence[float]
) -> dict[str, Any]:
    """Everything above, of one kind of reenactment.

    Args:
        found: what was measured.
        kind: self or cross.
        who: the source's identity of each pair.
        costs: of the model.
        limits: the router's thresholds.
    """
    known = features(found, who)
    spent = {limit: costs.exits[chosen(found, kind, limit)] for limit in limits}
    return {
        "features": list(known),
        "exits": [
            {
                "exit": i + 1,
                "rank": {
                    "to_backbone": _ranks(known, found[f"{kind}.lpips_to_backbone"][:, i]),
                    "to_truth": _ranks(known, found[f"{kind}.lpips_alex"][:, i]),
                },
            }
            for i in range(len(costs.exits))
        ],
        "routers": [{"max_lpips": x, "rank": _ranks(known, gmacs)} for x, gmacs in spent.items()],
        **{
            name: _grouped(found, kind, groups, costs, limits)
            for name, groups in grouped(found, who).items()
        },
    }


# --- what is known of a pair ----------------------------------------------------------------------
def features(found: Measured, who: Sequence[Identity]) -> dict[str, np.ndarray]:
    """Numbers [m] by name; of the driver's motion where nothing else is said.

    yaw, pitch, roll (absolute, degrees), shift (half picture sides), scale (logarithm), jaw, smile
    and brows (absolute, both brows' mean), lids (mean; 1 is closed), gaze (length); source_yaw
    (absolute, degrees), turn (degrees from the source's pose to the driver's); hair_volume and
    glasses (1 where worn) of the source's identity.
    """
    motion, source = found["motion"], found["source_pose"]
    yaw, pitch, roll = np.degrees(np.abs(motion[:, :3])).T
    jaw, smile, left, right, *lids, gaze_x, gaze_y = motion[:, POSE_DIM:].T
    turn = degrees_apart(jnp.asarray(source), jnp.asarray(motion[:, :POSE_DIM]))
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "shift": np.hypot(motion[:, 3], motion[:, 4]),
        "scale": motion[:, 5],
        "jaw": jaw,
        "smile": np.abs(smile),
        "brows": np.abs(left + right) / 2,
        "lids": np.mean(lids, axis=0),
        "gaze": np.hypot(gaze_x, gaze_y),
        "source_yaw": np.degrees(np.abs(source[:, 0])),
        "turn": np.asarray(turn),
        "hair_volume": np.array([max(0.0, float(x.hair.volume)) for x in who]),
        "glasses": np.array([float(wears_glasses(x)) for x in who]),
    }


def wears_glasses(who: Identity) -> bool:
    """Whether an identity wears glasses."""
    return bool(who.glasses.thickness > 0)


def hair_style(hair: Hair) -> str:
    """Which of `STYLES` hair is."""
    if hair.volume < 0:
        return "bald"
    if hair.extra_radius > 0:
        return "tied"
    if hair.curl > CURLY:
        return "curly"
    if hair.curtain:
        return "long" if hair.length > LONG else "bob"
    return "parted" if hair.parted else "short"


# --- groups ---------------------------------------------------------------------------------------
def grouped(found: Measured, who: Sequence[Identity]) -> dict[str, Groups]:
    """Which pairs are in which group, [m] of bool each; groups of none are left out."""
    yaw = np.digitize(np.degrees(np.abs(found["motion"][:, 0])), YAW_EDGES)
    edges = (0.0, *YAW_EDGES)
    spans = [f"{a:g}-{b:g}" for a, b in itertools.pairwise(edges)] + [f">{edges[-1]:g}"]
    style = np.array([hair_style(x.hair) for x in who])
    worn = np.array([wears_glasses(x) for x in who])
    made = {
        "yaw": {span: yaw == i for i, span in enumerate(spans)},
        "hair": {name: style == name for name in STYLES},
        "glasses": {"no": ~worn, "yes": worn},
    }
    return {
        name: {key: rows for key, rows in groups.items() if rows.any()}
        for name, groups in made.items()
    }


def _grouped(
    found: Measured, kind: str, groups: Groups, costs: Costs, limits: Sequence[float]
) -> list[dict[str, Any]]:
    n, taken = len(costs.exits), {limit: chosen(found, kind, limit) for limit in limits}
    return [
        {
            "name": name,
            "count": int(rows.sum()),
            "to_backbone": found[f"{kind}.lpips_to_backbone"][rows, :n].mean(0).tolist(),
            "to_truth": found[f"{kind}.lpips_alex"][rows, :n].mean(0).tolist(),
            "routed": [_spent(costs, limit, exits[rows]) for limit, exits in taken.items()],
        }
        for name, rows in groups.items()
    ]


def _spent(costs: Costs, limit: float, taken: np.ndarray) -> dict[str, float]:
    columns = costs.columns(float(costs.exits[taken].mean()) + costs.predictor)
    return {
        "max_lpips": limit,
        "exit": float(taken.mean()) + 1,
        "gmacs": columns["gmacs"],
        "decoder_saved": columns["saved"]["decoder"],
    }


def _ranks(known: Mapping[str, np.ndarray], value: np.ndarray) -> dict[str, float | None]:
    return {name: spearman(column, value) for name, column in known.items()}
