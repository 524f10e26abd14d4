"""Strict JAX for every test: several fake devices, no silent broadcasting, warnings are errors.

Most of what the suite costs is compiling programs that run once or twice on tiny shapes, so XLA is
asked to compile quickly rather than well. No tolerance knows of it: the tests hold either way, and
`XLA_FLAGS= pytest` (a given XLA_FLAGS is kept) compiles as users do, and so does `make test-all`.
"""

import gc
import importlib.metadata
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    # later versions do not know it, and XLA aborts at a flag that it does not know
    + " --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith("0.10."),
)
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"

import pathlib
import tempfile

import jax
import pytest

# Tracing makes many objects that live on: looking for cycles among them took a tenth of the time.
gc.set_threshold(50_000, 20, 50)
jax.config.update("jax_numpy_rank_promotion", "raise")

# What one test has compiled another need not compile again; a new session starts cold. Each worker
# of pytest-xdist has its own cache: JAX writes no entry atomically, and files share hardly any.
CACHE = tempfile.TemporaryDirectory(prefix="fiancee-jax-tests-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name  # of commands that tests start
jax.config.update("jax_compilation_cache_dir", CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def fixtures_dir() -> pathlib.Path:
    """Outputs of the published OASIS and LPIPS; not part of the repository."""
    path = SHARED / "fixtures"
    if not path.is_dir():
        pytest.skip(f"reference outputs of the published implementations are absent: {path}")
    return path


@pytest.fixture(scope="session")
def camvid_dir() -> pathlib.Path:
    """CamVid photos with label maps; not part of the repository."""
    path = SHARED / "data" / "camvid"
    if not path.is_dir():
        pytest.skip(f"the CamVid folder data set is absent: {path}")
    return path
