"""Units, axes and types of data of every kind: what goes in comes back, and other data are measured by the run's own scale."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ornstein import data
from ornstein.data import dataset_of, kinds
from ornstein.data.arrays import Arrays
from ornstein.data.cells import NumberCells
from ornstein.data.column_types import Guess
from ornstein.data.layout import from_model_order, layout_of, model_shape, own_shape, to_model_order
from ornstein.data.measuring import measure
from ornstein.data.scaling import Range, Standard
from ornstein.data.spec import DataSpec
from ornstein.errors import OrnsteinError, UsageError

SIDES = {
    "N": (),
    "ND": (5,),
    "NL": (9,),
    "NCL": (2, 9),
    "NLC": (9, 2),
    "NHW": (6, 6),
    "NHWC": (6, 7, 3),
    "NCHW": (3, 6, 7),
}
SIDES |= {"NDHW": (4, 5, 6), "NCDHW": (2, 4, 5, 6), "NDHWC": (4, 5, 6, 2)}
TYPES = ("bool", "uint8", "uint16", "int16", "int64", "float32", "float64")


def items(layout: str, dtype: str = "float32", count: int = 40, seed: int = 0) -> NDArray[np.generic]:
    """Numbers whose channels have units of their own, in the model's order and then in the layout."""
    rng = np.random.default_rng(seed)
    shape = model_shape(SIDES[layout], layout)
    scale = np.array([1.0, 30.0, 400.0, 7.0, 2.0])[: shape[0]].reshape(-1, *(1,) * (len(shape) - 1))
    values = 3 * scale + scale * rng.normal(size=(count, *shape))
    if dtype == "bool":
        values = values > 3 * scale
    elif dtype == "uint8":
        values = rng.integers(0, 256, values.shape)
    elif dtype[0] in "ui":
        values = np.clip(np.rint(values), 0 if dtype[0] == "u" else -30_000, 4095)
    return np.ascontiguousarray(from_model_order(np.asarray(values).astype(dtype), layout))


def spec_of(array: NDArray[np.generic], layout: str) -> DataSpec:
    return measure(Arrays(array, layout=layout), "here")


def a_table() -> DataSpec:
    rows = np.random.default_rng(0).normal(size=(40, 5))
    columns = tuple(Guess(str(i), "numeric", NumberCells(), "") for i in range(5))
    return measure(Arrays(rows, layout="NK", columns=columns), "here")


@pytest.mark.parametrize("layout", SIDES)
@pytest.mark.parametrize("dtype", TYPES)
def test_what_goes_in_comes_back_in_its_axes_and_type(layout: str, dtype: str) -> None:
    array = items(layout, dtype)
    spec = spec_of(array, layout)
    assert spec.traits is kinds.LAYOUTS[layout]
    assert spec.item_shape == array.shape[1:]
    x = spec.to_model(array)
    assert x.shape == (40, *spec.shape)
    assert x.dtype == torch.float32
    back = spec.from_model(x)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    if array.dtype.kind == "f":
        np.testing.assert_allclose(back, array, rtol=1e-5, atol=1e-4)
    else:
        assert np.array_equal(back, array)
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("layout", [name for name in SIDES if name not in ("N", "NL", "NHW", "NDHW")])
def test_each_channel_has_its_own_scale(layout: str) -> None:
    spec = spec_of(items(layout), layout)
    x = spec.to_model(items(layout)).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(x.mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(1, correction=0), 1, atol=1e-4)
    assert spec.data_std == pytest.approx(1, abs=1e-3)
    assert isinstance(spec.scaling, Standard)


