"""What a step costs beyond the network call, beside diffusers' schedulers.

    python -m benchmarks.overhead               # results/overhead.json and overhead.md

Every loop calls the same network, which returns a tensor made before, and all are timed in turn (A B C A B C ...) in one
process on one thread, by its CPU time; what the bare network calls take is subtracted from each. `step` is what each further
step costs once the first is made: the clock starts after it. `whole` is all of a run of 50 steps with what comes before (grid
and table; set_timesteps). A hand-written loop with coefficients made before shows what is left to gain. The smallest of all
rounds, which other work on the machine disturbs least, in microseconds a step.
"""

import gc
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ornstein
from benchmarks.solvers import table_lines
from ornstein import NetworkDenoiser, grid, path, solvers, target
from ornstein.noise import PerSampleNoise

STEPS, ROUNDS = 50, 61
SHAPES = (256, 2), (16, 3, 32, 32)
SOLVERS = {"DDIM": solvers.DDIM(), "DPM-Solver++(2M)": solvers.DPMSolverPP()}
RESULTS = Path(__file__).parent / "results"
Loops = dict[str, Callable[[], float]]  # each runs once and returns the seconds a step


def ours(solver: solvers.Solver, shape: tuple[int, ...]) -> Loops:
    x, out = torch.randn(shape), torch.randn(shape)
    denoiser = NetworkDenoiser(lambda x, t: out, path.Betas.linear(), target.Noise())
    times, noise = solver.grid(denoiser.path, STEPS), PerSampleNoise()

    def step() -> float:
        run = solver.run(denoiser, x, times, noise)
        next(run)
        begun = time.thread_time()
        for _ in run:
            pass
        return (time.thread_time() - begun) / (STEPS - 1)

    return {"step": step, "whole": _timed(lambda: ornstein.sample(denoiser, start=x, solver=solver, steps=STEPS))}


def by_hand(name: str, shape: tuple[int, ...]) -> Loops:
    """The published update on Python floats: x' = σ_s/σ_t·x + k·clean, and for 2M the difference of two estimates."""
    x_T, out = torch.randn(shape), torch.randn(shape)
    p = path.Betas.linear()
    levels = grid.trailing(p, STEPS)
    alpha, sigma = p.alpha(levels).tolist(), p.sigma(levels).tolist()
    second = "2M" in name

    def run() -> None:
        x, before = x_T, None
        for i in range(STEPS):
            clean = (x * (1 / alpha[i])).add_(out, alpha=-sigma[i] / alpha[i])
            ratio = sigma[i + 1] / sigma[i]
            k = alpha[i + 1] - alpha[i] * ratio
            if second and before is not None:
                x = (x * ratio).add_(clean, alpha=1.5 * k).add_(before, alpha=-0.5 * k)
            else:
                x = (x * ratio).add_(clean, alpha=k)
            before = clean

    return {"step": _timed(run)}


def diffusers(name: str, shape: tuple[int, ...]) -> Loops:
    import diffusers as d

    warnings.filterwarnings("ignore")
    scheduler = d.DDIMScheduler() if name == "DDIM" else d.DPMSolverMultistepScheduler()
    x_T, out = torch.randn(shape), torch.randn(shape)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return out

    def run(timesteps: Tensor) -> float:
        """Seconds a step after the first."""
        x, begun = x_T, 0.0
        for i, t in enumerate(timesteps):
            if i == 1:
                begun = time.thread_time()
            x = scheduler.step(network(x, t), t, x).prev_sample
        return (time.thread_time() - begun) / (STEPS - 1)

    def step() -> float:
        scheduler.set_timesteps(STEPS)
        return run(scheduler.timesteps)

    def whole() -> None:
        scheduler.set_timesteps(STEPS)
        run(scheduler.timesteps)

    return {"step": step, "whole": _timed(whole)}


def _timed(run: Callable[[], Any]) -> Callable[[], float]:
    def seconds() -> float:
        begun = time.thread_time()
        run()
        return (time.thread_time() - begun) / STEPS

    return seconds


def bare() -> None:
    """STEPS calls of a network that does nothing: subtracted from every loop."""
    out = torch.zeros(1)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return out

    for _ in range(STEPS):
        network(out, out)


def interleaved(loops: Loops) -> dict[str, float]:
    """The microseconds a step of each, timed in turn, less the bare calls."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    gc.collect()
    gc.disable()
    try:
        with torch.no_grad():
            for i in range(ROUNDS + 3):
                for name, loop in loops.items():
                    value = loop()
                    if i >= 3:
                        seconds[name].append(value)
    finally:
        gc.enable()
    least = {name: min(values) * 1e6 for name, values in seconds.items()}
    return {name: value - least["bare"] for name, value in least.items() if name != "bare"}


def run() -> str:
    """Measure, write results/overhead.{json,md}, and return the table."""
    torch.set_num_threads(1)
    rows, measured = [], []
    for shape in SHAPES:
        for name, solver in SOLVERS.items():
            sides = {"ornstein": ours(solver, shape), "by hand": by_hand(name, shape)}
            try:
                sides["diffusers"] = diffusers(name, shape)
            except ImportError as error:
                print(f"diffusers is left out: {error}; the extra `peers` brings it")
            loops = {f"{side} {part}": loop for side, parts in sides.items() for part, loop in parts.items()}
            cost = interleaved({"bare": _timed(bare), **loops})
            measured.append({"shape": shape, "solver": name, "microseconds": cost})
            theirs = {part: cost.get(f"diffusers {part}", math.nan) for part in ("step", "whole")}
            rows.append(
                [
                    "×".join(map(str, shape)),
                    name,
                    *(f"{cost[f'ornstein {part}']:.1f}" for part in theirs),
                    *(f"{value:.1f}" for value in theirs.values()),
                    f"{cost['by hand step']:.1f}",
                    *(f"1/{theirs[part] / cost[f'ornstein {part}']:.1f}" for part in theirs),
                ]
            )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "overhead.json").write_text(json.dumps(measured, indent=1))
    header = [
        "shape",
        "solver",
        "ours: a step",
        "whole",
        "diffusers: a step",
        "whole",
        "by hand",
        "ratio, a step",
        "whole",
    ]
    text = "\n".join(["Microseconds a step beyond the network call.", "", *table_lines(header, rows)])
    (RESULTS / "overhead.md").write_text(text)
    return text


if __name__ == "__main__":
    print(run())
