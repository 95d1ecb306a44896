"""Coders of columns: what goes in comes back, slopes are derivatives, types are recognised, and files come back as they were."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein import data
from ornstein.data import coders, dataset_of
from ornstein.data.cells import DateCells, NameCells, NumberCells
from ornstein.data.coders import AnalogBits, Coder, Lattice, LogitCoder, OneHot, QuantileNormal, Sign, StandardCoder
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.column_types import Survey, fit, read_wanted
from ornstein.data.frames import table_of
from ornstein.data.spec import DataSpec
from ornstein.data.table_files import TableFile, read_like
from ornstein.data.table_writing import new_table, typed
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.output import Output

NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 3)), min_size=2, max_size=60)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def spread(values: list[float]) -> np.ndarray:
    numbers = np.array(values, np.float64)
    return numbers if numbers.max() - numbers.min() > 1e-2 else np.append(numbers, numbers[0] + 1.0)


VALUE_CODERS: dict[str, Callable[[np.ndarray], coders.ValueCoder]] = {
    "standard": StandardCoder.of,
    "quantile": QuantileNormal.of,
    "logit": lambda v: LogitCoder.of(v, float(v.min() - 0.1 * np.ptp(v)), float(v.max() + 0.1 * np.ptp(v))),
}


@pytest.mark.parametrize("name", VALUE_CODERS)
@settings(max_examples=25, deadline=None)
@given(values=NUMBERS)
def test_numbers_come_back_in_their_order_with_their_slope(name: str, values: list[float]) -> None:
    numbers = spread(values)
    coder = VALUE_CODERS[name](numbers)
    x = coder.encode(numbers)
    np.testing.assert_allclose(coder.decode(x), numbers, rtol=1e-9, atol=1e-6)
    order = np.unique(numbers)
    assert (np.diff(coder.encode(order)) > 0).all()
    width = np.diff(order)
    inside = order[:-1] + width / 2
    h = 1e-4 * width
    measured = (coder.encode(inside + h) - coder.encode(inside - h)) / (2 * h)
    np.testing.assert_allclose(np.exp(coder.log_slope(inside)), measured, rtol=2e-2)
    assert coders.from_json(json.loads(json.dumps(coder.to_json()))) == coder


def test_numbers_beyond_the_range_stay_finite_and_in_order_and_samples_are_held_to_it() -> None:
    numbers = np.random.default_rng(0).normal(size=400)
    coder = QuantileNormal.of(numbers)
    beyond = np.array([-1e9, numbers.min() - 1, numbers.min(), numbers.max(), numbers.max() + 1, 1e9])
    x = coder.encode(beyond)
    assert np.isfinite(x).all()
    assert (np.diff(x) > 0).all()
    assert coder.decode(x).tolist() == [numbers.min()] * 3 + [numbers.max()] * 3
    np.testing.assert_allclose(np.exp(coder.log_slope(beyond[[0, -1]])), 1 / numbers.std(), rtol=1e-6)


def test_quantiles_make_any_distribution_normal() -> None:
    numbers = np.random.default_rng(0).lognormal(3, 2, 20_000)
    x = QuantileNormal.of(numbers).encode(numbers)
    assert abs(x.mean()) < 0.01
    assert x.std() == pytest.approx(1, abs=0.01)
    assert (x**4).mean() == pytest.approx(3, abs=0.15)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers(-5000, 5000), min_size=2, max_size=60), dither=st.floats(-0.5, 0.499))
def test_whole_numbers_come_back_exactly_wherever_they_lie_in_their_bin(values: list[int], dither: float) -> None:
    numbers = np.array(values if len(set(values)) > 1 else [*values, values[0] + 1], np.float64)
    survey = Survey("n")
    survey.add([str(int(v)) for v in numbers])
    column = fit(survey.as_wanted(read_wanted(["n=integer"])["n"]), numbers)
    assert isinstance(column.value, Lattice)
    x = column.encode(numbers, np.full(len(numbers), dither))
    assert np.array_equal(column.decode(x), numbers)
    assert type(column).from_json(json.loads(json.dumps(column.to_json()))) == column


def test_the_noise_of_whole_numbers_makes_them_normal() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.poisson(3.0, 20_000).astype(np.float64)
    coder = QuantileNormal.of_lattice(numbers, 1.0)
    x = coder.encode(numbers + rng.random(len(numbers)) - 0.5)
    assert abs(x.mean()) < 0.02
    assert x.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", [OneHot, AnalogBits, Sign])
@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(1, 50), min_size=2, max_size=40), noise=st.integers(0, 1000))
def test_states_come_back_also_from_near_them(kind: type[Coder], counts: list[int], noise: int) -> None:
    counts = counts[:2] if kind is Sign else counts
    coder = kind.of(np.array(counts))  # type: ignore[attr-defined]
    states = np.arange(len(counts))
    x = coder.encode(states)
    assert x.shape == (len(counts), coder.width)
    distance = min(np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i])
    near = x + np.random.default_rng(noise).uniform(-1, 1, x.shape) * 0.4 * distance / math.sqrt(coder.width) / 2
    assert coder.decode(near).tolist() == states.tolist()
    mean = np.array(counts) @ x / sum(counts)
    chances = coder.probabilities(mean[None])
    assert chances.sum() == pytest.approx(1)
    if kind is not AnalogBits:
        np.testing.assert_allclose(chances[0], np.array(counts) / sum(counts), atol=1e-9)
    assert coders.from_json(json.loads(json.dumps(coder.to_json()))) == coder


def guess_of(cells: list[str | None], name: str = "c") -> tuple[str, str]:
    survey = Survey(name)
    survey.add(cells)
    guess = survey.guess()
    return guess.type, guess.problem


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "5", "7", ""] * 5, "integer"),
        (["1.5", "2", "-3e4", "NA"] * 5, "numeric"),
        (["1,5", "2,25", "3"] * 5, "numeric"),
        (["yes", "no", "no", ""] * 5, "boolean"),
        (["0", "1", "1"] * 5, "boolean"),
        (["a", "b", "c", "?"] * 5, "category"),
        (["007", "012", "013"] * 5, "category"),
        (["2020-01-02", "2021-12-31"] * 5, "date"),
        (["31.12.2020", "01.02.2021"] * 5, "date"),
        (["2020-01-02T10:11:12", "2021-12-31T00:00:00"] * 5, "date"),
        (["x"] * 5, "constant"),
        ([""] * 5, "constant"),
        ([str(i) for i in range(50)], "identifier"),
        ([f"u{i:05d}" for i in range(50)], "identifier"),
        ([f"the cat number {i} sat on the mat and slept" for i in range(50)], "text"),
        ([*(str(i) for i in range(40)), "oops"], "mixed"),
        (["123456789012345678901"] * 3 + ["223456789012345678901"] * 3, "identifier"),
    ],
)
def test_types_are_recognised(cells: list[str | None], kind: str) -> None:
    found, problem = guess_of(cells)
    assert found == kind
    assert bool(problem) == (kind in ("identifier", "text", "mixed"))


def test_an_infinite_number_is_named_by_its_row() -> None:
    assert "inf in row 3" in guess_of(["1.5", "2.5", "inf", "7"])[1]


def test_what_a_user_says_overrides_and_is_checked() -> None:
    survey = Survey("n")
    survey.add(["1", "2", "3"] * 9)
    kinds = ("n=category", "n=numeric:standard", "n=bounded:0:10", "n=drop")
    assert [survey.as_wanted(read_wanted([text])["n"]).type for text in kinds] == [
        "category",
        "numeric",
        "numeric",
        "drop",
    ]
    for text, sentence in (
        ("n=int", "no type 'int'"),
        ("n", "NAME=TYPE"),
        ("n=numeric:cube", "quantile or standard"),
        ("n=integer:x", "takes nothing more"),
    ):
        with pytest.raises(UsageError, match=sentence):
            read_wanted([text])
    for text, sentence in (("n=bounded:2:5", "do not lie between"), ("n=boolean", "not two"), ("n=date", "no date")):
        with pytest.raises(UsageError, match=sentence):
            survey.as_wanted(read_wanted([text])["n"])


def people(rows: int = 400, seed: int = 0) -> list[list[str]]:
    """A table of all types, with blanks, atoms, quotes and names beyond ASCII."""
    rng = np.random.default_rng(seed)
    lines = [["age", "job", "price", "gain", "ok", "when", "at", "note", "same", "share"]]
    for _ in range(rows):
        lines.append(
            [
                str(rng.integers(17, 90)) if rng.random() > 0.1 else "",
                str(rng.choice(["a,b", 'c "d"', "line\nbreak", "über"])),
                f"{rng.lognormal(2, 1):.2f}",
                "0" if rng.random() < 0.8 else str(rng.integers(1, 10_000)),
                str(rng.choice(["yes", "no"])),
                str(np.datetime64("2020-01-01") + int(rng.integers(0, 1000))),
                f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}",
                str(rng.choice(["x", "y", ""])),
                "same",
                f"{rng.beta(2, 3):.4f}",
            ]
        )
    return lines


def written(place: Path, lines: list[list[str]], **form: str) -> Path:
    with place.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n", **form).writerows(lines)  # type: ignore[arg-type]
    return place


def test_a_table_comes_back_cell_for_cell(tmp_path: Path) -> None:
    lines = people()
    dataset = data.open(written(tmp_path / "people.csv", lines), columns=["share=bounded"])
    spec = dataset.spec
    assert isinstance(spec, ColumnSpec)
    kinds = [column.type for column in spec.columns]
    assert kinds == [
        *["integer", "category", "numeric", "integer", "boolean", "date", "date", "category", "constant", "numeric"]
    ]
    assert spec.columns[3].atoms == (0.0,)
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))).has_units_of(spec)
    for step in (None, (3, 5)):  # in the middle of their bins, and anywhere in them
        x, labels = replace(dataset, step=step).batch(np.arange(len(dataset)))  # type: ignore[call-arg]
        assert (tuple(x.shape), labels) == ((400, *spec.shape), None)
        rows = spec.from_model(x)
        output = Output(tmp_path / f"again-{step is None}.csv", "0" * 64)
        with new_table(output, spec.columns) as append:
            append(rows[:150])
            append(rows[150:])
        with output.path.open(encoding="utf-8", newline="") as file:
            assert list(csv.reader(file)) == lines


def test_the_dimensions_of_each_column_cover_the_model(tmp_path: Path) -> None:
    spec = data.open(written(tmp_path / "people.csv", people())).spec
    parts = spec.dimensions
    assert [part.name for part in parts] == [c.name for c in spec.columns]  # type: ignore[attr-defined]
    assert [i for part in parts for i in part.all] == list(range(spec.shape[0]))
    gain = parts[3]
    assert (len(gain.states), len(gain.values)) == (1, 1)
    vectors = data.open("moons").spec
    assert [part.all for part in vectors.dimensions] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("name", "form", "encoding", "mark"),
    [
        ("a.csv", {}, "utf-8", "."),
        ("b.csv", {"delimiter": ";"}, "utf-8-sig", ","),
        ("c.tsv", {"delimiter": "\t"}, "utf-8", "."),
        ("d.csv", {"delimiter": "|", "quoting": csv.QUOTE_ALL}, "utf-16", "."),
        ("e.csv", {"delimiter": ";"}, "cp1252", ","),
    ],
)
def test_dialects_encodings_and_decimal_marks_are_recognised(
    tmp_path: Path, name: str, form: dict[str, str], encoding: str, mark: str
) -> None:
    lines = [[cell.replace(".", mark) if i in (2, 9) else cell for i, cell in enumerate(line)] for line in people(120)]
    file = written(tmp_path / name, lines, **form)
    file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    plain = data.open(written(tmp_path / "plain.csv", people(120)))
    with pytest.warns(UserWarning, match="cp1252") if encoding == "cp1252" else _nothing():
        dataset = data.open(file)
    np.testing.assert_array_equal(np.asarray(dataset.items), np.asarray(plain.items))
    assert dataset.spec.columns[2].cells.mark == mark  # type: ignore[attr-defined]


def _nothing() -> object:
    from contextlib import nullcontext

    return nullcontext()


def test_other_data_are_read_in_the_columns_of_a_run(tmp_path: Path) -> None:
    lines = people()
    run = data.open(written(tmp_path / "people.csv", lines)).spec
    order = [3, 0, 1, 2, 9, 8, 7, 6, 5, 4]
    mixed = [[line[i] for i in order] for line in lines[:1] + lines[50:]]
    other = data.open(written(tmp_path / "other.csv", mixed), like=run)
    assert other.spec.has_units_of(run)
    whole = data.open(tmp_path / "people.csv", like=run)
    assert whole.spec.content_hash == run.content_hash
    np.testing.assert_array_equal(np.asarray(other.items), np.asarray(whole.items)[49:])
    with pytest.raises(UsageError, match="lacks the column gain"):
        data.open(written(tmp_path / "less.csv", [line[1:] for line in mixed]), like=run)
    wrong = written(tmp_path / "wrong.csv", [*mixed[:5], [*mixed[5][:2], "pilot", *mixed[5][3:]]])
    with pytest.warns(UserWarning, match="1 of 5 rows .* such as 'pilot' in column job, and are left out"):
        assert len(data.open(wrong, like=run)) == 4
    arrays = read_like(TableFile(str(wrong)).reader, run.columns, optional=True)  # type: ignore[attr-defined]
    assert np.isnan(arrays.items[:, 1]).tolist() == [False] * 4 + [True]
    wrong = written(tmp_path / "wrong.csv", [*mixed[:5], [*mixed[5][:1], "old", *mixed[5][2:]]])
    with pytest.raises(UsageError, match="column age holds 'old' in row 5: it is no number"):
        data.open(wrong, like=run)


def test_sqlite_tables_are_read(tmp_path: Path) -> None:
    import sqlite3

    base = sqlite3.connect(tmp_path / "some.db")
    base.execute('CREATE TABLE "my people" (age INTEGER, job TEXT, price REAL)')
    rows = [(int(a) if a else None, job, float(price)) for a, job, price, *_ in people()[1:]]
    base.executemany('INSERT INTO "my people" VALUES (?, ?, ?)', rows)
    base.commit()
    base.close()
    spec = data.open(f"sqlite:{tmp_path / 'some.db'}?my people").spec
    assert [column.type for column in spec.columns] == ["integer", "category", "numeric"]  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="no table 'people'; give one of my people"):
        data.open(f"sqlite:{tmp_path / 'some.db'}?people")


def test_cells_are_written_as_they_were() -> None:
    assert NumberCells(2, True).write(np.array([1.0, -0.001, np.nan])) == ["1.00", "0.00", ""]
    assert NumberCells(2, False, ",").write(np.array([1.0, 2.5])) == ["1", "2,5"]
    assert NumberCells(0, False, ".", True, "NA").write(np.array([3.0, np.nan])) == ["3", "NA"]
    assert NameCells(("a", "b"), "?").write(np.array([1.0, np.nan])) == ["b", "?"]
    assert DateCells("%d.%m.%Y").write(np.array([0.0, 18262.0])) == ["01.01.1970", "01.01.2020"]


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    plain = data.open(written(tmp_path / "people.csv", people())).spec.to_json()
    for change in (
        {"shape": [3]},
        {"columns": plain["columns"][:2]},
        {"columns": [{**plain["columns"][0], "states": None}, *plain["columns"][1:]]},
        {"columns": [{**plain["columns"][0], "cells": {"type": "Path"}}, *plain["columns"][1:]]},
    ):
        with pytest.raises((ValueError, KeyError, TypeError)):
            DataSpec.from_json({**plain, **change})


def test_the_source_is_surveyed_without_a_training(tmp_path: Path) -> None:
    file = written(tmp_path / "people.csv", people())
    assert [guess.type for guess in TableFile(str(file)).surveyed()][:3] == ["integer", "category", "numeric"]
    with pytest.raises(OrnsteinError, match="no such column; did you mean age"):
        data.open(file, columns={"agee": "integer"})


class Frame:
    """What a frame has that is looked at."""

    def __init__(self, **columns: object) -> None:
        self._columns = {name: np.asarray(values) for name, values in columns.items()}
        self.columns = list(columns)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def to_numpy(self) -> np.ndarray:
        return np.stack([column.astype(object) for column in self._columns.values()], 1)


def values(count: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "age": rng.integers(20, 60, count).astype(np.int32),
        "wage": np.where(rng.random(count) < 0.2, np.nan, rng.normal(size=count)).astype(np.float32),
        "job": np.array([None if i % 7 == 0 else ("cook", "baker")[i % 2] for i in range(count)], object),
        "old": rng.random(count) < 0.5,
        "since": np.datetime64("2001-01-01") + rng.integers(0, 400, count),
    }


@pytest.mark.parametrize("library", ["", "pandas", "polars"])
def test_frames_are_tables_and_come_back_as_columns(library: str) -> None:
    plain = values()
    frame = pytest.importorskip(library).DataFrame(plain) if library else Frame(**plain)
    dataset = dataset_of(frame)
    spec = dataset.spec
    assert isinstance(spec, ColumnSpec)
    assert [c.type for c in spec.columns] == ["integer", "numeric", "category", "boolean", "date"]
    back = typed(spec.columns, spec.from_model(spec.to_model(np.asarray(dataset.items), wide=True)))
    assert [back[name].dtype for name in ("age", "wage", "old")] == [np.int32, np.float32, np.bool_]
    np.testing.assert_allclose(back["wage"], plain["wage"], rtol=1e-6)
    for name in ("age", "job", "old"):
        assert back[name].tolist() == plain[name].tolist()
    assert (back["since"].astype("datetime64[D]") == plain["since"].astype("datetime64[D]")).all()


def test_frames_of_numbers_stay_vectors_unless_types_are_said() -> None:
    frame = Frame(a=np.arange(50) % 7, b=np.random.default_rng(0).normal(size=50))
    assert dataset_of(frame).spec.kind == "vector"
    spec = dataset_of(frame, columns={"a": "category"}).spec
    assert [column.type for column in spec.columns] == ["category", "numeric"]  # type: ignore[attr-defined]
    like = table_of(Frame(b=[0.0, np.nan], a=[3, 4]), like=spec)
    assert like.spec.has_units_of(spec)
    np.testing.assert_array_equal(np.asarray(like.items), [[3.0, 0.0], [4.0, np.nan]])
