"""Made-up measurements: m records at 3 early exits and the backbone, distances that inputs move."""

import numpy as np

from fiancee_jax.evaluation.records import Records
from fiancee_jax.evaluation.rows import Subject
from fiancee_jax.evaluation.table import Promise, Table
from fiancee_jax.evaluation.timing import Times

GMACS = np.array([1.0, 2.0, 4.0, 8.0])
TIMES = Times([1.0, 2.0, 4.0, 8.0], [0.5, 1.0, 2.0, 4.0], 0.25, 0.125, 16)


def made_records(inputs=60, latents=1, seed=0, noise=0.1, pictures=True):
    """Distances follow areas and z and fall with the exit; estimates are off by noise."""
    rng = np.random.default_rng(seed)
    m = inputs * latents
    shares = np.repeat(rng.dirichlet(np.ones(3), inputs), latents, 0)
    vector = rng.standard_normal((m, 2))
    hard = np.exp(1.5 * shares[:, 0] + 0.4 * vector[:, 0])
    lpips = np.concatenate([hard[:, None] * [0.1, 0.06, 0.03], np.zeros((m, 1))], axis=1)
    off = np.exp(noise * rng.standard_normal((m, 1)))
    similar = 1 - lpips
    return Records(
        names=np.repeat([f"scene_{i:03d}" for i in range(inputs)], latents),
        distances={
            "lpips_alex": lpips,
            "lpips_vgg": 3 * lpips,
            "l1": lpips / 2,
            "psnr": 20 + 10 * similar,
            "ssim": similar,
        },
        predicted=lpips * off,
        shares=shares,
        edges=rng.random(m),
        vector=vector,
        features=rng.standard_normal((m, 4, 6)) if pictures else None,
        real_features=rng.standard_normal((inputs, 6)) if pictures else None,
        confusion=np.tile(np.diag([5, 3, 2]), (m, 4, 1, 1)) if pictures else None,
        real_confusion=np.diag([5, 3, 2]) if pictures else None,
    )


def made_subject(**options):
    return Subject(made_records(**options), GMACS, 0.01, TIMES)


def made_table(companions=None, ridges=None, **options):
    subject = made_subject(**options)
    calibrated = {0.1: [Promise(0.8, 0.08), Promise(0.95, -1.0, "too few units")]}
    return Table(subject, companions or {}, ridges or {}, calibrated, {0.5: 0.09})
