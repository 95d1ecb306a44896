"""SDEdit, inpainting, interpolation and the round trip, against what closed forms say they give."""

import math
from itertools import pairwise

import pytest
import torch

from ornstein import encode, exact, path, sample, solvers
from ornstein.editing import RePaint, Replacement, inpaint, interpolate, reconstruct, sdedit, slerp
from ornstein.editing.sdedit import begun
from ornstein.noise import PerSampleNoise

NAMES = [str(p)[:40] for p in path.ALL]
PAIR = torch.tensor([[1.0, 0.8], [0.8, 1.0]])  # correlated, so that one coordinate tells of the other


@pytest.mark.parametrize("p", path.ALL, ids=NAMES)
def test_sdedit_is_the_flow_from_noised_data(p: path.Path) -> None:
    model, x = exact.Gaussian([0.3, -0.2], 0.5, p), torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    made = sdedit(model, x, 0.5, solver=solvers.Heun(), steps=16, noise=PerSampleNoise(7))
    t = float(begun(p, solvers.Heun().grid(p, 16), 0.5)[0])
    assert math.isclose(t, float(p.time(0.0)), rel_tol=1e-9)  # σ = α
    alpha, sigma = p.levels(t, x)
    start = alpha * x + sigma * PerSampleNoise(7)(x, t, t)
    torch.testing.assert_close(made, model.flow(start, t, 0.0), atol=5e-3, rtol=5e-3)
    alone = sdedit(model, x[1:], 0.5, solver=solvers.Heun(), steps=16, noise=PerSampleNoise(7, first=1))
    torch.testing.assert_close(alone, made[1:])


@pytest.mark.parametrize("p", path.ALL, ids=NAMES)
@pytest.mark.parametrize("strength", [0.05, 0.5, 0.9, 1.0])
def test_a_begun_grid_has_all_its_steps_and_begins_at_the_strength(p: path.Path, strength: float) -> None:
    times = begun(p, solvers.ABM().grid(p, 10), strength)
    assert len(times) == 11
    assert float(times[-1]) == 0
    assert bool((times.diff() < 0).all())
    alpha, sigma = p.alpha(times), p.sigma(times)
    share = (sigma / (alpha + sigma))[0]
    most = p.sigma(torch.ones(1).double()) / (p.alpha(torch.ones(1).double()) + p.sigma(torch.ones(1).double()))
    torch.testing.assert_close(float(share), min(strength, float(most)), atol=1e-9, rtol=0)


def test_strengths_that_mean_nothing_are_refused() -> None:
    model, x = exact.Gaussian([0.0], 1.0, path.VarianceExploding(0.1)), torch.zeros(1, 1)
    for strength in (0.0, -1.0, 1.01, math.nan):
        with pytest.raises(ValueError, match="strength"):
            sdedit(model, x, strength)
    with pytest.raises(ValueError, match="below the noise"):
        sdedit(model, x, 0.01)


@pytest.mark.parametrize("p", path.ALL, ids=NAMES)
def test_a_replaced_estimate_is_consistent_and_finite_at_both_ends(p: path.Path) -> None:
    known, kept = torch.tensor([[5.0, 0.0], [6.0, 0.0]]).double(), torch.tensor([[1.0, 0.0]])
    told = Replacement(exact.Gaussian(torch.zeros(2).double(), PAIR, p), known, kept)
    for t in (0.0, 0.3, 1.0):
        alpha, sigma = p.levels(t, known)
        x_t = alpha * known + sigma * torch.randn(2, 2).double()
        clean, noise = told(x_t, t)
        torch.testing.assert_close(alpha * clean + sigma * noise, x_t)
        torch.testing.assert_close(clean[:, 0], known[:, 0])
        torch.testing.assert_close(clean[:, 1], told.denoiser(x_t, t).clean[:, 1])


@pytest.mark.parametrize("solver", [None, solvers.Ancestral(), solvers.Heun(), solvers.PredictorCorrector(), RePaint()])
@pytest.mark.parametrize("p", [path.Linear(), path.VarianceExploding(), path.VariancePreserving()], ids=str)
def test_what_is_known_stays_as_it_is(solver: solvers.Solver | None, p: path.Path) -> None:
    model, known, kept = exact.Gaussian([0.0, 0.0], PAIR, p), torch.tensor([[1.5, 9.0]]), torch.tensor([[1.0, 0.0]])
    made = inpaint(model, known, kept, solver=solver, steps=6)
    assert float(made[0, 0]) == 1.5
    assert float(made[0, 1]) != 9.0
    assert made.isfinite().all()


def test_resampling_brings_inpainting_to_the_conditional_distribution() -> None:
    """x_2 given x_1 = 1.5 is N(1.2, 0.36). Replacement alone falls short of the mean; going back and forth mends it."""
    count, model = 1000, exact.Gaussian([0.0, 0.0], PAIR, path.Linear())
    known, kept = torch.tensor([[1.5, 0.0]]).expand(count, 2), torch.tensor([[1.0, 0.0]])

    def error(solver: solvers.Solver) -> float:
        x = inpaint(model, known, kept, solver=solver, steps=12)[:, 1]
        return abs(float(x.mean()) - 1.2) + abs(float(x.std()) - 0.6)

    plain, mended = error(solvers.Ancestral()), error(RePaint(resamples=6, jump=1))
    assert mended < 0.6 * plain
    assert mended < 0.3


