"""The tuned solver: never worse than where it began, far better on a mixture, repeatable, and kept to the last bit."""

import json
import math
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from ornstein import exact, grid, path, sample, solvers, tuning
from ornstein.denoiser import Denoiser
from ornstein.errors import OrnsteinError
from ornstein.estimate import Estimate
from ornstein.flowmap import FlowMap, Solved
from ornstein.noise import PerSampleNoise
from ornstein.path import Path, Time, as_time
from ornstein.table import execute
from ornstein.tuning import Descent, Progress, Tuned, Weights

F64 = torch.float64
MEANS = [[-1.0, 0.5], [1.0, 0.0], [0.2, -1.0]]


LINEAR = path.Linear()


def mixture(p: path.Path = LINEAR) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.4, 0.3], torch.tensor(MEANS, dtype=F64), 0.02, p)


class Clock:
    """Seconds that pass only where something sleeps, whatever else the machine does."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of fits."""
    made = Clock()
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


@cache
def fitted(steps: int = 5, iterations: int = 60, seed: int = 0) -> Tuned:
    return tuning.fit(
        mixture(),
        (2,),
        steps,
        starts=192,
        held_out=96,
        batch_size=96,
        iterations=iterations,
        teacher=50,
        seed=seed,
    )


def endpoint_error(solver: solvers.Solver, steps: int, denoiser: Denoiser, first: int = 10_000) -> float:
    """Mean distance to a fine solve, from starts that no fit has seen."""
    noise = PerSampleNoise(7, first)
    fine = sample(denoiser, (256, 2), solver=solvers.rk4(), steps=100, noise=noise)
    return float((sample(denoiser, (256, 2), solver=solver, steps=steps, noise=noise) - fine).norm(dim=1).mean())


def test_a_fit_improves_on_the_best_untuned_table_and_on_starts_it_never_saw() -> None:
    found, denoiser = fitted(), mixture()
    assert found.error < 0.1 * found.untuned
    best = min(
        endpoint_error(s, 5, denoiser) for s in (solvers.ABM(2), solvers.ABM(3), solvers.ABM(), solvers.DPMSolverPP())
    )
    assert endpoint_error(found, 5, denoiser) < 0.1 * best


@pytest.mark.parametrize("p", [path.Cosine(), path.VarianceExploding(), path.EDM()], ids=str)
def test_a_fit_is_better_on_its_held_out_starts(p: path.Path) -> None:
    found = tuning.fit(mixture(p), (2,), 4, starts=64, held_out=32, iterations=30, teacher=20)
    assert found.error < 0.5 * found.untuned


def test_a_fit_is_never_worse_on_its_held_out_starts() -> None:
    """Even where eight numbers are fitted to two starts: then it is the untuned table, or a better one."""
    for seed in range(5):
        found = tuning.fit(mixture(), (2,), 2, starts=2, held_out=64, iterations=30, teacher=20, seed=seed)
        assert found.error <= found.untuned


def test_twice_as_many_calls_are_beaten() -> None:
    """The reason to tune: eight calls are nearer to the model's own curves than sixteen of the default, in the median."""
    found, denoiser, noise = fitted(8), mixture(), PerSampleNoise(7, 10_000)
    fine = sample(denoiser, (256, 2), solver=solvers.rk4(), steps=100, noise=noise)
    tuned, default = (
        (sample(denoiser, (256, 2), solver=s, steps=n, noise=noise) - fine).norm(dim=1).median()
        for s, n in ((found, 8), (None, 16))
    )
    assert tuned < 0.5 * default


def test_more_steps_are_not_worse() -> None:
    assert fitted(8).error < fitted(5).error


