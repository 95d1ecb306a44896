"""A fixed-step solver as a table, and the one loop that runs any table.

The i-th network call is made at times[i] on x_i; the next input is a combination of all estimates so far and fresh noise,

    x_{i+1} = Σ_{j≤i} (P_ij·clean_j + Q_ij·noise_j) + R_i·ξ_i,

and x_M is the result. Since x_j = α_j·clean_j + σ_j·noise_j, earlier inputs need no column of their own. x_0 is gain·start:
a first call at another time than the start's is made on a point of that time's size. A table for flow maps (`ornstein.flowmap`)
has one more column: the i-th call is aimed at aims[i].
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from ornstein.estimate import Estimate
from ornstein.noise import NoiseSource, of_row
from ornstein.path import Path

Pair = tuple[Tensor, Tensor]
ENTRIES = "times", "P", "Q", "R", "aims"


@dataclass(frozen=True, eq=False)
class Table:
    """times (M+1,), P and Q (M, M) lower triangular, R (M,): float64 on the CPU. M is the number of network calls.

    `gain` multiplies the start of a run: 1 unless the first call is made at a later time than where the start is drawn. `aims`
    (M,) are the times that calls of a flow map are aimed at; None where denoisers are called.

    Raises ValueError where shapes disagree or P, Q reach above the diagonal.
    """

    times: Tensor
    P: Tensor
    Q: Tensor
    R: Tensor
    gain: float = 1.0
    aims: Tensor | None = None

    def __post_init__(self) -> None:
        calls = len(self.times) - 1
        if self.P.shape != (calls, calls) or self.Q.shape != (calls, calls) or self.R.shape != (calls,):
            raise ValueError(
                f"a table of {calls} calls needs P, Q of shape {(calls, calls)} and R of shape {(calls,)}, not "
                f"{tuple(self.P.shape)}, {tuple(self.Q.shape)} and {tuple(self.R.shape)}"
            )
        if self.aims is not None and self.aims.shape != (calls,):
            raise ValueError(f"a table of {calls} calls needs {calls} aims, not {tuple(self.aims.shape)}")
        if any(bool(matrix.triu(1).any()) for matrix in (self.P, self.Q)):
            raise ValueError("P and Q must be lower triangular: a step knows only the estimates made before it")

    @property
    def calls(self) -> int:
        """The number of network calls M."""
        return len(self.times) - 1

    @property
    def stochastic(self) -> bool:
        """Whether any step adds fresh noise."""
        return bool(self.R.any())

    def distance(self, other: "Table") -> float:
        """The largest difference of any entry; infinite between tables of different size."""
        if self.calls != other.calls or (self.aims is None) != (other.aims is None):
            return math.inf
        pairs = zip(self._entries(), other._entries(), strict=True)
        return max(abs(self.gain - other.gain), *(float((mine - theirs).abs().max()) for mine, theirs in pairs))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.distance(other) == 0

    __hash__ = None  # type: ignore[assignment]

    def _entries(self) -> tuple[Tensor, ...]:
        return self.times, self.P, self.Q, self.R, *([] if self.aims is None else [self.aims])

    def to_dict(self) -> dict[str, Any]:
        """Numbers only, for JSON; `from_dict` gives the same bits back."""
        return {**dict(zip(ENTRIES, (entry.tolist() for entry in self._entries()), strict=False)), "gain": self.gain}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises KeyError for a missing entry, ValueError for shapes that disagree."""
        held = ENTRIES if "aims" in data and data["aims"] is not None else ENTRIES[:-1]
        entries = {key: torch.tensor(data[key], dtype=torch.float64) for key in held}
        return cls(**entries, gain=float(data.get("gain", 1.0)))

    def __str__(self) -> str:
        lines = [f"{self.calls} network calls, t = {self.times[0]:.4g} to {self.times[-1]:.4g}"]
        if self.gain != 1:
            lines.append(f"x({self.times[0]:.4g}) = {self.gain:.5g} start")
        for i in range(self.calls):
            terms = [
                f"{matrix[i, j]:+.5g} {name}_{j}"
                for j in range(i + 1)
                for matrix, name in ((self.P, "clean"), (self.Q, "noise"))
                if matrix[i, j] != 0
            ]
            terms += [f"{self.R[i]:+.5g} ξ"] if self.R[i] != 0 else []
            aim = "" if self.aims is None else f", aimed at {self.aims[i]:.4g}"
            lines.append(f"x({self.times[i + 1]:.4g}) = {' '.join(terms)}{aim}")
        return "\n".join(lines)


