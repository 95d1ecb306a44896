"""Tables of any content: read whole and written as they were, or refused with one sentence."""

import csv
import io
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ornstein.data.cells import MISSING
from ornstein.data.column_spec import ColumnSpec, measure_columns
from ornstein.data.column_types import read_wanted
from ornstein.data.table_files import TableFile
from ornstein.data.table_writing import new_table
from ornstein.errors import OrnsteinError
from ornstein.files.output import Output

WORDS = (
    "red",
    "green",
    'the "best"',
    "a,b",
    "x;y",
    "two\nlines",
    "tab\there",
    " spaced ",
    "über",
    "日本",
    "=1+1",
    "'",
    "0x1F",
)
FORMS = ("%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%H:%M")


def column(rng: Random, rows: int) -> list[str]:
    """The cells of one column."""
    many = [rng.choice(WORDS) for _ in range(4)]
    day = np.datetime64("1990-01-01")
    draw = {
        "integers": lambda: str(rng.randrange(-50, 50)),
        "large": lambda: str(rng.randrange(10**12)),
        "huge": lambda: str(rng.randrange(10**30)),
        "decimals": lambda: f"{rng.gauss(0, 10):.{places}f}",
        "mixed decimals": lambda: repr(round(rng.gauss(0, 10), rng.randrange(5))),
        "exponents": lambda: f"{rng.gauss(0, 1):e}",
        "commas": lambda: f"{rng.gauss(0, 10):.2f}".replace(".", ","),
        "codes": lambda: f"{rng.randrange(20):03d}",
        "words": lambda: rng.choice(many),
        "truth": lambda: rng.choice(["True", "False"]),
        "dates": lambda: (day + rng.randrange(9000)).item().strftime(form),
        "identifiers": lambda: f"id-{rng.randrange(10**9)}",
        "constant": lambda: "same",
        "blank": lambda: "",
        "few": lambda: rng.choice(["0", "0", "0", "7.5", "9"]),
        "any": lambda: rng.choice([*WORDS, "1", "-2.5", "inf", "nan", "", "1e400", "--", "1_000", "٣"]),
    }
    places, form = rng.randrange(1, 5), rng.choice(FORMS)
    make = draw[rng.choice(list(draw))]
    cells = [make() for _ in range(rows)]
    if rng.random() < 0.3:  # holes
        blank = rng.choice(["", "NA", "?", "null"])
        cells = [blank if rng.random() < 0.2 else cell for cell in cells]
    if rng.random() < 0.05:
        cells[rng.randrange(rows)] = rng.choice(["inf", "-Infinity", "oops", "1e999", "12,5,3", "9" * 400])
    return cells


def content(rng: Random) -> bytes:
    """A file, whole or with a fault."""
    rows, width = rng.choice([1, 2, 3, 10, 40, 120]), rng.choice([1, 2, 3, 5, 9, 60])
    names = [f"{rng.choice(['c', 'a b', 'ä', 'n,m'])}{i}" for i in range(width)]
    match rng.randrange(12):
        case 0:
            names[rng.randrange(width)] = ""
        case 1:
            names[rng.randrange(width)] = names[0]
        case 2:
            names = [str(i) for i in range(width)]
    lines = [names, *map(list, zip(*(column(rng, rows) for _ in range(width)), strict=True))]
    match rng.randrange(12):
        case 0:  # ragged
            line = rng.choice(lines)
            line.append("more") if rng.random() < 0.5 else line.pop()
        case 1:
            lines = lines[:1]
        case 2:
            lines.insert(rng.randrange(len(lines)), [])
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=rng.choice(",,,;\t|"),
        lineterminator=rng.choice(["\n", "\r\n"]),
        quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    )
    writer.writerows(lines)
    plain = text.getvalue().rstrip("\r\n") if rng.random() < 0.2 else text.getvalue()
    made = plain.encode(rng.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16"]))
    if rng.random() < 0.15:  # damage
        at = rng.randrange(len(made) + 1)
        made = rng.choice(
            [made[:at], made[:at] + bytes([rng.randrange(256)]) + made[at:], made[:at] + b'"' + made[at:]]
        )
    return made


def cells_of(file: Path) -> list[tuple[str, ...]]:
    """The columns as texts, without the spaces around them."""
    parts = [[list(map(str, cells)) for cells in part] for part in TableFile(str(file)).reader.parts()]
    return [tuple(cell.strip() for part in parts for cell in part[i]) for i in range(len(parts[0]))]


def same(one: str, other: str) -> bool:
    """Whether two cells say the same: the same text, the same number, or both that there is none."""
    if one == other or {one.lower(), other.lower()} <= MISSING:
        return True
    try:
        return float(one.replace(",", ".")) == float(other.replace(",", "."))
    except ValueError:
        return False


def test_tables_come_back_or_are_refused_with_a_sentence(tmp_path: Path, cases: Any) -> None:
    file, again = tmp_path / "some.csv", tmp_path / "again.csv"
    read, refusals = 0, list[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rng in cases(80, 20_000):
            file.write_bytes(content(rng))
            table = TableFile(str(file))
            try:
                columns = table.surveyed()
                bad = {guess.name: "drop" for guess in columns if guess.problem}
                arrays = TableFile(str(file), tuple(read_wanted(bad).items())).load()
                spec = measure_columns(arrays, "some.csv")
            except OrnsteinError as error:
                refusals.append(str(error))
                continue
            read += 1
            assert ColumnSpec.from_json(spec.to_json()).has_units_of(spec)
            with new_table(Output(again, "0" * 64, force=True), spec.columns) as append:
                append(spec.from_model(spec.to_model(arrays.items, wide=True)))
            before, after = cells_of(file), cells_of(again)
            places = [i for i, guess in enumerate(columns) if guess.name not in bad]
            for i, made in zip(places, after, strict=True):
                assert len(made) == len(before[i])
                wrong = [(a, b) for a, b in zip(before[i], made, strict=True) if not same(a, b)]
                assert not wrong, (columns[i], wrong[:3])
    assert read > 20
    assert not [sentence for sentence in refusals if "\n" in sentence or not 10 < len(sentence) < 700]
