"""Our scheduler beside diffusers' own, in their protocol: timesteps in, noise predictions out, x ~ N(0, I) at the last level.

The model is an exact mixture (`benchmarks.problems`) behind noise prediction on a β-table, asked at whatever timestep a scheduler
names, whole or not. Each scheduler is given a number of network calls (Heun makes two a step) and the error is the RMSE to the
endpoint of the same ODE in 600 calls. Writes results/interop.{json,md}.

    python -m benchmarks.interop            needs the extra `peers`
"""

import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.problems import MODELS, Problem
from benchmarks.solvers import table_lines
from ornstein import chart, exact, grid, sample, solvers
from ornstein.interop.diffusers import convention
from ornstein.path import Betas

RESULTS = Path(__file__).parent / "results"
CALLS = 5, 8, 10, 20, 50
TABLES: dict[str, dict[str, Any]] = {
    "DDPM's (linear)": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "Stable Diffusion's (scaled linear)": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
}
Make = Callable[[dict[str, Any]], Any]


def theirs() -> dict[str, Make]:
    """diffusers' schedulers, each on the grids that it is used with."""
    import diffusers as d

    d.logging.set_verbosity_error()
    trailing = {"timestep_spacing": "trailing"}
    multistep = d.DPMSolverMultistepScheduler
    return {
        "DDIM": lambda c: d.DDIMScheduler(**c, **trailing, clip_sample=False),
        "DDPM": lambda c: d.DDPMScheduler(**c, **trailing, clip_sample=False),
        "DPM++2M trailing": lambda c: multistep(**c, **trailing),
        "DPM++2M Karras": lambda c: multistep(**c, use_karras_sigmas=True),
        "UniPC": lambda c: d.UniPCMultistepScheduler(**c, **trailing),
        "Euler": lambda c: d.EulerDiscreteScheduler(**c, **trailing),
        "Heun": lambda c: d.HeunDiscreteScheduler(**c, **trailing),
        "DEIS": lambda c: d.DEISMultistepScheduler(**c, **trailing),
    }


def ours() -> dict[str, Make]:
    from ornstein.interop.diffusers import Scheduler

    return {"ornstein": Scheduler.from_config}


def run(scheduler: Any, model: exact.GaussianMixture, noise: Tensor, calls: int) -> tuple[Tensor, int]:
    """The samples, and how many calls were made."""
    heun = type(scheduler).__name__ == "HeunDiscreteScheduler"
    scheduler.set_timesteps((calls + 1) // 2 if heun else calls)
    scale = float(scheduler.init_noise_sigma)
    x, made = noise * (math.hypot(scale, 1) if scale > 1 else scale), 0  # x/α of the one start
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, t)
            x = scheduler.step(model(seen, (float(t) + 1) / 1000).noise, t, x, return_dict=False)[0]
            made += 1
    return x, made


def rmse(x: Tensor, end: Tensor) -> float:
    error = float((x.double() - end).square().mean().sqrt())
    return error if math.isfinite(error) else math.inf


