"""Posteriors from simulations beside exact ones: linear Gaussians, a Gaussian mixture, two moons, and an SLCP-like task.

    python -m benchmarks.sbi                                               # about ten minutes on one core
    python -m benchmarks.sbi --peers --tasks two-moons --seeds 0 1 2       # needs sbi (0.27)

Of each task a posterior is learned from the simulations on one thread, and for some observations compared with draws of the exact
posterior: the accuracy of a classifier (C2ST, ½: none can tell), and log p on exact draws, its mean error and mean absolute
error. Exact draws are in closed form, or resampled from a fine grid of parameters by their likelihood.

With --peers, FMPE, NPSE and NPE of the library sbi learn from the same simulations for as many CPU seconds, by their defaults;
they end earlier where they have converged by their own rule. There is also our posterior by a solver tuned to 10 network calls.
Writes results/sbi.json, and results/sbi-peers.json.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
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
OBSERVATIONS, DRAWS, DENSITIES = 5, 2000, 256
TRIAL, CALLS = 150, 10  # steps by which the time of one is known; network calls of the tuned solver


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

    def exact(x: Array, count: int, rng: Rng) -> tuple[Array, Array]:
        """Crescents by the simulator, moved back to both θ that they belong to; those within the box are draws.

        dq/dθ of `moved` is 1 in area, so the density is that of (angle, radius) over radius, by two signs, by the part accepted.
        """
        tries = 40 * count
        angle = rng.uniform(-math.pi / 2, math.pi / 2, tries)
        radius = 0.1 + 0.01 * rng.standard_normal(tries)
        first = x[0] - 0.25 - radius * np.cos(angle)
        plus = -math.sqrt(2) * first * rng.choice([-1.0, 1.0], tries)
        minus = math.sqrt(2) * (x[1] - radius * np.sin(angle))
        theta = np.stack([plus - minus, plus + minus], 1) / 2
        good = (first <= 0) & (np.abs(theta) <= 1).all(1)
        normal = -0.5 * np.square((radius - 0.1) / 0.01) - math.log(0.01 * math.sqrt(2 * math.pi))
        log = normal - np.log(math.pi * np.abs(radius)) - math.log(2) - math.log(good.mean())
        return theta[good][:count], log[good][:count]

    return Task(box, simulate, exact)


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
OURS, PEERS = "ours", ("FMPE", "NPSE", "NPE")


@dataclass(frozen=True)
class Learned:
    """A posterior: `sample(x, n)` gives draws, `log_prob(theta, x)` densities."""

    sample: Callable[[Array, int], Array]
    log_prob: Callable[[Array, Array], Array]


def learned(task: Task, theta: Array, x: Array, seed: int, **settings: Any) -> ornstein.inference.AmortisedPosterior:
    return ornstein.posterior(theta, x, task.prior, seed=seed, threads=1, **settings)


def measure(task: Task, simulations: int, seed: int, **settings: Any) -> dict[str, Any]:
    """Scores of a posterior on observations of parameters from the prior."""
    rng = np.random.default_rng(seed)
    theta = draw(task.prior, simulations, seed)
    began = time.process_time()
    post = learned(task, theta, task.simulate(theta, rng), seed, **settings)
    took = time.process_time() - began
    rows = []
    for x in task.simulate(draw(task.prior, OBSERVATIONS, seed + 1), rng):
        true, log = task.exact(x, DRAWS, rng)
        given = post.given(x)
        accuracy = c2st(torch.tensor(given.sample(DRAWS)), torch.tensor(true))
        off = given.log_prob(true[:DENSITIES], check=False).value - log[:DENSITIES]
        rows.append({"c2st": accuracy.value, "mean": float(off.mean()), "absolute": float(np.abs(off).mean())})
    summary = {key: float(np.mean([row[key] for row in rows])) for key in ("c2st", "mean", "absolute")}
    return {**summary, "seconds": round(took, 1), "observations": rows}


def ours(task: Task, theta: Array, x: Array, seconds: float, seed: int) -> dict[str, Learned]:
    """Posteriors by the default solver and by one that is tuned to ten calls, which together took so many CPU seconds."""
    began = time.process_time()
    learned(task, theta, x, seed, steps=TRIAL)
    spent = time.process_time() - began
    post = learned(task, theta, x, seed, steps=int(0.75 * (seconds - spent) / (spent / TRIAL)))
    tuned = post.tune(x, CALLS, seconds=(seconds - spent) / 4)

    def log_prob(some: Array, seen: Array) -> Array:
        return post.given(seen).log_prob(some, check=False).value

    return {
        OURS: Learned(lambda seen, count: post.given(seen).sample(count), log_prob),
        f"{OURS}, tuned to {CALLS} calls": Learned(
            lambda seen, count: post.given(seen).sample(count, solver=tuned), log_prob
        ),
    }


def peer(name: str, task: Task, theta: Array, x: Array, seconds: float, seed: int) -> Learned:
    """A posterior of the library sbi by its defaults, which ends after so many CPU seconds, or when it has converged."""
    from sbi.utils import BoxUniform

    from sbi import inference

    torch.manual_seed(seed)
    box = isinstance(task.prior, Box)
    bounds = [torch.tensor(side, dtype=torch.float32) for side in (task.prior.low, task.prior.high)] if box else []
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(theta.shape[1]), 1.0), 1)
    trainer = getattr(inference, name)(BoxUniform(*bounds) if box else normal, show_progress_bars=False)
    rule, end = trainer._converged, time.process_time() + seconds

    def converged(epoch: int, patience: int) -> bool:
        done: bool = rule(epoch, patience)
        if not done and time.process_time() > end:
            trainer._neural_net.load_state_dict(trainer._best_model_state_dict)
            return True
        return done

    trainer._converged = converged
    pairs = [torch.tensor(part, dtype=torch.float32) for part in (theta, x)]
    posterior = trainer.build_posterior(trainer.append_simulations(*pairs).train())

    def single(values: Array) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32)

    def sample(seen: Array, count: int) -> Array:
        return np.asarray(posterior.sample((count,), x=single(seen)[None], show_progress_bars=False), np.float64)

    def log_prob(some: Array, seen: Array) -> Array:
        return np.asarray(posterior.log_prob(single(some), x=single(seen)[None]), np.float64)

    return Learned(sample, log_prob)


def compare(
    task: Task, simulations: int, seconds: float, seed: int, learners: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """C2ST of each learner and peer on the same observations, with the CPU seconds that it learned for, and drew for."""
    rng = np.random.default_rng(seed)
    theta = draw(task.prior, simulations, seed)
    x = task.simulate(theta, rng)
    seen = task.simulate(draw(task.prior, OBSERVATIONS, seed + 1), rng)
    exact = [task.exact(one, DRAWS, rng) for one in seen]
    made: dict[str, dict[str, Any]] = {}

    def judge(name: str, post: Learned, took: float) -> None:
        began = time.process_time()
        draws = [post.sample(one, DRAWS) for one in seen]
        drew = (time.process_time() - began) / len(seen)
        scores = [
            c2st(torch.tensor(some), torch.tensor(true)).value for some, (true, _) in zip(draws, exact, strict=True)
        ]
        off = [
            post.log_prob(true[:DENSITIES], one) - log[:DENSITIES] for one, (true, log) in zip(seen, exact, strict=True)
        ]
        made[name] = {
            "c2st": float(np.mean(scores)),
            "mean": float(np.mean(off)),
            "c2st of each": scores,
            "seconds": round(took, 1),
            "seconds of draws": round(drew, 2),
        }
        print(f"  {name}: {json.dumps(made[name])}", flush=True)

    for learner in learners:
        began = time.process_time()
        if learner == OURS:
            posts = ours(task, theta, x, seconds, seed)
        else:
            posts = {learner: peer(learner, task, theta, x, seconds, seed)}
        took = time.process_time() - began
        for name, post in posts.items():
            judge(name, post, took)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=None, help="of the training (default: that of ornstein.posterior)")
    parser.add_argument("--peers", action="store_true", help="beside FMPE, NPSE and NPE of the library sbi")
    parser.add_argument("--learners", default=",".join((OURS, *PEERS)), help="with --peers: which of them learn now")
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of each training beside peers")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args()
    file = RESULTS / ("sbi-peers.json" if chosen.peers else "sbi.json")
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    settings = {} if chosen.steps is None else {"steps": chosen.steps}
    for seed in chosen.seeds:
        for name in chosen.tasks.split(","):
            task = TASKS[name]()
            if chosen.peers:
                made: dict[str, Any] = compare(
                    task, chosen.simulations, chosen.seconds, seed, chosen.learners.split(",")
                )
            else:
                made = measure(task, chosen.simulations, seed, **settings)
            made = {"simulations": chosen.simulations, **settings, **made}
            results.setdefault(name, {}).setdefault(str(seed), {}).update(made)
            print(name, seed, json.dumps(made), flush=True)
            RESULTS.mkdir(exist_ok=True)
            file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
