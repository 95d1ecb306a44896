"""Proof that what the library is made of does what it declares, against closed forms; for your own parts as well:
`verify.solver(MySolver())`, `verify.path(MyPath())`, `verify.target(MyTarget())`, `verify.guidance(MyGuidance)`,
`verify.likelihood(MyMethod())`, `verify.flow_map(MyMap)`, and `verify.everything()`.

The oracle is a mixture of two Gaussians in one dimension. There the probability-flow ODE keeps the order of points, so it
carries quantiles to quantiles: with F_t the distribution function of p_t, x_s = F_s⁻¹(F_t(x_t)) is its exact solution, and
p_0 is known without sampling. The problem is not linear, so a coefficient that is wrong for all but Gaussians is seen.
On a single Gaussian a stochastic table is affine in start and noise: mean and variance of its result follow exactly.
Likelihoods are judged on a mixture in two dimensions, whose density and whose probabilities of bins are known.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from ornstein import path as paths
from ornstein import solvers
from ornstein import target as targets
from ornstein.arguments import as_solver
from ornstein.denoiser import Denoiser, NetworkDenoiser
from ornstein.estimate import Estimate
from ornstein.exact import Gaussian, GaussianMixture
from ornstein.flowmap import FlowMap, Solved, jump
from ornstein.grid import polynomial
from ornstein.guidance import CONTRASTS
from ornstein.likelihood import ELBO, ODE, DiscreteBound, Hutchinson, HutchPP, Method, Units
from ornstein.noise import PerSampleNoise
from ornstein.path import Path, Time
from ornstein.sampling import trajectory
from ornstein.solvers import Solver, TableSolver
from ornstein.table import Table, execute
from ornstein.target import Target

F64 = torch.float64
TOLERANCE = 0.2  # of a fitted order
STEPS = 20, 80, 640  # of the endpoint and distribution errors of tables: the first that suffice
LOOP_STEPS = 50, 200  # of methods with their own loop
FURTHEST = 0.15  # the largest distribution error, in standard deviations of the data
ROUND_TRIP = 1e-9  # the largest relative error of a conversion
SLOPE = 1e-5  # the same of a derivative of a path
JUMPED = 1e-3  # the largest error of a jump, relative to 1 + |x|

Contrasting = Callable[[Denoiser, Denoiser, float], Denoiser]

NATS = 1e-3  # per dimension: the largest error of a density
BIN = 0.5  # the width of a level
ITEMS = 64
LIKELIHOODS: tuple[tuple[Method, float | None], ...] = (  # with the largest gap of bounds, in nats
    (ODE(), None),
    (ODE(trace=Hutchinson()), None),
    (ODE(trace=HutchPP(1)), None),
    (ELBO(), 0.05),
    (DiscreteBound(200), 1.0),
)

WEIGHTS = torch.tensor([0.3, 0.7], dtype=F64)
MEANS = torch.tensor([[-1.0], [0.8]], dtype=F64)
VARIANCES = torch.tensor([0.25, 0.16], dtype=F64)
PLANE = torch.tensor([[-1.0, 0.3], [0.8, -0.5]], dtype=F64)


@dataclass(frozen=True)
class CheckRow:
    """The findings for one subject on one path; None if a column has no meaning. `wrong` says what failed.

    `declared` and `fitted` are orders; `error` is the root mean square error of endpoints (solvers), the largest relative
    error (conversions), or nats per dimension away from the closed form (likelihoods; of bounds the mean gap); `distribution` is
    the Wasserstein-1 distance to the data in standard deviations of the data, which for a sampler with fresh noise is about 0.04
    by chance alone; `calls` counts the network calls of that run.
    """

    subject: str
    path: str
    declared: int | None = None
    fitted: float | None = None
    error: float | None = None
    distribution: float | None = None
    calls: int | None = None
    wrong: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def __str__(self) -> str:
        cells = (
            f"{_short(self.subject, 46):46} {_short(self.path, 26):26}",
            f"{_number(self.declared, 'd'):>5}",
            f"{_number(self.fitted, '.2f'):>7}",
            f"{_number(self.error, '.1e'):>9}",
            f"{_number(self.distribution, '.3f'):>9}",
            f"{_number(self.calls, 'd'):>6}",
            f"  {'ok' if self.ok else 'FAILED: ' + '; '.join(self.wrong)}",
        )
        return "".join(cells)


HEADER = f"{'':46} {'path':26}{'order':>5}{'fitted':>7}{'error':>9}{'distrib.':>9}{'calls':>6}"


@dataclass(frozen=True)
class Report:
    """Rows to print, and whether all of them are as they should be."""

    rows: tuple[CheckRow, ...]

    @property
    def ok(self) -> bool:
        """Whether every row is."""
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        return "\n".join([HEADER, *map(str, self.rows)])


def solver(method: Solver, on: Iterable[Path] = paths.ALL) -> Report:
    """A solver, of the library or your own, proven on the paths given: what `check` finds on each."""
    return Report(tuple(check(method, Oracle(path)) for path in on))


def path(own: Path) -> Report:
    """A path of the library or your own: what `contract` says of it."""
    return Report((contract(own),))


def target(quantity: Target, on: Iterable[Path] = paths.ALL) -> Report:
    """A target of the library or your own on the paths given: what `conversion` says of it on each."""
    return Report(tuple(conversion(quantity, Oracle(path)) for path in on))


def guidance(method: Contrasting, on: Iterable[Path] = paths.ALL) -> Report:
    """A way to guide, method(conditional, unconditional, scale), on the paths given: what `steering` says of it on each."""
    return Report(tuple(steering(method, Oracle(path)) for path in on))


def flow_map(make: Callable[[Denoiser], FlowMap], on: Iterable[Path] = paths.ALL) -> Report:
    """A flow map make(denoiser) of a denoiser, on the paths given: what `jumping` says of it on each."""
    return Report(tuple(jumping(make, Oracle(path)) for path in on))


def likelihood(method: Method, on: Iterable[Path] = paths.ALL, gap: float | None = None) -> Report:
    """A way to measure likelihoods, of the library or your own, on the paths given: what `density` finds on each.

    An estimator of a trace or an integrator of your own is verified within one: `likelihood.ODE(trace=MyTrace())`. `gap` is the
    most, in nats, that a bound may lie above the truth; None: it promises the value itself, as `likelihood.ODE` does.
    """
    return Report(tuple(density(method, path, gap) for path in on))


def everything(
    methods: Sequence[Solver] | None = None,
    on: Sequence[Path] = paths.ALL,
    others: bool = True,
) -> Iterator[CheckRow]:
    """A row for every solver and path, then (with `others`) those of `OTHERS` for every path, one after the other.

    `methods` None: all of the library, without AdaptiveODE where torchdiffeq is missing.
    """
    oracles = [Oracle(path) for path in on]
    for method in available() if methods is None else methods:
        yield from (check(method, oracle) for oracle in oracles)
    for look in OTHERS if others else ():
        yield from (look(oracle) for oracle in oracles)


def available() -> list[Solver]:
    """All solvers that can run with the packages installed."""
    missing = find_spec("torchdiffeq") is None
    loops = [loop for loop in solvers.LOOPS if not (missing and isinstance(loop, solvers.AdaptiveODE))]
    return [*solvers.ALL, *loops]


def check(method: Solver, oracle: "Oracle") -> CheckRow:
    """One solver on the path of an oracle.

    A table must be finite, begin and end at its grid's ends, and add no noise to clean data; its fitted order must be the
    declared one within 0.2 (of a stochastic table: of mean and variance, and at least the declared one). On the levels of
    `grid.polynomial` it must reach the data's distribution within 0.15 of its standard deviation in 20 steps, else in 80 or
    640; the row is that of the first that suffice. Methods with their own loop are judged by their distribution alone, on their
    own grids of 50 or 200 steps. Network calls are counted. Whatever is raised is a failure with that message.
    """
    try:
        method = as_solver(method)
        return _table(method, oracle) if isinstance(method, TableSolver) else _loop(method, oracle)
    except Exception as error:
        return CheckRow(str(method), str(oracle.path), wrong=(f"it raised {type(error).__name__}: {error}",))


def conversion(quantity: Target, oracle: "Oracle") -> CheckRow:
    """A target on the path of an oracle: from the exact estimate to the prediction and back, at levels from λ = 8 to −8.

    The score of what comes back must be the gradient of the density. A target that says nothing about the data at t = 1 (its
    determinant is 0 there) must be refused.
    """
    path, names = oracle.path, (f"target {quantity}", str(oracle.path))
    t = path.time(torch.linspace(8, -8, 65, dtype=F64))
    x = oracle.mixture.draw(len(t), t, torch.Generator().manual_seed(0))
    truth, point = oracle.mixture(x, t), path.at(t, x)
    blind = not bool(targets.determinant(quantity, path.at(1.0, x)).abs().max() > ROUND_TRIP)
    try:
        result = NetworkDenoiser(lambda *_: truth.of(quantity(point)), path, quantity)(x, t)
    except ValueError:
        return CheckRow(*names, wrong=() if blind else ("it was refused though it can be inverted",))
    pairs = (
        (result.clean, truth.clean),
        (result.noise, truth.noise),
        (result.score(point), _score(oracle.mixture, x, t)),
    )
    error = max(float(((mine - exact).abs() / (1 + exact.abs())).max()) for mine, exact in pairs)
    wrong = ["it should be refused: it says nothing about the data at t = 1"] if blind else []
    if not error < ROUND_TRIP:
        wrong.append(f"a round trip errs by {error:.1e}")
    return CheckRow(*names, error=error, wrong=tuple(wrong))


def _judged(subject: str, path: Path, look: Callable[[], tuple[float, list[str]]]) -> CheckRow:
    """The row of what `look` finds, an error and what is wrong; whatever it raises is a failure with that message."""
    try:
        error, wrong = look()
    except Exception as raised:
        return CheckRow(subject, str(path), wrong=(f"it raised {type(raised).__name__}: {raised}",))
    return CheckRow(subject, str(path), error=error, wrong=tuple(wrong))


def contract(own: Path) -> CheckRow:
    """A path against what `Path` promises: its ends, a log-SNR that falls, its derivatives and the inverse of its log-SNR.

    `error` is the largest relative difference of a derivative from a central difference of fourth order, or of an inverse from
    its time. Whatever is raised is a failure with that message.
    """
    return _judged("path", own, lambda: _contract(own))


def _contract(own: Path) -> tuple[float, list[str]]:
    ends, t = torch.tensor([0.0, 1.0], dtype=F64), torch.linspace(0, 1, 1001, dtype=F64)
    alpha, sigma = own.alpha(t), own.sigma(t)
    if alpha.shape != t.shape or sigma.shape != t.shape:
        return math.inf, ["alpha and sigma must be elementwise: as many values as times"]
    wrong, (start, stop) = list[str](), own.alpha(ends).tolist()
    if not abs(start - 1) < 1e-6:
        wrong.append(
            f"α(0) is {start:g}, not 1: divide alpha and sigma by it, so that samples are in the units of the data"
        )
    if not (bool(alpha.isfinite().all()) and bool(sigma.isfinite().all())):
        wrong.append("alpha or sigma is not finite on all of [0, 1]")
    if stop < 0 or not float(sigma[-1]) > 0 or float(sigma[0]) < 0:
        levels = f"{stop:g}, {sigma[-1]:g} and {sigma[0]:g}"
        wrong.append(f"it needs α(1) ≥ 0, σ(1) > 0 and σ(0) ≥ 0, which are {levels}")
    if own.alpha(t.float()).dtype != torch.float32:
        wrong.append("alpha of float32 times is not float32")
    inner = t[20:-20]
    log_snr = 2 * (own.alpha(inner).log() - own.sigma(inner).log())
    if not bool((log_snr.diff() < 0).all()):
        return math.inf, [*wrong, "its log-SNR does not fall strictly"]
    at, h = torch.linspace(0.0371, 0.9613, 97, dtype=F64), 1e-4

    def slope(f: Callable[[Tensor], Tensor]) -> Tensor:
        near, far = (f(at + k * h) - f(at - k * h) for k in (1, 2))
        return (8 * near - far) / (12 * h)

    pairs = ("dα/dt", own.d_alpha(at), slope(own.alpha)), ("dσ/dt", own.d_sigma(at), slope(own.sigma))
    errors = {name: float(((mine - exact).abs() / (1e-2 + exact.abs())).max()) for name, mine, exact in pairs}
    errors["the inverse of the log-SNR"] = float((own.time(log_snr) - inner).abs().max())
    for name, error in errors.items():
        if not error < SLOPE:
            wrong.append(f"{name} errs by {error:.1e}")
    return max(errors.values()), wrong


def steering(method: Contrasting, oracle: "Oracle") -> CheckRow:
    """A way to guide on the path of an oracle, between one component of a mixture in two dimensions and the whole.

    At scale 1 it must be the conditional denoiser to the last bit, and at scale 3 another; α·clean + σ·noise = x_t must stay
    true, which `error` measures; a row must not depend on its batch; and it must be finite from t = 1 to 0. Whatever is raised is
    a failure with that message.
    """
    name = f"guidance {getattr(method, '__name__', method)}"
    return _judged(name, oracle.path, lambda: _steering(method, oracle))


def _steering(method: Contrasting, oracle: "Oracle") -> tuple[float, list[str]]:
    whole = GaussianMixture(WEIGHTS, PLANE, VARIANCES, oracle.path)
    part = whole.given(1)
    error, wrong, moved = 0.0, dict[str, None](), 0.0
    for t in (1.0, 0.9, 0.5, 0.1, 0.0):
        x = whole.draw(16, t, torch.Generator().manual_seed(0))
        alpha, sigma = oracle.path.levels(t, x)
        plain, guided = method(part, whole, 1.0)(x, t), method(part, whole, 3.0)(x, t)
        if not all(torch.equal(*pair) for pair in zip(plain, part(x, t), strict=True)):
            wrong["at scale 1 it is not the conditional denoiser"] = None
        if not all(bool(each.isfinite().all()) for each in guided):
            wrong[f"it is not finite at t = {t:g}"] = None
        off = (alpha * guided.clean + sigma * guided.noise - x).abs() / (1 + x.abs())
        error, moved = max(error, float(off.max())), max(moved, float((guided.clean - plain.clean).abs().max()))
        alone = method(part, whole, 3.0)(x[3:4], t)
        if not all(torch.allclose(a[0], b[3], rtol=1e-9, atol=1e-12) for a, b in zip(alone, guided, strict=True)):
            wrong["a row depends on its batch"] = None
    if not error < ROUND_TRIP:
        wrong[f"α·clean + σ·noise misses x_t by {error:.1e}"] = None
    if not moved > 1e-3:
        wrong["at scale 3 it moves nothing"] = None
    return error, list(wrong)


def jumping(make: Callable[[Denoiser], FlowMap], oracle: "Oracle") -> CheckRow:
    """A flow map of the mixture on the path of an oracle.

    α·clean + σ·noise = x_t must be true whatever the aim, a jump to its own time must move nothing, and without an aim it must be
    the denoiser, all within 1e-9; jumps must end where the exact solution does, one or two, which `error` measures. Whatever is
    raised is a failure with that message.
    """
    name = f"flow map {getattr(make, '__name__', make)}"
    return _judged(name, oracle.path, lambda: _jumping(make, oracle))


def _jumping(make: Callable[[Denoiser], FlowMap], oracle: "Oracle") -> tuple[float, list[str]]:
    path, wrong, error = oracle.path, dict[str, None](), 0.0
    made = make(oracle.mixture)

    def off(value: Tensor, right: Tensor) -> float:
        return float(((value - right).abs() / (1 + right.abs())).max())

    for t, u, s in ((1.0, 0.6, 0.0), (0.9, 0.5, 0.3), (0.4, 0.3, 0.2)):
        x = oracle.quantiles(16, t)
        alpha, sigma = path.levels(t, x)
        clean, noise = made(x, t, s)
        if not off(alpha * clean + sigma * noise, x) < ROUND_TRIP:
            wrong["α·clean + σ·noise misses x_t"] = None
        if not off(jump(made, path, x, t, t), x) < ROUND_TRIP:
            wrong["a jump to its own time moves x"] = None
        if not all(off(*pair) < ROUND_TRIP for pair in zip(made(x, t), oracle.mixture(x, t), strict=True)):
            wrong["without an aim it is not the denoiser"] = None
        right, once = oracle.flow(x, t, s), jump(made, path, x, t, s)
        twice = jump(made, path, jump(made, path, x, t, u), u, s)
        error = max(error, off(once, right), off(twice, right))
    if not error < JUMPED:
        wrong[f"jumps miss the exact solution by {error:.1e}"] = None
    return error, list(wrong)


def density(method: Method, path: Path, gap: float | None = None) -> CheckRow:
    """A way to measure −log p on a path, for items of a mixture in two dimensions with 1/7 as the unit, and for whole numbers.

    Without `gap` every value must be within 1e-3 nats per dimension, or, where probes are drawn, their mean within 4 standard
    errors more. A bound's mean may lie below the truth by 4 standard errors, and above it by `gap` besides: with the optimal
    denoiser only its steps leave one. The density at t = 1 is taken from the denoiser, as of a network.
    Whole numbers have the probabilities of bins of width ½, which any method bounds. Whatever is raised is a
    failure with that message.
    """
    try:
        return _density(method, path, gap)
    except Exception as error:
        return CheckRow(f"likelihood {method}", str(path), wrong=(f"it raised {type(error).__name__}: {error}",))


def _density(method: Method, path: Path, gap: float | None) -> CheckRow:
    plain, data = (GaussianMixture(WEIGHTS, PLANE, VARIANCES, p) for p in (path, paths.Linear()))
    counted, x = _Counted(plain), data.draw(ITEMS, generator=torch.Generator().manual_seed(0))
    shift = -2 * math.log(7)
    # on a path that ends with noise the ODE gives the density of the data with it, bounds that of the data
    truth = -(plain if gap is None else data).log_prob(x) - shift
    result = method(counted, x, Units(None, shift), PerSampleNoise())
    calls, off = counted.calls, result.nats - truth
    drawn = bool((result.probe > 0).any())
    spread = float(off.std()) / math.sqrt(ITEMS) if drawn else 0.0
    mean, wrong = float(off.mean()), list[str]()
    error = abs(mean) / 2 if drawn or gap is not None else float(off.abs().max()) / 2
    if not bool(off.isfinite().all()):
        wrong.append("its values are not finite")
    elif gap is None and error > 2 * spread + NATS:
        wrong.append(f"it errs by {error:.1e} nats per dimension")
    elif gap is not None and not -4 * spread < mean < 4 * spread + gap:
        wrong.append(f"on average it is {mean:.1e} nats from what it bounds")
    whole = (x / BIN).round() * BIN
    levels = method(plain, whole, Units(torch.tensor(BIN, dtype=F64), 0.0), PerSampleNoise())
    off = levels.nats + _bins(whole)
    if not float(off.mean()) > -4 * float(off.std()) / math.sqrt(ITEMS):
        wrong.append(f"of whole numbers it lies {-float(off.mean()):.1e} nats below what it bounds")
    return CheckRow(f"likelihood {method}", str(path), error=error, calls=calls, wrong=tuple(wrong))


def _bins(x: Tensor) -> Tensor:
    """log P of the bins around x (B, 2) under the mixture in the plane."""
    std = VARIANCES[:, None].sqrt()
    high, low = (torch.special.ndtr((x[:, None] + side * BIN / 2 - PLANE) / std) for side in (1, -1))
    return ((high - low).prod(-1) @ WEIGHTS).log()


class Oracle:
    """The mixture of two Gaussians on a path, its quantiles at any time, and the exact solution of its ODE."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mixture = GaussianMixture(WEIGHTS, MEANS, VARIANCES, path)
        self._grids: dict[tuple[Callable[[Path, int], Tensor], int], Tensor] = {}

    def grid(self, make: Callable[[Path, int], Tensor], steps: int) -> Tensor:
        """make(path, steps), made once."""
        if (make, steps) not in self._grids:
            self._grids[make, steps] = make(self.path, steps)
        return self._grids[make, steps]

    def quantiles(self, count: int, t: Time) -> Tensor:
        """The quantiles (i + ½)/count of p_t, (count, 1)."""
        u = (torch.arange(count, dtype=F64)[:, None] + 0.5) / count
        return self._invert(u.logit(), t)

    def flow(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """The probability-flow ODE from x (B, 1) at time t to s: F_s⁻¹(F_t(x))."""
        return self._invert(self._logit(x, t), s)

    def _logit(self, x: Tensor, t: Time) -> Tensor:
        """log F/(1 − F), which keeps its digits in both tails."""
        alpha, sigma = self.path.levels(t, x)
        z = (x - alpha * MEANS[:, 0]) / (alpha**2 * VARIANCES + sigma**2).sqrt()
        below, above = (torch.logsumexp(WEIGHTS.log() + torch.special.log_ndtr(y), -1) for y in (z, -z))
        return (below - above)[:, None]

    def _invert(self, goal: Tensor, t: Time) -> Tensor:
        alpha, sigma = self.path.levels(t, goal)
        low, high = ((alpha + sigma) * torch.full_like(goal, end) for end in (-50.0, 50.0))
        for _ in range(64):  # bisection, to the last bit
            middle = (low + high) / 2
            short = self._logit(middle, t) < goal
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return (low + high) / 2


def eased(path: Path, steps: int) -> Tensor:
    """Times from λ = −4 to 5, with steps of size O(N⁻²) at both ends: a multistep method's start of lower order costs nothing."""
    u = torch.arange(steps + 1, dtype=F64) / steps
    return path.time(0.5 - 4.5 * torch.cos(math.pi * u))


def fitted_order(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Minus the slope of log(error) over log(steps)."""
    x, y = (torch.tensor(values, dtype=F64).log() for values in (steps, errors))
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())


def moments(
    table: Table, path: Path, mean: Tensor, variance: Tensor, data: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean and variance (D,) of a table's result for data N(data), from those of its start, by running it on affine forms.

    CheckRow 0 of the batch is the run from 0 without noise, row 1 from 1 without noise, row 2 + i from 0 with noise 1 in step i.
    """
    forms = torch.zeros(table.calls + 2, len(mean), dtype=F64)
    forms[1] = 1
    step = iter(table.R.nonzero()[:, 0].tolist())

    def unit(x: Tensor, t: float, s: float) -> Tensor:
        noise = torch.zeros_like(x)
        noise[2 + next(step)] = 1
        return noise

    *_, last = execute(table, Gaussian(*data, path), forms, unit)
    weights = last.x[1:] - last.x[0]
    return last.x[0] + weights[0] * mean, weights[0] ** 2 * variance + weights[1:].square().sum(0)


GAUSSIAN = torch.tensor([1.5, -0.5, 0.2], dtype=F64), torch.tensor([0.49, 2.0, 0.1], dtype=F64)  # mean, variances


def order_of_endpoints(method: TableSolver, oracle: Oracle, steps: Sequence[int]) -> float:
    """The fitted order of a deterministic table's endpoints against the exact flow, between the two levels of `eased`."""
    errors = []
    for n in steps:
        times = oracle.grid(eased, n)
        start = torch.linspace(-2, 2, 33, dtype=F64)[:, None] * sum(oracle.path.levels(times[0], times))
        *_, last = execute(method.table(oracle.path, times), oracle.mixture, start, _normal())
        errors.append(float((last.x - oracle.flow(start, times[0], times[-1])).square().mean().sqrt()))
    return fitted_order(steps, errors)


def order_of_moments(method: TableSolver, oracle: Oracle, steps: Sequence[int]) -> float:
    """The fitted order of a stochastic table's mean and variance, from pure noise to a Gaussian's."""
    path, errors = oracle.path, []
    for n in steps:
        times = oracle.grid(polynomial, n)
        alpha, sigma = path.alpha(times[[0, -1]])[:, None], path.sigma(times[[0, -1]])[:, None]
        mean, variance = alpha * GAUSSIAN[0], alpha**2 * GAUSSIAN[1] + sigma**2
        result = moments(method.table(path, times), path, mean[0], variance[0], GAUSSIAN)
        errors.append(float((result[0] - mean[1]).norm() + (result[1] - variance[1]).norm()))
    return fitted_order(steps, errors)


def _table(method: TableSolver, oracle: Oracle) -> CheckRow:
    times = oracle.grid(polynomial, STEPS[0])
    table = method.table(oracle.path, times)
    wrong = _promises(table, oracle.path, times)
    if table.stochastic:
        fitted = order_of_moments(method, oracle, (48, 96))
        right = fitted > method.order - TOLERANCE
    else:
        for steps in ((24, 48), (80, 160)):  # the finer grids for methods that start with steps of lower order
            fitted = order_of_endpoints(method, oracle, steps)
            right = abs(fitted - method.order) < TOLERANCE
            if right:
                break
    if not right:
        wrong.append(f"its fitted order is {fitted:.2f} where {method.order} is declared")
    for n in STEPS:
        row = _ends(method, oracle, oracle.grid(polynomial, n), table.stochastic)
        if row.ok:
            break
    return replace(row, declared=method.order, fitted=fitted, wrong=(*wrong, *row.wrong))


def _loop(method: Solver, oracle: Oracle) -> CheckRow:
    for n in LOOP_STEPS:
        row = _ends(method, oracle, method.grid(oracle.path, n), method.stochastic)
        if row.ok:
            break
    return row


def _ends(method: Solver, oracle: Oracle, times: Tensor, stochastic: bool) -> CheckRow:
    """The errors where a method ends, and its network calls. It starts from quantiles, which have no chance in them."""
    counted, count = _Counted(oracle.mixture), 1024 if stochastic else 256
    start, truth = oracle.quantiles(count, float(times[0])), oracle.quantiles(count, 0.0)
    *_, last = trajectory(counted, start, solver=method, grid=times, noise=_normal())
    distribution = float((last.x.sort(0).values - truth).abs().mean() / truth.std())
    error = None if stochastic else float((last.x - truth).square().mean().sqrt())
    wrong = []
    if last.calls != counted.calls:
        wrong.append(f"it counts {last.calls} network calls and makes {counted.calls}")
    if last.t != 0:
        wrong.append(f"it ends at t = {last.t:g}, not at 0")
    if not distribution < FURTHEST:
        wrong.append(
            f"after {counted.calls} network calls its samples are {distribution:.3g} standard deviations from the data"
        )
    return CheckRow(
        str(method),
        str(oracle.path),
        error=error,
        distribution=distribution,
        calls=counted.calls,
        wrong=tuple(wrong),
    )


def _promises(table: Table, path: Path, times: Tensor) -> list[str]:
    """The properties of tables that a table on a grid from t = 1 to 0 violates."""
    wrong = []
    if not all(bool(entry.isfinite().all()) for entry in (table.times, table.P, table.Q, table.R)):
        wrong.append("its table holds numbers that are not finite")
    if not times[1] < table.times[0] <= times[0] or table.times[-1] != times[-1]:
        wrong.append(f"its table runs from t = {table.times[0]:g} to {table.times[-1]:g}, not over its grid")
    if table.R[-1] != 0 and float(path.sigma(times[-1:])) == 0:
        wrong.append("its last step adds noise to clean data")
    return wrong


class _Counted:
    """A denoiser that counts its calls."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.path, self.calls, self._denoiser = denoiser.path, 0, denoiser

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        self.calls += 1
        return self._denoiser(x_t, t)


def _normal() -> Callable[[Tensor, object, object], Tensor]:
    """Noise drawn for a whole batch at once, the same in each run: quicker than by sample."""
    generator = torch.Generator().manual_seed(0)
    return lambda x, t, s: torch.randn(x.shape, generator=generator, dtype=x.dtype)


def _score(mixture: GaussianMixture, x: Tensor, t: Tensor) -> Tensor:
    """∇log p_t(x) by differentiating the density."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(mixture.log_prob(x, t).sum(), x)[0]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _density_of(method: Method, gap: float | None, oracle: Oracle) -> CheckRow:
    return density(method, oracle.path, gap)


OTHERS: tuple[Callable[[Oracle], CheckRow], ...] = (
    lambda oracle: contract(oracle.path),
    *(partial(conversion, quantity) for quantity in targets.ALL),
    *(partial(steering, method) for method in CONTRASTS),
    *(partial(_density_of, method, gap) for method, gap in LIKELIHOODS),
    partial(jumping, Solved),
)
"""Checks on every path in addition to solvers: the path itself, targets, guidance, likelihoods, flow maps."""
