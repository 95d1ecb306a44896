"""Tables in long form as series, and series as tables in long form."""

import csv
import io
import warnings
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from ornstein import data
from ornstein.data.origins import form_of
from ornstein.errors import UsageError
from ornstein.files.output import Output

HEADER = ["store", "day", "sales", "temp"]


def rows(lengths: dict[str, int], leave_out: tuple[tuple[str, int], ...] = ()) -> list[list[object]]:
    rng = np.random.default_rng(0)
    made = []
    for name, length in lengths.items():
        for t in range(length):
            row = [
                name,
                (date(2024, 2, 27) + timedelta(t)).isoformat(),
                int(rng.integers(0, 90)),
                f"{rng.normal(10):.1f}",
            ]
            if (name, t) not in leave_out:
                made.append(row)
    return made


def write(path: Path, some: list[list[object]], header: list[str] = HEADER) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *some])
    path.write_text(text.getvalue())
    return path


def opened(path: Path, **options: object) -> data.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return data.open(path, **{"time": "day", "id": "store", **options})


def test_rows_in_any_order_become_series_and_come_back_as_they_were(tmp_path: Path) -> None:
    some = rows({"a": 9, "b": 9, "c": 9})
    path = write(tmp_path / "a.csv", [some[i] for i in np.random.default_rng(1).permutation(len(some))])
    dataset = opened(path)
    assert (dataset.spec.layout, dataset.items.shape, dataset.spec.missing) == ("NLC", (3, 9, 2), False)
    expected = np.array([[float(row[2]), float(row[3])] for row in some]).reshape(3, 9, 2)
    np.testing.assert_array_equal(dataset.items, expected)
    form = form_of(dataset.spec)
    with form.new(Output(tmp_path / "out.csv", "0" * 64), 3, dataset.spec) as append:
        append(dataset.items[:1])
        append(dataset.items[1:])
    named = [[str("abc".index(str(row[0]))), *map(str, row[1:])] for row in some]
    assert list(csv.reader((tmp_path / "out.csv").read_text().splitlines())) == [
        HEADER,
        *named,
    ]  # dates, decimals and order
    assert opened(tmp_path / "out.csv").spec.content_hash == dataset.spec.content_hash


def test_whole_numbers_stay_whole_and_decimal_commas_are_kept(tmp_path: Path) -> None:
    some = [row[:3] for row in rows({"a": 5, "b": 5})]
    assert opened(write(tmp_path / "a.csv", some, HEADER[:3])).items.dtype == np.int64
    text = "t;id;v\n" + "".join(f"{t};{i};{t + i},5\n" for i in range(2) for t in range(4))
    (tmp_path / "b.csv").write_text(text)
    dataset = opened(tmp_path / "b.csv", time="t", id="id")
    assert dataset.spec.layout == "NL"
    with form_of(dataset.spec).new(Output(tmp_path / "out.csv", "0" * 64), 2, dataset.spec) as append:
        append(dataset.items)
    assert (tmp_path / "out.csv").read_text() == text


def test_gaps_are_missing(tmp_path: Path) -> None:
    some = rows({"a": 6, "b": 6}, leave_out=(("b", 2),))
    some[0][3] = ""
    path = write(tmp_path / "a.csv", some)
    with pytest.warns(UserWarning, match="3 numbers of .* are missing"):
        dataset = data.open(path, time="day", id="store")
    assert np.argwhere(np.isnan(dataset.items)).tolist() == [[0, 0, 1], [1, 2, 0], [1, 2, 1]]
    assert dataset.spec.missing


def test_other_lengths_are_cut_where_it_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows({"a": 9, "b": 7}))
    with pytest.raises(UsageError, match=r"series of 7 \(store b\) to 9 times \(store a\); .*--crop 7"):
        opened(path)
    assert opened(path, crop=4).items.shape == (3, 4, 2)
    whole = opened(write(tmp_path / "b.csv", rows({"a": 4, "b": 4})))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert data.open(path, like=whole.spec).items.shape == (3, 4, 2)  # by the names and the length of a run


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda some: some.append(["a", "2024-02-27", 1, "1.0"]), "store a has two rows of one day"),
        (lambda some: some.append(["", "2024-02-27", 1, "1.0"]), "row 11 has no store"),
        (lambda some: some.append(["a", "", 1, "1.0"]), "row 11 has no day"),
        (lambda some: some.append(["a", "2031-02-27", 1, "1.0"]), "fill less than 1 %"),
        (lambda some: some.append(["a", "2024-03-08", 1, "warm"]), "column temp holds no numbers"),
        (lambda some: some.clear(), "has no rows"),
    ],
)
def test_what_is_no_series_is_one_sentence(change, words: str, tmp_path: Path) -> None:
    some = rows({"a": 5, "b": 5})
    change(some)
    with pytest.raises(UsageError, match=words) as refused:
        opened(write(tmp_path / "a.csv", some))
    assert "\n" not in str(refused.value)


def test_times_that_are_not_even_are_refused(tmp_path: Path) -> None:
    text = "t,id,v\n" + "".join(f"{t},{i},{t}\n" for i in range(2) for t in (0, 1, 2, 3.5))
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UsageError, match=r"the times are not even: .* of id 0 is no whole number of steps"):
        opened(tmp_path / "a.csv", time="t", id="id")
    with pytest.raises(UsageError, match="needs id"):
        data.open(tmp_path / "a.csv", time="t")
    with pytest.raises(UsageError, match=r"id: .* has no column 'x'"):
        opened(tmp_path / "a.csv", time="t", id="x")
    with pytest.raises(UsageError, match="columns of a table in long form"):
        data.open("digits", time="t")
