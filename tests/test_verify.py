"""The proof itself: it passes what is right, and sees every kind of fault it claims to see."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor

from ornstein import grid, likelihood, path, solvers, target, verify
from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.flowmap import FlowMap, Solved
from ornstein.guidance import CONTRASTS
from ornstein.noise import NoiseSource
from ornstein.path import Path, Point, Time
from ornstein.solvers import Solver
from ornstein.table import Step, Table

F64 = torch.float64
HEUN = solvers.Heun()


@dataclass(frozen=True)
class Spoiled:
    """A solver with something wrong in its table."""

    solver: Solver
    what: str
    order: int

    def grid(self, path: Path, steps: int) -> Tensor:
        return self.solver.grid(path, steps)

    def table(self, path: Path, times: Tensor) -> Table:
        table = self.solver.table(path, times)
        if self.what == "coefficient":  # the second stage weighs less than the first; a constant slope is still exact
            P, Q = table.P.clone(), table.Q.clone()
            for entries in (P, Q):
                for i in range(1, table.calls, 2):
                    moved = 0.1 * entries[i, i]
                    entries[i, i] -= moved
                    entries[i, i - 1] += moved
            return replace(table, P=P, Q=Q)
        if self.what == "noise":
            return replace(table, R=1.05 * table.R)
        if self.what == "last noise":
            return replace(table, R=torch.cat([table.R[:-1], torch.full((1,), 0.01, dtype=F64)]))
        if self.what == "end":
            return replace(table, times=torch.cat([table.times[:-1], torch.full((1,), 1e-5, dtype=F64)]))
        if self.what == "nan":
            return replace(table, Q=torch.where(table.Q == 0, table.Q, torch.nan))
        if self.what == "raise":
            raise RuntimeError("no table today")
        return table


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        (Spoiled(HEUN, "", 3), "where 3 is declared"),
        (Spoiled(solvers.DDIM(), "", 2), "its fitted order is 1.00 where 2 is declared"),
        (Spoiled(HEUN, "coefficient", 2), "its fitted order is"),
        (Spoiled(solvers.Ancestral(), "noise", 1), "its fitted order is"),
        (Spoiled(solvers.Ancestral(), "last noise", 1), "its last step adds noise to clean data"),
        (Spoiled(solvers.DDIM(), "end", 1), "not over its grid"),
        (Spoiled(solvers.DDIM(), "nan", 1), "not finite"),
        (Spoiled(solvers.DDIM(), "raise", 1), "it raised RuntimeError: no table today"),
    ],
)
def test_a_fault_is_seen_and_named(spoiled: Spoiled, says: str) -> None:
    report = verify.solver(spoiled, [path.Linear()])
    assert not report.ok
    assert says in str(report)


@pytest.mark.parametrize(
    "solver", [HEUN, solvers.ABM(3), solvers.UniPC(2), solvers.Ancestral(), solvers.ERSDE()], ids=str
)
def test_a_right_solver_passes_and_its_figures_are_told(solver: Solver) -> None:
    report = verify.solver(solver, [path.Linear(), path.VariancePreserving()])
    assert report.ok
    for row in report.rows:
        assert row.declared == solver.order
        assert row.fitted is not None
        assert abs(row.fitted - solver.order) < 0.2 or (row.error is None and row.fitted > solver.order)
        assert row.calls == solver.table(path.Linear(), grid.polynomial(path.Linear(), 20)).calls
        assert row.distribution is not None
        assert row.distribution < 0.1
    assert str(report).splitlines()[0] == verify.HEADER
    assert len(str(report).splitlines()) == 3


@dataclass(frozen=True)
class Shifted:
    """A sampler whose samples lie beside the data, and which miscounts its calls."""

    stochastic = False

    def grid(self, path: Path, steps: int) -> Tensor:
        return grid.uniform(path, steps)

    def run(self, denoiser: Denoiser, x: Tensor, times: Tensor, noise: NoiseSource) -> Iterator[Step]:
        steps = list(verify.execute(solvers.DDIM().table(denoiser.path, times), denoiser, x, noise))
        for step in steps:
            yield Step(step.t, step.x + 0.5, step.calls + 1, lambda: steps[0].estimate)


def test_a_sampler_with_its_own_loop_is_judged_by_its_distribution() -> None:
    assert verify.solver(solvers.PredictorCorrector(), [path.Cosine()]).ok
    (row,) = verify.solver(Shifted(), [path.Linear()]).rows
    assert row.declared is None
    assert "standard deviations from the data" in str(row)
    assert "it counts 201 network calls and makes 200" in str(row)
    assert row.distribution == pytest.approx(
        0.5 / float(verify.Oracle(path.Linear()).quantiles(256, 0.0).std()), rel=0.05
    )


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_flow_of_the_oracle_solves_the_ode(p: Path) -> None:
    """Its derivative in s is the velocity of the exact denoiser, and quantiles are carried to quantiles."""
    oracle = verify.Oracle(p)
    t = float(p.time(torch.tensor(0.5, dtype=F64)))
    x = oracle.quantiles(9, t)
    h = 1e-5 * t
    rate = (oracle.flow(x, t, t + h) - oracle.flow(x, t, t - h)) / (2 * h)
    velocity = oracle.mixture.velocity(x, t)
    assert torch.allclose(rate, velocity, rtol=1e-6, atol=1e-6 * float(velocity.abs().max()))
    assert torch.allclose(oracle.flow(x, t, 0.0), oracle.quantiles(9, 0.0), rtol=1e-10, atol=1e-10)


def test_quantiles_are_those_of_draws() -> None:
    oracle = verify.Oracle(path.Cosine())
    for t in (0.0, 0.4):
        drawn = oracle.mixture.draw(200_000, t, torch.Generator().manual_seed(0))[:, 0]
        expected = drawn.quantile((torch.arange(5, dtype=F64) + 0.5) / 5)
        assert torch.allclose(oracle.quantiles(5, t)[:, 0], expected, atol=0.01)


@dataclass(frozen=True)
class Crooked:
    """A target that has another pair on every second call: what goes out does not come back."""

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        a, b = target.V()(point)
        return a, b + torch.rand_like(b)


def test_conversions() -> None:
    oracle = verify.Oracle(path.Cosine())
    assert all(verify.conversion(quantity, oracle).ok for quantity in target.ALL)
    assert verify.conversion(target.Noise(), oracle).error is None  # refused: cosine ends at zero SNR
    assert verify.conversion(target.V(), oracle).error is not None
    assert "a round trip errs" in str(verify.conversion(Crooked(), oracle))


@pytest.mark.parametrize(("method", "gap"), verify.LIKELIHOODS, ids=str)
def test_likelihoods(method: likelihood.Method, gap: float | None) -> None:
    for row in verify.likelihood(method, [path.Linear(), path.VarianceExploding()], gap).rows:
        assert row.ok, row
        assert row.calls is not None


@dataclass(frozen=True)
class OffBy:
    """A likelihood with something wrong in it."""

    nats: float
    whole: bool = False

    def __call__(self, denoiser, x, units, noise, check=False):  # type: ignore[no-untyped-def]
        if self.whole and self.nats == 0:
            raise RuntimeError("no density today")
        found = likelihood.ODE()(denoiser, x, units, noise, check)
        wrong = self.whole == (units.width is not None)
        return found._replace(nats=found.nats + self.nats * wrong)


@pytest.mark.parametrize(
    ("method", "gap", "says"),
    [
        (OffBy(0.01), None, "it errs by 5.0e-03 nats per dimension"),
        (OffBy(math.nan), None, "its values are not finite"),
        (OffBy(0.2), 0.1, "on average it is 2.0e-01 nats from what it bounds"),
        (OffBy(-0.2), 0.1, "on average it is -2.0e-01 nats from what it bounds"),
        (OffBy(-0.6, whole=True), None, "of whole numbers it lies"),
        (OffBy(0, whole=True), None, "it raised RuntimeError: no density today"),
        (likelihood.DiscreteBound(8), 0.1, "nats from what it bounds"),
    ],
)
def test_likelihoods_that_are_wrong(method: likelihood.Method, gap: float | None, says: str) -> None:
    (row,) = verify.likelihood(method, [path.Linear()], gap).rows
    assert not row.ok
    assert says in str(row)


class Own(path.Path):
    """A path of somebody's own with one thing wrong."""

    def __init__(self, **wrong: Callable[[Tensor], Tensor]) -> None:
        for name, function in wrong.items():
            object.__setattr__(self, name, function)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    __repr__ = object.__repr__


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"alpha": lambda t: 0.9 * (1 - t)}, "α(0) is 0.9, not 1: divide alpha and sigma by it"),
        ({"sigma": lambda t: t * (1 - t)}, "it needs α(1) ≥ 0, σ(1) > 0 and σ(0) ≥ 0, which are 0, 0 and 0"),
        ({"sigma": lambda t: 0.5 + 0 * t + torch.sin(9 * t) / 4}, "its log-SNR does not fall strictly"),
        ({"sigma": lambda t: t / (1 - t)}, "alpha or sigma is not finite on all of [0, 1]"),
        ({"alpha": lambda t: (1 - t).double()}, "alpha of float32 times is not float32"),
        ({"alpha": lambda t: (1 - t).sum()}, "alpha and sigma must be elementwise"),
        ({"d_sigma": lambda t: torch.where(t < 0.9, 1.0, 1.001)}, "dσ/dt errs by 9.9e-04"),
        ({"time": lambda log_snr: torch.sigmoid(-log_snr / 2.01)}, "the inverse of the log-SNR errs by"),
        ({"alpha": lambda t: 1 / 0}, "it raised ZeroDivisionError"),
    ],
)
def test_a_path_that_breaks_its_promises(wrong: dict[str, Callable[[Tensor], Tensor]], says: str) -> None:
    assert verify.path(Own()).ok
    (row,) = verify.path(Own(**wrong)).rows
    assert not row.ok
    assert says in str(row)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_paths_and_guidance(p: path.Path) -> None:
    assert [str(row) for row in verify.path(p).rows if not row.ok] == []
    for method in CONTRASTS:
        assert [str(row) for row in verify.guidance(method, [p]).rows if not row.ok] == []


