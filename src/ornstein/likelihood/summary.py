"""The mean over a data set, with its standard error split into what each source of uncertainty adds."""

import math
from typing import NamedTuple

from torch import Tensor


class Summary(NamedTuple):
    """A mean over so many `items`, and the standard errors of it, all in the unit of the values.

    data: from the items being a sample of all there are; probe: from the noise drawn to estimate each; solver: the error that
    the steps leave, which does not fall with the number of items. total² = data² + probe² + solver².
    """

    mean: float
    data: float
    probe: float
    solver: float
    items: int

    @property
    def total(self) -> float:
        """The standard error of the mean, of all parts together: √(data² + probe² + solver²)."""
        return math.sqrt(sum(part**2 for part in (self.data, self.probe, self.solver) if math.isfinite(part)))

    def scaled(self, factor: float) -> "Summary":
        """In another unit."""
        size = abs(factor)
        return Summary(self.mean * factor, size * self.data, size * self.probe, size * self.solver, self.items)


def summarise(values: Tensor, probe: Tensor | None = None, solver: Tensor | None = None) -> Summary:
    """The mean of values (N,), from the standard error that its probes leave in each (N,), and solver errors (M,) of some.

    The values spread by data and probes together, so the probes' part, √(Σ probe²)/N, is taken out of their standard error
    s/√N. The solver part is the mean error, by its size, and what that may be for the items that were not checked: m and s/√M
    as √(m² + s²/M). NaN where a part is not known (a single item; one probe an item).
    """
    values, count = values.double(), len(values)
    spread = float(values.var()) / count if count > 1 else math.nan
    drawn = 0.0 if probe is None else float(probe.double().square().sum()) / count**2
    known = 0.0 if math.isnan(drawn) else drawn
    data = math.sqrt(max(spread - known, 0.0)) if count > 1 else math.nan
    steps = 0.0
    if solver is not None:
        errors = solver.double()
        steps = math.hypot(
            float(errors.mean()), float(errors.std()) / math.sqrt(len(errors)) if len(errors) > 1 else 0.0
        )
    return Summary(float(values.mean()), data, math.sqrt(drawn), steps, count)
