"""The page and the animation of a rendered video: the strip of exits, timing, what is read."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from fiancee_jax.data.frames import Clip, Frame
from fiancee_jax.report import ExitLine, Picture
from fiancee_jax.video.page import durations, page, runs, webp

SIZE = (32, 48)


@pytest.fixture
def clip(tmp_path) -> Clip:
    """A grey source and six frames, and what was rendered of them in ``out``."""
    (tmp_path / "out").mkdir()
    frames = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (SIZE[1], SIZE[0]), (40 * i, 0, 0)).save(path)
        Image.new("RGB", (SIZE[1], SIZE[0]), (0, 0, 40 * i)).save(tmp_path / "out" / f"{i}.png")
        frames.append(Frame(str(i), path))
    source = np.full((*SIZE, 3), 128, np.uint8)
    return Clip(pathlib.Path("<b>face.png"), source, tuple(frames), SIZE)


def test_the_animation_is_source_driver_and_rendered(clip, tmp_path):
    content = webp(clip, tmp_path / "out", fps=30)
    with Image.open(io.BytesIO(content)) as video:
        assert (video.width, video.height) == (3 * SIZE[1], SIZE[0])
        assert video.n_frames == 6  # pyright: ignore[reportAttributeAccessIssue]
        for i in range(6):
            video.seek(i)
            parts = np.split(np.asarray(video.convert("RGB"), int), 3, axis=1)
            wanted = [(128, 128, 128), (40 * i, 0, 0), (0, 0, 40 * i)]
            for part, color in zip(parts, wanted, strict=True):
                assert np.abs(part[8:-8, 8:-8] - np.array(color)).max() < 12


def test_one_frame_at_a_time_is_read(clip, tmp_path, monkeypatch):
    opened: list[int] = []
    read = Clip.read

    def spy(self, index):
        opened.append(index)
        return read(self, index)

    monkeypatch.setattr(Clip, "read", spy)
    webp(clip, tmp_path / "out", fps=25)
    assert opened == [0, 1, 2, 3, 4, 5, 0]  # Pillow goes back to where it began


def test_runs_are_what_the_strip_shows():
    assert [tuple(run) for run in runs([1, 1, 3, 2, 2, 2])] == [(0, 2, 1), (2, 1, 3), (3, 3, 2)]


@pytest.mark.parametrize("fps", [1, 23.976, 25, 30, 240])
def test_durations_keep_time(fps):
    found = durations(1000, fps)
    assert min(found) > 0
    assert np.abs(np.cumsum(found) - 1000 * np.arange(1, 1001) / fps).max() <= 0.5


def test_the_page_says_one_switch_and_escapes(clip):
    pictures = [Picture(str(i), 1 + (i > 2), (0.1, 0.0), 1.0 + (i > 2), 2.0) for i in range(6)]
    exits = [ExitLine(i + 1, n, None, 1.0, 1.0 + i, 0.5, 3) for i, n in enumerate("ab")]
    options = {"setting": "", "exits": exits, "once": 0.0, "flicker": None, "fps": 25}
    html = page(pictures, clip, title="t", policy="exit <1>", switches=1, **options)
    assert "&lt;b&gt;face.png in the motion of" in html
    assert "<b>exit &lt;1&gt;</b>" in html
    assert "<span>switch of the exit</span>" in html
    assert "mean GMACs per frame</span>" in html
    assert "Flicker" not in html
    assert "75.0 %" in html
    assert '<rect x="0" y="1" width="3" height="1">' in html
    assert '<rect class="full" x="3" y="0" width="3" height="1">' in html
