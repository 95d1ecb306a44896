"""Posteriors from simulations beside exact ones: linear Gaussians, a Gaussian mixture, two moons, and an SLCP-like task.

    python -m benchmarks.sbi --steps 3000                 # about ten minutes on one core
    python -m benchmarks.sbi --tasks two-moons --steps 6000 --simulations 10000

Of each task a posterior is learned from the simulations, and for some observations compared with draws of the exact posterior:
the accuracy of a classifier (C2ST, ½: none can tell), and log p on exact draws, its mean error and mean absolute error. Exact
draws are in closed form, or resampled from a fine grid of parameters by their likelihood. Writes results/sbi.json.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import ornstein
from benchmarks.solvers import RESULTS
from ornstein.inference import Box, IndependentNormal
from ornstein.inference.prior import draw
from ornstein.metrics.c2st import c2st

Array = NDArray[np.float64]
Rng = np.random.Generator
OBSERVATIONS, DRAWS, DENSITIES = 3, 2000, 256


@dataclass(frozen=True)
class Task:
    """A simulator with its prior; `exact(x, n, rng)` gives draws of the posterior and their log-density."""

    prior: Any
    simulate: Callable[[Array, Rng], Array]
    exact: Callable[[Array, int, Rng], tuple[Array, Array]]


def linear(size: int) -> Task:
    """x = Aθ + ε, θ ~ N(0, I), σ = ½, as many observations as parameters and one more."""
    matrix = np.random.default_rng(size).standard_normal((size + 1, size)) / math.sqrt(size)
    cov = np.linalg.inv(np.eye(size) + matrix.T @ matrix / 0.25)
    root, volume = np.linalg.cholesky(cov), np.linalg.slogdet(cov)[1]

    def exact(x: Array, count: int, rng: Rng) -> tuple[Array, Array]:
        z = rng.standard_normal((count, size))
        log = -0.5 * (np.square(z).sum(1) + size * math.log(2 * math.pi) + volume)
        return cov @ matrix.T @ x / 0.25 + z @ root.T, log

    return Task(
        IndependentNormal([0.0] * size, 1.0),
        lambda theta, rng: theta @ matrix.T + 0.5 * rng.standard_normal((len(theta), size + 1)),
        exact,
    )


def by_grid(likelihood: Callable[[Array, Array], Array], box: Box, side: int) -> Callable[..., tuple[Array, Array]]:
    """Exact draws of a posterior under a box in two dimensions: cells by their likelihood, uniform within."""

    def exact(x: Array, count: int, rng: Rng) -> tuple[Array, Array]:
        sides = [
            low + (np.arange(side) + 0.5) / side * (high - low) for low, high in zip(box.low, box.high, strict=True)
        ]
        grid = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)
        cell = np.prod(np.subtract(box.high, box.low)) / side**2
        log = likelihood(grid, x)
        log = log - np.logaddexp.reduce(log)
        rows = rng.choice(len(grid), count, p=np.exp(log))
        width = np.subtract(box.high, box.low) / side
        return grid[rows] + width * (rng.random((count, 2)) - 0.5), log[rows] - math.log(cell)

    return exact


def mixture() -> Task:
    """x ~ ½N(θ, 1) + ½N(θ, 0.01), θ uniform within ±3 (Sisson et al. 2007), in two dimensions."""
    box = Box([-3.0, -3.0], 3.0)

    def likelihood(theta: Array, x: Array) -> Array:
        square = np.square(theta - x).sum(1)
        return np.logaddexp(-0.5 * square, -0.5 * square / 0.01 - math.log(0.01))

    def simulate(theta: Array, rng: Rng) -> Array:
        scale = np.where(rng.random((len(theta), 1)) < 0.5, 1.0, 0.1)
        return theta + scale * rng.standard_normal(theta.shape)

    return Task(box, simulate, by_grid(likelihood, box, 1200))


def two_moons() -> Task:
    """The two moons of Greenberg et al. 2019: a crescent around a point that is a function of θ, within ±1."""
    box = Box([-1.0, -1.0], 1.0)

    def moved(theta: Array) -> Array:
        plus, minus = theta.sum(1), theta[:, 1] - theta[:, 0]
        return np.stack([-np.abs(plus), minus], 1) / math.sqrt(2)

    def simulate(theta: Array, rng: Rng) -> Array:
        angle = rng.uniform(-math.pi / 2, math.pi / 2, len(theta))
        radius = 0.1 + 0.01 * rng.standard_normal(len(theta))
        crescent = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], 1)
        return crescent + moved(theta)

    def likelihood(theta: Array, x: Array) -> Array:
        off = x - moved(theta) - np.array([0.25, 0.0])
        radius = np.hypot(*off.T)
        log = -0.5 * np.square((radius - 0.1) / 0.01) - np.log(np.maximum(radius, 1e-12))
        return np.where(off[:, 0] > 0, log, -np.inf)

    return Task(box, simulate, by_grid(likelihood, box, 1600))


def slcp() -> Task:
    """Simple likelihood, complex posterior, after Papamakarios et al. 2019, of two parameters: four draws of N(0, S(θ))."""
    box = Box([-3.0, -3.0], 3.0)

    def scales(theta: Array) -> tuple[Array, Array]:
        return np.square(theta[:, 0]) + 0.1, np.square(theta[:, 1]) + 0.1

    def simulate(theta: Array, rng: Rng) -> Array:
        first, second = scales(theta)
        z = rng.standard_normal((len(theta), 4, 2))
        return np.stack([first[:, None] * z[..., 0], second[:, None] * z[..., 1]], 2).reshape(len(theta), 8)

    def likelihood(theta: Array, x: Array) -> Array:
        first, second = scales(theta)
        points = x.reshape(4, 2)
        squares = np.square(points[:, 0]).sum() / first**2 + np.square(points[:, 1]).sum() / second**2
        return -0.5 * squares - 4 * np.log(first * second)

    return Task(box, simulate, by_grid(likelihood, box, 1000))


TASKS: dict[str, Callable[[], Task]] = {
    "linear-2": lambda: linear(2),
    "linear-10": lambda: linear(10),
    "mixture": mixture,
    "two-moons": two_moons,
    "slcp-2": slcp,
}


def measure(task: Task, simulations: int, steps: int, batch_size: int, seed: int = 0) -> dict[str, Any]:
    """Scores of a posterior on observations of parameters from the prior."""
    rng = np.random.default_rng(seed)
    theta = draw(task.prior, simulations, seed)
    began = time.monotonic()
    post = ornstein.posterior(
        theta, task.simulate(theta, rng), task.prior, steps=steps, batch_size=batch_size, seed=seed, threads=1
    )
    took = time.monotonic() - began
    rows = []
    for x in task.simulate(draw(task.prior, OBSERVATIONS, seed + 1), rng):
        true, log = task.exact(x, DRAWS, rng)
        given = post.given(x)
        accuracy = c2st(torch.tensor(given.sample(DRAWS)), torch.tensor(true))
        off = given.log_prob(true[:DENSITIES], check=False).value - log[:DENSITIES]
        rows.append({"c2st": accuracy.value, "mean": float(off.mean()), "absolute": float(np.abs(off).mean())})
    summary = {key: float(np.mean([row[key] for row in rows])) for key in ("c2st", "mean", "absolute")}
    return {**summary, "seconds": round(took, 1), "observations": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=512)
    chosen = parser.parse_args()
    results = {}
    for name in chosen.tasks.split(","):
        results[name] = measure(TASKS[name](), chosen.simulations, chosen.steps, chosen.batch_size)
        print(name, json.dumps(results[name]), flush=True)
    about = {"simulations": chosen.simulations, "steps": chosen.steps, "batch_size": chosen.batch_size}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sbi.json").write_text(json.dumps({**about, "tasks": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