@pytest.mark.parametrize("layout", SIDES)
def test_axes_go_to_model_order_and_back(layout: str) -> None:
    array = items(layout)
    moved = to_model_order(array, layout)
    assert moved.shape[1:] == model_shape(array.shape[1:], layout)
    assert own_shape(moved.shape[1:], layout) == array.shape[1:]
    assert np.array_equal(from_model_order(moved, layout), array)
    assert torch.equal(to_model_order(torch.from_numpy(array), layout), torch.from_numpy(np.ascontiguousarray(moved)))


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((9,), "float32", "N"),
        ((9, 4), "float32", "ND"),
        ((9, 28, 28), "float32", "NHW"),
        ((9, 20, 30), "uint8", "NHW"),
        ((9, 1, 64), "float32", "NCL"),
        ((9, 64, 1), "float32", "NLC"),
        ((9, 16, 32, 3), "float32", "NHWC"),
        ((9, 3, 16, 32), "float32", "NCHW"),
        ((9, 32, 32, 13), "float32", "NHWC"),
        ((9, 2, 8, 9, 10), "float32", "NCDHW"),
        ((9, 8, 9, 10, 2), "float32", "NDHWC"),
    ],
)
def test_a_shape_with_one_reading(shape: tuple[int, ...], dtype: str, layout: str) -> None:
    assert layout_of(shape, np.dtype(dtype), "here") == layout


