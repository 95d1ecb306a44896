"""A number with its 95 % interval, and the refusal of counts that could mean nothing.

Intervals of smooth statistics come from the infinitesimal jackknife (Jaeckel 1972; Efron 1982, section 6.2): with ψ(x_i) the
derivative of the statistic in the weight of item i, the standard error is √(Var ψ(x)/n + Var ψ(y)/m) over both samples.
It is what the bootstrap converges to, without its hundred repeats. A distance has no first derivative where both sets have one
distribution: `distance` joins the variance of its second order there with that of the first order elsewhere. Statistics of
nearest neighbours are not smooth: deleting items or drawing them twice changes their neighbourhoods more than new items would,
so that the jackknife's error is up to 2.5 times too large. Theirs comes from disjoint halves of both sets, which are
independent draws. Proportions have Wilson's interval (Wilson 1927), which also holds near 0 and 1.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ornstein.errors import UsageError

Z = 1.959963984540054  # the 97.5 % quantile of N(0, 1)
SPLITS, STUDENT = 24, 2.0639  # pairs of halves, and the 97.5 % quantile of Student's t with so many degrees of freedom
HALF = 500  # items of a half at most: its cost is quadratic
LARGEST = 1e18  # of a feature: its square is a float32


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


@dataclass(frozen=True)
class Null:
    """Of a squared distance where both sets have one distribution: its mean and variance at these counts, `total`, the mean of
    its second order, which an unbiased estimate has taken off, and the standard error of `mean`."""

    mean: float
    variance: float
    total: float
    error: float = 0.0


def smooth(name: str, value: float, *influences: Tensor) -> Score:
    """A statistic with the influence of each item, one tensor (N,) for each independent sample."""
    error = Z * math.sqrt(sum(float(psi.double().var()) / len(psi) for psi in influences))
    return Score(name, value, value - error, value + error)


def distance(name: str, value: float, null: Null, excess: float) -> Score:
    """A squared distance of two sets, whose variance near its null value is not that of its first-order influences.

    θ = value − null.mean is s times a noncentral χ² of k degrees of freedom, less its mean at the null: its variance is
    S + cθ with S = 2ks² that of the null, `null.variance`, and c = 4s. At the null s = S/(2·total), `total` the sum of the
    eigenvalues of the second order; far from it c = E/θ, with E = `excess`, what the first order adds to the variance at this
    value. Both say c, the null as if it were a value two deviations away. The ends are where the value would be a quantile of
    2.5 or 97.5 % (by its skewness: Cornish and Fisher 1938): the test inverted. No distance is below its null: where that is not
    excluded the interval begins there (less `null.error`, where its mean is estimated), or at the value.
    """
    above, deviation = value - null.mean, math.sqrt(null.variance)
    if not (null.total > 0 and deviation > 0):
        error = Z * math.sqrt(null.variance + excess)
        return Score(name, value, value - error, value + error)
    least = 2 * null.variance / null.total
    slope = (excess + least * 2 * deviation) / (max(above, 0.0) + 2 * deviation)
    scale = slope / 4
    degrees = null.variance / (2 * scale**2)

    def quantile(theta: float, z: float) -> float:
        """Of values where the truth is θ."""
        spare = theta / scale  # the noncentrality
        skew = math.sqrt(8) * (degrees + 3 * spare) / (degrees + 2 * spare) ** 1.5
        return theta + math.sqrt(null.variance + 4 * scale * theta) * (z + (z**2 - 1) * skew / 6)

    def truth(z: float) -> float:
        """The θ whose quantile the value is, at least 0."""
        low, high = 0.0, max(above, 0.0) + 20 * (deviation + 4 * scale + math.sqrt(4 * scale * max(above, 0.0)))
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if quantile(middle, z) < above else (low, middle)
        return low

    low = truth(Z) - Z * null.error
    high = max(truth(-Z), above - quantile(0.0, -Z))
    return Score(name, value, min(value, null.mean + low), max(value, null.mean + high))


def spread(statistic: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The variance of each value of statistic(x, y) (K,), from `SPLITS` pairs of disjoint parts of both sets, and the mean of
    the values of these parts: (K,) float64 each.

    Two parts θ_1, θ_2, of a fraction f ≤ ½ of the items each, are independent, so E(θ_1 − θ_2)²/2 is the variance at a
    fraction f of the counts, and f times that the variance at these (half-sampling; McCarthy 1969). It holds for statistics
    whose variance falls as one over the counts.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = len(x), len(y)
    fraction = min(0.5, max(HALF / max(counts), 100 / min(counts)))
    total, mean = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for _ in range(SPLITS):
        pair = []
        orders = [torch.randperm(count, generator=generator) for count in counts]
        for i in (0, 1):
            rows = (order[i * (n := int(fraction * len(order))) : (i + 1) * n] for order in orders)
            pair.append(statistic(*(side[row] for side, row in zip((x, y), rows, strict=True))).double())
        total = total + (pair[0] - pair[1]).square() / 2
        mean = mean + (pair[0] + pair[1]) / 2
    return total * (fraction / SPLITS), mean / SPLITS


def varied(name: str, value: float, variance: float) -> Score:
    """A statistic with its variance from `spread`."""
    error = STUDENT * math.sqrt(variance)
    return Score(name, value, value - error, value + error)


def proportion(name: str, hits: Tensor, parts: tuple[Tensor, Tensor] | None = None) -> Score:
    """The part of `hits`, boolean (N,), that is true, with Wilson's interval.

    Where the hits depend on each other, `parts` are the variance of their mean and the mean itself from `spread`, and N becomes
    the number of independent hits of that mean with that variance, if it is less.
    """
    n, p = len(hits), float(hits.double().mean())
    if parts is None or not (variance := float(parts[0])):
        low, high = wilson(p, n, Z if parts is None else STUDENT)
    else:
        inner = (n * float(parts[1]) + 1) / (n + 2)  # not 0 or 1, whose variance is 0
        low, high = wilson(p, min(n, inner * (1 - inner) / variance), STUDENT)
    return Score(name, p, low, high)


def wilson(p: float, n: float, z: float = Z) -> tuple[float, float]:
    """Wilson's interval for a part p of n."""
    centre, width = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    low, high = (centre - width) / scale, (centre + width) / scale
    return min(p, max(0.0, low)), max(p, min(1.0, high))  # rounding may put the ends inside of 0 and 1


