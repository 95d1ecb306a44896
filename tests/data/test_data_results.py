"""Writing samples: grids, folders, arrays; whole or not at all."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ornstein import data
from ornstein.data import images
from ornstein.data.arrays import Arrays
from ornstein.data.measuring import measure
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files import atomic

RNG = np.random.default_rng(0)


def bytes_(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA"), (2, "L"), (6, "RGB")])
def test_a_grid_holds_each_image_at_its_place(channels: int, mode: str) -> None:
    arrays = bytes_(5, 6, 7, channels)
    grid = data.grid_image(arrays, 3, zoom=2)
    assert grid.mode == mode
    assert grid.size == (3 * 14 + 2 * 2, 2 * 12 + 2)
    pixels = np.asarray(grid).reshape(grid.height, grid.width, -1)
    cell = pixels[14 : 14 + 12 : 2, 16 : 16 + 14 : 2]  # row 1, column 1: image 4
    assert np.array_equal(cell, arrays[4, ..., : pixels.shape[-1]])
    assert (pixels[14:, 32:] == 255).all()  # no image 5
    assert (pixels[12:14] == 255).all()


def test_a_grid_is_square_and_visible_by_default() -> None:
    grid = data.grid_image(bytes_(10, 8, 8, 1))
    assert grid.size == (4 * 48 + 6, 3 * 48 + 4)


def test_a_grid_shows_the_range_of_the_spec() -> None:
    arrays = np.arange(17, dtype=np.uint8).reshape(1, 1, 17, 1)
    spec = measure(Arrays(arrays, low=0, high=16), "here")
    assert np.asarray(data.grid_image(arrays, spec=spec, zoom=1)).tolist() == [
        np.rint(np.arange(17) * 255 / 16).tolist()
    ]
    floats = np.array([-2.0, 0, 2, np.nan]).reshape(1, 1, 4, 1)
    assert np.asarray(data.grid_image(floats, zoom=1)).tolist() == [[0, 128, 255, 0]]
    wide = np.array([0, 65535], np.uint16).reshape(1, 1, 2, 1)
    assert np.asarray(data.grid_image(wide, zoom=1)).tolist() == [[0, 255]]


def test_npz_holds_one_array_as_it_is(tmp_path: Path) -> None:
    for arrays in (bytes_(3, 4, 5, 2), RNG.normal(size=(6, 2))):
        data.save_images(arrays, tmp_path / "deep" / "x.npz", force=True)
        with np.load(tmp_path / "deep" / "x.npz") as file:
            assert file.files == ["samples"]
            assert file["samples"].dtype == arrays.dtype
            assert np.array_equal(file["samples"], arrays)
        assert np.array_equal(data.open(tmp_path / "deep" / "x.npz").items, arrays)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_folder_of_png_keeps_every_bit(tmp_path: Path, channels: int, dtype: str) -> None:
    arrays = RNG.integers(1, 256, (3, 4, 5, channels)).astype(dtype)
    data.save_images(arrays, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"0000{i}.png" for i in range(3)),
        "samples.json",
    ]
    assert np.array_equal(data.open(tmp_path / "out", channels=channels, cache=tmp_path / "c").items, arrays)


def test_png_is_what_pillow_reads() -> None:
    import io

    for channels in (1, 3, 4):
        image = bytes_(5, 3, channels)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(images.png(image)))).reshape(image.shape), image)


def test_a_folder_holds_what_png_cannot_as_npy(tmp_path: Path) -> None:
    arrays = bytes_(2, 4, 4, 2), RNG.normal(size=(2, 4, 4, 3)).astype(np.float32), RNG.normal(size=(2, 3))
    for number, items in enumerate(arrays):
        out = tmp_path / str(number)
        data.save_images(items, out)
        assert np.array_equal([np.load(out / f"0000{i}.npy") for i in range(2)], items)
        assert len(list(out.iterdir())) == 3


def test_a_narrow_range_is_made_visible_in_png(tmp_path: Path) -> None:
    digits = data.open("digits")
    data.save_images(digits.items[:4], tmp_path / "out", spec=digits.spec)
    with Image.open(tmp_path / "out" / "00002.png") as file:
        shown = np.asarray(file)
    assert np.array_equal(np.rint(shown / 255 * 16), digits.items[2, ..., 0])


def test_only_the_same_arrays_are_written_over(tmp_path: Path) -> None:
    first, second = bytes_(5, 4, 4, 1), bytes_(2, 4, 4, 1)
    for name in ("out", "grid.png", "x.npz"):
        data.save_images(first, tmp_path / name)
        data.save_images(first, tmp_path / name)
        with pytest.raises(UsageError, match="give another path, or force=True"):
            data.save_images(second, tmp_path / name)
    assert len(list((tmp_path / "out").iterdir())) == 6
    (tmp_path / "out" / "mine.png").write_text("precious")
    with pytest.raises(UsageError, match="already holds other files, such as mine"):
        data.save_images(first, tmp_path / "out")
    data.save_images(second, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "mine.png").read_text() == "precious"
    assert len(list((tmp_path / "out").iterdir())) == 7
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "00001.png")), second[1, ..., 0])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "00002.png")), first[2, ..., 0])
    (tmp_path / "out" / "mine.png").unlink()
    with pytest.raises(UsageError, match="otherwise"):  # it holds samples of both
        data.save_images(second, tmp_path / "out")


def test_grids_by_ending(tmp_path: Path) -> None:
    for ending in ("png", "jpg", "webp"):
        data.save_images(bytes_(4, 60, 60, 4), tmp_path / f"grid.{ending}", columns=4)
        with Image.open(tmp_path / f"grid.{ending}") as grid:
            assert grid.size == (4 * 60 + 6, 60)
    with pytest.raises(UsageError, match=r"grid.xyz has an ending"):
        data.save_images(bytes_(4, 6, 6, 3), tmp_path / "grid.xyz")
    with pytest.raises(UsageError, match=r"\.npz"):
        data.save_images(RNG.normal(size=(4, 2)), tmp_path / "grid.png")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    def write() -> None:
        with atomic.new_file(tmp_path / "a.txt") as file:
            file.write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(OrnsteinError, match="could not be written"):
        data.save_images(bytes_(1, 4, 4, 1), tmp_path / "file" / "x.png")


def test_a_folder_that_another_process_has_just_moved_away_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was taken when it was asked for, and is free again when one looks."""
    rename, refused = os.rename, []

    def late(old: str | Path, new: str | Path) -> None:
        if not refused:
            refused.append(new)
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rename(old, new)

    monkeypatch.setattr(os, "rename", late)
    with atomic.new_folder(tmp_path / "made") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("whole")
    assert refused == [tmp_path / "made"]
    assert (tmp_path / "made" / "inner" / "file").read_text() == "whole"
    assert [place.name for place in tmp_path.iterdir()] == ["made"]
