"""Data that change under a cache or a run, in any way and whatever their kind: always noticed."""

import gzip
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ornstein import data
from ornstein.data import arrays, cache, content, rows
from ornstein.data.images import png
from ornstein.data.stamps import Changed
from ornstein.errors import OrnsteinError, UsageError

TINY = ["--batch-size", "4", "--samples", "0", "--device", "cpu", "--snapshots", "0", "--preset", "tiny"]
Values = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_npy(root: Path, values: Values) -> Path:
    np.save(root / "a.npy", values[0])
    return root / "a.npy"


def write_npz(root: Path, values: Values) -> Path:
    np.savez_compressed(root / "a.npz", x=values[0], y=values[1])
    return root / "a.npz"


def write_idx(root: Path, values: Values, pack: Callable[[bytes], bytes] = bytes, ending: str = "") -> Path:
    (root / f"labels-idx1-ubyte{ending}").write_bytes(pack(idx(values[1])))
    (root / f"images-idx3-ubyte{ending}").write_bytes(pack(idx(values[0])))
    return root / f"images-idx3-ubyte{ending}"


def write_packed_idx(root: Path, values: Values) -> Path:
    return write_idx(root, values, lambda plain: gzip.compress(plain, 1, mtime=0), ".gz")


def pngs(values: Values) -> dict[str, bytes]:
    return {f"{y}/{i:05d}.png": png(x[..., None]) for i, (x, y) in enumerate(zip(*values, strict=True))}


def write_folder(root: Path, values: Values) -> Path:
    made = pngs(values)
    for file in (root / "f").rglob("*.png"):
        if file.relative_to(root / "f").as_posix() not in made:
            file.unlink()
    for name, image in made.items():
        place = root / "f" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists() or place.read_bytes() != image:
            place.write_bytes(image)
    return root / "f"


def write_zip(root: Path, values: Values) -> Path:
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for name, image in pngs(values).items():
            archive.writestr(zipfile.ZipInfo(name), image)
    return root / "a.zip"


def write_table(root: Path, values: Values) -> Path:
    (root / "t").mkdir(exist_ok=True)
    for file in sorted((root / "t").glob("*.png"))[len(values[0]) :]:
        file.unlink()
    for i, x in enumerate(values[0]):
        place, image = root / "t" / f"{i:05d}.png", png(x[..., None])
        if not place.exists() or place.read_bytes() != image:
            place.write_bytes(image)
    lines = (json.dumps({"file_name": f"{i:05d}.png", "label": int(y)}) for i, y in enumerate(values[1]))
    (root / "t" / "metadata.jsonl").write_text("\n".join(lines))
    return root / "t"


KINDS = {
    "npy": write_npy,
    "npz": write_npz,
    "idx": write_idx,
    "idx.gz": write_packed_idx,
    "folder": write_folder,
    "zip": write_zip,
    "table": write_table,
}


