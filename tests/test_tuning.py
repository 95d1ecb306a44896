"""The tuned solver: never worse than where it began, far better on a mixture, repeatable, and kept to the last bit."""

import json
from functools import cache

import pytest
import torch

from ornstein import exact, grid, path, sample, solvers, tuning
from ornstein.denoiser import Denoiser
from ornstein.noise import PerSampleNoise
from ornstein.table import execute
from ornstein.tuning import Progress, Tuned, Weights

F64 = torch.float64
MEANS = [[-1.0, 0.5], [1.0, 0.0], [0.2, -1.0]]


LINEAR = path.Linear()


def mixture(p: path.Path = LINEAR) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.4, 0.3], torch.tensor(MEANS, dtype=F64), 0.02, p)


@cache
def fitted(steps: int = 5, iterations: int = 150, seed: int = 0) -> Tuned:
    return tuning.fit(
        mixture(),
        (2,),
        steps,
        starts=192,
        held_out=96,
        batch=64,
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
    assert found.error < 0.6 * found.untuned
    best = min(
        endpoint_error(s, 5, denoiser) for s in (solvers.ABM(2), solvers.ABM(3), solvers.ABM(), solvers.DPMSolverPP())
    )
    assert endpoint_error(found, 5, denoiser) < 0.7 * best


@pytest.mark.parametrize("p", [path.Cosine(), path.VarianceExploding(), path.EDM()], ids=str)
def test_a_fit_is_never_worse_on_its_held_out_starts(p: path.Path) -> None:
    """Even with a rate that ruins the table: then it is the untuned one."""
    for rate, iterations in ((1e9, 12), (0.05, 60)):
        found = tuning.fit(mixture(p), (2,), 4, starts=64, held_out=32, iterations=iterations, teacher=20, rate=rate)
        assert found.error <= found.untuned
    assert found.error < found.untuned


def test_more_steps_are_not_worse() -> None:
    assert fitted(8).error < fitted(5).error


def test_the_same_seed_gives_the_same_bits() -> None:
    arguments = {"starts": 32, "held_out": 16, "batch": 16, "iterations": 15, "teacher": 20}
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

    found = tuning.fit(denoiser, (2,), 3, given=given, starts=32, held_out=16, batch=16, iterations=40, teacher=40)
    assert asked == set(range(48))
    noise, held = PerSampleNoise(0, 32), denoiser.given(labels[32:])
    teacher, mine = (
        sample(held, (16, 2), solver=s, steps=n, noise=noise) for s, n in ((solvers.rk4(), 100), (found, 3))
    )
    assert float((mine - teacher).norm(dim=1).mean()) / 2**0.5 == pytest.approx(found.error, rel=0.05)


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


def test_a_time_limit_is_kept() -> None:
    import time

    began = time.monotonic()
    tuning.fit(mixture(), (2,), 3, starts=32, held_out=16, iterations=10**9, teacher=20, seconds=0.5)
    assert time.monotonic() - began < 3


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
    with pytest.raises(ValueError, match="must be positive"):
        tuning.fit(mixture(), (2,), 0)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_differentiable_run_is_the_table(p: path.Path) -> None:
    """At the start the entries are the table's own; moved anywhere, `run` and the executor agree."""
    denoiser, table = mixture(p), solvers.ABM().table(p, grid.polynomial(p, 4))
    x = torch.randn(8, 2, dtype=F64) * p.sigma(torch.ones((), dtype=F64))
    estimates = [member for step in execute(table, denoiser, x, PerSampleNoise()) for member in step.estimate][:8]
    weights = Weights(p, table, estimates)
    assert weights.table().distance(table) < 1e-12
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    *_, last = execute(weights.table(), denoiser, x, PerSampleNoise())
    assert torch.allclose(weights.run(denoiser, x), last.x, rtol=1e-9, atol=1e-9)
    assert weights.table().distance(table) > 1e-3


def test_gradients_are_right() -> None:
    """Against central differences, in times as well as entries."""
    p = path.VariancePreserving()
    denoiser, table = mixture(p), solvers.ABM(2).table(p, grid.polynomial(p, 3))
    x = torch.randn(4, 2, dtype=F64)
    estimates = [member for step in execute(table, denoiser, x, PerSampleNoise()) for member in step.estimate][:6]
    weights = Weights(p, table, estimates)
    weights.run(denoiser, x).square().sum().backward()
    for parameter in weights.parameters():
        assert parameter.grad is not None
        for i in range(len(parameter)):
            values = []
            for h in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter[i] += h
                    values.append(float(weights.run(denoiser, x).square().sum()))
                    parameter[i] -= h
            assert float(parameter.grad[i]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)


def test_effort_follows_the_cost_of_a_call() -> None:
    class Slow:
        path = path.Linear()

        def __call__(self, x: torch.Tensor, t: float) -> object:
            import time

            time.sleep(0.02)
            return mixture()(x, t)

    quick = tuning.effort(mixture(), (2,), 6, 60.0)
    slow = tuning.effort(Slow(), (2,), 6, 20.0)
    assert quick == (768, 256, 128)
    assert 48 <= slow.starts < 200
    assert slow.held_out == slow.starts // 3
    assert slow.batch < 64
