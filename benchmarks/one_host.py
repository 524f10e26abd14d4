"""One host of several, on fake devices: trains workdirs, each to one phase's next step.

    python -m benchmarks.one_host HOSTS DEVICES WORKDIR PHASE STEPS [WORKDIR PHASE STEPS ...]

Every workdir holds its config. PHASE is one, or ``all`` (then STEPS means nothing). `agreement`
starts this; HOSTS is what ``train.py --hosts`` takes, or ``-`` for a host by itself.
"""

from __future__ import annotations

import dataclasses
import os
import sys

HOSTS, DEVICES, *WORK = sys.argv[1:]
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
os.environ["JAX_PLATFORMS"] = "cpu"

import pathlib  # noqa: E402

from fiancee_jax import cli, hosts  # noqa: E402
from fiancee_jax.config import read_config  # noqa: E402
from fiancee_jax.training.run import train  # noqa: E402


def main() -> None:
    """Joins the others, trains one workdir after the other."""
    hosts.start("" if HOSTS == "-" else HOSTS)
    for workdir, phase, steps in zip(WORK[::3], WORK[1::3], WORK[2::3], strict=True):
        config = read_config(pathlib.Path(workdir))
        if phase == "all":
            train(config, workdir)
            continue
        longer = dataclasses.replace(getattr(config, phase), steps=int(steps))
        train(dataclasses.replace(config, **{phase: longer}), workdir, phases=[phase])


if __name__ == "__main__":
    cli.run(main)
