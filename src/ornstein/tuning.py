"""A solver fitted to one model: the times and the table that follow the model's own fine trajectories with few calls.

A table of M calls has free times and free entries P, Q. They start from the best untuned table and are moved by gradient
through the sampler, to bring the endpoints of a few hundred starts to those of a fine solve by the same model (the teacher):

    min over (t_1..t_{M−1}, P, Q)   mean over starts of ‖x_M(start) − teacher(start)‖ / √D

The norm is not squared: its mean is ruled by the typical start, its square by the few that begin near a mode's border. Each
row is moved along the principal axes of the estimates it combines, scaled to their size; in the entries themselves the
problem is ill-conditioned, since estimates of neighbouring calls are nearly alike.
Relatives: bespoke solvers (Shaul et al. 2024), DPM-Solver-v3 (Zheng et al. 2023), LD3 (Tong et al. 2025) and S4S (Frankel
et al. 2025).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.grid import log_snr, polynomial, two_ended
from ornstein.noise import PerSampleNoise
from ornstein.path import Path
from ornstein.sampling import begin
from ornstein.solvers import ABM, DPMSolverPP
from ornstein.table import Table, execute

FLOOR = 1e-6  # axes along which the estimates vary less than this part of the largest are scaled no further
LARGEST = 1e6  # entry of a table; those of fits are no larger than the noise levels of a path
CHECKS = 40  # times the held-out error is measured during a fit


@dataclass(frozen=True)
class Tuned:
    """A fitted table as a solver, for the path and the number of calls it was fitted to.

    `error` and `untuned` are the mean endpoint errors on held-out starts after and before the fit, `model` names the weights.
    Raises ValueError when asked for another path, grid or number of steps.
    """

    path: Path
    fitted: Table
    error: float
    untuned: float
    model: str = ""
    order: int = field(default=0, init=False)  # none: it is fitted, not derived

    def __str__(self) -> str:
        return f"Tuned(steps={self.fitted.calls}, held-out error {self.error:.4g}, untuned {self.untuned:.4g})"

    def grid(self, path: Path, steps: int) -> Tensor:
        if steps != self.fitted.calls:
            raise ValueError(f"this solver was tuned for {self.fitted.calls} steps, not {steps}; tune one for {steps}")
        return self.fitted.times

    def table(self, path: Path, grid: Tensor) -> Table:
        if path != self.path:
            raise ValueError(f"this solver was tuned on {self.path}, not on {path}; tune one for it")
        if not torch.equal(grid, self.fitted.times):
            raise ValueError("a tuned solver comes with its own times; leave the grid out")
        return self.fitted

    def to_dict(self) -> dict[str, Any]:
        """Numbers and strings for JSON; `from_dict` gives the same bits back."""
        return {"model": self.model, "error": self.error, "untuned": self.untuned, "table": self.fitted.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any], path: Path) -> "Tuned":
        """The inverse of `to_dict`, for the path of the model.

        Raises KeyError, TypeError, ValueError, RuntimeError or OverflowError for what is no solver.
        """
        table = Table.from_dict(data["table"])
        times, errors = table.times, (float(data["error"]), float(data["untuned"]))
        if not all((entry.abs() <= LARGEST).all() for entry in (times, table.P, table.Q, table.R)):
            raise ValueError(f"the table holds numbers that are not finite, or beyond {LARGEST:g}")
        if times.ndim != 1 or not (bool((times.diff() < 0).all()) and times[0] <= 1 and times[-1] >= 0):
            raise ValueError("the times of a table fall from 1 to 0")
        return cls(path, table, *errors, str(data["model"]))


@dataclass(frozen=True)
class Progress:
    """How much of the fit is done (0 to 1), the best held-out error so far, and the error of the best untuned table."""

    done: float
    error: float
    untuned: float


class Effort(NamedTuple):
    """How many starts a fit takes, how many are held out, and how many make a batch."""

    starts: int
    held_out: int
    batch: int


def effort(
    denoiser: Denoiser,
    shape: Sequence[int],
    steps: int,
    seconds: float,
    *,
    starts: int = 768,
    teacher: int = 100,
    device: torch.device | str = "cpu",
) -> Effort:
    """What a fit can afford in so many seconds, by the measured cost of a network call.

    The teacher's solve and the untuned tables may take about a quarter of the time. There are three starts for each that is
    held out, up to `starts` and at least 48, and batches that leave time for some 200 iterations.
    """
    x = torch.zeros(32, *shape, device=device)
    with torch.no_grad():
        denoiser(x, 0.5)
        begun, calls = time.monotonic(), 0
        while calls < 3 or time.monotonic() - begun < 0.1:
            denoiser(x, 0.5).clean.sum().item()  # waits for an accelerator
            calls += 1
    call = (time.monotonic() - begun) / (calls * len(x))
    untuned = len(candidates(denoiser.path, steps)) * steps / 4
    affordable = 0.25 * seconds / (call * (max(teacher, 2 * steps) + untuned))
    some = int(min(starts, max(48, 0.75 * affordable)))
    batch = int(min(128, some, max(16, 0.75 * seconds / (200 * 3 * steps * call))))
    return Effort(some, max(some // 3, 16), batch)


def candidates(path: Path, steps: int) -> list[Table]:
    """The untuned tables that a fit may start from."""
    solvers = ABM(2), ABM(3), ABM(4), ABM(5), DPMSolverPP()
    grids = (
        two_ended(path, steps),
        polynomial(path, steps),
        polynomial(path, steps, 2.0),
        log_snr(path, steps, -7.0, 7.0),
    )
    return [solver.table(path, grid) for solver in solvers for grid in grids]


def fit(
    denoiser: Denoiser,
    shape: Sequence[int],
    steps: int = 6,
    *,
    given: Callable[[Tensor], Denoiser] | None = None,
    starts: int = 768,
    held_out: int = 256,
    batch: int = 128,
    iterations: int = 3000,
    seconds: float = math.inf,
    teacher: int = 100,
    rate: float = 0.03,
    seed: int = 0,
    model: str = "",
    device: torch.device | str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Tuned:
    """The fitted solver of `steps` network calls for a denoiser of items of the given shape (without the batch).

    `given(indices)` is the denoiser with the conditions of the starts of those indices; None for one denoiser for all.
    `teacher` is the number of calls of the fine solve. The peak step of Adam is `rate` times the error of the best untuned
    table, at most 0.01: with many calls there is little to mend, and a large step would only do harm. The fit ends after
    `iterations` or `seconds`, whichever is first. The result is the table with the smallest error on `held_out` starts, which
    take no part in the fit; it is never worse there than the best untuned table. `progress` is told when the teacher is done
    and about 40 times after that; when `stop()` is true the fit ends early with what it has.
    Raises ValueError for fewer than one step or no starts.
    """
    if min(steps, starts, held_out, batch) < 1:
        raise ValueError(f"steps, starts, held_out and batch must be positive, not {(steps, starts, held_out, batch)}")
    begun, path, noise = time.monotonic(), denoiser.path, PerSampleNoise(seed)
    everything = torch.arange(starts + held_out)
    x = begin(path, torch.zeros(len(everything), *shape, device=device), 1.0, noise)

    def bound(rows: Tensor) -> Denoiser:
        return denoiser if given is None else given(rows)

    def solved(table: Table, rows: Tensor) -> Tensor:
        return torch.cat([list(execute(table, bound(part), x[part], noise))[-1].x for part in rows.split(batch)])

    with torch.no_grad():
        goal = solved(ABM().table(path, two_ended(path, max(teacher, 2 * steps))), everything)
        held = everything[starts:]

        def error(table: Table) -> float:
            return float(_distance(solved(table, held), goal[held]).mean())

        untuned, best = min(((error(table), table) for table in candidates(path, steps)), key=lambda pair: pair[0])
        some = everything[:starts][:batch]
        estimates = [member for step in execute(best, bound(some), x[some], noise) for member in step.estimate]
    weights = Weights(path, best, estimates[: 2 * steps])
    peak = min(rate * untuned, 0.01)
    groups = [{"params": weights.moves, "peak": peak}, {"params": [weights.log_gaps], "peak": 5 * peak}]
    optimizer = torch.optim.Adam(groups, lr=peak, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(seed)
    smallest, checked, done, iteration = untuned, 0, 0.0, 0
    if progress is not None:
        progress(Progress(0.0, untuned, untuned))
    prepared = time.monotonic()
    left = max(seconds - (prepared - begun), 1e-9)
    while done < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _one_cycle(done)
        rows = torch.randperm(starts, generator=generator)[:batch]
        with torch.enable_grad():
            _distance(weights.run(bound(rows), x[rows]), goal[rows]).mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(weights.parameters(), 1.0)
        if norm.isfinite():
            optimizer.step()
        optimizer.zero_grad()
        iteration += 1
        done = max(iteration / iterations, (time.monotonic() - prepared) / left)
        if stop is not None and stop():
            done = 1.0
        if int(done * CHECKS) > checked or done >= 1:
            checked, table = int(done * CHECKS), weights.table()
            with torch.no_grad():
                now = error(table)
            if now < smallest:
                smallest, best = now, table
            if progress is not None:
                progress(Progress(min(done, 1.0), smallest, untuned))
    return Tuned(path, best, smallest, untuned, model)


class Weights:
    """What is fitted: the logarithms of the gaps between times, and what each row adds to the table it starts from."""

    def __init__(self, path: Path, table: Table, estimates: Sequence[Tensor]) -> None:
        self.path, self.first, self.last = path, table.times[0], table.times[-1]
        gaps = -table.times.diff()
        self.log_gaps = (gaps / gaps.sum()).log().requires_grad_()
        alpha, sigma = path.alpha(table.times), path.sigma(table.times)
        self.beyond_ddim = torch.stack([table.P - torch.diag(alpha[1:]), table.Q - torch.diag(sigma[1:])], -1)
        features = torch.stack([estimate.detach().flatten().cpu().double() for estimate in estimates])
        gram = features @ features.T / features.shape[1]
        self.axes = []
        for i in range(table.calls):
            values, vectors = torch.linalg.eigh(gram[: 2 * i + 2, : 2 * i + 2])
            self.axes.append(vectors * values.clamp_min(FLOOR * float(values[-1])).rsqrt())
        self.moves = [torch.zeros(2 * i + 2, dtype=torch.float64, requires_grad=True) for i in range(table.calls)]

    def parameters(self) -> list[Tensor]:
        return [self.log_gaps, *self.moves]

    def entries(self) -> tuple[Tensor, Tensor]:
        """Times (M+1,) and the pairs (P, Q) as (M, M, 2), differentiable."""
        falls = torch.softmax(self.log_gaps, 0).cumsum(0)[:-1]
        inner = self.first - (self.first - self.last) * falls
        times = torch.cat([self.first[None], inner, self.last[None]])
        ddim = torch.stack([torch.diag(self.path.alpha(times)[1:]), torch.diag(self.path.sigma(times)[1:])], -1)
        moved = [
            torch.nn.functional.pad((axes @ move).reshape(-1, 2), (0, 0, 0, len(self.moves) - 1 - i))
            for i, (axes, move) in enumerate(zip(self.axes, self.moves, strict=True))
        ]
        return times, ddim + self.beyond_ddim + torch.stack(moved)

    def table(self) -> Table:
        times, pairs = (entry.detach() for entry in self.entries())
        P, Q = (member.contiguous() for member in pairs.unbind(-1))
        return Table(times, P, Q, torch.zeros(len(P), dtype=torch.float64))

    def run(self, denoiser: Denoiser, x: Tensor) -> Tensor:
        """The sampler, differentiable in all that is fitted."""
        times, pairs = self.entries()
        pairs = pairs.to(x.device, x.dtype)
        estimates: list[Tensor] = []
        for i in range(len(pairs)):
            estimates += denoiser(x, times[i])
            x = torch.tensordot(pairs[i, : i + 1].flatten(), torch.stack(estimates), 1)
        return x


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).flatten(1).norm(dim=1) / math.sqrt(x[0].numel())


def _one_cycle(done: float) -> float:
    """A tenth of the fit to rise, the rest to fall."""
    return done / 0.1 + 0.02 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9)) + 1e-3
