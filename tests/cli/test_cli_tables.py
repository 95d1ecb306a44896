"""Tables on the command line: types, training, samples as a file of the same form."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ornstein.cli import main


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small table of two groups, with blanks and an atom."""
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("table") / "people.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["age", "job", "gain", "price"])
        for _ in range(600):
            cook = rng.random() < 0.3
            age = rng.integers(20, 30) if cook else rng.integers(60, 90)
            gain = 0 if rng.random() < 0.5 else rng.integers(1, 999)
            writer.writerow(
                [age, "cook" if cook else "baker, old", gain, "" if rng.random() < 0.2 else f"{age * 1.5:.2f}"]
            )
    return file


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    folder = table.parent / "run"
    words = ["--data", str(table), "--out", str(folder), "--steps", "150", "--samples", "4", "--preset", "tiny"]
    assert main(["train", *words, "--batch-size", "128", "--cache", str(table.parent / "cache")]) == 0
    return folder


def rows_of(file: Path, delimiter: str = ",") -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream, delimiter=delimiter))


def test_types_are_printed_with_the_reason(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(table), "--column", "age=numeric", "--column=gain=drop"]) == 0
    text = capsys.readouterr().out
    for words in (
        "age     numeric   as you say",
        "gain    drop",
        "price   numeric   numbers from",
        "--column age=numeric",
    ):
        assert words in text
    assert main(["data", str(table), "--column", "agee=integer"]) == 2
    assert "did you mean age?" in capsys.readouterr().err


def test_samples_are_a_file_of_the_same_form(table: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "fake.csv"
    assert main(["sample", str(run), "-n", "300", "--out", str(out)]) == 0
    real, fake = rows_of(table), rows_of(out)
    assert fake[0] == real[0]
    assert len(fake) == 301
    columns = list(zip(*fake[1:], strict=True))
    assert set(columns[1]) == {"cook", "baker, old"}
    assert all(cell == str(int(cell)) and 20 <= int(cell) < 90 for cell in columns[0])
    assert all(cell == "" or cell == f"{float(cell):.2f}" for cell in columns[3])
    shares = [sum(cell == value for cell in rows) / len(rows) for rows, value in ((columns[3], ""), (columns[2], "0"))]
    assert shares == pytest.approx([0.2, 0.5], abs=0.12)
    tsv = out.with_suffix(".tsv")
    assert main(["sample", str(run), "-n", "300", "--out", str(tsv)]) == 0
    assert rows_of(tsv, "\t") == fake
    capsys.readouterr()
    assert main(["sample", str(run), "-n", "3", "--out", str(out)]) == 2  # nothing shows that it is ours
    assert "--force" in capsys.readouterr().err
    assert main(["sample", str(run), "-n", "3", "--out", str(out.with_suffix(".png"))]) == 2
    assert "no file of a table" in capsys.readouterr().err


def test_the_page_of_a_run_shows_its_columns(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for name in ("age", "job", "gain", "price", "age × price"):
        assert f">{name}</text>" in page


def test_parquet_keeps_types(table: Path, run: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = table.parent / "fake.parquet"
    for _ in range(2):  # its stamp shows that the same command wrote it
        assert main(["sample", str(run), "-n", "50", "--out", str(out)]) == 0
    schema = parquet.read_table(out).schema
    assert [str(field.type) for field in schema] == ["int64", "string", "int64", "double"]
    assert main(["data", str(out)]) == 0


def test_samples_are_measured_column_by_column(table: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "scores.json"
    words = ["--data", str(table), "--train-data", str(table), "-n", "300", "--metrics", "c2st", "--out", str(out)]
    assert main(["evaluate", str(run), *words, "--target", "job"]) == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    scores = {score["name"]: score for score in record["scores"]}
    for name in ("marginals, mean distance", "pairs, mean distance"):
        score = scores[name]
        assert 0 < score["low"] <= score["value"] <= score["high"] < 0.5
        assert 0 < score["floor"]["value"] < 0.2
    assert record["by_class"].keys() == {"age", "job", "gain", "price"}
    assert "C2ST accuracy" in scores
    capsys.readouterr()
    assert main(["evaluate", str(run), *words, "--target", "jobb"]) == 2
    assert "did you mean job?" in capsys.readouterr().err
    assert main(["evaluate", str(run), *words, "--samples", str(table), "--force"]) == 0  # the data themselves
    same = json.loads(out.read_text(encoding="utf-8"))
    assert {s["name"]: s["value"] for s in same["scores"]}["marginals, mean distance"] < 0.1