@pytest.mark.parametrize("p", [path.VariancePreserving(), path.Linear(), path.EDM()], ids=str)
def test_calls_that_are_put_into_a_table_change_nothing(p: path.Path) -> None:
    denoiser, table = (
        mixture(p),
        fitted().fitted if p == mixture().path else solvers.ABM().table(p, grid.two_ended(p, 4)),
    )
    x = denoiser.draw(5, t=1.0)
    *_, right = execute(table, denoiser, x, PerSampleNoise())
    for longer in tuning.extended(p, table, table.calls + 3):
        *seen, last = execute(longer, denoiser, x, PerSampleNoise())
        assert last.calls == table.calls + 3
        assert bool((longer.times.diff() < 0).all())
        assert torch.allclose(last.x, right.x, atol=1e-12)
        added = [step for step in seen if step.t not in table.times.tolist()]
        assert len(added) == 3
        for step in added:  # on the way, not far from the trajectory
            fine = sample(denoiser, start=x, solver=solvers.rk4(), grid=torch.linspace(1, step.t, 100, dtype=F64))
            assert (step.x - fine).norm() < 0.3 * fine.norm()


def test_a_fit_contains_the_one_of_fewer_calls() -> None:
    shape = {"starts": 192, "held_out": 64, "batch_size": 96, "teacher": 50, "seed": 0}
    earlier = tuning.fit(mixture(), (2,), 4, **shape, iterations=40)
    for steps in (5, 7):
        found, alone = (tuning.fit(mixture(), (2,), steps, **shape, iterations=1, earlier=e) for e in (earlier, None))
        assert found.error <= earlier.error < alone.error
        assert found.untuned == alone.untuned
    with pytest.raises(ValueError, match="give one for"):
        tuning.fit(mixture(), (2,), 4, earlier=earlier)


def test_the_same_seed_gives_the_same_bits() -> None:
    arguments = {"starts": 32, "held_out": 16, "batch_size": 16, "iterations": 25, "teacher": 20}
    one, two, other = (tuning.fit(mixture(), (2,), 3, **arguments, seed=seed) for seed in (0, 0, 1))
    assert one.fitted == two.fitted
    assert one.error == two.error
    assert one.fitted != other.fitted


def test_conditions_travel_with_their_starts() -> None:
    """Every start has its class: the fit against the conditional teacher differs from the unconditional one, and is right."""
    labels, asked = torch.arange(48) % 3, set[int]()
    denoiser = mixture()

    def given(rows: torch.Tensor) -> Denoiser:
        asked.update(rows.tolist())
        return denoiser.given(labels[rows])

    found = tuning.fit(denoiser, (2,), 3, bind=given, starts=32, held_out=16, batch_size=16, iterations=30, teacher=40)
    assert asked == set(range(48))
    noise, held = PerSampleNoise(0, 32), denoiser.given(labels[32:])
    teacher, mine = (
        sample(held, (16, 2), solver=s, steps=n, noise=noise) for s, n in ((solvers.ABM(), 40), (found, 3))
    )
    assert float((mine - teacher).norm(dim=1).mean()) / 2**0.5 == pytest.approx(found.error, rel=1e-3)


def test_a_fit_tells_how_it_goes_and_stops_when_asked() -> None:
    told: list[Progress] = []
    found = tuning.fit(
        mixture(),
        (2,),
        3,
        starts=32,
        held_out=16,
        iterations=10_000,
        teacher=20,
        progress=told.append,
        stop=lambda: len(told) > 2,
    )
    assert told[0].done == 0
    assert told[0].error == told[0].untuned
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert [p.error for p in told] == sorted((p.error for p in told), reverse=True)
    assert found.error == told[-1].error
    assert len(told) < 6


def test_json_keeps_every_bit() -> None:
    found = fitted()
    again = Tuned.from_dict(json.loads(json.dumps(found.to_dict())), path.Linear())
    assert again.fitted == found.fitted
    assert (again.error, again.untuned, again.model) == (found.error, found.untuned, found.model)


