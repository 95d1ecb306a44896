"""A metric by its name: what it is measured from, and the kinds of data that have it by default."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ornstein.errors import UsageError
from ornstein.metrics.features import Extractor
from ornstein.metrics.repeats import Repeats
from ornstein.metrics.score import Score

NUMERIC = ("image", "vector", "series", "volume")
"""The kinds of data whose items are numbers throughout."""


@dataclass(frozen=True)
class Row:
    """A score of the samples, and of other real data in their place."""

    score: Score
    floor: Score | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers and strings."""
        return {**self.score.to_json(), "floor": None if self.floor is None else self.floor.to_json()}


@dataclass(frozen=True, eq=False)
class Reference:
    """Features (M, D) of real data: those compared with, others as the floor, and those of the training items.

    `held` are real items that the model has not seen, where there are any. `names` are those of these and of all training items
    (`repeats.identities`), to count copies by. `holed`: numbers are missing on both sides (`ornstein.metrics.holes`).
    """

    real: Tensor
    fresh: Tensor | None = None
    training: Tensor | None = None
    held: Tensor | None = None
    names: tuple[list[bytes] | None, list[bytes] | None] = (None, None)
    holed: bool = False


@dataclass(frozen=True, eq=False)
class Labels:
    """Requested and recognised classes of samples (N,), and whether real items are recognised, boolean (M,).

    `known`, boolean (K,): the classes that the real items have, and so can be recognised; None: all.
    """

    requested: Tensor
    recognised: Tensor
    real: Tensor
    classes: tuple[str, ...]
    known: Tensor | None = None


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """What metrics are measured from: features of samples (N, D) and of real data, classes, and the copies that are known."""

    samples: Tensor
    reference: Reference
    extractor: Extractor
    labels: Labels | None = None
    known: Repeats | None = None


@dataclass(frozen=True, eq=False)
class MetricResult:
    """What a metric gives: rows of the table, scores by class, `nearest`, which `Evaluation` says more about, and notes."""

    rows: tuple[Row, ...]
    by_class: Mapping[str, Score] = field(default_factory=dict)
    nearest: Any = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric(ABC):
    """Abstract: a score of samples against real data.

    A module of this package ends with `METRICS = (...,)`, from where `metrics.BY_NAME` has it.
    """

    name: str
    place: int = 80
    """Metrics are listed in this order."""
    kinds: tuple[str, ...] | None = None
    """The kinds of data that have it by default; None: all."""

    def usual(self, kind: str) -> bool:
        """Whether data of this kind have it by default."""
        return self.kinds is None or kind in self.kinds

    @abstractmethod
    def measure(self, inputs: MetricInputs) -> MetricResult:
        """The scores of the samples, with those of other real data as the floor. Raises UsageError that says what is lacking."""


@dataclass(frozen=True, kw_only=True)
class TwoSample(Metric):
    """function(samples (N, D), real (M, D)) -> a score or several; as the floor, the same with other real data for samples."""

    function: Callable[[Tensor, Tensor], Score | tuple[Score, ...]]
    title: Callable[[Extractor], str] | None = None
    """The name of the score for features of an extractor, where it has one of its own."""

    def measure(self, inputs: MetricInputs) -> MetricResult:
        samples, real, fresh = inputs.samples, inputs.reference.real, inputs.reference.fresh
        scores = _as_tuple(self.function(samples, real))
        floors: tuple[Score | None, ...] = (None,) * len(scores)
        if fresh is not None:
            with suppress(UsageError):  # too few for a floor
                floors = _as_tuple(self.function(fresh[: len(samples)], real))
        if self.title is not None:
            scores = tuple(score.named(self.title(inputs.extractor)) for score in scores)
        return MetricResult(tuple(Row(score, floor) for score, floor in zip(scores, floors, strict=True)))


def _as_tuple(scores: Score | tuple[Score, ...]) -> tuple[Score, ...]:
    return (scores,) if isinstance(scores, Score) else scores
