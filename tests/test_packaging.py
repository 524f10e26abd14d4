"""What `pip install .` installs: a model in the box opens from any directory."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PARTS = ("fiancee_jax", "configs", "pretrained")
BOXES = sorted(path.parent.name for path in (ROOT / "pretrained").glob("*/box.json"))

LOAD = """
import sys, jax, numpy as np, fiancee_jax as fj
print(fj.__file__)
for name in sys.argv[1:]:
    renderer = fj.load(name)
    labels = np.zeros((1, *renderer.model.family.size), np.int32)
    r = renderer(labels, key=jax.random.key(0), max_lpips=10.0)
    assert r.images.shape == (*labels.shape, 3) and r.exits.tolist() == [1]
    print(name, renderer.model.num_exits, bool(np.isfinite(r.images).all()))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel's contents; built from a copy, as building leaves files beside its sources."""
    folder = tmp_path_factory.mktemp("packaging")
    source, target = folder / "source", folder / "installed"
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "pyproject.toml", ROOT / "LICENSE"):
        shutil.copy(path, source)
    shutil.copy(ROOT / "README.md", source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(folder), str(source)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(target)
    return target


def test_a_wheel_holds_the_boxes_and_loads_them_from_another_directory(installed, tmp_path):
    assert "camvid" in BOXES
    for name in BOXES:
        kept = {path.name for path in (installed / "fiancee_jax" / "pretrained" / name).iterdir()}
        assert kept == {path.name for path in (ROOT / "pretrained" / name).iterdir()}
    env = {**os.environ, "PYTHONPATH": str(installed)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD, *BOXES],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, *rest = ran.stdout.splitlines()
    assert pathlib.Path(first).is_relative_to(installed)
    assert [line.split()[0] for line in rest] == BOXES
    assert all(line.endswith("True") for line in rest)


def test_a_wheel_holds_nothing_that_was_not_meant_for_it(installed):
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"fiancee_jax"}