@dataclass(frozen=True)
class Steered:
    """A guidance with one thing wrong: `shift` is added to clean."""

    conditional: Denoiser
    scale: float
    shift: Callable[[Tensor, float, float], Tensor]

    @property
    def path(self) -> Path:
        return self.conditional.path

    def __call__(self, x_t: Tensor, t: float) -> Estimate:
        clean, noise = self.conditional(x_t, t)
        return Estimate(clean + self.shift(x_t, t, self.scale), noise)


@pytest.mark.parametrize(
    ("shift", "says"),
    [
        (lambda x, t, w: x - x, "at scale 3 it moves nothing"),
        (lambda x, t, w: x - x + 0.1, "at scale 1 it is not the conditional denoiser"),
        (lambda x, t, w: (w - 1) * (x - x + 0.1), "misses x_t by"),
        (lambda x, t, w: (w - 1) * x.mean(0), "a row depends on its batch"),
        (lambda x, t, w: x / 0 if t == 0 else 1 // 0, "it raised ZeroDivisionError"),
        (lambda x, t, w: (w - 1) * (x - x + 0.1) / torch.tensor(1 - t), "it is not finite at t = 1"),
    ],
)
def test_guidance_that_is_wrong(shift: Callable[[Tensor, float, float], Tensor], says: str) -> None:
    (row,) = verify.guidance(lambda c, u, w: Steered(c, w, shift), [path.Linear()]).rows
    assert not row.ok
    assert says in str(row)


def test_a_path_that_ends_with_noise_and_little_signal() -> None:
    """A linear log-SNR, which is not of `path.ALL`: solvers, targets, guidance and likelihoods hold on it as on those."""
    on = [path.LinearLogSNR()]
    methods = [solvers.ABM(), solvers.Heun(), solvers.Ancestral()]
    assert [str(row) for row in verify.everything(methods, on) if not row.ok] == []


def test_a_target_of_your_own() -> None:
    assert verify.target(target.V(), [path.Linear(), path.Cosine()]).ok
    assert not verify.target(Crooked(), [path.Linear()]).ok


def test_everything_is_every_pair_once() -> None:
    on = [path.Linear(), path.EDM()]
    rows = list(verify.everything([solvers.DDIM()], on))
    names = [str(solvers.DDIM()), "path", *[f"target {quantity}" for quantity in target.ALL]]
    names += [f"guidance {method.__name__}" for method in CONTRASTS]
    names += [f"likelihood {method}" for method, _ in verify.LIKELIHOODS]
    names += ["flow map Solved"]
    assert [(row.subject, row.path) for row in rows] == [(name, str(p)) for name in names for p in on]
    assert {type(s) for s in verify.available()} >= {type(s) for s in solvers.ALL}


@pytest.mark.slow
def test_everything_passes() -> None:
    assert [str(row) for row in verify.everything() if not row.ok] == []


class Straight(FlowMap):
    """No flow map but of straight flows: every jump is DDIM's step; with something else wrong, if asked."""

    def __init__(self, denoiser: Denoiser, pair: float = 1.0, plain: float = 1.0) -> None:
        self.denoiser, self.path, self.pair, self.plain = denoiser, denoiser.path, pair, plain

    def __call__(self, x_t: Tensor, t: Time, s: Time | None = None) -> Estimate:
        clean, noise = self.denoiser(x_t, t)
        return Estimate(clean, noise * (self.plain if s is None else self.pair))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Straight, "jumps miss the exact solution by"),
        (partial(Straight, pair=1.01), "misses x_t; a jump to its own time moves x"),
        (partial(Straight, plain=1.01), "without an aim it is not the denoiser"),
        (lambda denoiser: denoiser, "it raised TypeError"),
    ],
)
def test_it_sees_what_is_wrong_with_a_flow_map(make: Callable[[Denoiser], FlowMap], says: str) -> None:
    (row,) = verify.flow_map(make, [path.Linear()]).rows
    assert says in "; ".join(row.wrong)


def test_it_passes_the_solved_map() -> None:
    assert verify.flow_map(Solved, [path.Linear(), path.EDM()]).ok
