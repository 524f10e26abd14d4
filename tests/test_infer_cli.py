"""Bad input to infer.py: one message that says what was found and how to mend it, status 2."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import reenact
from PIL import Image
from tiny import CLASSES, tiny_model, tiny_renderer, tiny_workdir

from fiancee_jax import cli, inference
from fiancee_jax.inference import Renderer
from fiancee_jax.routing.calibration import Calibration

INFER = pathlib.Path(__file__).resolve().parents[1] / "infer.py"


@pytest.fixture(scope="module")
def infer():
    spec = importlib.util.spec_from_file_location("infer", INFER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("workdir")
    tiny_workdir(folder, tiny_renderer())
    return folder


@pytest.fixture(scope="module")
def loaded(workdir):
    return inference.load(workdir)


@pytest.fixture
def command(infer, loaded, workdir, monkeypatch, tmp_path, capsys):
    """Runs infer.py on a folder with one good map; returns exit status, stdout and stderr."""
    (tmp_path / "labels").mkdir()
    save(tmp_path / "labels" / "good.png", np.zeros((32, 32), np.uint8))
    find = inference.find_model
    monkeypatch.setattr(inference, "load", lambda name: find(name) and loaded)

    def run(*extra: str, **options: object) -> tuple[int, str, str]:
        options = {
            "model": workdir,
            "labels": tmp_path / "labels",
            "out": tmp_path / "out",
            **options,
        }
        pairs = [text for k, v in options.items() if v for text in (f"--{k}", str(v))]
        return ran(infer, pairs, extra, capsys)

    return run


def ran(infer, pairs, extra, capsys):
    status: object = 0
    try:
        cli.run(lambda: infer.main([*pairs, *extra]))
    except SystemExit as stop:
        status = stop.code
    output = capsys.readouterr()
    assert isinstance(status, int)
    return status, output.out, output.err


def save(path, labels):
    Image.fromarray(labels).save(path)


def refused(result) -> str:
    """The message of a run that was refused before anything happened."""
    status, out, err = result
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("error: ")
    return err


def test_a_good_run_says_what_it_wrote(command, tmp_path):
    status, out, err = command("--exit", "1", "--batch-size", "2")
    assert (status, err) == (0, "")
    assert "1 pictures in" in out
    for name in ("manifest.jsonl", "index.html"):
        assert f"wrote {tmp_path / 'out' / name}" in out
        assert (tmp_path / "out" / name).is_file()
    assert (tmp_path / "out" / "good.png").is_file()


def test_empty_folder(command, tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused(command(labels=tmp_path / "empty"))
    assert f"Found no PNG in {tmp_path / 'empty'}" in message
    assert "expected label maps, NAME.png each" in message


def test_absent_folder(command, tmp_path):
    assert "Found no folder" in refused(command(labels=tmp_path / "nowhere"))


def test_unknown_ids_name_file_ids_and_the_known_classes(command, tmp_path):
    labels = np.zeros((32, 32), np.uint8)
    labels[0, :2] = 77, 200
    save(tmp_path / "labels" / "bad.png", labels)
    message = refused(command("--strict"))
    assert f"{tmp_path / 'labels' / 'bad.png'}: holds class ids 77, 200" in message
    assert f"expected 0 to {len(CLASSES) - 1}" in message
    for i, name in enumerate(CLASSES):
        assert f"{i} = {name}" in message
    assert "good.png" not in message


def test_truncated_image(command, tmp_path):
    whole = np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8)
    save(tmp_path / "labels" / "cut.png", whole)
    content = (tmp_path / "labels" / "cut.png").read_bytes()
    (tmp_path / "labels" / "cut.png").write_bytes(content[: len(content) // 2])
    message = refused(command("--strict"))
    assert "cut.png" in message
    assert "damaged or cut short" in message


def test_a_file_that_is_no_image(command, tmp_path):
    (tmp_path / "labels" / "text.png").write_text("hello")
    message = refused(command("--strict"))
    assert f"{tmp_path / 'labels' / 'text.png'}: not an image, or damaged" in message
    assert "expected a readable file" in message
    assert "A label map is an 8-bit PNG" in message


def test_native_sizes_that_do_not_divide(command, tmp_path):
    save(tmp_path / "labels" / "odd.png", np.zeros((33, 40), np.uint8))
    message = refused(command("--size", "native", "--strict"))
    assert f"{tmp_path / 'labels' / 'odd.png'}: is 33x40" in message
    assert "sides divisible by 8" in message
    assert "Crop or resize these maps, or leave out --size native" in message


def test_a_bad_map_is_recorded_the_rest_rendered_and_the_status_says_so(command, tmp_path):
    (tmp_path / "labels" / "text.png").write_text("hello")
    status, out, err = command("--exit", "1", "--batch-size", "2")
    assert (status, err) == (1, "")
    assert "1 label map could not be rendered" in out
    assert f"{tmp_path / 'labels' / 'text.png'}: not an image" in out
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    records = {record["name"]: record for record in map(json.loads, lines)}
    assert records["good"]["exit"] == 1
    assert "not an image" in records["text"]["error"]


def test_nothing_but_bad_maps_is_refused(command, tmp_path):
    (tmp_path / "labels" / "good.png").write_text("hello")
    assert "good.png: not an image" in refused(command())


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf", "-inf"])
def test_impossible_thresholds(command, value):
    message = refused(command("--max-lpips", value))
    assert "max_lpips is " in message
    assert "it must be a number that is 0 or more" in message


def test_a_threshold_that_is_no_number(command):
    status, _, err = command("--max-lpips", "small")
    assert status == 2
    assert "--max-lpips" in err
    assert "small" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--confidence", "0.9"], "train.py WORKDIR --phases calibration"),
        (["--confidence", "1.5"], "confidence is 1.5; it must be a number between 0 and 1"),
        (["--risk-delta", "0.1"], "risk_delta goes with confidence"),
        (["--exit", "1", "--confidence", "0.9"], "confidence goes with max_lpips"),
        (["--budget-gmacs", "9", "--budget-over", "population"], "needs a calibrated model"),
    ],
)
def test_promises_that_cannot_be_made(command, options, message):
    assert message in refused(command(*options))


def test_promises_are_said_everywhere(command, loaded, tmp_path, monkeypatch):
    rows = np.random.default_rng(0).uniform(0.1, 0.2, (128, 2))
    found = Calibration.from_measured(rows, rows, np.repeat(np.arange(8), 16))
    monkeypatch.setattr(loaded, "calibration", found)
    status, out, err = command("--confidence", "0.9", "--risk-delta", "0.2")
    asked, made = (
        "max_lpips 0.1 at confidence 0.9, risk-delta 0.2",
        "the backbone for all: confidence 0.9 at risk-delta 0.2 needs 16 calibration units or "
        "more, and this model has 8",
    )
    assert (status, err) == (0, "")
    record = json.loads((tmp_path / "out" / "manifest.jsonl").read_text())
    assert (record["exit"], record["policy"]) == (3, f"{asked}: {made}")
    assert f"{asked}: {made}" in out
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"<b>{asked}</b>" in page
    assert made in page
    save(tmp_path / "labels" / "good.png", np.zeros((32, 48), np.uint8))
    message = refused(command("--confidence", "0.9", "--size", "native"))
    assert "confidence rests on inputs of 32x32, and these are 32x48" in message


@pytest.mark.parametrize("value", ["0", "4", "-1", "ful", "1.5"])
def test_impossible_exits(command, value):
    message = refused(command("--exit", value))
    assert "this model has exits 1 to 3 (1 = tap1_w50, 2 = tap2_w50" in message
    assert '"full"' in message


@pytest.mark.parametrize("value", ["nan", "-3"])
def test_impossible_budgets(command, value):
    assert "budget_gmacs is " in refused(command("--budget-gmacs", value))


def test_out_is_a_file(command, tmp_path):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        message = refused(command(out=out))
        assert f"cannot write into the output folder {out}" in message
        assert "Give --out a folder" in message
    assert (tmp_path / "file").read_text() == "precious"


def test_out_that_cannot_be_made(command):
    assert "cannot write into the output folder" in refused(command(out="/proc/nowhere/out"))


def test_missing_model(command):
    message = refused(command(model="runs/nowhere"))
    assert "no workdir or model called 'runs/nowhere'" in message
    assert "README" in message


def test_help_says_the_default_policy_and_both_inputs(command):
    status, out, _ = command("--help")
    assert status == 0
    assert " ".join(out.split()).count("0.1 is taken") == 2
    for flag in ("--labels", "--source", "--driver", "--hysteresis.hold"):
        assert flag in out


# --- a source and a driver ----------------------------------------------------------------------
@pytest.fixture
def film(infer, monkeypatch, tmp_path, capsys):
    """Runs infer.py on a source and a driver of three frames, with a tiny model of random numbers.

    Returns exit status, stdout and stderr; options that are None are left out.
    """
    model = Renderer(reenact.CONFIG, *tiny_model(reenact.CONFIG), menu=[])
    monkeypatch.setattr(inference, "load", lambda name: model)
    monkeypatch.setattr(model, "over", lambda devices: model)
    (tmp_path / "driver").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (4, *reenact.SIZE, 3), np.uint8)
    for i in range(3):
        save(tmp_path / "driver" / f"{i}.png", pixels[i])
    save(tmp_path / "face.png", pixels[3])

    def run(*extra: str, **options: object) -> tuple[int, str, str]:
        given = {
            "model": "heads",
            "source": "face.png",
            "driver": "driver",
            "out": "out",
            **options,
        }
        paths = {k: v if k == "model" else tmp_path / str(v) for k, v in given.items() if v}
        return ran(
            infer, [text for k, v in paths.items() for text in (f"--{k}", str(v))], extra, capsys
        )

    return run


def test_a_video_says_what_it_wrote(film, tmp_path):
    status, out, err = film("--exit", "1", "--hysteresis.hold", "3", "--fps", "30")
    assert (status, err) == (0, "")
    assert "exit 1\n" in out
    assert "3 frames in" in out
    for name in ("manifest.jsonl", "video.webp", "index.html"):
        assert f"wrote {tmp_path / 'out' / name}" in out
        assert (tmp_path / "out" / name).is_file()
    assert [(tmp_path / "out" / f"{i}.png").is_file() for i in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "labels"}, "found --driver, --labels, --source; give either --labels DIR"),
        ({"source": None, "driver": None}, "found no inputs; give either --labels DIR"),
        ({"source": "nowhere.png"}, "nowhere.png: no such file. Give a source picture"),
        ({"driver": "nowhere"}, "Found no folder"),
        ({"driver": "face.png"}, "Found no folder"),
        ({"out": "driver"}, "the driver's frames would be overwritten"),
        ({"source": None, "driver": None, "labels": "x"}, "give --source PICTURE --driver DIR in"),
    ],
)
def test_bad_inputs_of_a_video(film, options, message):
    assert message in refused(film(**options))


@pytest.mark.parametrize("missing", ["source", "driver"])
def test_a_source_goes_with_a_driver(film, missing):
    status, out, err = film(**{missing: None})
    assert (status, out) == (2, "")
    assert f"--{missing}" in err


def test_label_models_say_which_inputs_they_take(command, tmp_path):
    save(tmp_path / "face.png", np.zeros((32, 32), np.uint8))
    message = refused(command(labels=None, source=tmp_path / "face.png", driver=tmp_path))
    assert "takes labels: give --labels DIR in place of --source PICTURE --driver DIR" in message


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--budget-gmacs-per-second", "1e-6"], "at 25 frames per second the cheapest exit costs"),
        (["--budget-gmacs-per-second", "nan"], "it must be a number that is 0 or more"),
        (["--hysteresis.margin", "2"], "hysteresis.margin is 2"),
        (["--hysteresis.hold", "0"], "hysteresis.hold is 0"),
        (["--fps", "0"], "fps is 0"),
        (["--max-lpips", "nan"], "max_lpips is nan"),
    ],
)
def test_impossible_options_of_a_video(film, extra, message):
    assert message in refused(film(*extra))


@pytest.mark.slow
def test_the_script_itself(tmp_path, workdir):
    (tmp_path / "labels").mkdir()
    save(tmp_path / "labels" / "a.png", np.zeros((32, 32), np.uint8))
    arguments = [sys.executable, str(INFER), "--labels", "labels", "--out", "out", "--model"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    bad = subprocess.run([*arguments, "nowhere"], check=False, **options)
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: no workdir or model called 'nowhere'")
    good = subprocess.run([*arguments, str(workdir)], check=True, **options)
    assert good.stderr == ""
    assert (tmp_path / "out" / "index.html").is_file()