class Step:
    """A network call of a run: the input `x` (B, ...) at time `t`, its estimate, and the number of calls made so far.

    The last step of a run holds the result: x at the grid's last time, with the last estimate and all calls.
    """

    __slots__ = ("_matrices", "_pair", "_row", "calls", "t", "x")

    def __init__(
        self, t: float, x: Tensor, calls: int, pair: Pair, matrices: Tensor | None = None, row: int = 0
    ) -> None:
        self.t, self.x, self.calls, self._pair, self._matrices, self._row = t, x, calls, pair, matrices, row

    def after(self, calls: int) -> "Step":
        """The same step of a run that made so many calls before."""
        return Step(self.t, self.x, self.calls + calls, self._pair, self._matrices, self._row)

    @property
    def estimate(self) -> Estimate:
        """Computed when read: the loop itself works on the network's raw prediction."""
        if self._matrices is None:
            return Estimate(*self._pair)
        rows = self._matrices[self._row].tolist()
        return Estimate(*(combine([(0, 0, cx), (0, 1, cq)], {0: self._pair}) for cx, cq in rows))


Terms = list[tuple[int, int, Any]]
"""(call, member of its pair, coefficient) of each; a coefficient is a number, or a 0-dim tensor of the run's type."""


class TableRow(NamedTuple):
    """The terms of a step."""

    terms: Terms
    noise: float
    spent: list[int]  # calls whose pair no later row uses


def rows_of(table: Table, matrices: Tensor | None = None) -> list[TableRow]:
    """The steps of a table on pairs (clean, noise), or on those that matrices (M, 2, 2), one for each call, turn into them."""
    P, Q = table.P, table.Q
    if matrices is not None:
        P, Q = (P * matrices[:, 0, m] + Q * matrices[:, 1, m] for m in (0, 1))
    coefficients = torch.stack([P, Q], -1)
    used = (coefficients != 0).any(-1)
    rows = [TableRow([], noise, []) for noise in table.R.tolist()]
    last = list(range(len(rows)))
    for (i, j), pair in zip(used.nonzero().tolist(), coefficients[used].tolist(), strict=True):
        rows[i].terms.extend((j, m, value) for m, value in enumerate(pair) if value != 0)
        last[j] = i
    for j, i in enumerate(last):
        rows[i].spent.append(j)
    for i, row in enumerate(rows):
        if not row.terms:
            row.terms.append((i, 0, 0.0))
    return rows


_FUSED = torch.float32, torch.float64


def combine(terms: Terms, pairs: dict[int, Pair]) -> Tensor:
    """Σ coefficient·tensor of the terms (j, member, coefficient) of a row, shaped as the tensors of the pairs.

    In half precision products are rounded before they are added: there the fused add_(tensor, alpha) rounds the odd end of a
    tensor in another way than its body, which makes a sample depend on its batch.
    """
    j, m, coefficient = terms[0]
    total = pairs[j][m] * coefficient
    if total.dtype in _FUSED:
        for j, m, coefficient in terms[1:]:
            total.add_(pairs[j][m], alpha=coefficient)
    else:
        for j, m, coefficient in terms[1:]:
            total.add_(pairs[j][m] * coefficient)
    return total


class Folded(NamedTuple):
    """The steps of a table on (x, prediction), and the matrices (M, 2, 2) that turn these into (clean, noise)."""

    rows: list[TableRow]
    matrices: Tensor


def folded(table: Table, matrices: Tensor, dtype: torch.dtype | None = None) -> Folded:
    """The steps of a table on what these matrices (M, 2, 2) turn into pairs (clean, noise).

    dtype: of the runs. In float32 and float64 the first coefficient of each row is then a tensor of that type, for the same
    bits: torch makes one of a number in every product, which takes as long as the product of a small batch itself.
    """
    rows = rows_of(table, matrices)
    if dtype in _FUSED:
        with torch.inference_mode(False):  # runs with gradients may find these rows too
            factors = torch.tensor([row.terms[0][2] for row in rows], dtype=dtype, device="cpu").unbind()
        for row, factor in zip(rows, factors, strict=True):
            row.terms[0] = (*row.terms[0][:2], factor)
    return Folded(rows, matrices)


