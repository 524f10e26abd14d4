"""benchmarks.street_maps: mosaics of crops, never resampled, and noise."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import street_maps
from fiancee_jax.errors import UserError

SIZE = (12, 20)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """Six maps of 9x16; id = 40 * map + a number that says where the pixel was, by 3 rows."""
    folder = tmp_path / street_maps.LABELS
    folder.mkdir(parents=True)
    for number in range(6):
        rows, columns = np.mgrid[:9, :16]
        where = 40 * number + 4 * rows + columns // 4
        Image.fromarray(where.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path


def quarters(mosaic: np.ndarray) -> list[np.ndarray]:
    return [half for part in np.split(mosaic, 2) for half in np.split(part, 2, axis=1)]


def test_quarters_are_crops_of_four_maps(root: pathlib.Path) -> None:
    found = street_maps.mosaics(root, 3, SIZE, seed=1)
    assert found.shape == (3, *SIZE)
    assert found.dtype == np.int32
    for mosaic in found:
        assert len({int(q[0, 0]) // 40 for q in quarters(mosaic)}) == 4
        for quarter in quarters(mosaic):
            number = int(quarter[0, 0]) // 40
            whole = np.array(Image.open(root / street_maps.LABELS / f"{number}.png"))
            windows = np.lib.stride_tricks.sliding_window_view(whole, (6, 10))
            assert (windows == quarter).all((2, 3)).any()


def test_more_tiles_for_larger_pictures(root: pathlib.Path) -> None:
    with pytest.raises(UserError, match="expected 9 or more"):
        street_maps.mosaics(root, 1, (21, 30), tiles=3)
    for number in range(6, 9):
        source = root / street_maps.LABELS / "0.png"
        Image.open(source).save(source.with_name(f"{number}.png"))
    assert street_maps.mosaics(root, 1, (21, 30), tiles=3).shape == (1, 21, 30)


def test_seeds_differ_and_repeat(root: pathlib.Path) -> None:
    first, again, other = (street_maps.mosaics(root, 4, SIZE, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[0] != first[1]).any()


def test_odd_sizes_are_cut(root: pathlib.Path) -> None:
    assert street_maps.mosaics(root, 1, (7, 9)).shape == (1, 7, 9)


def test_what_is_missing_is_said(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*absent.*--data"):
        street_maps.mosaics(tmp_path / "absent", 1, SIZE)
    with pytest.raises(UserError, match=r"is 9x16, smaller than a crop of 10x10"):
        street_maps.mosaics(root, 1, (20, 20))
    for file in sorted((root / street_maps.LABELS).iterdir())[3:]:
        file.unlink()
    with pytest.raises(UserError, match="Found 3 label maps"):
        street_maps.mosaics(root, 1, SIZE)


def test_noise_has_all_classes_alike() -> None:
    found = street_maps.noise(5, (64, 64))
    assert found.shape == (1, 64, 64)
    assert found.dtype == np.int32
    counts = np.bincount(found.ravel(), minlength=5)
    assert abs(counts - 64 * 64 / 5).max() < 5 * (64 * 64 * 0.2 * 0.8) ** 0.5
