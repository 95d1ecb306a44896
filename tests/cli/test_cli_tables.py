"""Tables on the command line: types, training, samples as a file of the same form."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import ornstein
from ornstein import export
from ornstein.cli import main
from ornstein.cli.predict import _table
from ornstein.data.arrays import Arrays
from ornstein.data.cells import DateCells
from ornstein.data.column_spec import measure_columns
from ornstein.data.column_types import Guess
from ornstein.errors import UsageError
from ornstein.runs.predicting import ColumnPrediction


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
    words = ["--data", str(table), "--out", str(folder), "--steps", "250", "--samples", "4", "--preset", "tiny"]
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


def test_what_would_lose_the_columns_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "safetensors", "--out", str(run.parent / "some.safetensors")]) == 2
    assert "use `ornstein sample`" in capsys.readouterr().err
    with pytest.raises(UsageError, match="use `ornstein sample`"):
        export.write(ornstein.load(run), export.Safetensors(), run.parent / "some.safetensors")


@pytest.mark.parametrize("command", ["distil", "reflow"])
def test_nothing_else_is_made_of_a_run_that_takes_known_numbers(
    command: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(run), "--out", str(run.parent / "made"), "--steps", "1"]) == 2
    assert "train a run with --given none" in capsys.readouterr().err
    assert not (run.parent / "made").exists()


def test_each_column_of_numbers_has_a_score_in_its_own_unit(
    table: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "calibration.json"
    words = [
        "calibrate",
        str(run),
        "--data",
        str(table),
        "-n",
        "40",
        "--draws",
        "20",
        "--steps",
        "4",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    scores = {score["name"]: score for score in json.loads(out.read_text(encoding="utf-8"))["scores"]}
    assert {name for name in scores if "CRPS" in name} == {"CRPS of age", "CRPS of gain", "CRPS of price"}
    assert all(
        0 < scores[f"CRPS of {name}"]["value"] < most for name, most in (("age", 30), ("gain", 500), ("price", 45))
    )
    capsys.readouterr()
    assert main([*words, "--density", "--force"]) == 2  # before anything is drawn
    assert "other conditions than known numbers" in capsys.readouterr().err


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
    assert "did you mean 'job'?" in capsys.readouterr().err
    assert main(["evaluate", str(run), *words, "--samples", str(table), "--force"]) == 0  # the data themselves
    same = json.loads(out.read_text(encoding="utf-8"))
    assert {s["name"]: s["value"] for s in same["scores"]}["marginals, mean distance"] < 0.1


def test_a_short_table_trains_a_small_network_by_default(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", str(table), "--out", str(table.parent / "short"), "--dry-run"]
    for more, says in (
        ([], "mlp mini"),
        (["--network", "columns"], "columns tiny"),
        (["--preset", "small"], "mlp small"),
    ):
        assert main([*words, *more]) == 0
        assert says in capsys.readouterr().out


def test_samples_in_which_columns_have_these_values(table: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "some.csv"
    words = ["sample", str(run), "-n", "200", "--out", str(out)]
    assert main([*words, "--where", "job=baker, old", "--where", "gain=0"]) == 0
    columns = dict(zip(rows_of(out)[0], zip(*rows_of(out)[1:], strict=True), strict=True))
    assert (set(columns["job"]), set(columns["gain"])) == ({"baker, old"}, {"0"})
    assert np.mean([int(age) >= 55 for age in columns["age"]]) > 0.8
    capsys.readouterr()
    for where, sentence in (
        ("job=pilot", "no such category; give one of 'baker, old', 'cook'."),
        ("jbo=cook", "did you mean 'job'?"),
        ("age=999", "go from 20 to 89"),
        ("age=old", "it is no number"),
        ("age=40.5", "it is no whole number"),
        ("price=70.551", "the column has no such values, it would say 70.55;"),
        ("age=", "a missing value cannot be given"),
        ("age", "give COLUMN=VALUE"),
        ("=3", "give COLUMN=VALUE"),
    ):
        assert main([*words, "--where", where]) == 2
        assert sentence in capsys.readouterr().err
    assert main([*words, "--where", "age=30", "--where", "age=31"]) == 2
    assert "said twice" in capsys.readouterr().err


def holes(table: Path) -> Path:
    """The first rows with a hole in each, in other columns from row to row."""
    lines = rows_of(table)[:81]
    for number, line in enumerate(lines[1:]):
        line[number % 4] = ""
    file = table.parent / "holes.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
    return file


def test_holes_are_filled_and_all_else_is_as_it_was(table: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = holes(table), table.parent / "filled.csv"
    assert main(["impute", str(run), str(file), "--draws", "3", "--out", str(out)]) == 0
    before, after = rows_of(file), rows_of(out)
    assert after[0] == ["draw", *before[0]]
    assert [line[0] for line in after[1:]] == [str(draw) for draw in (1, 2, 3) for _ in range(80)]
    for line, old in zip(after[1:], before[1:] * 3, strict=True):
        assert all(line[1:])
        assert all(new == cell for new, cell in zip(line[1:], old, strict=True) if cell)
    jobs = [(line[2], truth[1]) for line, truth in zip(after[1:], rows_of(table)[1:81] * 3, strict=True)]
    assert np.mean([one == other for one, other in jobs]) > 0.9
    assert main(["impute", str(run), str(out), "--out", str(out.with_suffix(".tsv"))]) == 2
    assert "has no holes" in capsys.readouterr().err


def test_a_column_is_predicted_from_the_others(table: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "predicted.csv"
    assert main(["predict", str(run), str(table), "--column", "job", "--draws", "8", "--out", str(out)]) == 0
    made, real = rows_of(out), rows_of(table)
    assert made[0] == ["job", "P(job=baker, old)", "P(job=cook)"]
    assert np.mean([one[0] == other[1] for one, other in zip(made[1:], real[1:], strict=True)]) > 0.9
    assert np.allclose(np.array([line[1:] for line in made[1:]], float).sum(1), 1, atol=1e-5)
    words = ["predict", str(run), str(holes(table)), "--column", "age", "--draws", "20"]
    assert main([*words, "--out", str(out), "--force"]) == 0
    made = rows_of(out)
    assert made[0] == ["age mean", "age 5%", "age 25%", "age 50%", "age 75%", "age 95%"]
    numbers = np.array(made[1:], float)
    assert (np.diff(numbers[:, 1:], axis=1) >= 0).all()
    assert all(len(line[0].partition(".")[2]) <= 2 for line in made[1:])  # two decimals more than the column itself
    some = table.parent / "some-columns.csv"
    some.write_text("gain,job\n0,cook\n5000,cook\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(run), str(some), "--column", "age", "--draws", "2", "--out", str(out), "--force"]) == 0
    said = capsys.readouterr().out
    assert "lacks price: missing in all rows" in said
    assert "1 of 2 numbers of column gain" in said
    assert main(["predict", str(run), str(table), "--out", str(out)]) == 2
    assert "needs --column" in capsys.readouterr().err


def test_the_mean_of_dates_is_a_date() -> None:
    """And not a number of days."""
    days = Guess("day", "date", DateCells("%d.%m.%Y"), "")
    spec = measure_columns(Arrays(np.arange(100.0)[:, None], layout="NK", columns=(days,)), "here")
    columns, values = _table(spec.columns[0], ColumnPrediction((), None, np.array([[0.0, 1.0, 3.0]])))
    assert columns[0].name == "day mean"
    assert columns[0].cells.write(values[:, 0]) == ["02.01.1970"]


def test_the_likelihood_of_rows_tells_strange_ones(table: Path, run: Path) -> None:
    lines = rows_of(table)[:41]
    for line in lines[21:]:
        line[1] = "cook" if line[1] != "cook" else "baker, old"
    file, out = table.parent / "strange.csv", table.parent / "likelihood.json"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
    assert main(["likelihood", str(run), "--data", str(file), "--steps", "16", "--per-item", "--out", str(out)]) == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    nats = np.array(record["items"]["nats"])
    assert nats[20:].mean() > nats[:20].mean() + 1
    assert record["rows"].keys() == {"−log p", "states of columns", "numbers, given these"}


def test_rows_that_the_model_has_no_state_for_are_not_measured(
    table: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No training row lacks its job or age; a missing one has no probability, and least of all that of another job."""
    lines = rows_of(table)[:5]
    lines[2][1] = lines[3][0] = ""
    file, out = table.parent / "lacking.csv", table.parent / "lacking.json"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
    assert main(["likelihood", str(run), "--data", str(file), "--steps", "12", "--per-item", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "2 of 4 rows of" in said
    assert "a missing value in column job, and are left out" in said
    assert len(json.loads(out.read_text(encoding="utf-8"))["items"]["nats"]) == 2
    loaded = ornstein.load(run)
    rows = np.asarray(ornstein.data.open(file, like=loaded.spec).items)
    with pytest.raises(UsageError, match="row 1 has nan in column job"):
        loaded.log_prob(rows)


@pytest.mark.slow
def test_answers_are_those_of_a_known_distribution(tmp_path: Path) -> None:
    """A category and two numbers, normal given it: log p of rows, and p(category | rest) of any part of the rest."""
    rng = np.random.default_rng(0)
    share, mean, std, shift, slope, noise = [0.3, 0.7], [20.0, 32.0], [4.0, 8.0], [0.15, 0.0], 0.02, 0.1

    def density(x: np.ndarray, mean: np.ndarray | float, std: float) -> np.ndarray:
        return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)

    def written(count: int, file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The categories, and log p(category, the numbers that are named), (N, 2)."""
        kind = (rng.random(count) < share[1]).astype(int)
        a = np.take(mean, kind) + np.take(std, kind) * rng.normal(size=count)
        b = slope * a + np.take(shift, kind) + noise * rng.normal(size=count)
        with file.open("w", newline="", encoding="utf-8") as stream:
            lines = ([["x", "y"][k], f"{u:.6f}", f"{v:.6f}"] for k, u, v in zip(kind, a, b, strict=True))
            csv.writer(stream, lineterminator="\n").writerows([["kind", "a", "b"], *lines])
        exact: dict[str, list[np.ndarray]] = {"a": [], "b": [], "ab": []}
        for k in range(2):
            own = np.log(share[k]) + density(a, mean[k], std[k])
            exact["a"].append(own)
            exact["ab"].append(own + density(b, slope * a + shift[k], noise))
            alone = density(b, slope * mean[k] + shift[k], float(np.hypot(slope * std[k], noise)))
            exact["b"].append(np.log(share[k]) + alone)
        return kind, {key: np.stack(both, 1) for key, both in exact.items()}

    written(20_000, tmp_path / "a.csv")
    kind, exact = written(1500, tmp_path / "b.csv")
    learned = ornstein.data.open(tmp_path / "a.csv", columns=["a=numeric:standard", "b=numeric:standard"])
    run = ornstein.train(learned, steps=2500, preset="tiny", samples=0, seed=0, threads=1)
    rows = np.asarray(ornstein.data.open(tmp_path / "b.csv", like=run.spec).items)
    each, place = np.arange(len(rows)), {"a": 1, "b": 2}
    measured = run.log_prob(rows, steps=32)
    off = measured - exact["ab"][each, kind]
    assert off.mean() == pytest.approx(0, abs=0.03)
    for given, both in exact.items():
        some = rows.copy()
        some[:, [0, *(p for name, p in place.items() if name not in given)]] = np.nan
        truth = both - np.logaddexp(both[:, 0], both[:, 1])[:, None]
        chances = run.predict(some, "kind").chances
        apart = (np.exp(truth) * (truth - np.log(chances))).sum(1)  # Kullback and Leibler
        certain = (np.exp(truth) * truth).sum(1)
        assert 0 <= apart.mean() < 0.03
        assert -certain.mean() > 0.1  # so that the line above says something
