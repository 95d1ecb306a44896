"""How good samples are: metrics with intervals, on features that bear their extractor's name.

A new one is a file here which ends with `METRICS = (TwoSample("name", function=metric),)`: `ornstein evaluate --metrics name` and
all tests of metrics take it from there.
"""

from ornstein.metrics.agreement import agreement
from ornstein.metrics.c2st import c2st
from ornstein.metrics.density_coverage import density_coverage
from ornstein.metrics.efficientnet import efficientnet
from ornstein.metrics.evaluation import Evaluation, evaluate, reference, usual
from ornstein.metrics.features import Extractor, Network, Values, extract, of_data
from ornstein.metrics.frechet import frechet
from ornstein.metrics.inception import inception
from ornstein.metrics.kid import kid
from ornstein.metrics.known import by_name
from ornstein.metrics.memorisation import Memorisation, memorisation
from ornstein.metrics.metric import Labels, Metric, Reference, Row, TwoSample
from ornstein.metrics.mmd import mmd
from ornstein.metrics.precision_recall import precision_recall
from ornstein.metrics.repeats import Repeats, identities, repeats
from ornstein.metrics.score import Score
from ornstein.metrics.sliced_wasserstein import sliced_wasserstein

BY_NAME = by_name()
"""The metrics of `ornstein evaluate --metrics`, in the order of its table."""

ALL = (*(metric.function for metric in BY_NAME.values() if isinstance(metric, TwoSample)), memorisation)
"""Each called with two sets of features (N, D), samples first, and here with real or training items."""

__all__ = [
    "ALL",
    "BY_NAME",
    "Evaluation",
    "Extractor",
    "Labels",
    "Memorisation",
    "Metric",
    "Network",
    "Reference",
    "Repeats",
    "Row",
    "Score",
    "TwoSample",
    "Values",
    "agreement",
    "c2st",
    "density_coverage",
    "efficientnet",
    "evaluate",
    "extract",
    "frechet",
    "identities",
    "inception",
    "kid",
    "memorisation",
    "mmd",
    "of_data",
    "precision_recall",
    "reference",
    "repeats",
    "sliced_wasserstein",
    "usual",
]
