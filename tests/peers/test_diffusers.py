"""Step-by-step equality with diffusers' schedulers: the same exact model, the same start, the same times.

diffusers counts steps i = 0..T−1 where here t = (i + 1)/T, and keeps its tables in float32, which is the difference that is
left. Known differences of method, each shown below: the third-order multistep DPM-Solver(++) there weighs the second
difference by half of its integral (`test_third_order_multistep`), UniPC and DEIS switch to lower orders for the last steps
unless told not to, and no scheduler there steps to zero noise with an order above 1 except Euler's, Heun's and LMS.

Needs the extra `peers`.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import chart, exact, path, sample, solvers, trajectory
from ornstein.solvers import Solver
from ornstein.solvers.exponential import NoisePrediction
from ornstein.table import Table

diffusers = pytest.importorskip("diffusers", reason="needs the extra `peers`")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

F64 = torch.float64
T = 1000
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, T, dtype=torch.float32) ** 2
PATH = path.Betas(BETAS)
SETTINGS: dict[str, Any] = {"trained_betas": BETAS.numpy(), "timestep_spacing": "trailing"}
STEPS = 12


def mixture(p: path.Path) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, p)


MODEL = mixture(PATH)


def start(level: float = 1.0) -> Tensor:
    return torch.randn(6, 2, dtype=F64) * level


def run(scheduler: Any, x: Tensor, scaled: bool = False, **options: Any) -> tuple[Tensor, list[Tensor]]:
    """The scheduler's result and the inputs it gave the model; `scaled` schedulers keep x/α."""
    inputs = []
    for i in scheduler.timesteps:
        x_t = scheduler.scale_model_input(x, i) if scaled else x
        inputs.append(x_t)
        x = scheduler.step(MODEL(x_t, (float(i) + 1) / T).noise, i, x, **options).prev_sample
    return x, inputs


def times(scheduler: Any, last: float = 0.0) -> Tensor:
    """The scheduler's times, without those it visits twice, and the last."""
    visited = dict.fromkeys((float(i) + 1) / T for i in scheduler.timesteps)
    return torch.tensor([*visited, last], dtype=F64)


def agree(solver: Solver, x: Tensor, grid: Tensor, result: Tensor, inputs: list[Tensor], **noise: Any) -> None:
    steps = list(trajectory(MODEL, x, solver=solver, grid=grid, **noise))
    assert len(steps) - 1 == len(inputs)
    for step, theirs in zip(steps, inputs, strict=False):
        assert torch.allclose(step.x, theirs.to(F64), rtol=0, atol=1e-4)
    assert torch.allclose(steps[-1].x, result.to(F64), rtol=0, atol=1e-4)


