"""Flow maps trained on a ring of eight Gaussians: how far one and eight jumps end from the exact flow.

    python -m benchmarks.flowmaps [SECONDS] [SEEDS] [METHOD ...]    # by default 22 0,1,2 and all
    python -m benchmarks.flowmaps digits ...    # images: see `benchmarks.flowmaps_images`
    python -m benchmarks.flowmaps cost [ROUNDS] # a step of each method over a flow-matching step of the same rows

Linear path, variance .02, a network of three hidden layers of 128, batches of 256, the same seconds of one thread's CPU time for
each method, an average of the weights. The published objectives of MeanFlow and of shortcut models are written here, in the same
harness, from their papers. The figure is the root mean square distance of 4096 endpoints to those of the exact flow (fine solve).
The cost is CPU time of one thread (loss, gradient, AdamW) and memory: U-Net `small`, 32 images of 28×28, steps of all kinds in
turn.
"""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path as File
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import flowmaps_images
from ornstein import distillation, exact, networks, path, sample, solvers, target
from ornstein.denoiser import NetworkDenoiser
from ornstein.distillation import Distillation, FlowMapObjective
from ornstein.flowmap import NetworkFlowMap
from ornstein.objective import Objective

RESULTS = File(__file__).parent / "results" / "flowmaps.json"
BATCH, WIDTH = 256, 128
Loss = Callable[[NetworkFlowMap, Tensor, torch.Generator], Tensor]