def need(least: int, metric: str, **counts: int) -> None:
    """Raises UsageError when one of the named counts is too small for the metric to mean anything."""
    for what, count in counts.items():
        if count < least:
            raise UsageError(
                f"{metric} of {count:,} {what.removesuffix('s')} items would mean nothing; give {least:,} or more"
            )


def usable(least: int, metric: str, **sets: Tensor) -> None:
    """Raises UsageError when one of the named sets (N, ...) cannot be measured, and says which item is at fault.

    Too few items; features that are not finite, or too large to be squared; items that are all the same; sets with different
    numbers of features.
    """
    need(least, metric, **{what: len(items) for what, items in sets.items()})
    sizes = {what: items[0].numel() for what, items in sets.items()}
    if len(set(sizes.values())) > 1:
        each = " and ".join(f"{what} items of {size:,}" for what, size in sizes.items())
        raise UsageError(f"{metric} compares the same features of both sides, not {each}")
    for what, items in sets.items():
        rows = items.flatten(1)
        wrong = ~(rows.abs() < LARGEST)  # true for NaN
        if bool(wrong.any()):
            row, place = wrong.nonzero()[0].tolist()
            count = int(wrong.any(1).sum())
            more = f", and {count - 1:,} other items are like it" if count > 1 else ""
            raise UsageError(
                f"{metric}: item {row:,} of the {what} holds {float(rows[row, place]):g}{more}; every number must be finite "
                "(below 1e18), so leave these items out or mend what made them"
            )
        if bool((rows == rows[0]).all()):
            raise UsageError(
                f"{metric}: all {len(rows):,} {what.removesuffix('s')} items are the same, which is no distribution to compare"
            )
