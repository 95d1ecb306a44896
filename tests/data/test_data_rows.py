"""Sets larger than memory: items read by their place, an order without a table, and resident memory that stays."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ornstein import data
from ornstein.data import rows
from ornstein.data.content import digest_of
from ornstein.data.rows import FortranRows, Rows, read_npy
from ornstein.data.shuffle import LARGE, permuted
from ornstein.data.stamps import Changed
from ornstein.errors import OrnsteinError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 1000, (40, 5, 4, 3), dtype=np.int16))
    return tmp_path / "x.npy"


def by_place(file: Path) -> Rows:
    """A small file read as a large one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "IN_MEMORY", 0)
        found = read_npy(file)
    assert isinstance(found, Rows)
    return found


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["int16", ">i2", "uint8", ">f8", "bool"])
def test_rows_are_the_array(file: Path, order: str, dtype: str) -> None:
    whole = np.asarray(np.load(file).astype(dtype), order=order)
    np.save(file, whole)
    small, found = read_npy(file), by_place(file)
    assert isinstance(small, np.ndarray)
    assert not isinstance(small, np.memmap)
    assert isinstance(found, FortranRows) == (order == "F")
    assert np.array_equal(small, whole)
    assert small.dtype == found.dtype == np.dtype(dtype).newbyteorder("=")
    assert (found.shape, found.ndim, found.nbytes, len(found)) == (whole.shape, 4, whole.nbytes, 40)
    keys = (3, -1, slice(None), slice(2, 30), slice(35, 2, -3), slice(7, 7), np.array([5, 0, -2, 5]), np.arange(0))
    for key in (*keys, whole[:, 0, 0, 0] > 500):
        assert np.array_equal(found[key], whole[key]), key
    assert np.array_equal(np.asarray(found), whole)
    assert np.array_equal(found.reshape(40, 5, 4, 3, 1)[4], whole[4][..., None])
    assert digest_of(found) == digest_of(whole)  # type: ignore[arg-type]
    for key in (np.array([0, 40]), np.array([-41])):
        with pytest.raises(IndexError):
            found[key]


def test_opened_data_are_the_same_by_place_and_in_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = data.open(file)
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    placed = data.open(file)
    assert isinstance(placed.items, Rows)
    assert placed.spec == held.spec
    indices = np.array([7, 3, 39])
    assert bool((placed.batch(indices)[0] == held.batch(indices)[0]).all())


def rewrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(-3, os.SEEK_END)
        stream.write(b"x")


def rewrite_with_its_old_date(file: Path) -> None:
    before = file.stat()
    rewrite(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(file: Path) -> None:
    np.save(file.with_name("new.npy"), np.load(file) + np.int16(1))
    file.with_name("new.npy").replace(file)


CHANGES = {
    "truncated": lambda file: os.truncate(file, 1000),
    "overwritten": rewrite,
    "old date": rewrite_with_its_old_date,
    "replaced": replace_file,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_told(file: Path, change: str) -> None:
    found = by_place(file)
    found.seal(digest_of(found))  # type: ignore[arg-type]
    expected = np.load(file)
    assert np.array_equal(found[:4], expected[:4])
    CHANGES[change](file)
    for _ in range(2):
        with pytest.raises(Changed, match=r"x\.npy has"):
            found[np.array([0])]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_in_memory_stays_as_it_was(file: Path, change: str) -> None:
    opened, expected = data.open(file), np.load(file)
    CHANGES[change](file)
    assert np.array_equal(opened.items, expected)


def test_other_dates_and_names_are_no_change(file: Path) -> None:
    """What backups and a change of permissions do: looked at once more, and gone on with."""
    found, expected = by_place(file), np.load(file)
    found.seal(digest_of(found))  # type: ignore[arg-type]
    for change in (
        lambda: file.chmod(0o600),
        lambda: os.utime(file),
        lambda: file.with_name("second").hardlink_to(file),
        file.unlink,
    ):
        change()
        assert np.array_equal(found[3:5], expected[3:5])


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100, "header"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr'", "read"),
        (b"\x93NUMPY\x03\x00\x10\x00\x00\x00", "version"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, head: bytes, told: str) -> None:
    (tmp_path / "a.npy").write_bytes(head)
    with (tmp_path / "a.npy").open("r+b") as stream:
        stream.truncate(6 << 30)  # numpy would read as much as the header says it is long
    with pytest.raises(OrnsteinError, match=told):
        data.open(tmp_path / "a.npy")


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