class Net(nn.Module):
    """Three hidden layers that see x, slow features of the clock, and of how far to go."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [2 + 8 + 8, WIDTH, WIDTH, WIDTH]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 2))

    def forward(self, x: Tensor, t: Tensor, condition: None = None, aim: Tensor | None = None) -> Tensor:
        far = torch.zeros_like(t) if aim is None else aim
        return self.layers(torch.cat([x, _features(t), _features(far)], 1))


def _features(t: Tensor) -> Tensor:
    angles = t[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
    return torch.cat([angles.sin(), angles.cos()], 1)


def ring() -> exact.GaussianMixture:
    angles = torch.arange(8) * math.pi / 4
    means = torch.stack([angles.cos(), angles.sin()], 1)
    return exact.GaussianMixture(torch.full((8,), 1 / 8), means, 0.02, path.Linear())


def ours(
    method: Distillation,
    teacher: bool = False,
    to_data: float = 0.0,
    source: NetworkFlowMap | None = None,
    every: int = 2,
) -> Loss:
    """A method of the library; one row of `every` is aimed off the diagonal. source: the average, where its jumps are joined."""
    objective = FlowMapObjective(Objective(path.Linear(), target.Velocity()), method, to_data)
    exactly = ring() if teacher else None

    def loss(student: NetworkFlowMap, x: Tensor, g: torch.Generator) -> Tensor:
        draw = objective.base.draw(x, g)
        numbers = torch.rand(len(x), 2, generator=g)
        return objective.error(student, draw, slice(0, None, every), numbers, exactly, source).mean()

    return loss


def meanflow(student: NetworkFlowMap, x: Tensor, g: torch.Generator) -> Tensor:
    """Geng et al. 2025, algorithm 1: logit-normal(−.4, 1) times, a quarter of them apart, adaptive weight of power 1."""
    two = torch.sigmoid(-0.4 + torch.randn(len(x), 2, generator=g)).sort(1).values
    r, t = two.unbind(1)
    r = torch.where(torch.rand(len(x), generator=g) < 0.75, t, r)
    noise = torch.randn(x.shape, generator=g)
    x_t, v = (1 - t[:, None]) * x + t[:, None] * noise, noise - x
    one = torch.ones_like(t)
    u, du = torch.func.jvp(lambda x, t, aim: student.network(x, t, None, aim), (x_t, t, t - r), (v, one, one))[:2]
    error = (u - (v - (t - r)[:, None] * du).detach()).square().sum(1)
    return (error / (error.detach() + 1e-3)).mean()


def shortcut(average: NetworkFlowMap) -> Loss:
    """Frans et al. 2025, algorithm 1: step sizes 2⁰ … 2⁻⁷, a quarter of the batch bootstrapped from the average."""

    def loss(student: NetworkFlowMap, x: Tensor, g: torch.Generator) -> Tensor:
        noise, k = torch.randn(x.shape, generator=g), len(x) // 4
        size = 2.0 ** -torch.randint(0, 7, (k,), generator=g)
        t = torch.rand(len(x), generator=g)
        t[:k] = ((torch.rand(k, generator=g) / size).floor() + 1) * size
        x_t = (1 - t[:, None]) * x + t[:, None] * noise
        aim = torch.zeros_like(t)
        aim[:k] = size
        with torch.no_grad():
            half = size / 2
            first = average.network(x_t[:k], t[:k], None, half)
            second = average.network(x_t[:k] - half[:, None] * first, t[:k] - half, None, half)
        goal = torch.cat([(first + second) / 2, (noise - x)[k:]])
        return (student.network(x_t, t, None, aim) - goal).square().mean()

    return loss


def train(make: Callable[[NetworkFlowMap], Loss], seconds: float, seed: int) -> tuple[NetworkFlowMap, int]:
    """A network trained for so many seconds of CPU time, averaged, and its steps."""
    torch.manual_seed(seed)
    data, g = ring(), torch.Generator().manual_seed(seed)
    student = NetworkFlowMap(Net(), path.Linear(), target.Velocity())
    average = NetworkFlowMap(deepcopy(student.network), path.Linear(), target.Velocity())
    loss, weights = make(average), list(student.network.parameters())
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0)
    began, step = time.process_time(), 0
    while (done := (time.process_time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, done / 0.02) * (0.5 + 0.5 * math.cos(math.pi * done))
        loss(student, data.draw(BATCH, generator=g), g).backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        keep = 1 - min(1.0, 12 / (step + 11))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.network.parameters()), weights, 1 - keep)
    return average, step


def errors(student: NetworkFlowMap, counts: tuple[int, ...] = (1, 2, 4, 8)) -> dict[int, float]:
    """Root mean square distance of endpoints to the exact ones, by calls."""
    start = torch.randn(4096, 2, generator=torch.Generator().manual_seed(99))
    right = sample(ring(), start=start.double(), solver=solvers.ABM(), steps=400)
    grids = {count: torch.linspace(1, 0, count + 1, dtype=torch.float64) for count in counts}
    ends = {n: sample(student, start=start, solver="jump", grid=grid) for n, grid in grids.items()}
    return {n: float((end - right).square().mean().sqrt()) for n, end in ends.items()}


METHODS: dict[str, Callable[[NetworkFlowMap], Loss]] = {
    "progressive": lambda _: ours(distillation.Progressive()),
    "progressive, half": lambda _: ours(distillation.Progressive(0.5)),
    "lagrangian": lambda _: ours(distillation.Lagrangian()),
    "eulerian": lambda _: ours(distillation.Eulerian()),
    "eulerian, conditional": lambda _: ours(distillation.Eulerian(conditional=True)),
    "progressive, exact teacher": lambda _: ours(distillation.Progressive(), teacher=True),
    "lagrangian, exact teacher": lambda _: ours(distillation.Lagrangian(), teacher=True),
    "eulerian, exact teacher": lambda _: ours(distillation.Eulerian(), teacher=True),
    "progressive, a quarter to the data": lambda _: ours(distillation.Progressive(), to_data=0.25),
    "progressive, of the average": lambda average: ours(distillation.Progressive(), source=average),
    "progressive, of the average, a quarter to the data": lambda average: ours(
        distillation.Progressive(), to_data=0.25, source=average
    ),
    "progressive, a quarter of the rows": lambda _: ours(distillation.Progressive(), every=4),
    "MeanFlow as published": lambda _: meanflow,
    "shortcut as published": shortcut,
}


def main(seconds: float = 22.0, seeds: str = "0,1,2", *names: str) -> None:
    """Train and measure the methods of these names, by default all; kept and printed are all seeds that are known by then."""
    torch.set_num_threads(1)
    table = f"rmse after {seconds:g} seconds"
    for name in names or METHODS:
        for seed in map(int, seeds.split(",")):
            student, steps = train(METHODS[name], seconds, seed)
            values = {**{str(n): value for n, value in errors(student).items()}, "steps": steps}
            row = with_seed(_known().get(table, {}).get(name, {}), seed, values)
            _keep(table, {name: row})
        print(f"{name:50}", *(f"{key}: {_spread(row[key])}" for key in values), flush=True)


def with_seed(row: dict[str, list], seed: int, values: dict[str, float]) -> dict[str, list]:
    """A row of lists, one number a seed, with those of this seed in place of earlier ones or at its place by size."""
    known = {s: {key: row[key][i] for key in values} for i, s in enumerate(row.get("seeds", []))} | {seed: values}
    return {"seeds": sorted(known), **{key: [known[s][key] for s in sorted(known)] for key in values}}


def _spread(values: list[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


STEPS: dict[str, Distillation | None] = {
    "flow matching": None,
    "progressive": distillation.Progressive(),
    "eulerian": distillation.Eulerian(),
    "lagrangian": distillation.Lagrangian(),
}


def stepper(method: Distillation | None) -> Callable[[], None]:
    """An optimiser step on 32 images of noise, half of them aimed off the diagonal where there is a method."""
    torch.manual_seed(0)
    network = networks.UNet.preset("small", channels=1, aim=method is not None)
    base = Objective(path.Linear(), target.Velocity())
    kind = NetworkDenoiser if method is None else NetworkFlowMap
    student = kind(network, base.path, base.target)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    x, g = torch.randn(32, 1, 28, 28), torch.Generator().manual_seed(0)

    def step() -> None:
        draw = base.draw(x, g)
        if method is None:
            error = base.error(student.predict, draw)
        else:
            objective = FlowMapObjective(base, method)
            error = objective.error(student, draw, slice(1, None, 2), torch.rand(32, 2, generator=g))
        error.mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def cost(rounds: int = 9) -> None:
    """CPU time of steps in turn, and the peak memory of a process that makes two of one kind, over flow matching's.

    The ratio of times is the median of those of the rounds, in each of which all kinds have the machine as it then was.
    """
    torch.set_num_threads(1)
    memory = {name: _peak(name) for name in STEPS}  # first: a process begins with the peak of the one that starts it
    steps = {name: stepper(method) for name, method in STEPS.items()}
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + rounds):
        for name, step in steps.items():
            began = time.process_time()
            step()
            spent[name].append(time.process_time() - began)
    plain, found = spent["flow matching"], {}
    for name, times in spent.items():
        ratio = median(one / other for one, other in zip(times[1:], plain[1:], strict=True))
        more = memory[name] / memory["flow matching"]
        found[name] = {"seconds": median(times[1:]), "time": ratio, "MB": memory[name] / 1024, "memory": more}
        print(f"{name:14}", *(f"{key} {value:7.3f}" for key, value in found[name].items()), flush=True)
    _keep("cost of a step", found)


def _known() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _keep(table: str, rows: dict[str, Any]) -> None:
    """Into a table of the file of results, in place of what it has of these rows."""
    known = _known()
    RESULTS.write_text(json.dumps(known | {table: known.get(table, {}) | rows}, indent=1) + "\n")


def _peak(name: str) -> int:
    """Kilobytes that two steps of one kind take beyond the network and its optimiser, in a process of their own."""
    words = [sys.executable, "-m", "benchmarks.flowmaps", "peak", name]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def peak(name: str) -> None:
    """Print the growth of this process in two steps."""
    torch.set_num_threads(1)
    step = stepper(STEPS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv}:
        print(__doc__)
    elif sys.argv[1:2] == ["cost"]:
        cost(*map(int, sys.argv[2:3]))
    elif sys.argv[1:2] == ["peak"]:
        peak(sys.argv[2])
    elif sys.argv[1:2] and sys.argv[1] in flowmaps_images.MINUTES:
        flowmaps_images.main(*sys.argv[1:])
    else:
        main(*map(float, sys.argv[1:2]), *sys.argv[2:])
