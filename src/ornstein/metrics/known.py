"""All metrics by their names, from the modules of this package."""

from functools import cache

from ornstein._declared import declared
from ornstein.metrics.metric import Metric


@cache
def by_name() -> dict[str, Metric]:
    """In the order of tables. A function, since modules of the package that declare metrics may need this one."""
    metrics = sorted(declared("ornstein.metrics", "METRICS"), key=lambda metric: (metric.place, metric.name))
    return {metric.name: metric for metric in metrics}
