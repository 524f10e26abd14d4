"""Made-up measurements of reenactment: m pairs, 2 exits and the backbone, harder with |yaw|."""

import numpy as np

from fiancee_jax.data.heads import identity
from fiancee_jax.evaluation.reenactment import KINDS
from fiancee_jax.evaluation.reenactment_rows import DISTANCES, Costs

COSTS = Costs(once=4.0, shared=2.0, project=0.5, predictor=0.1, exits=np.array([7.0, 8.0, 10.0]))
IDENTITIES = 20


def made_found(m=40, seed=0):
    """As `reenactment.measure` returns it; distances rise with |yaw| and fall with the exit."""
    rng = np.random.default_rng(seed)
    motion = rng.uniform(-0.5, 0.5, (m, 14)).astype(np.float32)
    motion[:, 0] = np.linspace(-1, 1, m)
    found = {
        "names": np.array([f"pair_{i}" for i in range(m)]),
        "motion": motion,
        "source_pose": rng.uniform(-0.5, 0.5, (m, 6)).astype(np.float32),
        "truth_vector": unit(rng, m),
        "source_vector": unit(rng, m),
        "truth_pose_error": rng.uniform(1, 2, (m, 1)),
    }
    for kind in KINDS:
        found |= {f"{kind}.{key}": value for key, value in _driven(rng, motion).items()}
    return found


def _driven(rng, motion):
    hard = np.abs(motion[:, :1])
    near = hard * [0.2, 0.1, 0.0, 0.4]  # exits, backbone, the source
    keys = [key + suffix for key in DISTANCES for suffix in ("", "_masked")]
    keys += ["identity", "driver", "pose_error"]
    return {
        **{key: near + rng.uniform(0.1, 0.11, near.shape) for key in keys},
        "lpips_to_backbone": near,
        "predicted": near[:, :3],
        "driver_vector": unit(rng, len(motion)),
    }


def unit(rng, m):
    """Vectors of length 1, [m, 8]."""
    x = rng.standard_normal((m, 8))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def made_who(m=40):
    """Numbers of the sources' identities, and these."""
    who = np.arange(m) % IDENTITIES
    return who, [identity(0, "report", int(i)) for i in who]
