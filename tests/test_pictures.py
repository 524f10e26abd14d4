"""Conversion to 8 bits and contact sheets."""

import numpy as np
import pytest

from fiancee_jax.pictures import INK, PAPER, grid, to_uint8


def flat(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_to_uint8_rounds_and_clips():
    x = np.array([-1.0, 0.0, 1.0, -3.0, 1.5, 2 / 127.5 - 1 + 0.4 / 127.5]).reshape(1, 1, 2, 3)
    assert to_uint8(x).ravel().tolist() == [0, 128, 255, 0, 255, 2]
    assert to_uint8(x).shape == (1, 1, 2, 3)


def test_to_uint8_gives_back_8_bits():
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_uint8(values.astype(np.float32) / 127.5 - 1), values)


def test_grid_places_pictures():
    sheet = np.asarray(grid([[flat(4, 6, 10), flat(4, 8, 20)], [flat(5, 6, 30)]], gap=3))
    assert sheet.shape == (3 + 4 + 3 + 5 + 3, 3 + 6 + 3 + 8 + 3, 3)
    assert (sheet[3:7, 3:9] == 10).all()
    assert (sheet[3:7, 12:20] == 20).all()
    assert (sheet[10:15, 3:9] == 30).all()
    covered = np.zeros(sheet.shape[:2], bool)
    covered[3:7, 3:9] = covered[3:7, 12:20] = covered[10:15, 3:9] = True
    assert (sheet[~covered] == PAPER).all()


def test_grid_enlarges():
    sheet = np.asarray(grid([[flat(2, 2, 7)]], scale=3, gap=1))
    assert sheet.shape == (8, 8, 3)
    assert (sheet[1:7, 1:7] == 7).all()


def test_grid_writes_headers_and_captions_within_their_column():
    rows = [[flat(10, 60, 0), flat(10, 60, 0)]]
    plain = grid(rows)
    sheet = grid(rows, ["a header far too long for its column", ""], [["", "0.1"]], gap=6)
    assert sheet.height == plain.height + 2 * (12 + 6)
    pixels = np.asarray(sheet).astype(int)
    header, caption = pixels[:22], pixels[34:]
    assert header[:, 6:66].min() < INK[0] + 60  # text in the first column
    assert (header[:, 72:] == 255).all()  # none in the second
    assert (caption[:, :66] == 255).all()
    assert caption[:, 72:132].min() < 200


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_grid_refuses_other_arrays(bad):
    with pytest.raises(ValueError, match=r"\[h, w, 3\] uint8"):
        grid([[bad]])


def test_grid_needs_a_picture():
    with pytest.raises(ValueError, match="at least one"):
        grid([])
