"""One rule for labels: the label of the data, by name, whatever its place."""

import math

import numpy as np
import pytest
import torch

from ornstein import data
from ornstein.data.classes import checked_index, index_of, indexed, matched, name_of, notes_of
from ornstein.data.dataset import Dataset
from ornstein.data.selected import Selected, select
from ornstein.errors import UsageError


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (2.5, "2.5"),
        (True, "True"),
        (np.int64(3), "3"),
        (np.float32(3), "3"),
        (np.bool_(False), "False"),
        (np.str_("cat"), "cat"),
        (b"cat", "cat"),
        (torch.tensor(3), "3"),
        (np.array(7), "7"),
        (" cat", " cat"),
        (10**20, str(10**20)),
        ("", None),
        (" \t", None),
        (None, None),
        (math.nan, None),
        (np.float16("nan"), None),
        (np.ma.masked, None),
    ],
)
def test_what_a_label_is_called(label: object, name: str | None) -> None:
    assert name_of(label) == name


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "1", "10", "11", "2"], ("0", "1", "2", "10", "11")),
        ([10, 9, -1, 0], ("-1", "0", "9", "10")),
        (["1.0", "2", "", "10.0"], ("1", "2", "10")),
        (["1.0", "1.1", "2.0"], ("1.0", "1.1", "2.0")),  # versions, say: as they are written
        (["01", "1"], ("01", "1")),
        (["b", "a", "10", "9"], ("9", "10", "a", "b")),
        ([1.0, None, 2], ("1", "2")),
        ([True, False], ("False", "True")),
        (["日本", "é", "a b"], ("a b", "é", "日本")),
    ],
)
def test_classes_in_order(labels: list[object], classes: tuple[str, ...]) -> None:
    index, found = indexed(labels)
    assert found == classes
    for i, label in zip(index.tolist(), labels, strict=True):
        if name_of(label) is None:
            assert i == len(classes)
        else:
            assert i == index_of(label, classes)


def test_no_label_at_all() -> None:
    index, classes = indexed([None, "", math.nan])
    assert (index.tolist(), classes) == ([0, 0, 0], ())


@pytest.mark.parametrize(
    ("label", "classes", "index"),
    [
        (1, "12345", 0),
        ("1", "12345", 0),
        (1.0, "12345", 0),
        (2, ("0", "1", "10", "11", "2"), 4),
        (1, ("1.0", "1.1"), 0),
        ("1.0", ("1", "2"), 0),
        (7, ("007", "008"), 0),
        (1, ("01", "1"), 1),
        (True, ("False", "True"), 1),
        (True, ("0", "1"), 1),
        (1, ("False", "True"), 1),
        ("true", ("False", "True"), 1),
        (0, ("0", "cat"), 0),
        ("0", ("cat", "0"), 1),
    ],
)
def test_a_label_is_a_name_never_a_place(label: object, classes: tuple[str, ...], index: int) -> None:
    assert index_of(label, classes) == index


