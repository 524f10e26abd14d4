"""One host of several: trains the config in a folder.

python one_of_several.py FOLDER HOSTS WORKDIR [PHASE ...]

A program of its own, because hosts are processes; `test_hosts.py` starts them. Together they have
four fake devices, however many they are.
"""

import os
import pathlib
import sys

FOLDER, HOSTS, WORKDIR, *CHOSEN = sys.argv[1:]
DEVICES = 4 // int(HOSTS.rpartition(",")[2] or 1)
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
)
os.environ["JAX_PLATFORMS"] = "cpu"

from fiancee_jax import cli, hosts  # noqa: E402
from fiancee_jax.config import PHASES, read_config  # noqa: E402
from fiancee_jax.training.run import train  # noqa: E402


def main() -> None:
    """Joins the others, trains the phases."""
    hosts.start(HOSTS)
    train(read_config(pathlib.Path(FOLDER)), WORKDIR, phases=CHOSEN or PHASES)


if __name__ == "__main__":
    cli.run(main)
