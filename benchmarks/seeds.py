"""Trained runs of several seeds: the default solver beside DPM-Solver++(2M), and the solver's error that likelihoods report.

    python -m benchmarks.seeds digits fashion-mnist --seeds 0 1 2 --runs runs/seeds
    python -m benchmarks.seeds --summary

A result is one run of the preset tiny with everything else as it comes, in as many steps as take two to three minutes of one
thread. What is measured is put into benchmarks/results/seeds.json at once and is not measured again, and runs are kept, so the
command can be stopped and goes on where it was.

- default / 2M: RMSE of the endpoints to 200 calls of the default solver from the same starts, over that of DPM-Solver++(2M) on
  the best of three grids (its own, log-SNR, even times), at 10 and at 20 calls.
- reported / actual: of each of 20 held-out digits a seed, the solver's error that `likelihood.estimate` reports, over the actual
  one: the value less that of many more steps with the same probe, in float64, where truncation and not rounding is what is left.
"""

import argparse
import copy
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ornstein
from benchmarks.solvers import RESULTS, table_lines
from ornstein import data, grid, likelihood, solvers
from ornstein.likelihood.ode import solver_error
from ornstein.noise import PerSampleNoise
from ornstein.runs import Run
from ornstein.sampling import DEFAULT, begin

FILE = RESULTS / "seeds.json"
STEPS = {"digits": 1500, "fashion-mnist": 500}
STARTS = {"digits": 64, "fashion-mnist": 32}
CALLS, FINE = (10, 20), 200
LIKELIHOODS = {"digits": (20, (24, 48), 288)}  # items, steps, and those of the reference
TOGETHER = 5  # items of a batch
LEAST, MOST = 0.5, 3.0


def train(name: str, seed: int, runs: Path) -> Run:
    """A run of this seed, with all but its length as it comes."""
    way = {"preset": "tiny", "device": "cpu", "threads": 1, "samples": 0, "save_minutes": 0.5}
    return ornstein.train(f"{name}:train", steps=STEPS[name], seed=seed, out=runs / f"{name}-{seed}", **way)


@torch.inference_mode()
def solver_ratios(run: Run, rows: int) -> dict[str, float]:
    """RMSE of the default and of DPM-Solver++(2M) at each number of calls, and what one is over the other."""
    path, dpm, result = run.model.path, solvers.DPMSolverPP(), {}
    bound = run.denoiser.given(torch.arange(rows) % len(run.spec.classes))
    start = begin(path, torch.zeros(rows, *run.spec.shape), 1.0, PerSampleNoise(77))

    def solve(solver: solvers.Solver, times: Tensor) -> Tensor:
        return ornstein.sample(bound, start=start, solver=solver, grid=times)

    fine = solve(DEFAULT, DEFAULT.grid(path, FINE))
    for calls in CALLS:
        own = float((solve(DEFAULT, DEFAULT.grid(path, calls)) - fine).square().mean().sqrt())
        grids = (dpm.grid(path, calls), grid.log_snr(path, calls, -7.0, 7.0), grid.uniform(path, calls))
        best = min(float((solve(dpm, times) - fine).square().mean().sqrt()) for times in grids)
        result |= {f"default, {calls}": own, f"2M, {calls}": best, f"default / 2M, {calls}": own / best}
    return result


def reported(
    run: Run, held: data.Dataset, first: int, steps: tuple[int, ...], reference: int
) -> dict[str, list[float]]:
    """Of each item, the reported solver error over the actual one with its sign, by the number of steps."""
    x, labels = held.batch(np.arange(len(held)))
    trace, noise = likelihood.Hutchinson(1), PerSampleNoise(3, first)
    network = copy.deepcopy(run.model.network).double()
    flow = likelihood.flow.ProbabilityFlow(run.model.denoiser(network).given(labels), 0.0)
    prior = likelihood.prior.default(flow.denoiser)

    def value(count: int) -> Tensor:
        y, divergence = likelihood.FixedSteps(count).run(flow, flow.start(x.double()), trace, noise, same=True)
        with torch.no_grad():
            return flow.log_prob(prior, y, divergence).mean(0)

    fine, found = value(reference), {}
    for count in steps:
        coarse = value(count)
        actual = fine - coarse
        said = solver_error(flow, x.double(), trace, likelihood.FixedSteps(count), prior, noise, coarse[None])
        found[f"{count}"] = (said / actual).tolist()
        found[f"{count}, nats a dimension"] = (actual.abs() / x[0].numel()).tolist()
    return found


def summary(rows: list[dict]) -> str:
    """Tables of what is there."""
    lines = []
    keys = [f"default / 2M, {calls}" for calls in CALLS]
    table = [[f"{r['data']}, seed {r['seed']}", *(f"{r[key]:.2f}" for key in keys)] for r in rows]
    lines += [*table_lines(["run", *keys], table), ""]
    table = []
    for name in dict.fromkeys(row["data"] for row in rows if "reported" in row):
        of_set = [row["reported"] for row in rows if row["data"] == name and "reported" in row]
        for key in (key for key in of_set[0] if not key.endswith("dimension")):
            ratios = np.concatenate([each[key] for each in of_set])
            errors = np.concatenate([each[f"{key}, nats a dimension"] for each in of_set])
            within = float(((ratios >= LEAST) & (ratios <= MOST)).mean())
            low, middle, high = np.quantile(ratios, [0.05, 0.5, 0.95])
            row = [
                f"{within:.0%} of {len(ratios)}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{np.median(errors):.1e}",
            ]
            table.append([f"{name}, {key} steps", *row])
    head = ["run", f"reported / actual within {LEAST:g} to {MOST:g}", "median (5 to 95 %)", "actual, nats a dimension"]
    return "\n".join([*lines, *table_lines(head, table)])


def results() -> list[dict]:
    """All that were measured."""
    return list(json.loads(FILE.read_text()).values()) if FILE.exists() else []


def write(row: dict) -> None:
    """Put a row into the file, in the place of the one of that run."""
    known = {f"{r['data']}, seed {r['seed']}": r for r in [*results(), row]}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def measure(name: str, seed: int, runs: Path) -> None:
    """All that is not measured yet of a run."""
    key = {"data": name, "seed": seed, "steps": STEPS[name]}
    row = next((r for r in results() if key.items() <= r.items()), key)
    count, *way = LIKELIHOODS.get(name, (0,))
    done = len(next(iter(row.get("reported", {"": []}).values())))
    if f"2M, {CALLS[0]}" in row and done >= count:
        return
    run = train(name, seed, runs)
    if f"2M, {CALLS[0]}" not in row:
        row |= solver_ratios(run, STARTS[name])
        write(row)
    held = data.open(f"{name}:test")
    some = np.sort(np.random.default_rng(0).permutation(len(held))[:count])
    for first in range(done, count, TOGETHER):
        found = reported(run, held.take(some[first : first + TOGETHER]), first, *way)
        before = row.get("reported", {})
        row["reported"] = {name: [*before.get(name, []), *values] for name, values in found.items()}
        write(row)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=list(STEPS), help=", ".join(STEPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"), help="the folder of the runs")
    parser.add_argument("--summary", action="store_true", help="print what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for seed in [] if options.summary else options.seeds:
        for name in options.data:
            measure(name, seed, options.runs)
    print(summary(results()))


if __name__ == "__main__":
    main()