def execute(table: Table, denoiser: Any, x: Tensor, noise: NoiseSource, steps: Folded | None = None) -> Iterator[Step]:
    """Run a table from x (B, ...) at times[0]: one step per network call, then one that holds the result.

    A denoiser that gives its prediction and the matrix that inverts it (`Predictor`) is run on the pair (x_j, prediction)
    with the matrix folded into the table, so a step is the network call and one operation per entry; `steps` are these, where
    they are known from an earlier run. Raises TypeError for a table with aims and a denoiser that takes none.
    """
    times = table.times.tolist()
    aims: tuple[Tensor, ...] = () if table.aims is None else (table.aims,)
    if aims and not getattr(denoiser, "takes_aim", False):
        raise TypeError(
            f"this solver aims its calls, which {type(denoiser).__name__} does not take; give a flow map, such as a model "
            "trained for few steps, or another solver"
        )
    predictors = denoiser.predictors(table.times[:-1], x, *aims) if hasattr(denoiser, "predictors") else None
    if predictors is not None:
        rows, matrices = steps or folded(table, denoiser.inverse(table.times[:-1]))
    else:
        rows, matrices = rows_of(table), None
        arguments = zip(times[:-1], *(column.tolist() for column in aims), strict=True)
        predictors = [partial(_estimate, denoiser, at) for at in arguments]
    pairs: dict[int, Pair] = {}
    if table.gain != 1:
        x = x * table.gain
    for i, (terms, fresh, spent) in enumerate(rows):
        output = predictors[i](x)
        pair = pairs[i] = output if matrices is None else (x, output)
        yield Step(times[i], x, i + 1, pair, matrices, i)
        x = combine(terms, pairs)
        if fresh:
            x.add_(of_row(noise, i, x, times[i], times[i + 1]) * fresh)
        for j in spent:
            del pairs[j]
    yield Step(times[-1], x, table.calls, pair, matrices, table.calls - 1)


def _estimate(denoiser: Any, at: tuple[float, ...], x: Tensor) -> Pair:
    clean, noise = denoiser(x, *at)
    return clean, noise


class Form:
    """A combination of estimates and fresh noise: what a solver computes with while its table is written.

    Symbols are (j, member): clean_j is (j, 0), noise_j is (j, 1), the k-th fresh noise is (k, FRESH).
    """

    __slots__ = ("weights",)

    def __init__(self, weights: dict[tuple[int, int], float]) -> None:
        self.weights = weights

    def __add__(self, other: "Form") -> "Form":
        total = dict(self.weights)
        for key, value in other.weights.items():
            total[key] = total.get(key, 0.0) + value
        return Form(total)

    def __mul__(self, factor: float) -> "Form":
        return Form({key: factor * value for key, value in self.weights.items()})

    __rmul__ = __mul__

    def __neg__(self) -> "Form":
        return self * -1.0

    def __sub__(self, other: "Form") -> "Form":
        return self + -other

    def __truediv__(self, divisor: float) -> "Form":
        return self * (1 / divisor)


FRESH = 2
START = (-1, 0)


class Level(NamedTuple):
    """The path at one time, as Python floats. Derivatives are computed only where a solver needs them."""

    t: float
    alpha: float
    sigma: float

    @property
    def half_log_snr(self) -> float:
        """log(α/σ), the clock of the exponential integrators; ±inf at ends without noise or without signal."""
        if self.sigma == 0 or self.alpha == 0:
            return math.inf if self.sigma == 0 else -math.inf
        return math.log(self.alpha / self.sigma)

    def slopes(self, path: Path) -> tuple[float, float]:
        """(dα/dt, dσ/dt). Raises ValueError at an end where one is infinite."""
        t = torch.tensor(self.t, dtype=torch.float64)
        slopes = float(path.d_alpha(t)), float(path.d_sigma(t))
        if not all(map(math.isfinite, slopes)):
            raise ValueError(
                f"{path}: dα/dt or dσ/dt is infinite at t = {self.t:g}; use a solver in a bounded chart, such as "
                "Euler(chart.Flow()) or DDIM(), or a grid without that time"
            )
        return slopes

    def mix(self, estimate: "FormPair") -> Form:
        """α·clean + σ·noise: the noise-free point of this level that an estimate points at."""
        return self.alpha * estimate.clean + self.sigma * estimate.noise