@pytest.mark.parametrize(
    ("shape", "dtype", "readings"),
    [
        ((9, 3, 64), "float32", ("NCL", "NLC", "NHW")),
        ((9, 2, 64), "uint8", ("NCL", "NLC", "NHW")),
        ((9, 13, 32, 32), "float32", ("NCHW", "NHWC", "NDHW")),
        ((9, 16, 20, 24), "float32", ("NCHW", "NHWC", "NDHW")),
        ((9, 3, 4, 4), "float32", ("NCHW", "NHWC")),
        ((9, 8, 8, 8, 8), "float32", ("NCDHW", "NDHWC")),
    ],
)
def test_a_shape_with_several_readings_names_them(
    shape: tuple[int, ...], dtype: str, readings: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as refused:
        layout_of(shape, np.dtype(dtype), "here")
    assert all(f"{reading} (" in str(refused.value) for reading in readings)
    assert "--layout" in str(refused.value)
    for reading in readings:
        assert layout_of(shape, np.dtype(dtype), "here", reading.lower()) == reading
    with pytest.raises(UsageError, match="axes"):
        layout_of(shape, np.dtype(dtype), "here", "N")
    with pytest.raises(UsageError, match="not known"):
        layout_of(shape, np.dtype(dtype), "here", "XYZ")


def test_tensors_have_channels_first_where_their_shape_is_open() -> None:
    assert layout_of((9, 13, 32, 32), np.dtype("float32"), "here", torch=True) == "NCHW"
    assert layout_of((9, 8, 8, 8, 8), np.dtype("float32"), "here", torch=True) == "NCDHW"
    with pytest.raises(UsageError, match="can be read as"):
        layout_of((9, 3, 64), np.dtype("float32"), "here", torch=True)


@pytest.mark.parametrize("layout", SIDES)
def test_held_out_data_are_in_the_units_of_the_run(layout: str) -> None:
    """Never in their own: what is doubled and moved is far away, and counted."""
    spec = spec_of(items(layout), layout)
    other = items(layout, seed=1)
    held, notes = spec.adopt(other, "held")
    assert not any("same units" in note for note in notes)
    doubled = (100 * other + 3).astype(np.float32)
    far, notes = spec.adopt(doubled, "doubled")
    assert any("lie outside the range" in note for note in notes)
    assert any("same units" in note for note in notes)
    near, wide = (spec.to_model(array).square().mean() for array in (held, far))
    assert wide > 25 * near
    dataset = data.Dataset(doubled, None, spec_of(doubled, layout))
    adopted, notes = dataset.adopt(spec)
    assert notes
    torch.testing.assert_close(adopted.batch(np.arange(5))[0], spec.to_model(far[:5]))
    assert adopted.adopt(spec)[1] == ()  # said once


@pytest.mark.parametrize("layout", SIDES)
@pytest.mark.parametrize(("dtype", "other"), [("float32", "float64"), ("uint8", "int64"), ("int16", "float32")])
def test_another_type_of_the_same_quantity_is_taken_with_a_note(layout: str, dtype: str, other: str) -> None:
    array = items(layout, dtype)
    spec = spec_of(array, layout)
    taken, notes = spec.adopt(array.astype(other), "held")
    assert [note for note in notes if f"holds {other}, and the training data {dtype}" in note]
    torch.testing.assert_close(spec.to_model(taken), spec.to_model(array), rtol=1e-5, atol=1e-6)
    spec.must_be_levels(array.astype(other), "held")
    if spec.is_whole:
        with pytest.raises(UsageError, match="not whole"):
            spec.must_be_levels(array + 0.5, "held")


@pytest.mark.parametrize("layout", SIDES)
def test_one_item_with_or_without_its_first_axis(layout: str) -> None:
    array = items(layout)
    spec = spec_of(array, layout)
    for one in (array[3:4], array[3]):
        assert np.array_equal(spec.adopt(np.asarray(one), "one").items, array[3:4])
    with pytest.raises(UsageError, match="give one of that shape"):
        spec.adopt(np.zeros((2, 3, 3, 3, 3, 3)), "one")


def test_items_in_another_layout_of_the_kind_are_moved() -> None:
    array = items("NHWC")
    spec = spec_of(array, "NHWC")
    assert np.array_equal(spec.adopt(np.moveaxis(array, -1, 1), "other").items, array)
    grey = spec_of(items("NHW"), "NHW")
    assert grey.adopt(items("NHW")[..., None], "other").items.shape == (40, 6, 6)


@pytest.mark.parametrize("layout", SIDES)
def test_a_number_that_is_none_is_named_by_its_place(layout: str) -> None:
    array = items(layout)
    spec = spec_of(array, layout)
    place = tuple(0 for _ in SIDES[layout])
    array[(7, *place)] = np.nan
    for act in (lambda: spec_of(array, layout), lambda: spec.adopt(array, "held")):
        with pytest.raises(OrnsteinError, match=r"Item 7 of (here|held) holds NaN or infinite numbers"):
            act()
    if layout == "NCHW":
        with pytest.raises(OrnsteinError, match=r"\(channel 0, row 0, column 0\)"):
            spec_of(array, layout)


def test_one_hot_pixel_does_not_decide_the_scale() -> None:
    array = items("NHWC", count=400)
    plain = spec_of(array, "NHWC")
    array[3, 2, 2, 0] = 1e6
    spec = spec_of(array, "NHWC")
    assert spec.robust == (0,)
    np.testing.assert_allclose(spec.std, plain.std, rtol=0.02)
    np.testing.assert_allclose(spec.mean, plain.mean, rtol=0.01)
    assert spec.data_std == pytest.approx(1, abs=0.02)
    assert spec.high == 1e6
    assert any("channel 0 has a few numbers far outside" in line for line in spec.units())
    x, _ = data.Dataset(array, None, spec).batch(np.array([3]))
    assert x.abs().max() < 20  # learned as the edge of the window
    adopted, _ = data.Dataset(array, None, spec).adopt(spec)
    assert adopted.batch(np.array([3]))[0].abs().max() > 1e4  # and measured as it is
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("top", [1023, 4095])
def test_a_part_of_sixteen_bits_is_scaled_as_measured(top: int) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, top + 1, (30, 8, 8, 1)).astype(np.uint16)
    array[0, 0, 0, 0], array[0, 0, 1, 0] = 0, top
    spec = spec_of(array, "NHWC")
    assert (spec.low, spec.high) == (0, top)
    assert spec.data_std == pytest.approx(1)
    assert any(f"use 0 to {top} of uint16" in line for line in spec.units())
    beyond = spec.from_model(torch.full((1, 1, 8, 8), 99.0))
    assert (beyond == top).all()
    array[0, 0, 0, 0] = 65535
    assert spec_of(array, "NHWC").data_std > 0.9  # one hot pixel
    full = spec_of(rng.integers(0, 65536, (30, 8, 8, 1)).astype(np.uint16), "NHWC")
    assert full.scaling == Range(0, 65535)


def test_columns_keep_their_range_and_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    array = np.stack([rng.integers(0, 5, 300), rng.normal(size=300), rng.exponential(size=300)], 1).astype(np.float32)
    spec = spec_of(array, "ND")
    assert spec.whole == (True, False, False)
    made = spec.from_model(3 * torch.randn(500, 3))
    assert set(np.unique(made[:, 0])) <= set(range(5))
    assert (made >= array.min(0)).all()
    assert (made <= array.max(0)).all()
    whole = spec_of(array[:, :1].astype(np.int32), "ND")
    assert set(np.unique(whole.from_model(9 * torch.randn(50, 1)))) <= set(range(5))