def replay(seed: int) -> Callable[[Tensor, float, float], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda x, t, s: torch.randn(x.shape, generator=generator, dtype=x.dtype)


def test_ddpm() -> None:
    scheduler = diffusers.DDPMScheduler(clip_sample=False, **SETTINGS)
    scheduler.set_timesteps(STEPS)
    x = start()
    result, inputs = run(scheduler, x, generator=torch.Generator().manual_seed(7))
    agree(solvers.Ancestral(), x, times(scheduler), result, inputs, noise=replay(7))


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim(eta: float) -> None:
    """With a number of steps that divides T: elsewhere diffusers' previous time, i − T//N, is not the next of its grid."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, **SETTINGS)
    scheduler.set_timesteps(10)
    x = start()
    result, inputs = run(scheduler, x, eta=eta, generator=torch.Generator().manual_seed(7) if eta else None)
    # at the last step diffusers' posterior has no variance left, so it draws a noise that counts for nothing
    agree(solvers.DDIM(eta), x, times(scheduler), result, inputs, noise=replay(7))


@pytest.mark.parametrize(
    ("kind", "solver"),
    [
        ("EulerDiscreteScheduler", solvers.Euler(chart.Scaled())),
        ("HeunDiscreteScheduler", solvers.Heun(chart.Scaled())),
        ("LMSDiscreteScheduler", solvers.LMS(4)),
    ],
)
def test_solvers_in_the_scaled_chart(kind: str, solver: Solver) -> None:
    scheduler = getattr(diffusers, kind)(**SETTINGS)
    scheduler.set_timesteps(STEPS)
    grid = times(scheduler)
    alpha, sigma = float(PATH.alpha(grid[0])), float(PATH.sigma(grid[0]))
    x = start()
    result, inputs = run(scheduler, x * (sigma / alpha), scaled=True)
    agree(solver, x * sigma, grid, result, inputs)


MULTISTEP: list[tuple[str, dict[str, Any], Solver]] = [
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 1}, solvers.DPMSolverPP(1)),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}, solvers.DPMSolverPP(2)),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "solver_order": 1}, solvers.DPMSolver(1)),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "solver_order": 2}, solvers.DPMSolver(2)),
    *[
        ("UniPCMultistepScheduler", {"solver_order": p, "solver_type": name}, solvers.UniPC(p, b))
        for p in (1, 2, 3)
        for name, b in (("bh1", solvers.B1()), ("bh2", solvers.B2()))
    ],
    *[
        (
            "UniPCMultistepScheduler",
            {"solver_order": p, "predict_x0": False},
            solvers.UniPC(p, prediction=NoisePrediction()),
        )
        for p in (1, 2, 3)
    ],
    (
        "UniPCMultistepScheduler",
        {"solver_order": 2, "disable_corrector": list(range(STEPS))},
        solvers.UniPC(2, corrector=False),
    ),
]


@pytest.mark.parametrize(("kind", "options", "solver"), MULTISTEP)
def test_multistep(kind: str, options: dict[str, Any], solver: Solver) -> None:
    """Down to diffusers' smallest level, i = 0, which the forms that hold the noise do not pass there."""
    scheduler = getattr(diffusers, kind)(**SETTINGS, **options, lower_order_final=False, final_sigmas_type="sigma_min")
    scheduler.set_timesteps(STEPS)
    x = start()
    result, inputs = run(scheduler, x)
    agree(solver, x, times(scheduler, last=1 / T), result, inputs)


def test_multistep_down_to_zero_noise() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(**SETTINGS, solver_order=2, final_sigmas_type="zero")
    scheduler.set_timesteps(STEPS)
    x = start()
    result, inputs = run(scheduler, x)
    agree(solvers.DPMSolverPP(2), x, times(scheduler), result, inputs)


@pytest.mark.parametrize(("order", "solver"), [(1, solvers.SDEDPMSolverPP(1)), (2, solvers.SDEDPMSolverPP(2))])
def test_sde_multistep(order: int, solver: Solver) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SETTINGS, algorithm_type="sde-dpmsolver++", solver_order=order, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(STEPS)
    x = start()
    fresh = torch.randn(STEPS, *x.shape)
    inputs, theirs = [], x
    for i, at in enumerate(scheduler.timesteps):
        inputs.append(theirs)
        estimate = MODEL(theirs, (float(at) + 1) / T).noise
        theirs = scheduler.step(estimate, at, theirs, variance_noise=fresh[i]).prev_sample
    rows = iter(fresh.to(F64))
    agree(solver, x, times(scheduler), theirs, inputs, noise=lambda x, t, s: next(rows))


def test_sde_on_noise() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SETTINGS,
        algorithm_type="sde-dpmsolver",
        solver_order=2,
        final_sigmas_type="sigma_min",
        lower_order_final=False,
    )
    scheduler.set_timesteps(STEPS)
    x = start()
    fresh = torch.randn(STEPS, *x.shape)
    inputs, theirs = [], x
    for i, at in enumerate(scheduler.timesteps):
        inputs.append(theirs)
        estimate = MODEL(theirs, (float(at) + 1) / T).noise
        theirs = scheduler.step(estimate, at, theirs, variance_noise=fresh[i]).prev_sample
    rows = iter(fresh.to(F64))
    agree(solvers.SDEDPMSolver(2), x, times(scheduler, last=1 / T), theirs, inputs, noise=lambda x, t, s: next(rows))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(order: int) -> None:
    """diffusers' polynomials are in log ρ."""
    scheduler = diffusers.DEISMultistepScheduler(**SETTINGS, solver_order=order, lower_order_final=False)
    scheduler.set_timesteps(STEPS)
    x = start()
    result, inputs = run(scheduler, x)
    agree(solvers.DEIS(order, solvers.LogRho()), x, times(scheduler, last=1 / T), result, inputs)