def one_item(values: Values) -> Values:
    x, y = values
    x = x.copy()
    x[len(x) // 2 + 1, 2, 3] ^= 1
    return x, y


def one_label(values: Values) -> Values:
    x, y = values
    y = y.copy()
    y[len(y) // 2] ^= 1
    return x, y


def most_items(values: Values) -> Values:
    """All but those that lie evenly spaced, as many as were once looked at."""
    x, y = values
    seen = np.arange(content.MEASURED) * len(x) // content.MEASURED if len(x) > content.MEASURED else [0]
    other = x[::-1] ^ 1
    other[seen] = x[seen]
    return other, y


def fewer(values: Values) -> Values:
    return values[0][:-1], values[1][:-1]


CHANGES = {"one item": one_item, "one label": one_label, "most items": most_items, "fewer": fewer}


def dated(root: Path) -> dict[Path, os.stat_result]:
    return {file: file.stat() for file in root.rglob("*") if file.is_file()}


def with_old_dates(root: Path, change: Callable[[], object]) -> None:
    before = dated(root)
    change()
    for file, about in before.items():
        if file.exists():
            os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def values(full: bool) -> Values:
    rng = np.random.default_rng(0)
    count = 6000 if full else 24
    return rng.integers(0, 256, (count, 8, 8), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_under_a_cache(kind: str, change: str, values: Values, tmp_path: Path, monkeypatch: Any) -> None:
    """With the dates of content put back: packed ones are cached, as are those that are brought to another size."""
    if kind == "npy" and change == "one label":
        pytest.skip("it has none")
    monkeypatch.setattr(arrays, "SMALL", 0)
    monkeypatch.setattr("ornstein.data.sources.REMEMBERED", 0)
    (tmp_path / "d").mkdir()
    source = KINDS[kind](tmp_path / "d", values)

    def opened(size: int | None) -> data.Dataset:
        return data.open(source, size=size, cache=tmp_path / "c")

    first = [opened(size) for size in (None, 4)]
    assert [opened(size).spec for size in (None, 4)] == [found.spec for found in first]
    with_old_dates(tmp_path / "d", lambda: KINDS[kind](tmp_path / "d", CHANGES[change](values)))
    again = [opened(size) for size in (None, 4)]
    for size, old, new in zip((None, 4), first, again, strict=True):
        fresh = data.open(source, size=size, cache=tmp_path / "fresh")
        assert new.spec == fresh.spec
        assert np.array_equal(new.items, fresh.items)
        assert (new.labels is None) == (fresh.labels is None)
        assert new.labels is None or np.array_equal(new.labels, fresh.labels)
        assert new.spec.content_hash != old.spec.content_hash or size is not None


def test_labels_that_are_garbage_are_seen(tmp_path: Path, values: Values, kind: str) -> None:
    if kind not in ("idx", "idx.gz", "table"):
        pytest.skip("its labels are in the same file, or in names")
    source = KINDS[kind](tmp_path, values)
    labels = next(file for file in tmp_path.rglob("*") if "labels" in file.name or "metadata" in file.name)
    for size in (None, 4):
        data.open(source, size=size, cache=tmp_path / "c")
    with_old_dates(tmp_path, lambda: labels.write_bytes(os.urandom(labels.stat().st_size)))
    for size in (None, 4):
        with pytest.raises(OrnsteinError, match=labels.name):
            data.open(source, size=size, cache=tmp_path / "c")


def written(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_under_a_run(kind: str, change: str, values: Values, tmp_path: Path, run: Any, full: bool) -> None:
    """The run does not go on, with one sentence, and nothing of it is written; with the old data it does."""
    if kind == "npy" and change == "one label":
        pytest.skip("it has none")
    if not full and (list(KINDS).index(kind) + list(CHANGES).index(change)) % 3 != 1:
        pytest.skip("a third of them each time, all by `make faults`")
    (tmp_path / "d").mkdir()
    source, out = KINDS[kind](tmp_path / "d", values), tmp_path / "run"
    words = ["train", "--data", str(source), "--out", str(out), *TINY, "--steps"]
    assert run([*words, "2"]).code == 0
    before = written(out)
    with_old_dates(tmp_path / "d", lambda: KINDS[kind](tmp_path / "d", CHANGES[change](values)))
    done = run([*words, "3"])
    assert done.code == 2
    assert "was trained on other data" in done.sentence
    assert written(out) == before
    KINDS[kind](tmp_path / "d", values)
    assert run([*words, "3"]).code == 0
    spec, was = (json.loads(found["model/config.json"])["data"] for found in (written(out), before))
    assert spec == was


def test_a_run_with_a_checkpoint_and_no_model_yet(tmp_path: Path, values: Values, run: Any) -> None:
    source, out = write_npy(tmp_path, values), tmp_path / "run"
    words = ["train", "--data", str(source), "--out", str(out), *TINY, "--steps"]
    assert run([*words, "2"]).code == 0
    (out / "model" / "config.json").unlink()  # a kill came between the two
    write_npy(tmp_path, one_item(values))
    done = run([*words, "3"])
    assert (done.code, "other data" in done.sentence) == (2, True)
    write_npy(tmp_path, values)
    assert run([*words, "3"]).code == 0


def test_a_run_of_before_goes_on(tmp_path: Path, run: Any) -> None:
    """Its hash is of the old form, which is still known; going on it gets one of all content, and keeps its units."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 3)
    out, file = tmp_path / "run", tmp_path / "run" / "model" / "config.json"
    words = ["train", "--data", str(tmp_path / "a.npz"), "--out", str(out), *TINY, "--steps"]
    assert run([*words, "2"]).code == 0
    about = json.loads(file.read_text())
    new = about["data"]["content_hash"]
    assert new.startswith(content.FORM)
    about["data"]["content_hash"] = "6b16f5c1ca4e2edd"  # as the version before this one wrote it
    about["data"]["mean"][0] *= 1 + 1e-9  # as another machine may have summed
    file.write_text(json.dumps(about))
    assert run([*words, "3"]).code == 0
    going_on = json.loads(file.read_text())["data"]
    assert going_on["content_hash"] == new
    assert going_on["mean"] == about["data"]["mean"]
    for key, value in (("content_hash", "6b16f5c1ca4e2ede"), ("mean", [9.0, 9.0, 9.0]), ("classes", ["a", "b", "c"])):
        file.write_text(json.dumps({**about, "data": {**about["data"], key: value}}))
        assert run([*words, "4"]).code == 2


def overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(-9, os.SEEK_END)
        stream.write(b"\0\1\2\3\4\5\6\7\1")


WHILE = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "overwritten": overwrite,
    "mtime put back": lambda file: with_old_dates(file.parent, lambda: overwrite(file)),
    "replaced": lambda file: (
        file.with_name("new").write_bytes(file.read_bytes()[::-1]),
        file.with_name("new").replace(file),
    ),
}


@pytest.mark.parametrize("how", WHILE)
@pytest.mark.parametrize("kind", ["npy", "idx"])
def test_a_file_that_changes_in_the_middle_of_training(
    kind: str, how: str, values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any, full: bool
) -> None:
    """Saved after the last step that saw whole data, told, stopped; with the old data the run ends as if nothing had been."""
    if kind == "idx" and how != "truncated" and not full:
        pytest.skip("read as a .npy is; by `make faults`")
    from ornstein.training.batch import Batches

    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    source, parts = KINDS[kind](tmp_path, values), Batches.parts
    whole = source.read_bytes()
    words = ["train", "--data", str(source), *TINY, "--steps", "6", "--out"]
    assert run([*words, str(tmp_path / "unbroken")]).code == 0

    def changing(self: Batches, step: int) -> Any:
        if step == 3:
            WHILE[how](source)
        return parts(self, step)

    monkeypatch.setattr(Batches, "parts", changing)
    done = run([*words, str(tmp_path / "run")])
    assert done.code == 1
    assert "training stopped after step 3, saved in" in done.sentence
    assert source.name in done.sentence
    assert [place.name for place in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    monkeypatch.setattr(Batches, "parts", parts)
    assert run([*words, str(tmp_path / "run")]).code != 0
    source.write_bytes(whole)
    assert run([*words, str(tmp_path / "run")]).code == 0
    ends = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("unbroken", "run")]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("change", ["one item", "one label", "fewer"])
def test_a_change_while_it_is_read(
    kind: str, change: str, values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is kept: what was read may be of both."""
    if kind == "npy" and change == "one label":
        pytest.skip("it has none")
    source, append, seen = KINDS[kind](tmp_path, values), cache.Items.append, []

    def changing(self: cache.Items, item: NDArray[Any]) -> None:
        append(self, item)
        if not seen:
            with_old_dates(tmp_path, lambda: KINDS[kind](tmp_path, CHANGES[change](values)))
        seen.append(1)

    monkeypatch.setattr(cache.Items, "append", changing)
    with pytest.raises(Changed, match=r"changed while it was read|has changed since|has become shorter"):
        data.open(source, size=4, cache=tmp_path / "c")
    assert cache.entries(tmp_path / "c") == []
    monkeypatch.undo()
    found = data.open(source, size=4, cache=tmp_path / "c")
    assert len(found) == len(CHANGES[change](values)[0])


def test_an_entry_that_is_damaged_while_it_is_used(tmp_path: Path, values: Values, monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    source = write_folder(tmp_path, values)
    found = data.open(source, cache=tmp_path / "c")
    (entry,) = cache.entries(tmp_path / "c")
    expected = found.items[np.arange(3)]
    (entry.path / "items.npy").unlink()  # another process made it anew
    assert np.array_equal(found.items[np.arange(3)], expected)
    found = data.open(source, cache=tmp_path / "c")
    os.truncate(entry.path / "items.npy", 300)
    with pytest.raises(Changed):
        found.batch(np.array([20]))
    assert np.array_equal(data.open(source, cache=tmp_path / "c").items[:3], expected)


def test_features_of_old_data_are_not_served(tmp_path: Path) -> None:
    from ornstein.metrics.features import of_data

    class Numbers:
        name, digest, frechet = "numbers", "1", "d"

        def __call__(self, x: Any) -> Any:
            return x.flatten(1)

    x = np.random.default_rng(0).normal(size=(content.MEASURED + 5, 2)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    before = of_data(Numbers(), data.open(tmp_path / "a.npy"), cache=tmp_path / "c")
    unseen = np.setdiff1d(np.arange(len(x)), np.arange(content.MEASURED) * len(x) // content.MEASURED)
    x[unseen[0]], x[unseen[1]] = x[unseen[1]].copy(), x[unseen[0]].copy()
    np.save(tmp_path / "a.npy", x)
    after = of_data(Numbers(), data.open(tmp_path / "a.npy"), cache=tmp_path / "c")
    assert not bool((before == after).all())


def test_a_second_opening_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large file holds is known by its fingerprint; also where the cache cannot be written it is found out."""
    monkeypatch.setattr("ornstein.data.sources.REMEMBERED", 0)
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(50, 4)))
    first = data.open(tmp_path / "a.npy", cache=tmp_path / "c").spec
    (tmp_path / "file").write_text("no folder")
    assert data.open(tmp_path / "a.npy", cache=tmp_path / "file" / "c").spec == first
    monkeypatch.setattr(rows.Rows, "_read", lambda *_: pytest.fail("it was read"))
    assert data.open(tmp_path / "a.npy", cache=tmp_path / "c").spec == first
    with pytest.raises(UsageError):
        data.open(tmp_path / "b.npy", cache=tmp_path / "c")
