"""Likelihoods of mixtures in 1, 2, 16 and 64 dimensions on every path, beside their closed form.

    python -m benchmarks.likelihood             # about fifteen minutes on one core

Writes results/likelihood.json and likelihood.md. First the largest error of a value, in nats per dimension, with exact traces: of
`ornstein likelihood` and `log_prob` as they come (96 steps), and of tight steps (160). Then what standard errors promise: of
100 repeats, each with fresh probes, how many 95 % intervals hold the truth; once with the items given, whose density is known, so
that only probes and steps err, and once with fresh items, for the entropy of the mixture (by a million draws).
"""

import json
import math
import time

import torch
from torch import Tensor

from benchmarks import problems
from benchmarks.solvers import RESULTS, table_lines
from ornstein import likelihood, path
from ornstein.exact import GaussianMixture
from ornstein.noise import PerSampleNoise
from ornstein.path import Path

DIMENSIONS = 1, 2, 16, 64
STEPS = {"default": 96, "tight": 160}
REPEATS, ITEMS, PROBES = 100, 64, 2
ENTROPY_DRAWS = 1_000_000
Z = 1.96
COVERED = likelihood.FixedSteps(STEPS["default"])


def mixture(dim: int, p: Path) -> GaussianMixture:
    """Five components: means N(0, I), variances in [0.03, 0.23] (`problems.random`, seed 1)."""
    base = problems.random(dim, 5, 1)
    return GaussianMixture(base.log_weights.exp(), base.means, base.spread[:, 0], p)


def items(count: int, dim: int, p: Path, seed: int) -> Tensor:
    """Draws of the density that the ODE gives at t = 0: of the data, with the noise that a path ends with."""
    return mixture(dim, p).draw(count, 0.0, torch.Generator().manual_seed(seed))


def errors(dim: int, p: Path) -> dict[str, float]:
    """The largest error of 64 values (of 16 in 64 dimensions), nats per dimension."""
    model, x = mixture(dim, p), items(64 if dim < 64 else 16, dim, p, 0)
    truth = model.log_prob(x)
    return {
        name: float((likelihood.log_prob(model, x, solver=likelihood.FixedSteps(steps)) - truth).abs().max()) / dim
        for name, steps in STEPS.items()
    }


def coverage(dim: int, p: Path) -> dict[str, int]:
    """Of 100 repeats, the intervals that hold the truth. All repeats are rows of one batch, whose probes are their own."""
    model, trace = mixture(dim, p), likelihood.Hutchinson(PROBES)
    x = items(REPEATS * ITEMS, dim, p, 1)
    found = likelihood.estimate(model, x, trace=trace, solver=COVERED, noise=PerSampleNoise(1), check=False)
    checked = likelihood.estimate(model, x[:8], trace=trace, solver=COVERED, noise=PerSampleNoise(1)).solver
    truth = -model.log_prob(x)
    entropy = -float(model.log_prob(items(ENTROPY_DRAWS // dim, dim, p, 2)).mean())
    student = float(_t(ITEMS - 1))
    given = fresh = 0
    for rows in torch.arange(len(x)).split(ITEMS):
        summary = likelihood.summarise(-found.log_prob[rows], found.probe[rows], checked)
        known = math.hypot(summary.probe, summary.solver)
        given += abs(summary.mean - float(truth[rows].mean())) < student * known
        fresh += abs(summary.mean - entropy) < student * summary.total
    return {"items given": given, "fresh items": fresh}


def _t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by its expansion in 1/ν (Abramowitz and Stegun 26.7.5)."""
    z, v = 1.959963984540054, freedom
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)


def run() -> str:
    """Measure, write results/likelihood.{json,md}, and return the tables."""
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    result: dict = {"steps": STEPS, "repeats": REPEATS, "items": ITEMS, "probes": PROBES, "rows": []}
    begun = time.process_time()
    for dim in DIMENSIONS:
        for p in path.ALL:
            row = {"dim": dim, "path": str(p), **errors(dim, p), **coverage(dim, p)}
            result["rows"].append(row)
            print(row, flush=True)
    result["cpu_seconds"] = round(time.process_time() - begun)
    lines = table("largest error, nats/dim", tuple(STEPS), result["rows"])
    lines += table("95 % intervals that hold the truth, of 100", ("items given", "fresh items"), result["rows"])
    (RESULTS / "likelihood.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "likelihood.md").write_text("\n".join(lines).rstrip() + "\n")
    return "\n".join(lines)


def table(title: str, keys: tuple[str, ...], rows: list[dict]) -> list[str]:
    """A line for each path, with the columns of every dimension."""
    cells = {(row["path"], row["dim"]): row for row in rows}
    dims = list(dict.fromkeys(row["dim"] for row in rows))
    columns = [(dim, key) for dim in dims for key in keys]
    header = [title, *(f"{dim}-D {key}" for dim, key in columns)]
    names = dict.fromkeys(row["path"] for row in rows)
    return table_lines(header, [[name, *(_shown(cells[name, dim][key]) for dim, key in columns)] for name in names])


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.0e}"


if __name__ == "__main__":
    print(run())