def test_what_a_tuned_solver_was_not_made_for_is_refused() -> None:
    found = fitted()
    with pytest.raises(ValueError, match="tuned for 5 steps, not 6"):
        sample(mixture(), (1, 2), solver=found, steps=6)
    with pytest.raises(ValueError, match=r"tuned on Linear\(\), not on Cosine"):
        sample(mixture(path.Cosine()), (1, 2), solver=found, steps=5)
    with pytest.raises(ValueError, match="leave the grid out"):
        sample(mixture(), (1, 2), solver=found, grid=grid.uniform(path.Linear(), 5))
    with pytest.raises(ValueError, match="must be at least 1"):
        tuning.fit(mixture(), (2,), 0)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_differentiable_run_is_the_table(p: path.Path) -> None:
    """At the start the entries are the table's own; moved anywhere, `run` and the executor agree."""
    denoiser = mixture(p)
    x = torch.randn(8, 2, dtype=F64) * p.sigma(torch.ones((), dtype=F64))
    for table in (
        solvers.ABM().table(p, grid.polynomial(p, 4)),
        solvers.ABM(ahead=0).table(p, grid.polynomial(p, 4)),
    ):
        weights = Weights(p, table)
        theta = torch.zeros(weights.size, dtype=F64)
        assert weights.table(theta).distance(table) < 1e-12
        theta = 0.05 * torch.randn_like(theta)
        *_, last = execute(weights.table(theta), denoiser, x, PerSampleNoise())
        assert torch.allclose(weights.run(denoiser, x, theta), last.x, rtol=1e-9, atol=1e-9)
        assert weights.table(theta).distance(table) > 1e-3