def test_floating_images_are_not_clipped() -> None:
    spec = spec_of(items("NHWC"), "NHWC")
    x = torch.full((1, *spec.shape), 50.0)
    np.testing.assert_allclose(spec.from_model(x)[0, 0, 0], np.array(spec.mean) + 50 * np.array(spec.std), rtol=1e-5)


def test_runs_of_earlier_versions_keep_one_range() -> None:
    """Their descriptions lack axes, and their floating images have one range for all channels."""
    array = items("NHWC")
    known = spec_of(array, "NHWC").to_json()
    for key in ("layout", "lows", "highs", "whole", "robust"):
        del known[key]
    spec = DataSpec.from_json({**known, "mean": [], "std": []})
    assert (spec.layout, spec.scaling) == ("NHWC", Range(spec.low, spec.high))
    assert spec.to_model(array).min() == -1
    vectors = spec_of(items("ND"), "ND").to_json()
    for key in ("layout", "lows", "highs", "whole", "robust"):
        del vectors[key]
    old = DataSpec.from_json(vectors)
    assert old.layout == "ND"
    np.testing.assert_allclose(old.from_model(old.to_model(items("ND"))), items("ND"), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"layout": "NCL"}, {"lows": [0.0]}, {"robust": [9]}, {"whole": [1]}, {"kind": "sound"}, {"layout": "NHW"}],
)
def test_a_description_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    known = spec_of(items("NHWC"), "NHWC").to_json()
    with pytest.raises(ValueError, match="data: "):
        DataSpec.from_json({**known, **wrong})


@pytest.mark.parametrize("kind", kinds.ALL, ids=lambda kind: kind.name)
def test_kinds_are_whole(kind: kinds.Kind) -> None:
    """What each says fits together; what can be drawn is drawn."""
    assert all(kinds.LAYOUTS[layout] is kind for layout in kind.layouts)
    layout = kind.layouts[0]
    spec = spec_of(items(layout), layout) if kind.arrays else a_table()
    assert spec.traits.words(spec.shape)
    assert kind.preset(spec.shape, spec.count) in ("mini", "tiny", "small")
    assert kind.preset(spec.shape, 1000) in ("tiny", "small")  # "mini" is for tables that are short
    assert kind.batch_size(spec.shape, True) > 0
    from ornstein.names import NETWORKS

    for name in kind.networks:
        network = NETWORKS.pick(name)
        network = network.preset("tiny", **network.fitted(tuple(8 for _ in spec.shape)))
        x = torch.zeros(2, *(8 for _ in spec.shape))
        assert network(x, torch.zeros(2)).shape == x.shape
    if not kind.drawn:
        with pytest.raises(UsageError, match="no images"):
            data.grid_image(np.zeros((40, *spec.item_shape)), spec=spec)
        return
    cells = spec.cells(items(layout))
    assert cells.dtype == np.uint8
    assert cells.shape[1:3] == kind.cell(spec.shape)
    assert cells.std() > 10  # something to look at
    assert data.grid_image(np.zeros((40, *spec.item_shape)), spec=spec).size[0] > 100


@pytest.mark.parametrize("layout", ["NHW", "NCHW"])
def test_arrays_are_resized_in_their_own_axes(tmp_path: Path, layout: str) -> None:
    array = items(layout, "uint8")
    np.save(tmp_path / "a.npy", array)
    opened = data.open(tmp_path / "a.npy", size=4, layout=layout, cache=tmp_path / "c")
    assert opened.spec.layout == layout
    assert opened.spec.shape == (array.shape[1] if layout == "NCHW" else 1, 4, 4)
    assert opened.items.shape[1:] == opened.spec.item_shape


def test_a_declared_range_holds_after_resizing(tmp_path: Path) -> None:
    for size in (4, 16, 24):
        opened = data.open("digits", size=size, limit=40, cache=tmp_path)
        assert opened.items.max() <= 16
        assert opened.spec.scaling == Range(0, 16)