def errors(config: dict[str, Any]) -> dict[str, dict[int, dict[str, float]]]:
    """{problem: {calls: {scheduler: RMSE}}}"""
    path = convention(config).path
    assert isinstance(path, Betas)
    free = Betas(path.betas, lowest=0)
    measured: dict[str, dict[int, dict[str, float]]] = {}
    makers = {**theirs(), **ours()}
    for name, (make, seed) in MODELS.items():
        model = make(free)
        noise = torch.randn(512, *model.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        fine = grid.polynomial(free, 600)
        end = sample(model, start=noise, solver=solvers.ABM(4, chart.Angle(), ahead=0.0), grid=fine)
        measured[name] = {}
        for calls in CALLS:
            row = {}
            for kind, maker in makers.items():
                result, made = run(maker(config), model, noise, calls)
                assert made <= calls
                row[kind] = rmse(result, end)
            measured[name][calls] = row
    return measured


def ratios(measured: dict[str, dict[int, dict[str, float]]]) -> dict[int, float]:
    """The geometric mean over the problems of our error over the best of theirs."""
    means = {}
    for calls in CALLS:
        logs = []
        for rows in measured.values():
            row = rows[calls]
            logs.append(math.log(row["ornstein"] / min(value for kind, value in row.items() if kind != "ornstein")))
        means[calls] = math.exp(sum(logs) / len(logs))
    return means


def karras() -> list[list[str]]:
    """RMSE of k-diffusion's dpmpp_2m and of our sampler, on Karras' grid and on its own: rows of problem and sampler."""
    from benchmarks.peers import k_samplers
    from benchmarks.problems import ALL, START
    from ornstein.interop.k_diffusion import sampler

    k, rows = k_samplers(), []
    for name, make in ALL.items():
        problem = make()

        def model(x: Tensor, sigma: Tensor, problem: Problem = problem) -> Tensor:
            return problem.clean(x, float(sigma.flatten()[0]))

        for kind, draw in (
            ("ornstein, own grid", sampler("abm")),
            ("ornstein, Karras", sampler("abm", own_grid=False)),
            ("dpmpp_2m, Karras", k.sample_dpmpp_2m),
        ):
            cells = []
            for calls in CALLS:
                sigmas = k.get_sigmas_karras(calls, 0.01, START).double()
                cells.append(problem.errors(draw(model, problem.noise * START, sigmas, disable=True))["rmse"])
            rows.append([name, kind, *(f"{cell:.4g}" for cell in cells)])
    return rows


def overhead(shape: tuple[int, ...] = (1, 4, 64, 64), steps: int = 20, rounds: int = 30) -> dict[str, float]:
    """Microseconds a step of the schedulers alone: the best of some rounds."""
    import diffusers as d

    from ornstein.interop.diffusers import Scheduler

    config = TABLES["Stable Diffusion's (scaled linear)"]
    makers = {
        "diffusers DPM++2M": d.DPMSolverMultistepScheduler(**config),
        "ornstein dpmpp": Scheduler.from_config(config, solver="dpmpp"),
        "ornstein abm": Scheduler.from_config(config),
    }
    x, best = torch.randn(shape), dict.fromkeys(makers, math.inf)
    for _ in range(rounds):
        for name, scheduler in makers.items():
            scheduler.set_timesteps(steps)
            begun = time.perf_counter()
            for t in scheduler.timesteps:
                scheduler.step(x, t, x, return_dict=False)
            best[name] = min(best[name], (time.perf_counter() - begun) / steps * 1e6)
    return best


def main() -> str:
    """Measure, write results/interop.{json,md}, and return the text."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lines, everything = [], {}
    for name, config in TABLES.items():
        measured = errors(config)
        means = ratios(measured)
        everything[name] = {"rmse": measured, "ratio": means}
        lines += [f"RMSE on {name} β-table.", ""]
        kinds = list(next(iter(measured.values()))[CALLS[0]])
        rows = [
            [problem, str(calls), *(f"{row[kind]:.4g}" for kind in kinds)]
            for problem, by_calls in measured.items()
            for calls, row in by_calls.items()
        ]
        lines += [*table_lines(["problem", "calls", *kinds], rows), ""]
        lines += ["Ours over the best of theirs, geometric mean of the problems.", ""]
        lines += [*table_lines([str(calls) for calls in CALLS], [[f"{means[calls]:.3g}" for calls in CALLS]]), ""]
    costs = everything["microseconds a step"] = overhead()  # type: ignore[assignment]
    lines += ["Microseconds a step of the scheduler, latents of 1×4×64×64.", ""]
    lines += table_lines(list(costs), [[f"{value:.1f}" for value in costs.values()]])
    try:
        head = ["problem", "sampler", *map(str, CALLS)]
        lines += ["", "RMSE in k-diffusion's protocol.", "", *table_lines(head, karras())]
    except ImportError as error:
        print(f"k-diffusion is left out: {error}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "interop.json").write_text(json.dumps(everything, indent=1))
    text = "\n".join(lines)
    (RESULTS / "interop.md").write_text(text + "\n")
    return text


if __name__ == "__main__":
    print(main())
