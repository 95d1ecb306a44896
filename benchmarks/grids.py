"""The default's grid for few calls, on many random mixtures: which exponents of `grid.two_ended`, and what part `ahead`.

    python -m benchmarks.grids [PROBLEMS]               # of each kind, for choosing and held out; 4 by default

Kinds: mixtures in 2, 8 and 64 dimensions, and in 64 of which the means span 4; 2 to 16 components, variances from .003 to .3,
means of size .3 to 2. Seeds below 1000 choose, those above are held out, and neither is one of `benchmarks.problems`. Each choice
is `ABM` with the same number of calls from the same 256 starts; the figure is its mean endpoint error, and its RMSE, over those
of the default, geometric mean over problems. Printed are the best on the problems that choose, and the same on those held out.
"""

import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.problems import PATH, Problem, problem
from ornstein import exact, grid, sample, solvers

RESULTS = Path(__file__).parent / "results" / "grids.json"
CALLS, STARTS = (3, 4, 5, 6, 8, 10), 256
KINDS = {"2-D": (2, 2), "8-D": (8, 8), "64-D": (64, 64), "64-D, rank 4": (64, 4)}
DATA, NOISE, AHEAD = (1.0, 1.15, 1.3, 1.5, 1.75), (0.8, 0.95, 1.1, 1.25, 1.4), (0.5,)
DEFAULT = 1.3, 1.1, 0.5
Choice = tuple[float, float, float]


def mixture(dimension: int, rank: int, seed: int) -> exact.GaussianMixture:
    """A random mixture whose means span `rank` dimensions."""
    draw = torch.Generator().manual_seed(seed)
    rand = partial(torch.rand, generator=draw, dtype=torch.float64)
    count = 2 + int(15 * rand(()))
    weights = rand(count) + 0.3
    size = 0.3 * (2 / 0.3) ** rand(())
    means = size * torch.randn(count, rank, generator=draw, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(dimension, rank, generator=draw, dtype=torch.float64))[0]
    means = means @ basis.T * math.sqrt(dimension / rank) if rank < dimension else means
    return exact.GaussianMixture(weights / weights.sum(), means, 0.003 * 100 ** rand(count), PATH)


def problems(first: int, count: int) -> Iterator[tuple[str, Problem]]:
    for number, (name, (dimension, rank)) in enumerate(KINDS.items()):
        for seed in range(first + 100 * number, first + 100 * number + count):
            yield name, problem(f"{name}, seed {seed}", mixture(dimension, rank, seed), STARTS, seed)


def errors(problem: Problem, calls: int, choice: Choice) -> tuple[float, float]:
    """The mean endpoint error and the RMSE."""
    data, noise, ahead = choice
    times = grid.two_ended(PATH, calls, data, noise)
    end = sample(problem.model, start=problem.start, solver=solvers.ABM(ahead=ahead), grid=times)
    each = (end - problem.end).norm(dim=1) / math.sqrt(end.shape[1])
    return float(each.mean()), float(each.square().mean().sqrt())


def table(first: int, count: int, choices: list[Choice]) -> dict[int, dict[Choice, dict[str, list[float]]]]:
    """For each number of calls and choice, the logarithms of (mean, RMSE) over the default's, by kind, one after the other."""
    found: dict[int, dict[Choice, dict[str, list[float]]]] = {calls: {} for calls in CALLS}
    for kind, one in problems(first, count):
        for calls in CALLS:
            usual = errors(one, calls, DEFAULT)
            for choice in choices:
                logs = [math.log(a / b) for a, b in zip(errors(one, calls, choice), usual, strict=True)]
                found[calls].setdefault(choice, {}).setdefault(kind, []).extend(logs)
    return found


def ratio(logs: dict[str, list[float]]) -> float:
    """The geometric mean over all kinds, both figures together."""
    every = [value for some in logs.values() for value in some]
    return math.exp(sum(every) / len(every))


def main(count: int = 4) -> None:
    torch.set_num_threads(1)
    choices = [(data, noise, ahead) for data in DATA for noise in NOISE for ahead in AHEAD]
    chosen = table(100, count, choices)
    best = {calls: sorted(of, key=lambda choice: ratio(of[choice]))[:3] for calls, of in chosen.items()}
    held_out = table(1100, count, sorted({choice for some in best.values() for choice in some}))
    rows = []
    for calls, some in best.items():
        for choice in some:
            kinds = {kind: round(ratio({kind: logs}), 3) for kind, logs in held_out[calls][choice].items()}
            rows.append({"calls": calls, "data, noise, ahead": choice, "ratio": round(ratio(chosen[calls][choice]), 3)})
            rows[-1] |= {"held out": round(ratio(held_out[calls][choice]), 3), "held out by kind": kinds}
            print(rows[-1], flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
