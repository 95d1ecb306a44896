"""What data say of their items: sets of many labels, tables, names in any bytes."""

import json
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ornstein import data
from ornstein.cli import main
from ornstein.data import annotations, arrays, rows, sets
from ornstein.data.images import png
from ornstein.errors import OrnsteinError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.mark.parametrize(("count", "width"), [(7, 3), (40, 300), (5, 70_000), (3, 1)])
def test_sets_are_the_table(count: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = rng.random((count, width)) < 0.1
    table[1] = False
    monkeypatch.setattr(sets, "BLOCK", 2 * width + 1)
    names = [[f"{i:05d}" for i in rng.permutation(np.flatnonzero(row)).tolist() * 2] for row in table]
    named, tags = sets.from_names(names)
    assert np.array_equal(np.asarray(named), table[:, [int(tag) for tag in tags]])
    assert list(tags) == sorted({name for row in names for name in row})
    for found in (sets.from_table(table), sets.from_table(table.astype(float))):
        assert (found.shape, len(found)) == (table.shape, count)
        assert np.array_equal(np.asarray(found), table)
        some = rng.integers(-count, count, 20)
        for key in (some, 2, -1, slice(1, None, 2), table[:, 0], some[:0]):
            assert np.array_equal(found[key], table[key])
        assert np.array_equal(found.take(some % count)[:], table[some])
    table = table.astype(int)
    table[-1, -1] = 2
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        sets.from_table(table)


def test_sets_of_arrays_and_of_tables_are_the_same_data(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    table = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1]])
    np.savez(tmp_path / "a.npz", x=x, labels=table, classes=["a", "b"])
    (tmp_path / "f").mkdir()
    for i, image in enumerate(x):
        (tmp_path / "f" / f"{i}.png").write_bytes(png(image[..., None]))
    lines = [
        {"file_name": f"{i}.png", "labels": [n for n, on in zip("ab", row, strict=True) if on]}
        for i, row in enumerate(table)
    ]
    (tmp_path / "f" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    one, two = data.open(tmp_path / "a.npz"), data.open(tmp_path / "f")
    assert one.spec.content_hash == two.spec.content_hash
    assert one.annotations.tags == two.annotations.tags == ("a", "b")


def test_many_labels_take_what_is_there_and_not_their_product() -> None:
    """100,000 items with three of 10,000 labels: a dense table would take a gigabyte, and a search for each label hours."""
    count, width = 100_000, 10_000
    table = {f"{i}.png": {"labels": f"t{i % width};t{7 * i % width};t{i // 10}"} for i in range(count)}
    names = list(table)
    tracemalloc.start()
    try:
        read = annotations.from_table(table, names, "here")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read.annotations.sets is not None
    assert read.annotations.sets.shape == (count, width)
    assert read.annotations.sets.nbytes < count * 16
    assert peak < 200 << 20
    some = np.array([0, 99_999, 12_345])
    rows_of = read.annotations.sets[some]
    for row, i in zip(rows_of, some.tolist(), strict=True):
        assert {read.annotations.tags[j] for j in np.flatnonzero(row)} == {
            f"t{i % width}",
            f"t{7 * i % width}",
            f"t{i // 10}",
        }
    assert sum(len(part) for part in map(bytes, read.annotations.content())) < 2 << 20


def test_a_large_table_of_an_archive_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY", 1000)
    monkeypatch.setattr(arrays, "SMALL", 100)
    monkeypatch.setattr(sets, "BLOCK", 5000)
    table = np.random.default_rng(0).random((300, 200)) < 0.02
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((300, 4, 4), np.uint8), y=table)
    for _ in range(2):
        found = data.open(tmp_path / "a.npz")
        assert found.annotations.sets is not None
        assert np.array_equal(np.asarray(found.annotations.sets), table)