def test_the_schedule_of_repaint_is_that_of_the_paper() -> None:
    assert RePaint(1, 1).schedule(3) == [0, 1, 2, 3]
    assert RePaint(2, 1).schedule(3) == [0, 1, 0, 1, 2, 1, 2, 3]
    assert RePaint(3, 2).schedule(3) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3]
    # appendix A's loop: T = 250, jumps of 10 steps, 10 samples; it counts down from T − 1, and −1 is clean data
    total, jump = 250, 10
    jumps, times, t = dict.fromkeys(range(0, total - jump, jump), 9), [], total
    while t >= 1:
        t -= 1
        times.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(jump):
                t += 1
                times.append(t)
    ours = [total - 1]
    for here, there in pairwise(
        RePaint(10, 10).schedule(total)
    ):  # it goes back in single steps, which is the same kernel
        ours += [total - 1 - there] if there > here else range(total - here, total - there)
    assert ours == [*times, -1]


def test_repaint_counts_its_calls_and_keeps_rows_apart() -> None:
    model = exact.Gaussian([0.0, 0.0], PAIR, path.Cosine())
    start, solver = torch.randn(3, 2), RePaint(3, 2)
    grid = solver.grid(model.path, 5)
    steps = list(solver.run(model, start, grid, PerSampleNoise(1)))
    downs = sum(b > a for a, b in pairwise(solver.schedule(5)))
    assert [step.calls for step in steps] == [*range(1, downs + 1), downs]
    assert steps[-1].t == 0
    alone = list(solver.run(model, start[2:], grid, PerSampleNoise(1, first=2)))[-1].x
    torch.testing.assert_close(alone, steps[-1].x[2:])
    for wrong in ({"resamples": 0}, {"jump": 0}):
        with pytest.raises(ValueError, match="RePaint"):
            RePaint(**wrong)
    with pytest.raises(ValueError, match="falls"):
        next(solver.run(model, start, grid.flip(0), PerSampleNoise()))


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="mask"):
        inpaint(exact.Gaussian([0.0, 0.0], 1.0, path.Linear()), torch.zeros(1, 2), torch.ones(1, 3))


def test_slerp_keeps_the_norm_and_moves_evenly() -> None:
    a, b = torch.randn(2, 5, 3, 4).double().unbind()
    a, b = (v / v.flatten(1).norm(dim=1)[:, None, None] for v in (a, b))
    whole = torch.acos((a * b).flatten(1).sum(1))
    for w in (0.0, 0.25, 0.5, 1.0):
        middle = slerp(a, b, w)
        torch.testing.assert_close(middle.flatten(1).norm(dim=1), torch.ones(5).double())
        torch.testing.assert_close(
            torch.acos((a * middle).flatten(1).sum(1).clamp(-1, 1)), w * whole, atol=1e-6, rtol=0
        )
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    torch.testing.assert_close(slerp(a, -a, 0.25), 0.5 * a)
    assert not slerp(torch.zeros(1, 2), torch.zeros(1, 2), 0.5).any()
    torch.testing.assert_close(slerp(a, b, torch.linspace(0, 1, 5))[4], b[4])


@pytest.mark.parametrize("p", path.ALL, ids=NAMES)
def test_the_round_trip_returns_and_interpolation_ends_at_its_ends(p: path.Path) -> None:
    model, x = exact.Gaussian([0.3, -0.2], PAIR, p), torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    back = reconstruct(model, x, solver=solvers.Heun(), steps=40)
    assert float((back - x).abs().max()) < 0.05
    frames = interpolate(model, x[:1], x[1:], 5, solver=solvers.Heun(), steps=40)
    assert frames.shape == (5, 2)
    torch.testing.assert_close(frames[[0, -1]], back, atol=1e-4, rtol=1e-4)


def test_the_middle_of_an_interpolation_is_the_flow_of_the_middle_code() -> None:
    model, x = exact.Gaussian([0.3, -0.2], PAIR, path.Linear()), torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    frames = interpolate(model, x[:1], x[1:], 3, steps=30)
    codes = encode(model, x, steps=30)
    torch.testing.assert_close(frames[1:2], sample(model, start=slerp(codes[:1], codes[1:], 0.5), steps=30))


def test_edits_by_encoding_refuse_what_they_cannot_do() -> None:
    model, x = exact.Gaussian([0.0, 0.0], 1.0, path.Linear()), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="frames"):
        interpolate(model, x, x, 1)
    with pytest.raises(ValueError, match="one shape"):
        interpolate(model, x, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="fresh noise"):
        reconstruct(model, x, solver=solvers.Ancestral())
