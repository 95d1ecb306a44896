"""Variables of HDF5, NetCDF and Zarr files: read by name as they are meant, written back as they were, and nothing followed."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from ornstein import data
from ornstein.data.origins import FileForm, form_of
from ornstein.data.variables import LETTERS, Packing
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.output import Output, recipe_of

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
netcdf_file = pytest.importorskip("scipy.io").netcdf_file

LAT, LON = np.linspace(-80, 80, 6), np.linspace(0, 330, 8, dtype=np.float32)
FILL = np.int16(-32768)
DTYPES = ("float32", "float64", "int16", "uint8", "int64", "uint16", "bool", ">f4")


def values(dtype: str = "float32", shape: tuple[int, ...] = (12, 6, 8)) -> np.ndarray:
    made = np.random.default_rng(0).normal(100, 20, shape)
    return made > 100 if dtype == "bool" else np.clip(made, 0, 250).astype(dtype)


def quietly(source: object, **options: object) -> data.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return data.open(str(source), **options)


def again(dataset: data.Dataset, path: Path) -> data.Dataset:
    """The data, written as the kind of file that they came from, and read."""
    form = form_of(dataset.spec)
    assert form is not None
    with form.new(Output(path, "0" * 64), len(dataset), dataset.spec) as append:
        append(np.asarray(dataset.items[:5]))
        append(np.asarray(dataset.items[5:]))
    return quietly(f"{path}?{getattr(form, 'variable', '')}".rstrip("?"))


def packed() -> np.ndarray:
    raw = np.rint((values() - 100) / 0.01).astype("i2")
    raw[3, 2, 1] = raw[0, 0, 0] = FILL
    return raw


ATTRIBUTES = {
    "units": "K",
    "scale_factor": np.float32(0.01),
    "add_offset": np.float32(100),
    "levels": np.arange(3, dtype="i4"),
}


def netcdf4(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "fields"
        for name, numbers in (("time", np.arange(12.0)), ("lat", LAT), ("lon", LON)):
            file[name] = numbers
            file[name].make_scale(name)
        file["lat"].attrs["units"] = "degrees_north"
        made = file.create_dataset("t2m", data=packed(), fillvalue=FILL)
        made.attrs.update(ATTRIBUTES)
        made.attrs["_FillValue"] = np.array([FILL])
        for place, name in enumerate(("time", "lat", "lon")):
            made.dims[place].attach_scale(file[name])
    return path


def netcdf3(path: Path) -> Path:
    with netcdf_file(path, "w") as file:
        file.title = "fields"
        for name, numbers in (("time", np.arange(12.0)), ("lat", LAT), ("lon", LON)):
            file.createDimension(name, len(numbers))
            file.createVariable(name, numbers.dtype, (name,))[:] = numbers
        made = file.createVariable("t2m", ">i2", ("time", "lat", "lon"))
        made[:] = packed()
        for name, value in (*ATTRIBUTES.items(), ("_FillValue", FILL)):
            setattr(made, name, value)
    return path


def zarr_of(path: Path, numbers: np.ndarray, **about: object) -> Path:
    group = zarr.open_group(path, mode="w")
    made = group.create_array(
        "fields/t2m", shape=numbers.shape, dtype=numbers.dtype, chunks=(5, *numbers.shape[1:]), **about
    )
    made[:] = numbers
    for name, axis in (("lat", LAT), ("lon", LON)):
        group.create_array(f"fields/{name}", shape=axis.shape, dtype=axis.dtype, dimension_names=[name])[:] = axis
    return path


@pytest.mark.parametrize(("make", "name"), [(netcdf4, "a.nc"), (netcdf3, "b.nc")])
def test_packed_fields_are_read_as_they_are_meant_and_written_as_they_were(make, name, tmp_path: Path) -> None:
    source = make(tmp_path / name)
    with pytest.warns(UserWarning, match=r"read as NHW by the names of its axes: time, lat, lon|has missing numbers"):
        dataset = data.open(f"{source}?t2m")
    raw = packed()
    expected = np.where(raw == FILL, np.nan, raw * np.float64(np.float32(0.01)) + 100.0).astype(np.float32)
    np.testing.assert_array_equal(dataset.items, expected)
    assert (dataset.spec.layout, dataset.spec.dtype, dataset.spec.missing) == ("NHW", "float32", True)
    assert quietly(source).spec.content_hash == dataset.spec.content_hash  # the only one that is no coordinate
    made = again(dataset, tmp_path / f"out-{name}")
    np.testing.assert_array_equal(made.items, expected)
    assert (made.spec.origin, made.spec.layout) == (dataset.spec.origin, "NHW")
    assert recipe_of(tmp_path / f"out-{name}") == "0" * 64  # so that the same command may write it again


def test_another_library_reads_netcdf_samples(tmp_path: Path) -> None:
    h5netcdf = pytest.importorskip("h5netcdf")
    again(quietly(netcdf4(tmp_path / "a.nc")), tmp_path / "out.nc")
    with h5netcdf.File(tmp_path / "out.nc", "r") as file:
        made = file.variables["t2m"]
        assert made.dimensions == ("time", "lat", "lon")
        np.testing.assert_array_equal(made[...], packed())
        np.testing.assert_array_equal(file.variables["lat"][...], LAT)
        assert file.variables["lat"].attrs["units"] == "degrees_north"
        assert file.variables["lon"].dtype == LON.dtype
        assert (made.attrs["units"], made.attrs["scale_factor"], file.attrs["title"]) == (
            "K",
            np.float32(0.01),
            "fields",
        )
        assert made.attrs["scale_factor"].dtype == np.float32
        assert "time" not in file.variables  # samples are none of the times of the data


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["h5", "zarr", "zarr2"])  # of which version 3 has no order of bytes
def test_every_type_comes_back(kind: str, dtype: str, tmp_path: Path) -> None:
    numbers, source = values(dtype), tmp_path / f"a.{kind.rstrip('2')}"
    if kind == "h5":
        with h5py.File(source, "w") as file:
            file.create_dataset("fields/t2m", data=numbers, chunks=True, compression="gzip").attrs["units"] = "K"
    else:
        about = {"dimension_names": ["time", "lat", "lon"]} if kind == "zarr" else {}
        if kind == "zarr2":
            zarr.create_array(source, shape=numbers.shape, dtype=dtype, zarr_format=2, attributes={"units": "K"})[:] = (
                numbers
            )
        else:
            zarr_of(source, numbers, attributes={"units": "K"}, **about)
    name = "" if kind == "zarr2" else "?fields/t2m"
    dataset = quietly(f"{source}{name}", layout="NHW")
    np.testing.assert_array_equal(dataset.items, numbers)
    assert dataset.items.dtype == numbers.dtype.newbyteorder("=")
    form = form_of(dataset.spec)
    with form.new(Output(tmp_path / f"out{source.suffix}", "0" * 64), len(numbers), dataset.spec) as append:
        append(dataset.items)
    made = quietly(f"{tmp_path / f'out{source.suffix}'}{name}", layout="NHW")
    np.testing.assert_array_equal(made.items, numbers)
    if kind != "zarr2" or dtype != ">f4":
        assert made.spec.origin == dataset.spec.origin
    about = json.loads(made.spec.origin[1])
    assert about["attributes"]["units"] == ["str", "K"]
    assert sorted(about["coordinates"]) == (["lat", "lon"] if kind == "zarr" else [])


@pytest.mark.parametrize("stored", ["i2", "u1", "i4", "f4"])
def test_packing_is_undone_exactly(stored: str) -> None:
    attributes = {"scale_factor": np.float64(0.03), "add_offset": np.float64(-7), "_FillValue": np.array([0], stored)}
    packing = Packing.of(np.dtype(stored), attributes, "x")
    numbers = np.arange(1, 200).astype(stored)
    meant = packing.unpack(numbers, True)
    np.testing.assert_allclose(meant, numbers.astype(np.float64) * 0.03 - 7, rtol=1e-12)
    np.testing.assert_array_equal(packing.pack(meant), numbers)
    assert np.isnan(packing.unpack(np.zeros(1, stored), True)).all()
    if stored != "f4":
        ends = packing.pack(np.array([-7.0, -1e9, 1e9]))
        assert ends[0] == 1  # never the number that stands for none
        assert ends[1] == np.iinfo(stored).min + (stored == "u1")
        assert ends[2] == np.iinfo(stored).max


def test_unsigned_bytes_by_an_attribute() -> None:
    packing = Packing.of(np.dtype("i1"), {"_Unsigned": "true"}, "x")
    assert packing.unpack(np.array([-1], "i1"), False).tolist() == [255]


def test_whole_numbers_with_a_fill_that_is_not_used_stay_whole(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = values("int16")
        file["x"].attrs["_FillValue"] = FILL
    assert quietly(tmp_path / "a.h5", layout="NHW").spec.dtype == "int16"


def test_axes_are_those_of_their_names_or_asked_for(tmp_path: Path) -> None:
    def named(*names: str) -> Path:
        path = tmp_path / ("-".join(names) + ".h5")
        with h5py.File(path, "w") as file:
            file["x"] = values(shape=(5, 7, 9, 8)[: len(names)])
            for axis, name in zip(file["x"].dims, names, strict=True):
                axis.label = name
        return path

    for names, layout in (
        (("time", "lat", "lon"), "NHW"),
        (("sample", "channel", "y", "x"), "NCHW"),
        (("run", "time", "channel"), "NLC"),
        (("time", "z", "y", "x"), "NDHW"),
    ):
        assert quietly(named(*names)).spec.layout == layout
    with pytest.raises(UsageError, match="items lie along the first one"):
        quietly(named("lat", "lon", "time"))
    with pytest.raises(UsageError, match="in an order that is not known; name them by --layout"):
        quietly(named("time", "lon", "lat"))
    with pytest.raises(UsageError, match="say which by --layout"):
        quietly(named("event", "foo", "bar"))
    assert set(LETTERS.values()) == set("CHWDL")


def h5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = values()
        file["y"] = values()
        file["words"] = np.array([b"a", b"b"])
        file["soft"] = h5py.SoftLink("/x")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
        layout = h5py.VirtualLayout((12, 6, 8), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (12, 6, 8))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("elsewhere", (4, 4), "f4", external=[(str(path.parent / "raw"), 0, 64)])
        file.create_dataset("huge", (1 << 40, 64, 64), "f8", chunks=(1, 64, 64))
        file["group/z"] = values()
    (path.parent / "raw").write_bytes(bytes(64))
    return path


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (None, r"holds 'elsewhere', 'group/z', .*; name one, such as a.h5\?"),
        ("nope", "has no variable 'nope'; it holds"),
        ("words", "items must be whole or floating numbers"),
        ("soft", "is a link to another place"),
        ("outside", "is a link to another place"),
        ("outside/x", "is a link to another place"),
        ("virtual", "lies in other files"),
        ("elsewhere", "lies in other files"),
        ("huge", "was declared with shape .* and never written"),
        ("group", r"is a group; name a data set in it, such as a.h5\?group/NAME"),
        ("x/y", "has no variable 'x/y'"),
    ],
)
def test_hostile_and_wrong_variables_are_one_sentence(variable: str | None, words: str, tmp_path: Path) -> None:
    source = h5(tmp_path / "a.h5")
    with pytest.raises(OrnsteinError, match=words) as refused:
        quietly(f"{source}?{variable}" if variable else source)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("make", [netcdf4, netcdf3, h5])
def test_cut_and_empty_files_are_one_sentence(make, tmp_path: Path) -> None:
    path = make(tmp_path / ("a.h5" if make is h5 else "a.nc"))
    content = path.read_bytes()
    for length in (0, 3, 60, len(content) // 2, len(content) - 3000):
        path.write_bytes(content[:length])
        with pytest.raises(OrnsteinError) as refused:
            quietly(f"{path}?{'x' if make is h5 else 't2m'}")
        assert "\n" not in str(refused.value)


def _metadata(path: Path, **changes: object) -> None:
    file = path / "fields" / "t2m" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_zarr_runs_nothing_and_follows_no_link(tmp_path: Path) -> None:
    source = zarr_of(tmp_path / "a.zarr", values())
    name = f"{source}?fields/t2m"
    assert quietly(name, layout="NHW").spec.count == 12
    codecs = json.loads((source / "fields/t2m/zarr.json").read_text())["codecs"]
    _metadata(source, codecs=[*codecs, {"name": "numcodecs.pickle", "configuration": {}}])
    with pytest.raises(UsageError, match=r"packed by 'numcodecs.pickle', which is not known to be harmless"):
        quietly(name, layout="NHW")
    _metadata(source, codecs=codecs, data_type="string")
    with pytest.raises(UsageError, match=r"holds no array of numbers|items must be whole or floating numbers"):
        quietly(name, layout="NHW")
    source = zarr_of(tmp_path / "b.zarr", values())
    chunk = next(
        Path(here, file) for here, _, files in os.walk(source / "fields/t2m") for file in files if file != "zarr.json"
    )
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"holds the link .*, which is not followed"):
        quietly(f"{source}?fields/t2m", layout="NHW")
    with pytest.raises(OrnsteinError):
        quietly(f"{source}?../a.zarr/fields/t2m", layout="NHW")


def test_objects_of_zarr_2_are_not_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    about = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "|O", "fill_value": None, "order": "C"}
    (folder / ".zarray").write_text(json.dumps({**about, "compressor": None, "filters": [{"id": "pickle"}]}))
    (folder / "0").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UsageError, match="items must be whole or floating numbers"):
        quietly(folder)
    (folder / ".zarray").write_text(
        json.dumps({**about, "dtype": "<f8", "compressor": None, "filters": [{"id": "pickle"}]})
    )
    with pytest.raises(UsageError, match="packed by 'pickle'"):
        quietly(folder)


def test_a_declared_size_that_no_disk_holds_is_refused(tmp_path: Path) -> None:
    source = zarr_of(tmp_path / "a.zarr", values())
    _metadata(source, shape=[1 << 50, 6, 8])
    with pytest.raises(OrnsteinError, match=r"where twice as much is needed"):
        quietly(f"{source}?fields/t2m", layout="NHW", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("shape", "chunks"), [((4, 50_000, 50_000), (1, 100, 100)), ((40, 8, 8), (40_000, 10_000, 10))]
)
def test_pieces_that_take_too_much_memory_are_refused_by_their_declared_size(shape, chunks, tmp_path: Path) -> None:
    """Nothing of them is on the disk."""
    zarr.create_array(str(tmp_path / "a.zarr"), shape=shape, chunks=chunks, dtype="f4")
    with pytest.raises(OrnsteinError, match=r"is read in pieces of 1[06] GB .* save smaller ones"):
        data.open(str(tmp_path / "a.zarr"), layout="NHW")


def test_what_was_never_written_is_missing(tmp_path: Path) -> None:
    """Where the file says by another number than 0 what it holds there."""
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(8, 4, 6), chunks=(4, 4, 6), dtype="i2", fill_value=-99)
    array[:4] = values("int16", (4, 4, 6))
    items = np.asarray(quietly(tmp_path / "a.zarr", layout="NHW").items)
    np.testing.assert_array_equal(items[:4], values("int16", (4, 4, 6)))
    assert np.isnan(items[4:]).all()


@pytest.mark.parametrize("bounds", [{"valid_range": [0, 50]}, {"valid_min": 0, "valid_max": 50}])
def test_numbers_outside_of_the_valid_range_are_missing_and_never_written(bounds, tmp_path: Path) -> None:
    """Packed: the range is of stored numbers."""
    packing = Packing.of(np.dtype("i2"), {**bounds, "scale_factor": 0.5}, "x")
    unpacked = packing.unpack(np.array([-1, 0, 50, 51], "i2"), True)
    np.testing.assert_array_equal(unpacked, [np.nan, 0.0, 25.0, np.nan])
    np.testing.assert_array_equal(packing.pack(np.array([-3.0, 7.5, 99.0])), [0, 15, 50])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.arange(96).reshape(4, 4, 6).astype("f4")
        file["a"].attrs.update({key: np.float32(value) for key, value in bounds.items()})
    assert int(np.isnan(np.asarray(quietly(tmp_path / "a.h5", layout="NHW").items)).sum()) == 45
    with pytest.raises(UsageError, match=r"its attribute valid_range is .* must be 2 numbers"):
        Packing.of(np.dtype("i2"), {"valid_range": 3}, "x")


def test_large_files_are_read_through_the_cache(tmp_path: Path) -> None:
    numbers = values(shape=(300, 64, 64))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = numbers
    made = quietly(tmp_path / "a.h5", layout="NHW", cache=tmp_path / "cache")
    np.testing.assert_array_equal(made.items, numbers)
    assert quietly(tmp_path / "a.h5", layout="NHW", cache=tmp_path / "cache").spec == made.spec
    assert isinstance(form_of(made.spec), FileForm)


def test_a_damaged_origin_is_one_sentence(tmp_path: Path) -> None:
    from dataclasses import replace

    spec = replace(quietly(netcdf4(tmp_path / "a.nc")).spec, origin=("netcdf", '{"variable": 3}'))
    with pytest.raises(OrnsteinError, match="no kind of file that is known"):
        form_of(spec)
    assert form_of(replace(spec, origin=())) is None
    assert type(spec).from_json(json.loads(json.dumps(spec.to_json()))) == spec