class FormPair(NamedTuple):
    """The estimate of one call, as forms."""

    clean: Form
    noise: Form


def levels(path: Path, times: Tensor) -> list[Level]:
    """The path at each of a 1-D tensor of times."""
    columns = times.tolist(), path.alpha(times).tolist(), path.sigma(times).tolist()
    return [Level(*values) for values in zip(*columns, strict=True)]


def level(path: Path, t: float) -> Level:
    """The path at one time."""
    return levels(path, torch.tensor([t], dtype=torch.float64))[0]


class Recorder:
    """Writes a table over a grid (M + 1,) by running a solver once on symbols: it reads like the sampling loop it stands for.

    record = Recorder(path, grid)
    x = record.start
    for t, s in record.steps:
        estimate = record.call(t, x)
        x = s.mix(estimate)
    return record.end(x)
    """

    def __init__(self, path: Path, grid: Tensor) -> None:
        self.path, self.grid = path, grid.detach().to("cpu", torch.float64)
        self.start = Form({START: 1.0})
        self.levels = levels(path, self.grid)
        self._times: list[float] = []
        self._aims: list[float] = []
        self._rows: list[Form] = []
        self._fresh = 0
        self._gain = 1.0

    @property
    def steps(self) -> list[tuple[Level, Level]]:
        """Neighbouring levels (t, s) of the grid."""
        return list(pairwise(self.levels))

    def call(self, at: Level, x: Form, aim: Level | None = None) -> FormPair:
        """The estimate at a level of the input x, aimed at another; the first call of a run takes `start`.

        Raises ValueError where another call takes it, or the first takes none.
        """
        if (x is self.start) != (not self._times):
            raise ValueError("the first call of a table, and no other, takes the start itself")
        j = len(self._times)
        self._times.append(at.t)
        self._aims.extend([] if aim is None else [aim.t])
        if x is not self.start:
            self._rows.append(x)
        return FormPair(Form({(j, 0): 1.0}), Form({(j, 1): 1.0}))

    def call_ahead(self, at: Level, gain: float) -> FormPair:
        """The first estimate of a run, at a level below the grid's first, of gain·start: start = at.mix(estimate)/gain."""
        self._gain = gain
        return self.call(at, self.start)

    def fresh(self, std: float) -> Form:
        """Fresh noise of the given standard deviation, for one row."""
        self._fresh += 1
        return Form({(self._fresh, FRESH): std})

    def end(self, x: Form) -> Table:
        """The finished table, whose result is x at the grid's last time.

        Raises ValueError for a row that holds the start, two fresh noises, or the fresh noise of another row.
        """
        calls = len(self._times)
        R = [0.0] * calls
        places: list[tuple[int, int, int]] = []
        values: list[float] = []
        noisy: set[int] = set()
        for i, form in enumerate([*self._rows, x]):
            for (j, member), value in form.weights.items():
                if (j, member) == START:
                    raise ValueError("the start is no column of a table: write it as t.mix(estimate) of the first call")
                if member != FRESH:
                    places.append((member, i, j))
                    values.append(value)
                elif value != 0:
                    if R[i] != 0 or j in noisy:
                        raise ValueError("a row of a table holds one fresh noise of its own; add two variances first")
                    noisy.add(j)
                    R[i] = value
        matrices = torch.zeros(2, calls, calls, dtype=torch.float64)
        matrices[tuple(torch.tensor(places).T)] = torch.tensor(values, dtype=torch.float64)
        times = torch.tensor([*self._times, self.levels[-1].t], dtype=torch.float64)
        P, Q = matrices
        aims = torch.tensor(self._aims, dtype=torch.float64) if self._aims else None
        return Table(times, P, Q, torch.tensor(R, dtype=torch.float64), self._gain, aims)
