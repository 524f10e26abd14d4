"""A source in the motion of a driver, rendered: files, routing over time, streaming, mistakes."""

import dataclasses
import json
import os
import pathlib
import re
import threading

import jax
import numpy as np
import pytest
from PIL import Image
from reenact import CONFIG, SIZE, Encoder
from tiny import tiny_model, tiny_renderer

from fiancee_jax import inference, rendering
from fiancee_jax.data.frames import Clip, read_clip
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer
from fiancee_jax.pictures import to_uint8
from fiancee_jax.routing.calibration import Calibration
from fiancee_jax.routing.video import Hysteresis, Policy, Rate, hysteresis, lowest_threshold
from fiancee_jax.video import flicker
from fiancee_jax.video import job as video_job
from fiancee_jax.video.render import Request, render_video

T, BATCH = 11, 4
HOSTILE = "<img src=x onerror=alert(1)> \"q\" & 'a' #1?50%"


def built(family=CONFIG.model, **changes) -> Renderer:
    """A renderer of random variables; nothing is trained."""
    config = dataclasses.replace(CONFIG, model=family, **changes)
    return Renderer(config, *tiny_model(config), menu=[])


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return built()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """A source, and a driver of eleven frames that drift: three batches, the last one ragged."""
    folder = tmp_path_factory.mktemp("clip")
    rng = np.random.default_rng(0)
    (folder / "driver").mkdir()
    start, step = rng.uniform(0, 255, (2, *SIZE, 3))
    for i in range(T):
        name = HOSTILE if i == T - 1 else f"f{i}"
        name = f"f{i}_{name}" if i == T - 1 else name
        pixels = np.abs((start + step * np.sin(i)) % 510 - 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "driver" / f"{name}.png")
    Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8)).save(folder / "face.png")
    return folder / "face.png", folder / "driver"


@pytest.fixture(scope="module")
def predicted(renderer, clip) -> np.ndarray:
    return np.asarray(renderer.predict(inputs(clip), None))


@pytest.fixture(scope="module")
def middle(predicted) -> float:
    """A threshold that parts these frames: some leave early, some do not."""
    return between(predicted)