def test_held_out_arrays_are_read_as_the_run_reads_its_own(tmp_path: Path) -> None:
    series = items("NCL")
    np.save(tmp_path / "a.npy", series)
    with pytest.raises(UsageError, match="can be read as"):
        data.open(tmp_path / "a.npy")
    run = spec_of(series, "NCL")
    assert data.open(tmp_path / "a.npy", like=run).spec.layout == "NCL"
    with pytest.raises(UsageError, match="shape"):
        data.Dataset(series, None, run).adopt(replace(run, shape=(3, 9)))


def test_image_files_are_parts_of_their_full_range(tmp_path: Path) -> None:
    """8 and 16 bits of the same pictures are the same for a run with a declared range."""
    rng = np.random.default_rng(0)
    eight = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    data.save_images(eight, tmp_path / "eight")
    data.save_images(eight.astype(np.uint16) * 257, tmp_path / "sixteen")
    first, second = (data.open(tmp_path / name, cache=tmp_path / "c") for name in ("eight", "sixteen"))
    adopted, notes = second.adopt(first.spec)
    assert "black and white are the same" in notes[0]
    torch.testing.assert_close(adopted.batch(np.arange(6))[0], first.batch(np.arange(6))[0], rtol=0, atol=1e-6)


def test_held_out_data_that_state_another_range_are_refused(tmp_path: Path) -> None:
    """A range that a file states is one of its own: numbers of another are other units, which no one converts unasked."""
    unit = np.random.default_rng(0).random((30, 8, 8, 3)).astype(np.float32)
    run = dataset_of({"x": unit, "low": np.array(0.0), "high": np.array(1.0)}).spec
    other = dataset_of({"x": 255 * unit, "low": np.array(0.0), "high": np.array(255.0)})
    with pytest.raises(
        UsageError, match=r"states the range 0 to 255, and the run 0 to 1: give them in the run's range"
    ):
        other.adopt(run)
    assert dataset_of({"x": unit, "low": np.array(0.0), "high": np.array(1.0)}).adopt(run)[1] == ()
    # without a range of its own, numbers mean what they mean in the run, and what lies outside is counted
    adopted, notes = dataset_of(255 * unit).adopt(run)
    assert adopted.spec.low == 0
    assert adopted.spec.high == 1
    assert any("lie outside the range of the training data" in note for note in notes)


@pytest.mark.parametrize("shape", [(20, 3, 24), (20, 13, 32, 32), (20, 16, 20, 24)])
def test_a_size_of_images_does_not_decide_which_axes_are_which(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    with pytest.raises(UsageError, match=r"can be read as .* say which by --layout"):
        data.open(tmp_path / "x.npy", size=16)
    if len(shape) == 3:
        with pytest.raises(UsageError, match="holds series, which have no size"):
            data.open(tmp_path / "x.npy", size=16, layout="NCL")
        assert data.open(tmp_path / "x.npy", size=16, layout="NHW", cache=tmp_path / "c").items.shape == (20, 16, 16)


@pytest.mark.parametrize("shape", [(400, 8, 8, 1), (600, 2)])
def test_one_hot_number_does_not_shift_the_scale(shape: tuple[int, ...]) -> None:
    """12 bits of uint16 with one pixel at the end of the type; a broken row of a table. A long tail is no fault."""
    rng = np.random.default_rng(0)
    plain = np.clip(rng.normal(2000, 700, shape), 0, 4095)
    x, y = plain.astype(np.uint16), plain.astype(np.uint16)
    y.reshape(len(y), -1)[3, -1] = 65535
    right, hot = (dataset_of(values).spec for values in (x, y))
    assert hot.std == pytest.approx(right.std, rel=0.02)
    assert hot.mean == pytest.approx(right.mean, rel=0.01)
    assert hot.robust
    assert "a few numbers far outside" in " ".join(hot.units())
    long = np.exp(rng.normal(size=shape)).astype(np.float32) if len(shape) > 2 else rng.standard_t(3, size=shape)
    assert not dataset_of(long).spec.robust
