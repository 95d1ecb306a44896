"""The tuned solver on trained runs, beside DPM-Solver++(2M) at three times its network calls.

    python -m benchmarks.trained RUN [RUN ...]  # results/trained.json and trained.md

Endpoint errors are against a solve of the same model with 200 calls from the same starts (250, unseen by the fit). Distribution
is judged by the classifier of `benchmarks.quality`: the part of samples whose label it recognises, and the sliced Wasserstein
distance of 500 samples to held-out data over that of as many training images.
"""

import json
import math
import sys
import time

import numpy as np
import torch
from torch import Tensor

import ornstein
from benchmarks.quality import outputs, sliced_wasserstein, train_classifier
from benchmarks.solvers import RESULTS, table_lines
from ornstein import data, grid, solvers, tuning
from ornstein.noise import PerSampleNoise
from ornstein.sampling import begin

COUNT, TEACHER, CALLS = 500, 200, 6


def choices(denoiser: ornstein.NetworkDenoiser, fitted: solvers.Solver) -> dict[str, tuple[solvers.Solver, Tensor]]:
    """What is compared: a solver and its grid."""
    p, dpm = denoiser.path, solvers.DPMSolverPP()
    default = ornstein.sampling.DEFAULT
    rows = {f"tuned, {CALLS}": (fitted, fitted.grid(p, CALLS))}
    for calls in (CALLS, 3 * CALLS):
        rows[f"default, {calls}"] = default, default.grid(p, calls)
        rows[f"DPM-Solver++(2M), own grid, {calls}"] = dpm, dpm.grid(p, calls)
        rows[f"DPM-Solver++(2M), log-SNR, {calls}"] = dpm, grid.log_snr(p, calls, -7.0, 7.0)
        rows[f"DPM-Solver++(2M), even times, {calls}"] = dpm, grid.uniform(p, calls)
    return rows


def measure(folder: str) -> dict:
    run = ornstein.load(folder)
    source = run.spec.source.split(":")[0]
    real, held = data.open(f"{source}:train"), data.open(f"{source}:test")
    classes = len(held.classes)
    judge = train_classifier(real, 15 if source == "digits" else 90, shift=1 if source == "digits" else 0)
    begun = time.process_time()
    fitted = tuning.fit(
        run.denoiser,
        run.spec.shape,
        steps=CALLS,
        bind=lambda rows: run.denoiser.given(rows % classes),
        starts=96,
        held_out=48,
        batch_size=48,
        iterations=40,
        teacher=60,
        seed=1000,
    )
    seconds = time.process_time() - begun
    labels = torch.arange(COUNT) % classes
    start = begin(run.denoiser.path, torch.zeros(COUNT, *run.spec.shape), 1.0, PerSampleNoise(0))

    def sampled(solver: solvers.Solver, times: Tensor, rows: int = COUNT) -> Tensor:
        parts = zip(start[:rows].split(50), labels[:rows].split(50), strict=True)
        return torch.cat([ornstein.sample(run.denoiser.given(c), start=x, solver=solver, grid=times) for x, c in parts])

    rows = 250
    fine = sampled(solvers.ABM(), grid.polynomial(run.denoiser.path, TEACHER), rows)
    (x_held, _), (x_real, _) = (
        dataset.batch(np.random.default_rng(i).permutation(len(dataset))[:COUNT])
        for i, dataset in enumerate((held, real))
    )
    floor = sliced_wasserstein(x_real, x_held)
    result: dict = {"run": run.folder.name, "data": source, "seconds to fit": round(seconds), "rows": {}}
    for name, (solver, times) in choices(run.denoiser, fitted).items():
        x = sampled(solver, times)
        each = (x[:rows] - fine).flatten(1).norm(dim=1) / math.sqrt(x[0].numel())
        result["rows"][name] = {
            "rmse": float(each.square().mean().sqrt()),
            "median": float(each.median()),
            "agreement": float((outputs(judge, x)[1] == labels).double().mean()),
            "sliced Wasserstein ratio": sliced_wasserstein(x, x_held) / floor,
        }
    return result


def run(folders: list[str]) -> str:
    """Measure, write results/trained.{json,md}, and return the tables."""
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    results: list[dict] = []
    lines: list[str] = []
    for folder in folders:
        result = measure(folder)
        results.append(result)
        header = [f"{result['data']}, calls", "RMSE", "median", "label agreement", "sliced Wasserstein ratio"]
        rows = [[name, *(f"{value:.3g}" for value in row.values())] for name, row in result["rows"].items()]
        lines += [*table_lines(header, rows), f"Fitted in {result['seconds to fit']} s on one core.", ""]
        (RESULTS / "trained.json").write_text(json.dumps(results, indent=1))
        (RESULTS / "trained.md").write_text("\n".join(lines))
    return "\n".join(lines)


if __name__ == "__main__":
    print(run(sys.argv[1:]))
