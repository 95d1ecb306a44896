"""How good samples are: metrics with intervals, on features that bear their extractor's name."""

from ornstein.metrics.agreement import agreement
from ornstein.metrics.c2st import c2st
from ornstein.metrics.density_coverage import density_coverage
from ornstein.metrics.efficientnet import efficientnet
from ornstein.metrics.evaluation import Evaluation, Labels, Reference, Row, evaluate, reference
from ornstein.metrics.features import Extractor, Network, Values, extract, of_data
from ornstein.metrics.frechet import frechet
from ornstein.metrics.inception import inception
from ornstein.metrics.kid import kid
from ornstein.metrics.memorisation import Memorisation, memorisation
from ornstein.metrics.mmd import mmd
from ornstein.metrics.precision_recall import precision_recall
from ornstein.metrics.repeats import Repeats, identities, repeats
from ornstein.metrics.score import Score
from ornstein.metrics.sliced_wasserstein import sliced_wasserstein

# Each called with two sets of features (N, D), samples first, and here with real or training items.
ALL = (kid, frechet, mmd, sliced_wasserstein, precision_recall, density_coverage, c2st, memorisation)

__all__ = [
    "ALL",
    "Evaluation",
    "Extractor",
    "Labels",
    "Memorisation",
    "Network",
    "Reference",
    "Repeats",
    "Row",
    "Score",
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
]