def between(predicted) -> float:
    """Half way between two frames' estimates: rounding decides nothing."""
    low, high = np.sort(predicted[:, 0])[T // 2 - 1 : T // 2 + 1]
    return float(low + high) / 2


@pytest.fixture(scope="module")
def routed(renderer, clip, middle, tmp_path_factory):
    """The clip rendered once and measured, and how often the routed renderer was compiled."""
    compiled = rendering.render_routed._cache_size  # pyright: ignore[reportAttributeAccessIssue]
    before = compiled()
    options = {"max_lpips": middle, "measure_flicker": True}
    summary = render_video(renderer, request(clip, tmp_path_factory.mktemp("out"), **options))
    return summary, compiled() - before


def request(clip, out, **options) -> Request:
    options = {"batch_size": BATCH, "hysteresis": Hysteresis(0.1, 2), **options}
    return Request("runs/demo", clip[0], clip[1], out, **options)


def inputs(clip) -> dict[str, np.ndarray]:
    """Source and frames of a clip for a call of the renderer."""
    found = read_clip(clip[0], clip[1], SIZE)
    driver = np.stack([found.read(i) for i in range(len(found.frames))])
    source = np.repeat(found.source[None], len(driver), axis=0)
    return {"source": source / np.float32(127.5) - 1, "driver": driver / np.float32(127.5) - 1}


def costs(renderer: Renderer) -> np.ndarray:
    return np.asarray(renderer.table(), np.float64)


def manifest(out: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def exits(out: pathlib.Path) -> list[int]:
    return [record["exit"] for record in manifest(out)]


def pictures(out: pathlib.Path) -> np.ndarray:
    return np.stack([np.array(Image.open(out / f"{r['name']}.png")) for r in manifest(out)])


# --- what comes out -----------------------------------------------------------------------------
def test_every_frame_gets_a_picture_of_its_exit(renderer, clip, routed):
    summary, _ = routed
    records = manifest(summary.out)
    assert [r["frame"] for r in records] == list(range(T))
    assert [r["name"] for r in records[:-1]] == [f"f{i}" for i in range(T - 1)]
    assert len({r["exit"] for r in records}) > 1
    found = pictures(summary.out).astype(int)
    for number in {r["exit"] for r in records}:
        rendered = to_uint8(renderer(inputs(clip), exit=number).images)
        rows = [i for i, r in enumerate(records) if r["exit"] == number]
        assert np.abs(found[rows] - rendered[rows]).max() <= 1  # another batch size


def test_the_exits_are_those_of_the_hysteresis(renderer, predicted, middle, routed):
    summary, _ = routed
    policy = Policy(max_lpips=middle, options=Hysteresis(0.1, 2))
    start = policy.start(renderer.model.num_exits)
    expected, _ = policy.route(start, predicted, costs(renderer))
    assert exits(summary.out) == expected.tolist()
    assert summary.switches == np.count_nonzero(np.diff(expected))
    for record, row in zip(manifest(summary.out), predicted, strict=True):
        np.testing.assert_allclose(record["predicted"], row, atol=2e-6)
        assert record["predicted_lpips"] <= middle
        assert record["gmacs"] == pytest.approx(costs(renderer)[record["exit"] - 1], rel=1e-5)
        assert record["policy"] == f"max_lpips {middle:g}"


def test_ragged_batches_do_not_compile_again(routed):
    summary, compiled = routed
    assert compiled == 1
    assert summary.per_second > 0


def test_the_video_shows_source_driver_and_rendered(clip, routed):
    summary, _ = routed
    found = inputs(clip)
    height, width = SIZE
    with Image.open(summary.out / "video.webp") as video:
        assert (video.width, video.height) == (3 * width, height)
        assert video.n_frames == T  # pyright: ignore[reportAttributeAccessIssue]
        for i, rendered in enumerate(pictures(summary.out)):
            video.seek(i)
            shown = np.asarray(video.convert("RGB"), int)
            expected = np.hstack([*(to_uint8(found[k][i]) for k in found), rendered])
            assert np.abs(shown - expected).mean() < 40  # noise, lossy
            assert video.info["duration"] == 40
            other = np.abs(shown - np.roll(expected, width, axis=1)).mean()
            assert other > np.abs(shown - expected).mean()


def test_the_flicker_is_that_of_the_pictures(renderer, clip, routed):
    summary, _ = routed
    frames = np.stack([np.asarray(x, np.float32) for x in pictures(summary.out)]) / 127.5 - 1
    full = renderer(inputs(clip), exit="full").images
    expected = flicker.measure(frames, full, np.array(exits(summary.out)))
    found = dataclasses.asdict(summary.flicker)
    assert found == pytest.approx(dataclasses.asdict(expected), rel=0.05, abs=1e-4)
    distances = [r["lpips"] for r in manifest(summary.out)]
    assert np.mean(distances) == pytest.approx(summary.flicker.distance, abs=1e-5)
    last = renderer.model.num_exits
    assert all(
        (d < 1e-6) == (e == last) for d, e in zip(distances, exits(summary.out), strict=True)
    )


def test_the_page_shows_everything_and_escapes_names(middle, routed):
    summary, _ = routed
    text = (summary.out / "index.html").read_text()
    assert "<img src=x" not in text
    assert 'src="./video.webp"' in text
    assert "face.png in the motion of driver" in text
    assert f"<b>max_lpips {middle:g}</b>" in text
    assert f"<b>{summary.switches}</b>" in text
    assert "where the exit changes" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    rects = re.findall(r'<rect(?: class="full")? x="(\d+)" y="(\d+)" width="(\d+)"', text)
    strip = [3 - int(y) for x, y, count in rects for _ in range(int(count))]
    assert strip == exits(summary.out)


def test_names_are_escaped_in_the_page(renderer, clip, tmp_path):
    source = tmp_path / f"{HOSTILE}.png"
    source.write_bytes(clip[0].read_bytes())
    render_video(renderer, request((source, clip[1]), tmp_path / "out", exit="1"))
    assert "<img src=x" not in (tmp_path / "out" / "index.html").read_text()


def test_it_prints_what_it_did(routed, capsys):
    summary, _ = routed
    summary.print()
    output = capsys.readouterr().out
    assert f"{summary.switches} switches of the exit." in output
    assert "to the frame before" in output
    assert "frames per second after the first batch" in output
    for name in ("NAME.png (11)", "manifest.jsonl", "video.webp", "index.html"):
        assert f"wrote {summary.out / name}" in output
    dataclasses.replace(summary, once=2.0, over=3, flicker=None, per_second=None).print()
    output = capsys.readouterr().out
    assert "and 2.00 once for the source" in output
    assert "3 frames above max_lpips" in output
    assert "speed not measured" in output
    assert "to the frame before" not in output


# --- policies -----------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 3, 16])
def test_the_size_of_the_batches_changes_nothing(renderer, clip, middle, routed, tmp_path, size):
    summary, _ = routed
    render_video(renderer, request(clip, tmp_path, max_lpips=middle, batch_size=size))
    assert exits(tmp_path) == exits(summary.out)
    difference = pictures(tmp_path).astype(int) - pictures(summary.out)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("devices", [2, 3])
def test_several_devices_render_the_same(clip, tmp_path, devices):
    encoder = built(Encoder())
    shared = encoder.over(jax.local_devices()[:devices])
    limit = between(np.asarray(encoder.predict(inputs(clip), None)))
    for name, model in (("one", encoder), ("several", shared)):
        options = {"max_lpips": limit, "hysteresis": Hysteresis(0.0, 1)}
        render_video(model, request(clip, tmp_path / name, **options))
    one, several = tmp_path / "one", tmp_path / "several"
    assert exits(several) == exits(one)
    assert len(set(exits(one))) > 1
    assert np.abs(pictures(several).astype(int) - pictures(one)).max() <= 1


def test_a_fixed_exit_needs_no_predictor(renderer, clip, tmp_path):
    bare = {k: v for k, v in renderer.variables.items() if k != "predictor"}
    without = Renderer(renderer.config, renderer.model, bare, [])
    summary = render_video(without, request(clip, tmp_path, exit="1"))
    record = manifest(tmp_path)[0]
    assert record["exit"] == 1
    assert record["predicted_lpips"] is None
    assert record["gmacs"] == pytest.approx(renderer.model.gmacs[0], rel=1e-5)
    assert [e.count for e in summary.exits] == [T, 0, 0]
    assert (summary.switches, summary.flicker) == (0, None)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_budget_is_kept_over_the_clip(renderer, clip, predicted, tmp_path, share):
    table = costs(renderer)
    budget = float(table[0] + share * (table[-1] - table[0]))
    options = Hysteresis(0.1, 2)
    summary = render_video(renderer, request(clip, tmp_path, budget_gmacs=budget))
    assert np.mean([p.gmacs for p in summary.pictures]) <= budget * (1 + 1e-6)
    limit = lowest_threshold(predicted, table, budget, options)
    expected, _ = hysteresis(Policy().start(3).held, predicted, limit, options)
    assert exits(tmp_path) == expected.tolist()
    assert len(set(exits(tmp_path))) > 1


def test_a_budget_per_second_is_kept_from_the_beginning(
    renderer, clip, predicted, middle, tmp_path
):
    table = costs(renderer)
    rate = Rate(float(table[:2].mean()) * 10, 10)
    options = {"budget_gmacs_per_second": rate.per_second, "fps": 10.0}
    alone = render_video(renderer, request(clip, tmp_path / "alone", **options))
    spent = np.cumsum([p.gmacs for p in alone.pictures])
    assert (spent <= rate.per_frame * np.arange(1, T + 1) * (1 + 1e-6)).all()
    assert (len({p.exit for p in alone.pictures}), alone.over) == (2, 0)
    assert alone.policy == f"budget {rate.per_second:g} GMACs per second"
    both = render_video(renderer, request(clip, tmp_path / "both", max_lpips=middle, **options))
    policy = Policy(None, middle, rate, Hysteresis(0.1, 2))
    expected, _ = policy.route(policy.start(3), predicted, table)
    assert [p.exit for p in both.pictures] == expected.tolist()
    assert both.over == (predicted[np.arange(T), expected - 1] > np.float32(middle)).sum() > 0
    with Image.open(tmp_path / "both" / "video.webp") as video:
        video.load()
        assert video.info["duration"] == 100


def test_a_promise_routes_by_its_setting(renderer, clip, predicted, tmp_path):
    rng = np.random.default_rng(0)
    rows = predicted[rng.integers(0, T, 160), :-1] * rng.uniform(0.9, 1.1, (160, 1))
    found = Calibration.from_measured(rows, rows, np.repeat(np.arange(40), 4))
    calibrated = Renderer(renderer.config, renderer.model, renderer.variables, [], found)
    limit = float(np.quantile(rows[:, 0], 0.5))
    options = {"max_lpips": limit, "confidence": 0.9}
    summary = render_video(calibrated, request(clip, tmp_path, **options))
    setting = calibrated.guarantee(limit, 0.9)
    expected, _ = hysteresis(Policy().start(3).held, predicted, setting.tau, Hysteresis(0.1, 2))
    assert exits(tmp_path) == expected.tolist()
    assert summary.policy == f"max_lpips {limit:g} at confidence 0.9: {setting.text}"
    assert setting.text in (tmp_path / "index.html").read_text()


# --- streaming ----------------------------------------------------------------------------------
def test_the_source_is_encoded_once(clip, tmp_path, monkeypatch):
    encoder, asked = built(Encoder()), []
    encode = encoder.encode

    def spy(given):
        asked.append(set(given))
        return encode(given)

    monkeypatch.setattr(encoder, "encode", spy)
    summary = render_video(encoder, request(clip, tmp_path, max_lpips=0.05))
    assert asked == [{"source"}] + [{"source", "appearance", "driver", "z"}] * 3
    once, _ = encoder.model.encoding_gmacs()
    assert summary.once == once > 0
    monkeypatch.undo()
    rendered = encoder(inputs(clip), max_lpips=0.05, exact=True)
    plain = Policy(max_lpips=0.05, options=Hysteresis(0.1, 2))
    expected, _ = plain.route(plain.start(3), np.asarray(rendered.predicted_lpips), np.zeros(3))
    assert exits(tmp_path) == expected.tolist()
    for number in set(exits(tmp_path)):
        images = to_uint8(encoder(inputs(clip), exit=number).images).astype(int)
        rows = [i for i, e in enumerate(exits(tmp_path)) if e == number]
        assert np.abs(images[rows] - pictures(tmp_path)[rows]).max() <= 1
    for picture in summary.pictures:
        assert picture.gmacs == pytest.approx(costs(encoder)[picture.exit - 1] - once, rel=1e-5)


def test_frames_are_read_a_batch_ahead_and_no_more(renderer, clip, tmp_path, monkeypatch):
    """What is decoded but not yet written does not grow with the clip."""
    long = tmp_path / "long"
    long.mkdir()
    files = sorted(clip[1].iterdir())
    for i in range(32):
        os.symlink(files[i % T], long / f"{i}.png")
    lock, read, ahead = threading.Lock(), [0], []
    original = Clip.read

    def counted(self, index):
        with lock:
            read[0] += 1
            ahead.append(read[0] - len(list((tmp_path / "out").glob("*.png"))))
        return original(self, index)

    monkeypatch.setattr(Clip, "read", counted)
    render_video(renderer, request((clip[0], long), tmp_path / "out", exit="1"))
    assert max(ahead[:32]) <= 4 * BATCH
    assert read[0] <= 2 * 32 + 1  # once more each for the WebP, and its first at the end


def test_the_latent_is_one_for_the_clip(clip, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class WithLatent(type(CONFIG.model)):
        @property
        def latent_dim(self):
            return 5

    job = video_job.Job(
        built(WithLatent()), read_clip(clip[0], clip[1], SIZE), Policy(exit=1), seed=3, batch_size=2
    )
    expected = inference.file_latent(3, "face", 5)
    np.testing.assert_array_equal(job._kept["z"], np.stack([expected, expected]))


# --- mistakes -----------------------------------------------------------------------------------
@pytest.fixture
def no_compilation(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("compiled before everything was checked")

    for name in ("encode", "predict", "render_exit", "render_routed"):
        monkeypatch.setattr(inference, name, refuse)


@pytest.mark.parametrize(
    ("phase", "options", "message"),
    [
        ("predictor", {}, "no predictor yet"),
        ("predictor", {"budget_gmacs_per_second": 1e3}, "no predictor yet"),
        ("branches", {"exit": "2"}, "only --exit full"),
        (None, {"confidence": 0.9}, "needs a calibrated model"),
        (None, {"max_lpips": 0.1, "exit": "full"}, "exactly one"),
        (None, {"max_lpips": 0.1, "budget_gmacs": 1.0}, "exactly one"),
        (None, {"exit": "7"}, "this model has exits 1 to 3"),
        (None, {"seed": -1}, "seed is -1"),
        (None, {"batch_size": 0}, "batch-size is 0"),
        (None, {"fps": 0.0}, "fps is 0; it must be from 1 to 240"),
        (None, {"hysteresis": Hysteresis(margin=1.5)}, "margin is 1.5"),
        (None, {"budget_gmacs": 1e-9}, "the cheapest exit costs .* Give more"),
        (None, {"budget_gmacs_per_second": 1e-9}, "at 25 frames per second .* Give more"),
        (None, {"budget_gmacs_per_second": -1.0}, "must be a number that is 0 or more"),
        (None, {"budget_gmacs_per_second": 9.0, "exit": "1"}, "goes alone .* found exit too"),
        (None, {"budget_gmacs_per_second": 9.0, "budget_gmacs": 1.0}, "found budget-gmacs too"),
    ],
)
def test_impossible_requests(renderer, clip, tmp_path, no_compilation, phase, options, message):
    variables = {k: v for k, v in renderer.variables.items() if k != phase}
    bare = Renderer(renderer.config, renderer.model, variables, [])
    with pytest.raises(UserError, match=message):
        render_video(bare, request(clip, tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_models_of_other_inputs_are_refused(clip, tmp_path, no_compilation):
    message = "takes labels: give --labels DIR in place of --source PICTURE --driver DIR"
    with pytest.raises(UserError, match=message):
        render_video(tiny_renderer(), request(clip, tmp_path / "out"))


def test_frames_too_small_to_be_measured(clip, tmp_path, no_compilation):
    small = built(type(CONFIG.model)(size=(16, 16)))
    with pytest.raises(UserError, match=r"16x16 cannot be measured: .* 31x31"):
        render_video(small, request(clip, tmp_path, exit="1", measure_flicker=True))


def test_inputs_are_never_overwritten(renderer, clip, tmp_path, no_compilation):
    with pytest.raises(UserError, match="the driver's frames would be overwritten"):
        render_video(renderer, request(clip, clip[1] / ".." / "driver"))
    source = tmp_path / "f3.png"
    source.write_bytes(clip[0].read_bytes())
    with pytest.raises(UserError, match="the source would be overwritten"):
        render_video(renderer, request((source, clip[1]), tmp_path))
    linked = tmp_path / "linked"
    linked.mkdir()
    for i in range(2):
        os.symlink(source, linked / f"f{i + 3}.png")
    with pytest.raises(UserError, match="the driver's frames would be overwritten"):
        render_video(renderer, request((clip[0], linked), tmp_path))


def test_out_is_a_file(renderer, clip, tmp_path, no_compilation):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="cannot write into the output folder"):
        render_video(renderer, request(clip, tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


def test_a_cut_is_said_once(renderer, clip, tmp_path, capsys):
    driver = tmp_path / "driver"
    driver.mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 40, 3), np.uint8)
        Image.fromarray(pixels).save(driver / f"{i}.jpg")
    render_video(renderer, request((clip[0], driver), tmp_path / "out", exit="1"))
    output = capsys.readouterr().out
    assert output.count("the driver's frames (32x40) cut to the centre") == 1
    assert output.count("compiling exit 1 of 3 for frames of 32x32") == 1
