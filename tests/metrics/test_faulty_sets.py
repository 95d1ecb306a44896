"""Metrics × what is wrong with the sets: each is refused in a sentence, or is a number with the note that bears on it."""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.data import Dataset, dataset_of
from ornstein.errors import UsageError
from ornstein.metrics import BY_NAME, Evaluation, Labels, Values, cnn, evaluate, extract, identities, reference
from ornstein.metrics.classifier import can_learn, held_out, learned_from

CLASSES = np.array(["a", "b", "c"])
COUNT = 240


def items(count: int, seed: int) -> np.ndarray:
    """Fields of three classes, each around a level of its own."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 4, 4, 1)) + 2.0 * (np.arange(count) % 3)[:, None, None, None]).astype(np.float32)


def dataset(x: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
    return dataset_of((x, CLASSES[np.arange(len(x)) % 3] if labels is None else labels))


@dataclass
class Sets:
    """Samples with the class that was requested of each, held-out and training data."""

    samples: np.ndarray
    requested: np.ndarray
    held: Dataset
    training: Dataset


def sets() -> Sets:
    return Sets(items(COUNT, 2), np.arange(COUNT) % 3, dataset(items(2 * COUNT, 1)), dataset(items(2 * COUNT, 0)))


def measured(metric: str, given: Sets, cache: Path) -> tuple[Evaluation, str]:
    """As `ornstein evaluate` does it, with a sentence on classes."""
    spec = given.training.spec
    held, note = given.held.with_classes(spec.classes)
    held, _ = held.adopt(spec)
    features = extract(Values(), given.samples, spec)
    labels = None
    if metric == "agreement":
        net = cnn.classifier(held, 40, cache)
        own = extract(cnn.cnn(net), given.samples, spec)
        assert held.labels is not None
        known = torch.bincount(torch.from_numpy(held.labels), minlength=3) > 0
        requested = torch.from_numpy(given.requested)
        labels = Labels(requested, cnn.recognised(net, own), cnn.accuracy(net, held), spec.classes, known)
    compared = reference(Values(), held, given.training, len(features))
    names = identities(given.samples, spec)
    return evaluate(features, compared, (metric,), extractor=Values(), labels=labels, identity=names), note


def broken(value: float) -> np.ndarray:
    x = items(COUNT, 2)
    x[17, 2, 1] = value
    return x


some = np.arange(2 * COUNT)
FAULTS = {  # the sets, what a refusal says (None: no metric refuses them), and what notes say
    "nan": (lambda s: replace(s, samples=broken(math.nan)), "sample 17 holds NaN or infinite numbers", ""),
    "inf": (lambda s: replace(s, samples=broken(-math.inf)), "sample 17 holds NaN or infinite numbers", ""),
    "constant": (
        lambda s: replace(s, samples=np.full_like(s.samples, 0.3)),
        "all 240 sample items are the same, which is no distribution",
        "239 of 240 samples repeat an earlier one, one of them 240 times in all",
    ),
    "duplicates": (
        lambda s: replace(s, samples=s.samples[np.arange(COUNT) // 6 * 6 + np.arange(COUNT) % 3]),
        None,
        "120 of 240 samples repeat an earlier one, one of them 2 times in all",
    ),
    "repeated real data": (
        lambda s: replace(s, held=dataset(s.held.items[some // 6 * 6 + some % 3])),
        None,
        r"\d+ of 240 held-out items repeat an earlier one",
    ),
    "overlap": (
        lambda s: replace(s, held=dataset(s.training.items.copy())),
        None,
        "240 of 240 held-out items are also in the training data",
    ),
    "copies": (
        lambda s: replace(s, samples=s.training.items[:COUNT].copy()),
        None,
        "240 of 240 samples are exact copies of training items",
    ),
    "one sample": (
        lambda s: replace(s, samples=s.samples[:1], requested=s.requested[:1]),
        r"of 1 samples? items would mean nothing",
        "",
    ),
    "missing class": (
        lambda s: replace(s, held=dataset(s.held.items[some % 3 != 1], CLASSES[some[some % 3 != 1] % 3])),
        None,
        "There are no items of 1 of the run's 3 classes: b",
    ),
    "extra class": (
        lambda s: replace(s, held=dataset(s.held.items, np.where(some % 4 == 0, "d", CLASSES[some % 3]))),
        None,
        "120 of 480 items are left out, whose classes the run does not have: d",
    ),
    "other classes": (
        lambda s: replace(s, held=dataset(s.held.items, np.where(some % 2, "d", "e"))),
        "the classes of these data are d, e, and those of the run a, b, c: none is both",
        "",
    ),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("metric", BY_NAME)
def test_a_fault_is_refused_or_noted(metric: str, fault: str, cache: Path) -> None:
    change, refusal, note = FAULTS[fault]
    given = change(sets())
    try:
        found, matched = measured(metric, given, cache)
    except UsageError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert refusal is not None, said
        assert re.search(refusal, said)
        assert "\n" not in said
        return
    assert note, "a number where there is nothing to measure"
    assert re.search(note, "\n".join([matched, *found.findings, *found.notes]))
    for row in found.rows:
        assert row.score.low <= row.score.value <= row.score.high
        assert all(map(math.isfinite, (row.score.low, row.score.value, row.score.high)))
        assert abs(row.score.value) < 1e6


def test_right_sets_have_no_note_and_few_classes_do_not_lower_the_agreement(cache: Path) -> None:
    found, matched = measured("agreement", sets(), cache)
    assert (matched, found.notes, found.findings) == ("", (), ())
    lacking, _ = measured("agreement", FAULTS["missing class"][0](sets()), cache)
    assert lacking.notes == (
        "label agreement is of 160 of 240 samples: of the others the real items have none of the classes b",
    )
    assert set(lacking.by_class) == {"a", "c"}
    assert lacking.rows[0].score.value > found.rows[0].score.value - 0.1
    copies, _ = measured("memorisation", FAULTS["copies"][0](sets()), cache)
    assert any("the model has memorised its training data" in finding for finding in copies.findings)


@pytest.mark.filterwarnings("ignore:.* items have no label")
def test_items_without_a_label_teach_and_judge_nothing(tmp_path: Path) -> None:
    """A classifier learns from those that have one; where none is left to judge by, that is said."""
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    names = np.where(np.isin(np.arange(40), held_out(40)), "", CLASSES[np.arange(40) % 2]).astype(object)
    some = dataset_of((x, names))
    assert can_learn(some)
    assert len(learned_from(some)) == 36
    assert not can_learn(dataset_of((x, np.where(names == "a", "", names))))  # of one class
    net = cnn.classifier(some, 2, tmp_path)
    assert all(value.isfinite().all() for value in net.parameters())
    right, ones = cnn.accuracy(net, some), torch.zeros(100, dtype=torch.int64)
    assert right.shape == (0,)
    features = extract(Values(), x, some.spec)
    compared = reference(Values(), some, None, 40)
    labels = Labels(ones, ones, right, some.classes)
    with pytest.raises(UsageError, match="label agreement needs real items that the classifier did not learn from"):
        evaluate(features, compared, ("agreement",), extractor=Values(), labels=labels)
    with pytest.raises(UsageError, match=r"^names: there is no metric 'fid'"):
        evaluate(features, compared, ("fid",), extractor=Values())