@pytest.mark.parametrize(
    ("kind", "solver"), [("dpmsolver++", solvers.DPMSolverPP(3)), ("dpmsolver", solvers.DPMSolver(3))]
)
def test_third_order_multistep(kind: str, solver: Solver) -> None:
    """Not equal, and this is the whole reason: φ₃ is multiplied there by half of h²·d²m/dλ².

    Halving our last term gives their numbers; theirs does not integrate a quadratic exactly, ours does.
    """
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SETTINGS, algorithm_type=kind, solver_order=3, final_sigmas_type="sigma_min", lower_order_final=False
    )
    scheduler.set_timesteps(STEPS)
    x, grid = start(), times(scheduler, last=1 / T)
    result, inputs = run(scheduler, x)
    table = solver.table(PATH, grid)
    levels = [(float(PATH.alpha(t)), float(PATH.sigma(t))) for t in grid]
    clocks = [math.log(a / s) for a, s in levels]
    P, Q = table.P.clone(), table.Q.clone()
    for i in range(2, table.calls):
        h, r0, r1 = clocks[i + 1] - clocks[i], clocks[i] - clocks[i - 1], clocks[i - 1] - clocks[i - 2]
        z, weight, held = (-h, levels[i + 1][0], P) if kind == "dpmsolver++" else (h, levels[i + 1][1], Q)
        phi3 = (math.expm1(z) - z) / z**2 - 0.5
        # h²·f[0, 1, 2], the second divided difference in λ
        second = torch.tensor([1 / (r1 * (r0 + r1)), -1 / (r0 * r1), 1 / (r0 * (r0 + r1))], dtype=F64) * h**2
        held[i, i - 2 : i + 1] += weight * phi3 * second
    halved = Table(table.times, P, Q, table.R)

    class Halved:
        order = 2

        def grid(self, path: path.Path, steps: int) -> Tensor:
            return grid

        def table(self, path: path.Path, grid: Tensor) -> Table:
            return halved

    agree(Halved(), x, grid, result, inputs)
    ours = sample(MODEL, start=x, solver=solver, grid=grid)
    assert (ours - result).abs().max() > 1e-4


@pytest.mark.parametrize(("skip", "solver"), [(True, solvers.PLMS()), (False, solvers.PNDM())])
def test_pndm(skip: bool, solver: Solver) -> None:
    """With an even number of β a step, so that diffusers' whole half steps are halves."""
    scheduler = diffusers.PNDMScheduler(
        trained_betas=BETAS.numpy(),
        skip_prk_steps=skip,
        set_alpha_to_one=True,
        timestep_spacing="leading",
        steps_offset=99,
    )
    scheduler.set_timesteps(10)
    x = start()
    result, inputs = run(scheduler, x)
    grid = torch.arange(10, -1, -1, dtype=F64) / 10
    agree(solver, x, grid, result, inputs)


def test_flow_matching_euler() -> None:
    p = path.Linear()
    model = mixture(p)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0.1, 10).numpy())
    x = theirs = start()
    steps = list(trajectory(model, x, solver=solvers.Euler(), grid=torch.linspace(1, 0, 11, dtype=F64)))
    for step, at in zip(steps, scheduler.timesteps, strict=False):
        assert torch.allclose(step.x, theirs.to(F64), rtol=0, atol=1e-4)
        t = float(at) / 1000
        estimate = model(theirs.to(F64), t)
        theirs = scheduler.step(estimate.noise - estimate.clean, at, theirs).prev_sample
    assert torch.allclose(steps[-1].x, theirs.to(F64), rtol=0, atol=1e-4)
