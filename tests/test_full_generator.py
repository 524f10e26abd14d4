"""benchmarks.full_generator and its parts, on a generator of a few channels."""

import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks import drawn_generator, floor, full_generator, in_turn, street_maps
from fiancee_jax.errors import UserError
from fiancee_jax.lossless import Level

CONFIG = """
from fiancee_jax.classes import unnamed
from fiancee_jax.config import Config
from fiancee_jax.data import Augment, Folder
from fiancee_jax.models.oasis import Oasis

family = Oasis(size=(64, 64), classes=unnamed(8), width=8, hidden=8, z_dim=4, blocks=2)
config = Config("tiny", family, Folder("nowhere"), Augment(flip=False), exits=())
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Four maps of large areas."""
    root = tmp_path_factory.mktemp("street")
    folder = root / street_maps.LABELS
    folder.mkdir(parents=True)
    for number in range(4):
        labels = np.zeros((40, 40), np.uint8)
        labels[5 * number + 8 :] = 3
        labels[:, 20:] += number
        Image.fromarray(labels).save(folder / f"{number}.png")
    return root


def test_everything_runs_and_is_said(
    data: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "rates", lambda: floor.Rates(100.0, 10.0))
    monkeypatch.setattr(full_generator, "NOISE_LIMIT", np.inf)  # tests compile badly
    config = data / "tiny.py"
    config.write_text(CONFIG)
    options = full_generator.Options(str(config), data, (32, 64), width=3, maps=2, repeats=3)
    full_generator.main(options)
    out = capsys.readouterr().out.splitlines()
    lines = [json.loads(line) for line in out if line.startswith("{")]
    by: dict[str, Any] = {}
    for line in lines:
        by.setdefault(line["what"], []).append(line)
    assert 0.2 <= by["pictures"][0]["std"] <= 0.6
    assert {
        line["maps"]: max(line["before_tanh"], line["picture"]) < 1e-4
        for line in by["largest difference"]
    } == {"streets": True, "noise": True}
    assert [line["size"] for line in by["patterns"] if line["three"]] == [[32, 64]] * 2
    streets, noise = by["gmacs"]
    assert max(streets["sparse"]) <= noise["sparse"][0] < noise["dense"]
    took = {line["method"]: line["ratio"] for line in by["time"]}
    assert took["dense, streets"] == took["dense, noise"] == 1
    assert len(took) == 6
    left = np.mean(streets["sparse"])
    assert by["floor"][0]["products_ms"] == pytest.approx(1e3 * left / 100, abs=0.02)


def test_bytes_by_hand() -> None:
    """Two stages: one dense at 2x2 with 3 -> 2 channels, one sparse at 4x4 with 2 -> 2."""

    def kernel(size: int, fan_in: int, fan_out: int) -> Any:
        return {"kernel": jax.ShapeDtypeStruct((size, size, fan_in, fan_out), np.float32)}

    def spade(channels: int) -> Any:
        return {"shared": kernel(3, 9, 5), "gamma_beta": kernel(3, 5, 2 * channels)}

    params = {
        "stem": {"fc": kernel(3, 9, 3)},
        "stages_0": {"block": {"conv_s": kernel(1, 3, 2), "norm_s": spade(3)}},
        "stages_1": {"block": {"conv_0": kernel(3, 2, 2), "norm_0": spade(2)}},
        "head": {"conv_img": kernel(3, 2, 3)},
    }
    levels = [Level((2, 2), None, None, 4), Level((4, 4), 5, 6, 8)]
    stem = 9 * 9 * 3 + 4 * 3  # the map itself is made where it is used
    shared = 9 * 9 * 5
    dense = 9 * 5 * 6 + 4 * (3 + 3) + 2 * 4 * (5 + 6)  # weights, features, hidden and gamma, beta
    first = 3 * 2 + 4 * (3 + 2) + shared + dense
    sparse = 9 * 5 * 4 + 16 * (2 + 2) + 16 + 2 * (9 * 8 * 4 + 6 * 4)
    second = 9 * 2 * 2 + 16 * (2 + 2) + shared + sparse
    head = 9 * 2 * 3 + 16 * (2 + 3)
    assert floor.moved(params, levels) == 4 * (stem + first + second + head)


def test_rounds_alternate_and_ratios_compare_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda s: None)

    def takes(name: str, factor: float) -> in_turn.Method:
        def run(turn: int) -> None:
            order.append(name)
            clock[0] += factor * (turn + 1)

        return run

    times = in_turn.seconds({"a": takes("a", 1.0), "b": takes("b", 0.5)}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert times["a"] == [1, 2, 3]
    assert in_turn.ratio(times, "b", "a") == 0.5
    assert in_turn.median_ms(times, "b") == 1000


def test_maps_and_configs_must_suit(data: pathlib.Path) -> None:
    with pytest.raises(UserError, match="is no OASIS"):
        drawn_generator.prepare(drawn_generator.Generator("dcgan", data))
    with pytest.raises(UserError, match="divisible by 32"):
        drawn_generator.prepare(drawn_generator.Generator(data=data, size=(40, 64)))


def test_saturated_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for picture, message in ((0.05, "deviation 0.050"), (1.0, "100.00% beyond")):
        checkered = picture * (-1.0) ** np.arange(12).reshape(1, 2, 2, 3)
        monkeypatch.setattr(drawn_generator, "render_exit", lambda *a, x=checkered: x)
        with pytest.raises(SystemExit, match=message):
            drawn_generator.unsaturated(None, {}, [None])  # pyright: ignore[reportArgumentType]
