"""Sets larger than memory: items read by their place, an order without a table, and resident memory that stays."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ornstein import data
from ornstein.data import rows
from ornstein.data.order import LARGE, permuted
from ornstein.data.rows import Rows, by_place
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.skipif(not hasattr(os, "preadv"), reason="reads by place need preadv")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 1000, (40, 5, 4, 3), dtype=np.int16))
    return tmp_path / "x.npy"


def test_rows_are_the_array(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, mapped = np.load(file), np.load(file, mmap_mode="r")
    assert by_place(mapped) is mapped  # small ones stay maps
    monkeypatch.setattr(rows, "MAPPED", 0)
    found = by_place(mapped)
    assert isinstance(found, Rows)
    assert (found.shape, found.dtype, found.ndim, found.nbytes) == (whole.shape, whole.dtype, 4, whole.nbytes)
    assert len(found) == 40
    keys = (3, -1, slice(None), slice(2, 30), slice(35, 2, -3), slice(7, 7), np.array([5, 0, -2, 5]), np.arange(0))
    for key in (*keys, whole[:, 0, 0, 0] > 500):
        assert np.array_equal(found[key], whole[key]), key
    assert np.array_equal(np.asarray(found), whole)
    assert np.array_equal(by_place(np.load(file, mmap_mode="r")[..., None])[4], whole[4][..., None])
    for key in (np.array([0, 40]), np.array([-41])):
        with pytest.raises(IndexError):
            found[key]


def test_opened_data_are_the_same_by_place_and_in_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = data.open(file)
    monkeypatch.setattr(rows, "MAPPED", 0)
    placed = data.open(file)
    assert isinstance(placed.items, Rows)
    assert placed.spec == mapped.spec
    indices = np.array([7, 3, 39])
    assert bool((placed.batch(indices)[0] == mapped.batch(indices)[0]).all())


def test_a_file_cut_short_is_told_and_does_not_end_the_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAPPED", 0)
    opened = data.open(file)
    os.truncate(file, 1000)
    opened.batch(np.array([0]))
    with pytest.raises(OrnsteinError, match="shorter than it was"):
        opened.batch(np.array([39]))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 24, 25, 26, 1000, 4097])
def test_the_order_of_a_large_set_is_a_permutation(count: int) -> None:
    first = permuted(np.arange(count), count, (0, 1))
    assert np.array_equal(np.sort(first), np.arange(count))
    assert np.array_equal(permuted(np.arange(count)[3:9], count, (0, 1)), first[3:9])
    if count > 20:
        assert not np.array_equal(first, permuted(np.arange(count), count, (0, 2)))
    if count > 500:  # neighbours are as far from each other as chance has it: a third of the whole
        assert np.abs(np.diff(first)).mean() == pytest.approx(count / 3, rel=0.1)


def test_a_large_set_is_seen_whole_and_without_a_table() -> None:
    count, batch = LARGE + 3, 1 << 17
    seen = np.concatenate([data.order(1, step, batch, count) for step in range(-(-count // batch))])
    assert np.array_equal(np.sort(seen[:count]), np.arange(count))
    huge = data.order(0, 12345, 32, 10**13)
    assert len(np.unique(huge)) == 32
    assert 0 <= huge.min() < huge.max() < 10**13


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_does_not_grow_with_what_was_read(tmp_path: Path) -> None:
    shape = (100_000, 64, 64, 3)  # 1.2 GB of holes, which cost no disk
    np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, shape).flush()
    opened = data.open(tmp_path / "large.npy")
    assert isinstance(opened.items, Rows)
    opened.batch(data.order(0, 0, 32, len(opened)))
    before = resident()
    for step in range(1, 500):  # 200 MB, each item on pages of its own
        opened.batch(data.order(0, step, 32, len(opened)))
    assert resident() - before < 16 << 20


def resident() -> int:
    """Bytes of this process in memory, pages of mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))