@pytest.mark.parametrize(
    ("label", "classes", "said"),
    [
        (0, "12345", "the classes are 1, 2, 3, 4, 5 .*label_index=0"),
        (6, "12345", "6 is no class"),
        (0, ("Trouser", "Coat"), "label_index=0"),
        (-1, ("0", "1"), "-1 is no class"),
        ("caot", ("cat", "coat"), "did you mean"),
        (None, "12", "is no class"),
        ("", "12", "is no class"),
        (1, ("01", "001"), "2 classes are called '1'"),
        ("a", ("a", "b", "a"), "2 classes are called 'a'; say which by label_index, one of 0, 2"),
    ],
)
def test_what_is_no_class(label: object, classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        index_of(label, classes)


@pytest.mark.parametrize("index", [-1, 2, 1.0, True, "1", None])
def test_an_index_is_a_whole_number_within(index: object) -> None:
    with pytest.raises(UsageError, match="2 indices 0 to 1"):
        checked_index(index, "ab")
    assert checked_index(np.int64(1), "ab") == 1


def test_matched_by_name() -> None:
    run = ("a", "b", "c")
    found = matched(run, ("c", "a"), np.array([0, 1, 1, 2]))  # the last is missing
    assert found.labels.tolist() == [2, 0, 0, 3]
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert "1 of the run's 3 classes: b" in found.note
    assert "1 items have no label" in found.note
    found = matched(run, ("b", "x"), np.array([1, 0, 1, 0]))
    assert found.labels.tolist() == [1, 1]
    assert found.rows.tolist() == [1, 3]
    assert "2 of 4 items are left out" in found.note
    assert found.note.count("x") == 1
    assert matched(("1", "2"), ("1.0", "2.0"), np.array([1, 0])).labels.tolist() == [1, 0]
    with pytest.raises(UsageError, match="none is both"):
        matched(run, ("x", "y"), np.array([0, 1]))
    with pytest.raises(UsageError, match="none is both"):
        matched(run, ("x",), np.array([0, 1]))  # the unlabelled alone would be no sample of the run's classes


def test_same_classes_stay_as_they_are() -> None:
    digits = data.open("digits")
    same, note = digits.with_classes(digits.classes)
    assert same is digits
    assert note == ""


def test_another_order_is_the_same_data() -> None:
    """What a run trained on in another order of its classes is found again, by its hash."""
    items = np.arange(24, dtype=np.float64).reshape(8, 3)
    one = data.dataset_of({"x": items, "y": np.array(["0", "1", "10", "2"] * 2)})
    text = ("0", "1", "10", "2")
    moved, note = one.with_classes(text)
    assert one.classes == ("0", "1", "2", "10")
    assert note == ""
    assert moved.classes == text
    assert [moved.classes[i] for i in moved.labels] == [one.classes[i] for i in one.labels]
    back, _ = moved.with_classes(one.classes)
    assert back.spec == one.spec
    assert moved.spec.content_hash != one.spec.content_hash


def test_left_out_items() -> None:
    digits = data.open("digits")
    some, note = digits.with_classes(("1", "3", "x"))
    assert some.labels is not None
    assert len(some) == len(some.items) == some.spec.count == int(np.isin(digits.labels, [1, 3]).sum())
    assert set(some.labels.tolist()) == {0, 1}
    assert np.array_equal(some.items[some.labels == 1], digits.items[digits.labels == 3])
    assert "left out" in note
    assert "x" in note
    assert some.spec.content_hash != digits.spec.content_hash
    x, labels = some.batch(np.arange(4))
    assert x.shape == (4, 1, 8, 8)
    assert labels is not None


def test_a_selection_is_read_when_it_is_asked_for() -> None:
    items = np.arange(60).reshape(20, 3)
    rows = np.array([7, 3, 3, 19])
    assert isinstance(select(items, rows), np.ndarray)
    view = Selected(items, rows)
    assert (len(view), view.ndim, view.shape, view.size, view.nbytes) == (4, 2, (4, 3), 12, 96)
    assert np.array_equal(np.asarray(view), items[rows])
    assert np.array_equal(view[1:3], items[rows][1:3])
    assert np.array_equal(view[2], items[3])
    assert np.array_equal(view[np.array([3, 0])], items[[19, 7]])


def test_labelled() -> None:
    made = Dataset(np.zeros((3, 2)), np.array([0, 2, 1]), data.dataset_of((np.zeros((3, 2)), np.array([0, 1, 1]))).spec)
    assert made.labelled.tolist() == [True, False, True]


def test_notes() -> None:
    assert notes_of(np.array([0, 1]), ("a", "b")) == ()
    assert "1 of 2 items have no label" in notes_of(np.array([0, 1]), ("a",))[0]
    for name in ("nan", "None", "NA", "-1"):
        assert "taken for the name of a class" in notes_of(np.array([0]), (name, "0"))[0]
    assert notes_of(np.array([0, 1]), ("-1", "1")) == ()


def test_spellings_of_a_truth_value_are_one_class_and_others_are_noted() -> None:
    index, classes = indexed(["True", "true", "False", None, "TRUE"])
    assert classes == ("False", "True")
    assert index.tolist() == [1, 1, 0, 2, 1]
    assert indexed(["true", "false"])[1] == ("false", "true")  # as it is written
    index, classes = indexed(["Cat", "cat ", "dog"])
    assert classes == ("Cat", "cat ", "dog")
    (note,) = notes_of(index, classes)
    assert note == "The classes 'Cat', 'cat ' differ in capitals or spaces alone, and are learned as 2 classes."
