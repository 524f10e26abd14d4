"""A table over a tiny renderer's real inputs with made-up distances: nothing is rendered."""

import dataclasses

import numpy as np
import studies

from fiancee_jax.evaluation import records
from fiancee_jax.evaluation.rows import Subject
from fiancee_jax.evaluation.table import Promise, Table


def measured_table(renderer, source, latents=1):
    """Areas are those of the label maps, everything else is drawn."""
    rows = []
    for names, batch in records.batches(renderer, source):
        for i, name in enumerate(names):
            rows += [(name, batch.inputs["labels"][i])] * latents
    rng, n = np.random.default_rng(0), renderer.model.num_exits
    m = len(rows)
    lpips = np.pad(rng.uniform(0.05, 0.2, (m, n - 1)), ((0, 0), (0, 1)))
    shares = np.stack([np.bincount(x.ravel(), minlength=10) / x.size for _, x in rows])
    rec = records.Records(
        names=np.array([name for name, _ in rows]),
        distances={name: lpips for name in records.DISTANCES},
        predicted=lpips,
        shares=shares,
        edges=rng.random(m),
        vector=rng.standard_normal((m, renderer.model.family.latent_dim)),
    )
    gmacs = np.array(renderer.model.gmacs)
    times = dataclasses.replace(studies.TIMES, single=[1.0] * n, batched=[1.0] * n)
    subject = Subject(rec, gmacs, 0.01 * gmacs[0], times)
    return Table(subject, {}, {}, {0.1: [Promise(0.9, 0.08)]}, {})
