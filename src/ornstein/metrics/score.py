"""A number with its 95 % interval, and the refusal of counts that could mean nothing.

Intervals of smooth statistics come from the infinitesimal jackknife (Jaeckel 1972; Efron 1982, section 6.2): with ψ(x_i) the
derivative of the statistic in the weight of item i, the standard error is √(Var ψ(x)/n + Var ψ(y)/m) over both samples.
It is what the bootstrap converges to, without its hundred repeats. Proportions have Wilson's interval (Wilson 1927), which
also holds near 0 and 1.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from ornstein.errors import UsageError

Z = 1.959963984540054  # the 97.5 % quantile of N(0, 1)


@dataclass(frozen=True)
class Score:
    """A measured value and its 95 % interval, low to high."""

    name: str
    value: float
    low: float
    high: float

    def named(self, name: str) -> "Score":
        """The same number under another name."""
        return replace(self, name=name)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers and strings."""
        return asdict(self)


def smooth(name: str, value: float, *influences: Tensor) -> Score:
    """A statistic with the influence of each item, one tensor (N,) for each independent sample."""
    error = Z * math.sqrt(sum(float(psi.double().var()) / len(psi) for psi in influences))
    return Score(name, value, value - error, value + error)


def proportion(name: str, hits: Tensor) -> Score:
    """The part of `hits`, boolean (N,), that is true, with Wilson's interval."""
    n, p = len(hits), float(hits.double().mean())
    centre, width = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    return Score(name, p, max(0.0, (centre - width) / scale), min(1.0, (centre + width) / scale))


def need(least: int, metric: str, **counts: int) -> None:
    """Raises UsageError when one of the named counts is too small for the metric to mean anything."""
    for what, count in counts.items():
        if count < least:
            raise UsageError(f"{metric} of {count:,} {what} items would mean nothing; give {least:,} or more")
