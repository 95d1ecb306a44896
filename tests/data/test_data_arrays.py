"""Arrays as sources: values, labels, ranges, and what is refused."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ornstein import data
from ornstein.data.arrays import half_of
from ornstein.errors import OrnsteinError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def write_idx(path: Path, array: np.ndarray, code: int = 0x08) -> None:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    body = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)


def test_digits_are_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    digits, reference = data.open("digits"), sklearn.load_digits()
    assert np.array_equal(digits.items[..., 0], reference.images)
    assert np.array_equal(digits.labels, reference.target)
    assert digits.classes == tuple("0123456789")
    assert (digits.spec.low, digits.spec.high, digits.spec.dtype, digits.spec.shape) == (0, 16, "uint8", (1, 8, 8))


def test_halves_of_digits_are_stratified_disjoint_and_fixed() -> None:
    whole, train, test = (data.open(name) for name in ("digits", "digits:train", "digits:test"))
    indices = [half_of(whole.labels, half, len(whole)) for half in (0, 1)]
    assert np.array_equal(np.sort(np.concatenate(indices)), np.arange(1797))
    assert np.array_equal(train.items, whole.items[indices[0]])
    assert np.array_equal(test.labels, whole.labels[indices[1]])
    difference = np.bincount(train.labels) - np.bincount(test.labels)
    assert np.abs(difference).max() <= 1
    assert indices[0][:6].tolist() == [0, 1, 2, 4, 7, 8]  # figures published for these halves depend on it


def test_importing_data_and_checking_a_source_leaves_torch_alone() -> None:
    code = (
        "import sys; from ornstein import data; data.find('digits'); data.open('digits'); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_bytes_become_minus_one_to_one(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5) * 8
    images[0, 0, 0], images[1, 2, 4] = 0, 255
    np.save(tmp_path / "a.npy", images)
    opened = data.open(tmp_path / "a.npy")
    x, labels = opened.batch(np.array([1, 0]))
    assert labels is None
    assert opened.classes == ()
    assert x.shape == (2, 1, 3, 5)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[:, 0], torch.from_numpy(images[[1, 0]] / 127.5 - 1).float())
    assert x[0, 0, 2, 4] == 1
    assert x[1, 0, 0, 0] == -1
    assert opened.spec.data_std == pytest.approx(np.std(images / 127.5))


def test_an_npy_file_is_read_where_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 6, 7, 5), np.float32) + np.arange(5, dtype=np.float32))
    opened = data.open(str(tmp_path / "a.npy"), layout="NHWC")
    assert type(opened.items) is np.ndarray
    assert opened.spec.shape == (5, 6, 7)
    assert not (tmp_path / "xdg").exists()


def test_floats_keep_a_declared_range(tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(-3, 11, (20, 4, 6, 2))
    np.savez(tmp_path / "a.npz", x=images, low=images.min(), high=images.max())
    opened = data.open(tmp_path / "a.npz")
    assert (opened.spec.low, opened.spec.high) == (images.min(), images.max())
    x, _ = opened.batch(np.arange(20))
    assert (x.min(), x.max()) == (-1, 1)
    np.testing.assert_allclose(opened.spec.from_model(x), images, atol=14 * 1e-7)
    beyond = opened.spec.from_model(torch.full((1, 2, 4, 6), 1.5))  # not clipped: 1.5 means a quarter range above
    np.testing.assert_allclose(beyond, images.max() + 0.25 * np.ptp(images))


def test_vectors_are_standardised_by_dimension(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal([5, -2, 0], [1, 30, 0.01], (500, 3)).astype(np.float32)
    vectors = np.concatenate([vectors, np.full((500, 1), 7, np.float32)], 1)  # one constant dimension
    np.savez(tmp_path / "a.npz", data=vectors, label=np.arange(500) % 3 + 4)
    opened = data.open(tmp_path / "a.npz")
    x, labels = opened.batch(np.arange(500))
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0, correction=0), [1, 1, 1, 0], atol=1e-5)
    assert (opened.spec.kind, opened.spec.shape, opened.classes) == ("vector", (4,), ("4", "5", "6"))
    assert labels is not None
    assert labels[:4].tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(opened.spec.mean, vectors.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(opened.spec.from_model(x), vectors, rtol=1e-5, atol=1e-5)
    assert opened.spec.from_model(torch.full((1, 4), 9.0))[0, 3] == 7
    with pytest.raises(ValueError, match="flip"):
        opened.batch(np.arange(2), flip=torch.tensor([True, False]))


@given(st.sampled_from(["uint8", "uint16", "bool", "int32"]), st.integers(0, 2**32 - 1))
def test_whole_numbers_come_back_exactly(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    top = 2 if name == "bool" else 2**16 if name != "uint8" else 256
    images = rng.integers(0, top, (3, 4, 5, 2)).astype(name)
    spec = data.measuring.measure(data.arrays.Arrays(images), "here")
    back = spec.from_model(spec.to_model(images))
    assert back.dtype == images.dtype
    assert np.array_equal(back, images)


def test_whole_numbers_are_rounded_and_clipped_never_wrapped() -> None:
    images = np.zeros((1, 1, 4, 1), np.uint8)
    spec = data.measuring.measure(data.arrays.Arrays(images, low=0, high=16), "here")
    x = torch.tensor([-7.0, -1 + 2 / 16 * 2.4, -1 + 2 / 16 * 2.6, 9.0]).reshape(1, 1, 1, 4)
    assert spec.from_model(x).reshape(-1).tolist() == [0, 2, 3, 16]
    with pytest.raises(OrnsteinError, match="1 of 1 samples hold NaN"):
        spec.from_model(x * torch.nan)
    with pytest.raises(ValueError, match="shape"):
        spec.from_model(x[..., :3])
    with pytest.raises(ValueError, match="shape"):
        spec.to_model(images[:, :, :2])


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_the_ends_of_a_type_are_not_wrapped(name: str) -> None:
    """Also where float64 lacks the largest number, as 2⁶³ − 1."""
    ends = np.iinfo(name).min, np.iinfo(name).max
    for items in (np.array(ends, name).reshape(1, 1, 2, 1), np.array(ends, name).reshape(2, 1)):
        spec = data.measuring.measure(data.arrays.Arrays(items), "here")
        assert spec.from_model(spec.to_model(items)).reshape(-1).tolist() == list(ends)
        beyond = 9 * torch.sign(spec.to_model(items))
        assert spec.from_model(beyond).reshape(-1).tolist() == list(ends)


def test_flips_mirror_only_the_chosen(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    opened = data.open(tmp_path / "a.npy")
    x, _ = opened.batch(np.arange(3), flip=torch.tensor([False, True, False]))
    own = opened.spec.from_model(x)
    assert np.array_equal(own, np.stack([images[0], images[1, :, ::-1], images[2]]))


def test_spec_survives_json(tmp_path: Path) -> None:
    import json

    for spec in (data.open("digits").spec, data.measuring.measure(data.arrays.Arrays(np.random.rand(5, 3)), "here")):
        assert data.DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_content_hash_follows_the_content_not_the_place(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", x=images)
    images[4, 2, 2] ^= 1
    np.save(tmp_path / "c.npy", images)
    a, b, c = (data.open(tmp_path / name).spec.content_hash for name in ("a.npy", "b.npz", "c.npy"))
    assert a == b != c


def test_idx_with_its_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4), dtype=np.uint8)
    labels = np.array([7, 7, 2, 2, 9, 7], np.uint8)
    for ending in ("", ".gz"):
        write_idx(tmp_path / f"my-images-idx3-ubyte{ending}", images)
        write_idx(tmp_path / f"my-labels-idx1-ubyte{ending}", labels)
        opened = data.open(tmp_path / f"my-images-idx3-ubyte{ending}")
        assert np.array_equal(opened.items[..., 0], images)
        assert opened.classes == ("2", "7", "9")
        assert opened.labels is not None
        assert opened.labels.tolist() == [1, 1, 0, 0, 2, 1]


def test_idx_of_other_types_is_turned_to_native_order(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    write_idx(tmp_path / "v.idx", vectors, 0x0D)
    opened = data.open(tmp_path / "v.idx")
    assert opened.items.dtype == np.dtype("=f4")
    assert np.array_equal(opened.items, vectors)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_short_idx_file_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"images-idx3-ubyte{ending}"
    write_idx(path, np.zeros((6, 3, 4), np.uint8))
    body = gzip.decompress(path.read_bytes()) if ending else path.read_bytes()
    path.write_bytes(gzip.compress(body[:-1]) if ending else body[:-1])
    with pytest.raises(OrnsteinError, match="shorter than its header"):
        data.open(path)


def test_npz_labels_may_be_words(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 2, 2), np.uint8), labels=np.array(["dog", "ant", "dog"]))
    opened = data.open(tmp_path / "a.npz")
    assert opened.classes == ("ant", "dog")
    assert opened.labels is not None
    assert opened.labels.tolist() == [1, 0, 1]


GREY = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": GREY, "b": GREY}, "holds the arrays a, b"),
        ({"x": GREY, "y": np.zeros(2, int)}, "3 whole numbers"),
        ({"x": GREY, "y": np.array([0.5, 1, 2])}, "holds 0.5 for item 0"),
        ({"x": GREY, "y": np.array([0, 1, 2]), "classes": np.array(["a", "b"])}, "from 0 to 1"),
        ({"x": np.zeros((2, 13, 16, 16))}, "NCHW .* NHWC .* NDHW .*: say which by --layout NCHW"),
        ({"x": np.zeros((2, 3, 4, 5, 6, 7))}, r"give \(N, D\)"),
        ({"x": np.zeros((0, 4, 4))}, "empty"),
        ({"x": np.array(["a", "b"])}, "numbers"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        data.open(tmp_path / "a.npz")


def test_numbers_outside_the_stated_range_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=GREY, low=0, high=7)
    with pytest.raises(OrnsteinError, match="0 to 7, but holds 0 to 11"):
        data.open(tmp_path / "a.npz")


def test_nan_is_named_by_its_index(tmp_path: Path) -> None:
    images = np.ones((10, 4, 4), np.float32)
    images[7, 2, 1] = np.nan
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(OrnsteinError, match=r"Item 7 of .*a\.npy holds NaN"):
        data.open(tmp_path / "a.npy")


def test_nothing_is_unpickled_and_damage_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "text.npz").write_text("not an archive")
    for name in ("object.npy", "text.npy", "text.npz"):
        with pytest.raises(OrnsteinError, match=f"{name} could not be read"):
            data.open(tmp_path / name)


def test_size_channels_and_limit_apply_to_arrays(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 65536, (8, 10, 20), dtype=np.uint16)
    np.save(tmp_path / "a.npy", images)
    opened = data.open(tmp_path / "a.npy", size=5, channels=3, limit=4, layout="NHW")
    assert opened.items.shape == (4, 5, 5, 3)
    assert opened.items.dtype == np.uint16
    assert np.array_equal(opened.items[..., 0], opened.items[..., 2])
    assert np.array_equal(data.open(tmp_path / "a.npy", limit=4, layout="NHW").items, images[[0, 2, 4, 6]])
    np.save(tmp_path / "flat.npy", np.zeros((4, 10, 10, 3), np.uint8) + np.uint8(200))
    assert (data.open(tmp_path / "flat.npy", size=(4, 7)).items == 200).all()  # a constant stays one under any filter
    np.save(tmp_path / "v.npy", np.eye(3))
    with pytest.raises(UsageError, match="vectors"):
        data.open(tmp_path / "v.npy", size=8)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
def test_order_has_every_index_once_an_epoch(seed: int, count: int, batch: int) -> None:
    steps = -(-3 * count // batch)
    stream = np.concatenate([data.order(seed, step, batch, count) for step in range(steps)])
    assert stream.shape == (steps * batch,)
    for epoch in range(3):
        assert np.array_equal(np.sort(stream[epoch * count : (epoch + 1) * count]), np.arange(count))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert np.array_equal(data.order(1, 7, 30, 100), data.order(1, 7, 30, 100))
    whole = data.order(1, 0, 200, 100)
    assert not np.array_equal(whole[:100], whole[100:])
    assert not np.array_equal(whole, data.order(2, 0, 200, 100))
    assert np.array_equal(whole[60:90], data.order(1, 2, 30, 100))  # batches cut one stream
    with pytest.raises(ValueError, match="seed=-1"):
        data.order(-1, 0, 1, 1)


def test_time_is_an_axis_of_films_and_of_series(tmp_path: Path) -> None:
    for shape, layout, own in (((4, 3, 2, 8, 8), "NCTHW", "NCDHW"), ((4, 3, 9), "NCT", "NCL")):
        np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=shape).astype(np.float32))
        assert data.open(str(tmp_path / "a.npy"), layout=layout).spec.layout == own