@pytest.mark.parametrize("key", ["y", "conditions", "captions", "classes", "low"])
def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large member in a small file, for each thing that an archive may hold besides items."""
    monkeypatch.setattr(arrays, "LARGEST", 1 << 20)
    kind = {"captions": "<U64", "classes": "<U64", "y": "<U64"}.get(key, "<f8")
    shape = (3, 1 << 18) if key == "conditions" else (1 << 18,)
    head = np.lib.format.header_data_from_array_1_0(np.zeros(0, kind)) | {"shape": shape}
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("x.npy", "w") as file:
            np.lib.format.write_array(file, np.zeros((3, 2, 2), np.uint8))
        if key == "classes":
            with archive.open("y.npy", "w") as file:
                np.lib.format.write_array(file, np.arange(3))
        with archive.open(f"{key}.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, head)
            for _ in range(int(np.prod(shape)) * np.dtype(kind).itemsize >> 20):
                file.write(bytes(1 << 20))
    written: list[int] = []
    monkeypatch.setattr(arrays, "unpack", lambda stream, size, *_: written.append(size))
    with pytest.raises(UsageError, match=rf"{key} in .*a\.npz unpacks to .* MB"):
        data.open(tmp_path / "a.npz")
    assert not written


def test_a_table_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotations, "MOST_JSON", 100)
    monkeypatch.setattr("ornstein.data.image_files.MAX_TEXT", 100)
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(png(np.full((3, 3, 1), i, np.uint8)))
    rows_of = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "remark": "x" * 50} for i in range(9)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows_of)))
    with pytest.warns(UserWarning, match="the column remark"):
        assert data.open(tmp_path).classes == ("a", "b")
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.json").write_text(json.dumps(rows_of))
    with pytest.raises(OrnsteinError, match=r"write it as metadata\.jsonl"):
        data.open(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of files are text elsewhere")
@pytest.mark.parametrize("kind", ["folder", "zip", "npy", "idx", "table"])
def test_names_that_are_no_utf8(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Read, trained on, gone on with, and from the cache; what is printed is text."""
    root = Path(os.fsdecode(bytes(tmp_path) + b"/d\xff\xe9ta"))
    root.mkdir()
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    names = [os.fsdecode(part) for part in (b"caf\xe9", b"\xff\x1b[31m")]
    source = root
    if kind in ("folder", "table"):
        for i, image in enumerate(x):
            place = root / names[i % 2]
            place.mkdir(exist_ok=True)
            (place / os.fsdecode(b"%d\xfe.png" % i)).write_bytes(png(image[..., None]))
        if kind == "table":
            place = sorted(root.rglob("*.png"))
            lines = [{"file_name": file.relative_to(root).as_posix(), "label": i % 3} for i, file in enumerate(place)]
            (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    elif kind == "zip":
        source = root / "a.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for i, image in enumerate(x):
                archive.writestr(f"{'ab'[i % 2]}/{i}.png", png(image[..., None]))
    elif kind == "npy":
        source = root / os.fsdecode(b"\xfa.npy")
        np.save(source, x)
    else:
        source = root / os.fsdecode(b"\xfa.idx")
        source.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 8, 0, 0, 0, 8]) + x.tobytes())
    cache = Path(os.fsdecode(bytes(tmp_path) + b"/c\xff"))
    first, again = (data.open(source, cache=cache, size=4) for _ in range(2))
    assert first.spec == again.spec
    assert first.classes == {"folder": tuple(sorted(names)), "zip": ("a", "b"), "table": ("0", "1", "2")}.get(kind, ())
    out = Path(os.fsdecode(bytes(tmp_path) + b"/run\xff"))
    words: list[Any] = [
        "train",
        "--data",
        source,
        "--out",
        out,
        "--batch-size",
        "4",
        "--samples",
        "4",
        "--device",
        "cpu",
    ]
    words += ["--snapshots", "0", "--preset", "tiny", "--cache", cache, "--steps"]
    for steps in ("1", "2"):
        assert main([*map(str, words), steps]) == 0
    assert main(["cache", "--cache", str(cache)]) == 0
    said = capfd.readouterr()
    assert "\x1b[31m" not in said.out + said.err
    said.out.encode()
    assert main(["train", "--data", str(root / os.fsdecode(b"none\xff")), "--out", str(out)]) == 2
