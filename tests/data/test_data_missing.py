"""A missing label, set, vector or caption is one, in every kind of source: told, and learned as the null condition."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ornstein import conditions, data, train
from ornstein.data.annotations import Annotations
from ornstein.errors import UsageError

NAMES = ("a.png", "b.png", "c.png", "d.png")


def images(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 * i).save(folder / name)
    return folder


def table(folder: Path, kind: str, column: str, cells: list[Any]) -> Path:
    """Images, and a table of one column; an absent cell is `...`."""
    rows = [{"file_name": name, column: cell} for name, cell in zip(NAMES, cells, strict=True)]
    if kind == "csv":
        lines = [f"file_name,{column}"]
        for row in rows:
            cell = row[column]
            lines.append(row["file_name"] if cell is ... else f"{row['file_name']},{'' if cell is None else cell}")
        text = "\n".join(lines) + "\n"
    else:
        rows = [{key: value for key, value in row.items() if value is not ...} for row in rows]
        text = "\n".join(map(json.dumps, rows)) if kind == "jsonl" else json.dumps(rows)
    (images(folder) / f"metadata.{kind}").write_text(text)
    return folder


def labels_of(source: Any) -> list[str | None]:
    with pytest.warns(match="items have no label"):
        dataset = data.dataset_of(source)
    return [None if i == len(dataset.classes) else dataset.classes[i] for i in dataset.labels]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
@pytest.mark.parametrize(
    "cells", [["2", None, "10", "2"], ["2", ..., "10", "2"], ["2", "", "10", "2"], [2, "  ", 10, 2]]
)
def test_labels_in_tables(tmp_path: Path, kind: str, cells: list[Any]) -> None:
    assert labels_of(table(tmp_path, kind, "label", cells)) == ["2", None, "10", "2"]


def test_an_image_that_is_not_in_the_table_has_no_label(tmp_path: Path) -> None:
    (images(tmp_path) / "metadata.csv").write_text("file_name,label\na.png,x\nb.png,y\nz.png,x\n")
    with (
        pytest.warns(match=r"1 of 3 rows of the table .* \(z.png is the first\)"),
        pytest.warns(match="2 of 4 items have no label"),
    ):
        dataset = data.open(tmp_path)
    assert dataset.labels.tolist() == [0, 1, 2, 2]
    assert dataset.classes == ("x", "y")
    assert dataset.labelled.tolist() == [True, True, False, False]
    (tmp_path / "metadata.csv").write_text("file_name,label\nz.png,x\n")
    with pytest.raises(UsageError, match="none of the 4 images is named"):
        data.open(tmp_path)


ROWS = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([1, np.nan, 10, 2]), ["1", None, "10", "2"]),
        (np.array([1, np.nan, 10, 2], np.float16), ["1", None, "10", "2"]),
        (np.array(["b", "", "a", "b"]), ["b", None, "a", "b"]),
    ],
)
def test_labels_in_arrays(tmp_path: Path, y: np.ndarray, expected: list[str | None]) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, y=y)
    assert labels_of(tmp_path / "a.npz") == expected
    assert labels_of({"x": ROWS, "y": y}) == expected
    np.savez(tmp_path / "b.npz", data=ROWS, target=y)
    assert labels_of(tmp_path / "b.npz") == expected


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.ma.array([1, 99, 10, 2], mask=[0, 1, 0, 0]), ["1", None, "10", "2"]),
        ([1, None, 10, 2], ["1", None, "10", "2"]),
        (["b", None, "a", "b"], ["b", None, "a", "b"]),
        (["b", float("nan"), "a", "b"], ["b", None, "a", "b"]),
        ([True, None, False, True], ["True", None, "False", "True"]),
    ],
)
def test_labels_in_objects(y: Any, expected: list[str | None]) -> None:
    assert labels_of((ROWS, y)) == expected
    assert labels_of({"x": ROWS, "y": y}) == expected
    if not isinstance(y, np.ndarray):
        assert labels_of(list(zip(ROWS, y, strict=True))) == expected
        items = [{"x": x} if label is None else {"x": x, "y": label} for x, label in zip(ROWS, y, strict=True)]
        assert labels_of(items) == expected


def test_frames() -> None:
    pandas = pytest.importorskip("pandas")
    for y in ([1, None, 10, 2], [1.0, np.nan, 10.0, 2.0]):
        assert labels_of(pandas.DataFrame({"a": ROWS[:, 0], "label": y})) == ["1", None, "10", "2"]
    assert labels_of(pandas.DataFrame({"a": [1, 2], "label": ["x", None]})) == ["x", None]
    integer = pandas.DataFrame(
        {"a": [0.5, 1.5], "b": [1, 2], "label": [7, 3]}
    )  # to_numpy makes floating numbers of them all
    assert data.dataset_of(integer).classes == ("3", "7")
    assert data.dataset_of(pandas.DataFrame({"a": [0.5, 1.5], "label": [0.5, 1]})).annotations.vectors.tolist() == [
        [0.5],
        [1],
    ]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.full(4, np.nan)}, "no label at all"),
        ({"y": np.array(["", " ", "", ""])}, "no label at all"),
        ({"y": np.array([0.5, 1, 2, 3])}, "holds 0.5 for item 0, which is no label"),
        ({"y": np.array([0, 1, np.inf, 3])}, "holds inf for item 2"),
        ({"y": np.array([0, -1, 1, 1]), "classes": np.array(["a", "b"])}, "from 0 to 1, .* or NaN where"),
        (
            {"conditions": np.array([[1, 2], [np.nan, 1], [1, 1], [0, 0]])},
            "Row 1 of conditions .* NaN in the whole row",
        ),
        ({"conditions": np.full((4, 2), np.nan)}, "all 4 rows are missing"),
        ({"captions": np.array(["", " ", "", ""])}, "all 4 texts are empty"),
    ],
)
def test_what_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, **arrays)
    with pytest.raises(UsageError, match=said):
        data.open(tmp_path / "a.npz")


def test_names_of_classes_and_a_missing_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, y=np.array([0, np.nan, 1, 0]), classes=np.array(["a", "b"]))
    assert labels_of(tmp_path / "a.npz") == ["a", None, "b", "a"]


def test_minus_one_is_a_class_unless_it_is_missing() -> None:
    with pytest.warns(match="-1 is taken for the name of a class"):
        assert data.dataset_of((ROWS, np.array([-1, 0, 1, 0]))).classes == ("-1", "0", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.dataset_of((ROWS, np.array([-1, 1, 1, -1]))).classes == ("-1", "1")


def test_sets_of_labels(tmp_path: Path) -> None:
    """No label is a set; an unknown one is missing."""
    with pytest.warns(match="1 items have no set of labels"):
        dataset = data.open(table(tmp_path, "jsonl", "labels", [["red"], [], None, ["red", "old"]]))
    assert dataset.annotations.sets.tolist() == [[False, True], [False, False], [False, False], [True, True]]
    assert dataset.annotations.unknown.tolist() == [False, False, True, False]
    (part,) = conditions.of(dataset)
    rows = part.of(dataset, np.arange(4), torch.zeros(4), torch.zeros(4, 0))
    assert rows.tolist() == [[False, True, True], [False, False, True], [False] * 3, [True, True, True]]
    with pytest.warns(match="1 items have no set of labels"):
        again = data.open(tmp_path)  # from the cache
    assert again.spec.content_hash == dataset.spec.content_hash
    assert again.annotations.unknown.tolist() == [False, False, True, False]
    assert dataset.annotations.take(np.array([2, 0])).unknown.tolist() == [True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = data.open(table(tmp_path / "csv", "csv", "labels", ["red", "", "", "red;old"]))
    assert other.annotations.unknown is None


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_vectors(tmp_path: Path, kind: str) -> None:
    cells: list[Any] = ["1;2", None, "3;6", "5;1"] if kind == "csv" else [[1, 2], None, [3, 6], [5, 1]]
    with pytest.warns(match="1 items have no vector"):
        dataset = data.open(table(tmp_path, kind, "conditions", cells))
    (part,) = conditions.of(dataset)
    assert (part.mean, part.std[0]) == ((3.0, 3.0), pytest.approx(np.std([1, 3, 5])))
    rows = part.of(dataset, np.arange(4), torch.zeros(4), torch.zeros(4, 0))
    assert torch.equal(rows[1:2], part.null(1))
    assert rows[0, 2] == 1
    assert rows.isfinite().all()


def test_captions(tmp_path: Path) -> None:
    (images(tmp_path) / "metadata.csv").write_text("file_name,text\na.png,a cat\nb.png,\nc.png,a dog\n")
    with pytest.warns(match="2 items have no caption"):
        dataset = data.open(tmp_path)
    dataset = conditions.encoded(dataset, "words")
    (part,) = conditions.of(dataset)
    rows = part.of(dataset, np.arange(4), torch.zeros(4), torch.zeros(4, 0))
    assert torch.equal(rows[[1, 3]], part.null(2))
    assert rows[[0, 2], -1].tolist() == [1, 1]
    empty = Annotations(captions=("",) * 4)
    with pytest.raises(UsageError, match="all captions"):
        conditions.encoded(data.Dataset(dataset.items, None, dataset.spec, empty), "words")


def test_several_labels_under_the_name_of_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the label of b.png is \['x', 'y'\], not one .* under `labels`"):
        data.open(table(tmp_path, "json", "label", ["x", ["x", "y"], "x", "y"]))


def test_a_class_is_learned_from_the_labelled_and_nothing_from_the_others() -> None:
    """Unlabelled items are trained as the null condition: with dropout 0 the unconditional model is theirs alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 1)) * 0.1
    y = rng.integers(0, 3, 3000).astype(float)
    x[:, 0] += np.array([-3.0, 0.0, 4.0])[y.astype(int)]
    y[y == 2] = np.nan
    with pytest.warns(match="items have no label"):
        dataset = data.dataset_of({"x": x, "y": y})
    run = train(dataset, steps=400, batch_size=256, label_dropout=0.0, learning_rate=3e-3, preset="tiny", device="cpu")
    assert run.spec.classes == ("0", "1")
    assert run.model.frequencies == pytest.approx([0.5, 0.5], abs=0.03)
    for label, mean in ((0, -3.0), (1, 0.0)):
        assert run.sample(200, label=label).mean() == pytest.approx(mean, abs=0.4)
    assert run.sample(200, label=[None] * 200).mean() == pytest.approx(4.0, abs=0.4)
    assert np.abs(run.sample(300)).max() < 4  # classes are drawn, never the missing one