def test_gradients_are_right() -> None:
    """Against central differences, in times and gain as well as entries, each start by its own copy of θ."""
    p = path.VariancePreserving()
    denoiser, weights = mixture(p), Weights(p, solvers.ABM(2).table(p, grid.polynomial(p, 3)))
    x = torch.randn(4, 2, dtype=F64)
    each = torch.zeros(4, weights.size, dtype=F64, requires_grad=True)
    (found,) = torch.autograd.grad(weights.run(denoiser, x, each).square().sum(), each)
    for i in range(weights.size):
        theta = torch.zeros(weights.size, dtype=F64)
        theta[i] = 1e-6
        up, down = (weights.run(denoiser, x, sign * theta).square().sum(1) for sign in (1, -1))
        assert torch.allclose(found[:, i], (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


def test_a_step_solves_a_linear_problem_at_once() -> None:
    """Where the endpoint is linear in what is fitted, Gauss–Newton needs one step, and each step lowers the loss."""
    gaussian = exact.Gaussian(torch.zeros(2, dtype=F64), 0.3, LINEAR)
    weights = Weights(LINEAR, solvers.ABM(2, ahead=0).table(LINEAR, grid.polynomial(LINEAR, 2)))
    x = torch.randn(64, 2, dtype=F64)
    descent = Descent(weights, lambda rows: gaussian, x, 0.3**0.5 * x, torch.arange(64).split(24), 0)
    losses = [float(descent.errors.mean())]
    for _ in range(8):
        assert descent.step()
        losses.append(float(descent.errors.mean()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-4 * losses[0]


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_a_first_call_midpoint_first_changes_nothing_that_depends_on_clean_alone(p: path.Path) -> None:
    """Where clean is constant, the table whose first call was moved has the same result."""

    class Constant:
        path = p

        def __call__(self, x_t: torch.Tensor, t: float) -> Estimate:
            alpha, sigma = p.levels(t, x_t)
            clean = torch.full_like(x_t, 0.7)
            return Estimate(clean, (x_t - alpha * clean) / sigma)

    x = torch.randn(5, 3, dtype=F64)
    for solver in (solvers.DPMSolverPP(), solvers.DDIM()):
        table = solver.table(p, grid.polynomial(p, 4))
        moved = tuning.midpoint_first(p, table)
        assert 0 < moved.times[0] < 1
        ends = [list(execute(each, Constant(), x, PerSampleNoise()))[-1].x for each in (table, moved)]
        assert torch.allclose(*ends, rtol=1e-9, atol=1e-9)


def test_effort_follows_the_cost_of_a_call(clock: Clock) -> None:
    """On a clock that only network calls move."""

    def effort(cost: float, seconds: float, starts: int = 768) -> tuning.Effort:
        class Costly:
            path = path.Linear()

            def __call__(self, x: torch.Tensor, t: float) -> Estimate:
                clock.sleep(cost * len(x))
                return mixture()(x, t)

        return tuning.effort(Costly(), (2,), 6, seconds, starts=starts)

    assert effort(1e-6, 60.0) == (768, 256, 128)
    assert effort(1e-3, 10.0).starts == 48
    slow = effort(1e-3, 120.0)
    assert 48 < slow.starts < 200
    assert slow.held_out == max(slow.starts // 3, 16)
    assert effort(1e-3, 240.0).starts == pytest.approx(2 * slow.starts, abs=1)
    assert effort(1e-6, 1e6, starts=10_000).starts == 10_000


@dataclass(frozen=True)
class Breaking:
    """A mixture whose estimates are not finite below a time."""

    below: float
    number: float = math.nan
    calls: list[float] = field(default_factory=list)

    @property
    def path(self) -> path.Path:
        return LINEAR

    def __call__(self, x: torch.Tensor, t: "float | torch.Tensor") -> Estimate:
        self.calls.append(float(torch.as_tensor(t).detach().max()))
        found = mixture()(x, t)
        return found if self.calls[-1] > self.below else Estimate(found.clean * self.number, found.noise)


@pytest.mark.parametrize("below", [1.0, 0.5])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_model_of_numbers_that_are_not_finite_is_refused_before_the_fit(below: float, number: float) -> None:
    """In its first batch of fine solves."""
    denoiser = Breaking(below, number)
    with pytest.raises(OrnsteinError, match="solves of this model in 20 network calls are not finite"):
        tuning.fit(denoiser, (2,), 3, starts=320, held_out=160, batch_size=32, teacher=20)
    assert len(denoiser.calls) <= 20


class Waits:
    """A denoiser whose calls take their time, and more from the given one on, as on a machine that becomes busy."""

    def __init__(self, clock: Clock, seconds: float, busy: int = 10**9, times: float = 4.0) -> None:
        self.inner, self.calls, self._clock = mixture(), 0, clock
        self.path = self.inner.path
        self._seconds, self._busy, self._times = seconds, busy, times

    def __call__(self, x, t):  # type: ignore[no-untyped-def]
        self.calls += 1
        self._clock.sleep(self._seconds * (self._times if self.calls > self._busy else 1))
        return self.inner(x, t)


def test_a_fit_keeps_to_its_seconds_where_calls_are_slow(clock: Clock) -> None:
    """However much slower than when the effort was chosen: one round of untuned tables and one try are all there is."""
    slow = Waits(clock, 0.005)
    found = tuning.fit(slow, (2,), 3, starts=64, held_out=16, batch_size=16, teacher=20, seconds=0.5)
    fine = 5 * 20 * 0.005
    assert clock.now < 0.5 + fine + 1.5
    assert math.isfinite(found.error)


@pytest.mark.parametrize("busy", [10, 60, 200, 10**9])
def test_a_fit_keeps_to_its_seconds_whenever_the_machine_becomes_busy(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, busy: int
) -> None:
    """In the teacher's solve, while untuned tables are measured, and in the fit: late by a few calls at most."""
    monkeypatch.setattr(tuning, "READY", 0.0)
    slow = Waits(clock, 0.002, busy)
    solver = tuning.fit(slow, (2,), 3, starts=48, held_out=16, batch_size=16, teacher=12, seconds=1.2, iterations=10**9)
    assert clock.now < 1.2 + 2 * 0.008
    assert solver.error <= solver.untuned


def test_a_fit_that_cannot_be_made_in_its_seconds_says_so(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(tuning, "READY", 0.0)
    with pytest.raises(OrnsteinError, match=r"for a fit in 0\.3 seconds; give more of them"):
        tuning.fit(Waits(clock, 0.02), (2,), 3, starts=48, held_out=16, batch_size=16, teacher=40, seconds=0.3)
    assert clock.now < 0.3 + 2 * 0.02


def test_a_teacher_that_is_late_takes_fewer_starts(clock: Clock) -> None:
    """And what is left of the time goes to the fit."""
    slow, seen = Waits(clock, 0.004), []
    solver = tuning.fit(
        slow, (2,), 2, starts=512, held_out=16, batch_size=16, teacher=16, seconds=3.0, progress=seen.append
    )
    assert len(seen) > 2
    assert solver.error < solver.untuned


def test_the_cost_of_a_call_is_measured_in_little_of_the_time(clock: Clock) -> None:
    tuning.effort(Waits(clock, 0.2), (2,), 3, 10.0)
    assert clock.now == pytest.approx(0.2 * 2)


def test_the_times_of_jumps_are_fitted() -> None:
    """Of a map that is not exact: one step of Runge and Kutta, however far."""
    flow_map = Solved(mixture(), steps=1)
    found = tuning.fit(flow_map, (2,), 2, starts=64, held_out=32, batch_size=64, iterations=15, teacher=40)
    assert found.fitted.aims is not None
    assert torch.equal(found.fitted.aims, found.fitted.times[1:])
    plain = solvers.Jump()
    untuned = min(endpoint_error(plain, n, flow_map) for n in (1, 2))
    assert found.error < 0.8 * found.untuned
    assert endpoint_error(found, 2, flow_map) < 0.9 * untuned
    stored = json.loads(json.dumps(found.to_dict()))
    assert Tuned.from_dict(stored, LINEAR).fitted == found.fitted
    with pytest.raises(TypeError, match="give a flow map"):
        sample(mixture(), (4, 2), solver=found, steps=2)
    stored["table"]["aims"][0] = 0.0
    with pytest.raises(ValueError, match="aimed at its next times"):
        Tuned.from_dict(stored, LINEAR)


@dataclass(frozen=True, eq=False)
class Off(FlowMap):
    """A flow map whose long jumps are wrong."""

    exact: exact.Gaussian
    by: float

    @property
    def path(self) -> Path:  # type: ignore[override]
        return self.exact.path

    def __call__(self, x_t: torch.Tensor, t: Time, s: Time | None = None) -> Estimate:
        clean, noise = self.exact(x_t, t, t if s is None else s)
        alpha, sigma = self.path.levels(t, x_t)
        wrong = 0.0 if s is None else self.by * (as_time(t) - as_time(s)) ** 2 * (3 * x_t).sin()
        return Estimate(clean + wrong, noise - wrong * alpha / sigma)


def test_the_times_of_restarts_are_found() -> None:
    gaussian = exact.Gaussian(torch.tensor([1.0, -2.0], dtype=F64), [0.5, 0.1], path.Linear())

    def distance(by: float, times: torch.Tensor) -> float:
        """Of runs of the flow map to those of the exact one, with the same noise."""
        start, noise = gaussian.draw(256, t=1.0), PerSampleNoise(1)
        own, right = (
            sample(Off(gaussian, b), start=start, grid=times, solver=solvers.Restart(), noise=noise) for b in (by, 0.0)
        )
        return float((own - right).norm(dim=1).mean())

    found = tuning.restart_times(Off(gaussian, 0.3), (2,), 3, levels=9)
    assert found.shape == (4,)
    assert found[0] == 1
    assert found[-1] == 0
    assert bool((found.diff() < 0).all())
    others = [torch.tensor([1.0, *inner, 0.0]) for inner in ((0.9, 0.8), (0.67, 0.33), (0.1, 0.05))]
    assert distance(0.3, found) < min(distance(0.3, other) for other in others)
    assert distance(0.0, found) < 1e-12
    assert tuning.restart_times(Off(gaussian, 0.3), (2,), 1).tolist() == [1, 0]
    with pytest.raises(TypeError, match="takes no aim"):
        tuning.restart_times(mixture(), (2,))
    with pytest.raises(ValueError, match="levels"):
        tuning.restart_times(gaussian, (2,), 5, levels=4)
