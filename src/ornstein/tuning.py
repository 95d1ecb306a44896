"""A solver fitted to one model: the times and the table that follow the model's own fine trajectories with few calls.

A table of M calls has free times, the first among them, free entries P, Q and a free gain. They start from untuned tables and
are moved to bring the endpoints of a few hundred starts to those of a fine solve by the same model (the teacher):

    min over (t_0..t_{M−1}, gain, P, Q)   mean over starts of ‖r‖,   r = (x_M(start) − teacher(start)) / √D

For a flow map (`ornstein.flowmap`) the tables of `Jump` are among those; each of their calls stays aimed at the next time. The
times of `Restart` are found apart (`restart_times`).
The norm is not squared: its mean is ruled by the typical start, its square by the few that begin near a mode's border. There
are only some fifty numbers to find, so each step solves for all of them at once (Levenberg 1944, Marquardt 1963; reweighted
for the norm as by Weiszfeld 1937). With J the derivative of r and w = 1/‖r‖,

    step = (mean w JᵀJ + damping·diag)⁻¹ mean w Jᵀr,

taken if the loss falls. J is never formed: every start has its own copy of the numbers, so one backward pass gives Jᵀr of all
starts, and another Jᵀv for random v with E[vvᵀ] = I, whose products estimate JᵀJ.
Relatives: bespoke solvers (Shaul et al. 2024), DPM-Solver-v3 (Zheng et al. 2023), LD3 (Tong et al. 2025) and S4S (Frankel
et al. 2025).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ornstein.arguments import as_shape, check_denoiser, keywords, place_of
from ornstein.chart import Flow
from ornstein.denoiser import Denoiser
from ornstein.errors import OrnsteinError
from ornstein.flowmap import FlowMap, FlowPoint, jump, takes_aim, time_of
from ornstein.grid import log_snr, polynomial, two_ended
from ornstein.noise import PerSampleNoise
from ornstein.path import Path, align
from ornstein.sampling import begin, sample
from ornstein.solvers import ABM, DPMSolverPP, Jump, TableSolver
from ornstein.solvers.abm import remainder
from ornstein.table import Level, Table, execute, levels

LARGEST = 1e6  # entry of a table; those of fits are no larger than the noise levels of a path
PASSES = 7  # what an iteration costs, in samplings: a forward pass, two backward, and the trial of the step
DAMPING = 1e-2  # of the first step; a step that fails is tried again with four times as much
TRIES, RESETS = 6, 10  # steps tried before the curvature is estimated anew, and how often it is before a fit ends
CAP = 5.0  # a start counts at most this many times the median: near a mode's border J has no bound
FLOOR = 0.3  # of the median error: starts with a smaller one are weighted no more than that
TRIAL = 5  # iterations that each starting table has, on a quarter of the starts, before the best goes on
TEACHING = 0.4  # of the time that the teacher may take, which `effort` plans to take a quarter, before it ends with fewer starts
FEWEST = 32  # starts that are fitted to, for which the teacher goes on
READY = 10.0  # seconds that what every fit needs may take, where the time given is less
PATIENCE = 25  # iterations without a smaller held-out error that end a fit


@dataclass(frozen=True)
class Tuned(TableSolver):
    """A fitted table as a solver, for the path and the number of calls it was fitted to.

    `error` and `untuned` are the mean endpoint errors on held-out starts after and before the fit, `model` names the weights.
    Raises ValueError for another path, grid or number of steps.
    """

    path: Path
    fitted: Table
    error: float
    untuned: float
    model: str = ""
    order: int = field(default=0, init=False)  # none: it is fitted, not derived

    def __str__(self) -> str:
        return f"Tuned(steps={self.fitted.calls}, held-out error {self.error:.4g}, untuned {self.untuned:.4g})"

    @property
    def stochastic(self) -> bool:
        return self.fitted.stochastic

    @property
    def only_steps(self) -> int:
        """The number of network calls that it was fitted to, which `run.sample` takes where none is given."""
        return self.fitted.calls

    def grid(self, path: Path, steps: int) -> Tensor:
        if steps != self.fitted.calls:
            raise ValueError(f"this solver was tuned for {self.fitted.calls} steps, not {steps}; tune one for {steps}")
        return torch.cat([torch.ones(1, dtype=torch.float64), self.fitted.times[1:]])  # where the start is drawn

    def table(self, path: Path, grid: Tensor) -> Table:
        """The fitted table. Raises ValueError for another path or grid (M + 1,)."""
        if path != self.path:
            raise ValueError(f"this solver was tuned on {self.path}, not on {path}; tune one for it")
        if not torch.equal(grid, self.grid(path, self.fitted.calls)):
            raise ValueError("a tuned solver comes with its own times; leave the grid out")
        return self.fitted

    def to_dict(self) -> dict[str, Any]:
        """Numbers and strings for JSON; `from_dict` gives the same bits back."""
        times = self.fitted.times
        levels = torch.stack([self.path.alpha(times), self.path.sigma(times)], 1).tolist()
        own = {"model": self.model, "error": self.error, "untuned": self.untuned}
        return {**own, "table": self.fitted.to_dict(), "levels": levels}

    @classmethod
    def from_dict(cls, data: dict[str, Any], path: Path) -> "Tuned":
        """The inverse of `to_dict`, for the path of the model, or another with the same noise levels.

        Raises KeyError, TypeError, ValueError, RuntimeError or OverflowError for what is no solver.
        """
        table = Table.from_dict(data["table"])
        times, errors = table.times, (float(data["error"]), float(data["untuned"]))
        if not all(
            (entry.abs() <= LARGEST).all() for entry in (times, table.P, table.Q, table.R, torch.tensor(table.gain))
        ):
            raise ValueError(f"the table holds numbers that are not finite, or beyond {LARGEST:g}")
        if times.ndim != 1 or not (bool((times.diff() < 0).all()) and times[0] <= 1 and times[-1] >= 0):
            raise ValueError("the times of a table fall from 1 to 0")
        if table.aims is not None and not torch.equal(table.aims, times[1:]):
            raise ValueError("the calls of a tuned table are aimed at its next times")
        if not all(map(math.isfinite, errors)):
            raise ValueError("its errors are not finite")
        if "levels" in data:
            table = _at_levels(table, torch.tensor(data["levels"], dtype=torch.float64), path)
        return cls(path, table, *errors, str(data["model"]))


def _at_levels(table: Table, levels: Tensor, path: Path) -> Table:
    """The table with its times on a path, where its levels (M+1, 2) are: α and σ at each. Raises ValueError if nowhere."""
    if levels.shape != (len(table.times), 2) or not bool((levels >= 0).all()):
        raise ValueError("the levels of a table are α and σ at each of its times")
    alpha, sigma = levels.unbind(1)

    def agree(times: Tensor) -> bool:
        gap = torch.stack([path.alpha(times) - alpha, path.sigma(times) - sigma]).abs()
        return bool((gap <= 1e-5 * (alpha + sigma)).all())

    if agree(table.times):
        return table
    times = path.time(2 * (alpha.log() - sigma.log()))
    if not agree(times):
        raise ValueError(f"it was tuned for other noise levels than those of {path}")
    return replace(table, times=times, aims=None if table.aims is None else times[1:])


@dataclass(frozen=True)
class Progress:
    """How much of the fit is done (0 to 1), the best held-out error so far, and the error of the best untuned table."""

    done: float
    error: float
    untuned: float


class _Late(Exception):
    """The time is over, between two network calls."""


class Effort(NamedTuple):
    """How many starts a fit takes, how many are held out, and how many make a batch."""

    starts: int
    held_out: int
    batch_size: int


def effort(
    denoiser: Denoiser,
    shape: Sequence[int],
    steps: int,
    seconds: float,
    *,
    starts: int = 768,
    teacher: int = 100,
    iterations: int = 25,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Effort:
    """The size of a fit that fits into so many seconds, by the measured cost of a network call.

    The teacher's solve and the untuned tables may take about a quarter of the time, and the rest is to leave `iterations`.
    There are three starts for each that is held out, up to `starts` and at least 48. A batch is what a backward pass through
    all calls holds at once.
    """
    place, kind = place_of(denoiser, device, dtype)
    x = torch.zeros(32, *shape, device=place, dtype=kind)
    with torch.no_grad():
        denoiser(x, 0.5)
        begun, calls = time.monotonic(), 0
        while (
            calls < 1 or (spent := time.monotonic() - begun) < min(0.1, seconds) or (calls < 3 and spent < seconds / 50)
        ):
            denoiser(x, 0.5).clean.sum().item()  # waits for an accelerator
            calls += 1
    call = (time.monotonic() - begun) / (calls * len(x))
    untuned = sum(map(len, candidates(denoiser.path, steps, jumps=takes_aim(denoiser)))) * steps / 4
    solved = 0.25 * seconds / (call * (max(teacher, 2 * steps) + untuned))
    fitted = 0.75 * seconds / (call * steps * PASSES * iterations)
    some = int(min(starts, max(48, min(0.75 * solved, fitted))))
    return Effort(some, max(some // 3, 16), max(8, min(128, 2**15 // math.prod(shape))))


def candidates(path: Path, steps: int, gain: bool = True, jumps: bool = False) -> list[list[Table]]:
    """The untuned tables that a fit may start from, those of one grid together; without a gain, see `fit`.

    `jumps`: those of `Jump` as well, for a flow map.
    """
    early = gain or of_one_size(path)
    solvers = *(ABM(order) if early else ABM(order, ahead=0.0) for order in (2, 3, 4, 5)), DPMSolverPP()
    grids = (
        two_ended(path, steps),
        polynomial(path, steps),
        polynomial(path, steps, 2.0),
        log_snr(path, steps, -7.0, 7.0),
    )
    tables = [[solver.table(path, grid) for solver in solvers] for grid in grids]
    if early:
        tables = [[midpoint_first(path, table) for table in some] for some in tables]
    if jumps:
        tables = [[*some, Jump().table(path, grid)] for some, grid in zip(tables, grids, strict=True)]
    return tables if gain else [[replace(table, gain=1.0) for table in some] for some in tables]


def of_one_size(path: Path) -> bool:
    """Whether α² + σ² = 1 at all times, so that a start at t = 1 is of the size of any later level."""
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    return bool((path.alpha(times) ** 2 + path.sigma(times) ** 2 - 1).abs().max() < 1e-6)


def midpoint_first(path: Path, table: Table) -> Table:
    """The table with its first call in the middle of its first step, in the clock of `Flow`, where it was at t = 1.

    Where clean is the same at both times, so is the result (`solvers.abm.remainder`).
    """
    if table.times[0] < 1 or table.calls == 1:
        return table
    t, s = levels(path, table.times[:2])
    flow = Flow()
    at = flow.level(path, (flow.clock(t) + max(flow.clock(s), 0.6)) / 2)
    if not at.t < t.t:
        return table
    gain, on_clean, on_noise = remainder(t, at)
    times, P, Q = table.times.clone(), table.P.clone(), table.Q.clone()
    times[0] = at.t
    P[:, 0] += Q[:, 0] * on_clean
    Q[:, 0] *= on_noise
    return Table(times, P, Q, table.R, gain)


def extended(path: Path, table: Table, steps: int) -> list[Table]:
    """A table of fewer calls as tables of so many, with the same result: the calls put in are not used yet.

    They lie in the middle of the widest gaps, by the clock of `Flow` in the first table, by the log-SNR in the second. What
    a call between two times sees is on the way that the table takes from one to the other. Of a table without aims.
    """
    flow = Flow()

    def clock(at: Level) -> float:
        return flow.clock(at)

    def log_snr(at: Level) -> float:
        return -min(max(2 * at.half_log_snr, -7.0), 7.0)

    made = list[Table]()
    for measure in (clock, log_snr):
        longer = table
        while longer.calls < steps:
            places = [measure(at) for at in levels(path, longer.times)]
            gap = max(range(longer.calls), key=lambda i: places[i] - places[i + 1])
            longer = _with_a_call(path, longer, gap)
        made.extend([longer] if longer not in made else [])
    return made


def _with_a_call(path: Path, table: Table, gap: int) -> Table:
    """The table with a call, not used, in the middle of a gap by the clock of `Flow`."""
    flow = Flow()
    t, s = levels(path, table.times[gap : gap + 2])
    at = flow.level(path, (flow.clock(t) + flow.clock(s)) / 2)
    way = torch.stack([table.P[gap] * (at.alpha / s.alpha), table.Q[gap] * (at.sigma / s.sigma if s.sigma > 0 else 0)])
    if s.sigma == 0:
        way[1, gap] = at.sigma
    old = [i for i in range(table.calls + 1) if i != gap + 1]
    matrices = torch.zeros(2, table.calls + 1, table.calls + 1, dtype=torch.float64)
    rows = [i for i in range(table.calls + 1) if i != gap]
    columns = torch.tensor(old)
    for matrix, entries in zip(matrices, (table.P, table.Q), strict=True):
        matrix[torch.tensor(rows)[:, None], columns] = entries
    matrices[:, gap, columns] = way
    times = torch.cat([table.times[: gap + 1], torch.tensor([at.t], dtype=torch.float64), table.times[gap + 1 :]])
    fresh = torch.cat([table.R[:gap], torch.zeros(1, dtype=torch.float64), table.R[gap:]])
    P, Q = matrices
    return Table(times, P, Q, fresh, table.gain)


@keywords
def fit(
    denoiser: Denoiser,
    shape: Sequence[int],
    steps: int = 6,
    *,
    bind: Callable[[Tensor], Denoiser] | None = None,
    starts: int = 768,
    held_out: int = 256,
    batch_size: int = 128,
    iterations: int = 150,
    seconds: float = math.inf,
    teacher: int = 100,
    seed: int = 0,
    model: str = "",
    gain: bool = True,
    earlier: Tuned | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Tuned:
    """The fitted solver of `steps` network calls for a denoiser of items of the given shape (without the batch).

    `bind(indices)` is the denoiser with the conditions of the starts of those indices; None: one denoiser for all.
    `teacher` is the number of calls of the fine solve. The best untuned table of each grid is fitted for a few iterations to
    a quarter of the starts, and the best of those goes on with all of them, `batch_size` at a time, until nothing more is
    gained on the `held_out` starts, which take no part in the fit; then the next best, for at most `iterations` in all or
    `seconds`, which is looked at between network calls: a fit that comes to know that it is late takes fewer starts, then fewer
    iterations. The result is the table with the smallest error on those; it is never worse there than the best untuned table.
    `gain`: whether a run may multiply its start by a number that is fitted too; False for programs that make the first call on
    the start as it is, such as pipelines of diffusers: it is made below t = 1 only where all levels are of one size.
    `earlier`: a solver of fewer calls that was fitted to this denoiser. Where the fit does not come below its error, it goes on
    from its table with calls that change nothing (`extended`), so the result is not worse on the held-out starts; for flow
    maps it says nothing.
    `progress` is called with a `Progress` when the teacher is done and after every iteration; when `stop()` is true the fit
    ends early with what it has. `device` and `dtype` are those of the starts; None: the network's.
    Raises ValueError for fewer than one step or no starts, TypeError for another kind of argument,
    OrnsteinError for a denoiser whose solves are not finite, or that is too slow for any fit in the time given.
    """
    check_denoiser("fit", denoiser)
    if min(steps, starts, held_out, batch_size) < 1:
        counts = (steps, starts, held_out, batch_size)
        raise ValueError(f"steps, starts, held_out and batch_size must be positive, not {counts}")
    place, kind = place_of(denoiser, device, dtype)
    begun, path, noise = time.monotonic(), denoiser.path, PerSampleNoise(seed)
    everything = torch.arange(starts + held_out)
    x = begin(path, torch.zeros(len(everything), *as_shape("fit", shape), device=place, dtype=kind), 1.0, noise)

    def bound(rows: Tensor) -> Denoiser:
        return denoiser if bind is None else bind(rows)

    def over() -> bool:
        return time.monotonic() - begun > seconds or (stop is not None and stop())

    def check() -> None:
        if time.monotonic() - begun > allowed:
            raise _Late

    def solved(table: Table, rows: Tensor) -> Iterator[Tensor]:
        for part in rows.split(batch_size):
            ends = x[part]
            for step in execute(table, bound(part), ends, noise):
                check()
                ends = step.x
            yield ends

    def error(table: Table) -> float:
        """The mean held-out error; infinite where a solve breaks down."""
        with torch.no_grad():
            mean = float(_distance(torch.cat(list(solved(table, unseen))), goal[unseen]).mean())
        return mean if math.isfinite(mean) else math.inf

    unseen, learned, goal = everything[starts:], everything[:starts], torch.empty_like(x)
    longer, contained = _from_earlier(path, earlier, steps, gain), list[tuple[float, Table]]()
    allowed, measured = max(seconds, READY), list[list[tuple[float, Table]]]()
    try:
        with torch.no_grad():
            fine = ABM().table(path, two_ended(path, max(teacher, 2 * steps)))
            for part in reversed(everything.split(batch_size)):  # those held out come first
                (ends,) = solved(fine, part)
                goal[part], learned = _finite(ends, fine), everything[part[0] : starts]
                if len(learned) >= FEWEST and time.monotonic() - begun > TEACHING * seconds:
                    break
        for some in candidates(path, steps, gain, takes_aim(denoiser)):
            if not (measured and over()):
                measured.append([])
                for table in some:
                    measured[-1].append((error(table), table))
        contained = [] if over() else sorted(((error(table), table) for table in longer), key=itemgetter(0))
    except _Late:
        if not any(measured):
            raise OrnsteinError(
                f"this model is too slow, or this machine too busy, for a fit in {seconds:g} seconds; give more of them, fewer "
                "steps, or a smaller teacher"
            ) from None
    allowed = seconds
    ranked = sorted((min(some, key=itemgetter(0)) for some in measured if some), key=itemgetter(0))
    untuned, best = ranked[0]
    if not math.isfinite(untuned):
        raise OrnsteinError(
            f"no solve of this model in {steps} network calls is finite, so none can be fitted; use more"
        )
    smallest, done, iteration = untuned, 0.0, 0
    left = max(seconds - (prepared := time.monotonic()) + begun, 1e-9)

    def report() -> None:
        if progress is not None:
            progress(Progress(min(done, 1.0), smallest, untuned))

    def fitted(descent: "Descent", most: int) -> float:
        """Iterate until nothing is gained, or for so long; the last held-out error."""
        nonlocal smallest, best, done, iteration
        waited, now = 0, math.inf
        while done < 1 and most > 0 and waited < PATIENCE and descent.step():
            most, iteration = most - 1, iteration + 1
            table = descent.table()
            now = error(table)
            waited = 0 if now < smallest else waited + 1
            if now < smallest:
                smallest, best = now, table
            done = max(iteration / iterations, (time.monotonic() - prepared) / left)
            if stop is not None and stop():
                done = 1.0
            report()
        return now

    def descent(table: Table, rows: Tensor) -> "Descent":
        return Descent(Weights(path, table, gain), bound, x, goal, rows.split(batch_size), seed, over, check)

    report()
    try:
        tables = [best]
        if iterations > TRIAL * len(ranked):
            few = learned[: max(len(learned) // 4, min(len(learned), 32))]
            tried = list[tuple[float, Table]]()
            for _, table in ranked:
                if not (tried and over()):
                    trial = descent(table, few)
                    tried.append((fitted(trial, TRIAL), trial.table()))
            tables = [table for _, table in sorted(tried, key=itemgetter(0))]
        for table in tables:
            if not over():
                fitted(descent(table, learned), iterations)
        if contained and contained[0][0] < smallest and not over():
            smallest, best = contained[0]
            fitted(descent(best, learned), iterations)
    except _Late:  # the best so far is the result
        pass
    smallest, best = min([(smallest, best), *contained[:1]], key=itemgetter(0))
    done = 1.0
    report()
    return Tuned(path, best, smallest, untuned, model)


@keywords
def restart_times(
    denoiser: Denoiser,
    shape: Sequence[int],
    steps: int = 2,
    *,
    starts: int = 64,
    levels: int = 12,
    teacher: int = 32,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The grid (steps + 1,) of `Restart` in so many calls that fits a flow map of items of this shape (without the batch).

    With the exact map, `Restart` draws from the model's own distribution on any grid. So run it beside this one with the same
    noise, every jump of theirs a fine solve on the diagonal (`teacher` calls): the mean distance of the ends bounds the
    Wasserstein-1 distance of both distributions. An early restart forgets what earlier jumps did wrong, a late one adds less of
    its own. One after the other, each time is the one of `levels` with the smallest distance after its jump.
    Raises ValueError for fewer than one step or no starts, TypeError for a denoiser that takes no aim.
    """
    check_denoiser("restart_times", denoiser)
    if not takes_aim(denoiser):
        raise TypeError(f"restart_times needs a flow map, and {type(denoiser).__name__} takes no aim")
    if min(steps, starts, teacher) < 1 or levels < steps:
        counts = (steps, starts, levels, teacher)
        raise ValueError(f"steps, starts, levels (at least steps) and teacher must be positive, not {counts}")
    place, kind = place_of(denoiser, device, dtype)
    path, noise, flow_map = denoiser.path, PerSampleNoise(seed), cast(FlowMap, denoiser)
    empty = torch.zeros(starts, *as_shape("restart_times", shape), device=place, dtype=kind)
    parts = torch.linspace(1, 0, teacher + 1, dtype=torch.float64) ** 1.3

    def exactly(x: Tensor, t: float) -> Tensor:
        at = FlowPoint(path, torch.tensor(t, dtype=torch.float64), torch.zeros((), dtype=torch.float64)).clock
        inner = time_of(path, at * parts[1:-1])
        return sample(denoiser, start=x, grid=torch.cat([torch.tensor([t]).double(), inner, torch.zeros(1).double()]))

    @torch.no_grad()
    def ends(own: Tensor, right: Tensor, t: float) -> tuple[float, Tensor, Tensor]:
        """What inputs at a time become by one jump, and exactly, and how far these are apart."""
        made = jump(flow_map, path, own, t, 0.0), exactly(right, t)
        return float(_distance(*made).mean()), *made

    start = begin(path, empty, 1.0, noise)
    _, own, right = ends(start, start, 1.0)
    grid, free = [1.0], two_ended(path, levels + 1)[1:-1].tolist()
    for left in range(steps - 2, -1, -1):  # as many more are to fit below
        tried = []
        for s in free[: len(free) - left]:
            alpha, sigma = path.levels(s, empty)
            fresh = sigma * noise(empty, grid[-1], s)
            tried.append((*ends(alpha * own + fresh, alpha * right + fresh, s), s))
        _, own, right, s = min(tried, key=itemgetter(0))
        grid, free = [*grid, s], free[free.index(s) + 1 :]
    return torch.tensor([*grid, 0.0], dtype=torch.float64)


def _from_earlier(path: Path, earlier: Tuned | None, steps: int, gain: bool) -> list[Table]:
    """Tables of so many calls with the result of an earlier solver. Raises ValueError for one of another path or more calls."""
    if earlier is None or earlier.fitted.aims is not None:
        return []
    if earlier.path != path or earlier.fitted.calls >= steps:
        raise ValueError(
            f"earlier: {earlier} is for {earlier.path} and {earlier.fitted.calls} calls; give one for {path} of fewer than "
            f"{steps}"
        )
    return extended(path, earlier.fitted, steps) if gain or earlier.fitted.gain == 1 else []


class Weights:
    """The fitted parameters as one vector θ (..., n), zero at first: logarithms of the gaps between times, the gain, P and Q."""

    def __init__(self, path: Path, table: Table, gained: bool = True) -> None:
        self.path, self.first, self.gained, self.aimed = path, table.times[0] < 1, gained, table.aims is not None
        ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
        edges = torch.cat([ends[:1], table.times]) if self.first else table.times
        gaps = -edges.diff()
        self.log_gaps, self.top, self.last = (gaps / gaps.sum()).log(), edges[0], edges[-1]
        alpha, sigma = path.alpha(table.times), path.sigma(table.times)
        self.beyond_ddim = torch.stack([table.P - torch.diag(alpha[1:]), table.Q - torch.diag(sigma[1:])], -1)
        self.gain = table.gain / self._size(table.times[0])
        self.places = torch.tril_indices(table.calls, table.calls)
        self.size = len(gaps) + 1 + 2 * self.places.shape[1]

    def _size(self, t: Tensor) -> Tensor:
        """√(α² + σ²): the gain follows the first time with it."""
        return torch.hypot(self.path.alpha(t), self.path.sigma(t))

    def entries(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Times (..., M+1), the pairs (P, Q) as (..., M, M, 2) and the gain (...), differentiable in θ (..., n)."""
        count, calls = len(self.log_gaps), len(self.beyond_ddim)
        falls = torch.softmax(self.log_gaps + theta[..., :count], -1).cumsum(-1)[..., :-1]
        inner = self.top - (self.top - self.last) * falls
        ends = [end.expand(*theta.shape[:-1], 1) for end in (self.top, self.last)]
        times = torch.cat([inner, ends[1]] if self.first else [ends[0], inner, ends[1]], -1)
        scales = (scale(times)[..., 1:] for scale in (self.path.alpha, self.path.sigma))
        ddim = torch.stack([torch.diag_embed(scale) for scale in scales], -1)
        moves = torch.zeros(*theta.shape[:-1], calls, calls, 2, dtype=theta.dtype)
        moves[..., self.places[0], self.places[1], :] = theta[..., count + 1 :].unflatten(-1, (-1, 2))
        gain = (
            (self.gain + theta[..., count]) * self._size(times[..., 0])
            if self.gained
            else torch.ones_like(times[..., 0])
        )
        return times, ddim + self.beyond_ddim + moves, gain

    def table(self, theta: Tensor) -> Table:
        """The table of the parameters θ (n,)."""
        times, pairs, gain = self.entries(theta)
        P, Q = (member.contiguous() for member in pairs.unbind(-1))
        aims = times[1:] if self.aimed else None
        return Table(times, P, Q, torch.zeros(len(P), dtype=torch.float64), float(gain), aims)

    def run(self, denoiser: Denoiser, x: Tensor, theta: Tensor, check: Callable[[], None] = lambda: None) -> Tensor:
        """The sampler for starts x (B, ...), differentiable in θ, (n,) or one for each start (B, n); `check` may end it by an
        exception before each network call."""
        precise = torch.float32 if x.device.type == "mps" else theta.dtype  # Apple's devices have no float64
        times, pairs, gain = self.entries(theta.expand(len(x), -1))
        times, gain = times.to(x.device, precise), gain.to(x.device, precise)
        pairs, x = pairs.to(x.device, x.dtype), x * align(gain, x)
        estimates: list[Tensor] = []
        for i in range(pairs.shape[1]):
            check()
            estimates += denoiser(x, *times[:, i : i + 1 + self.aimed].unbind(1))
            x = torch.einsum("bk,kb...->b...", pairs[:, i, : i + 1].flatten(1), torch.stack(estimates))
        return x


class Descent:
    """Levenberg–Marquardt on the mean of ‖r‖ over starts (B, ...), their rows in batches."""

    def __init__(
        self,
        weights: Weights,
        bound: Callable[[Tensor], Denoiser],
        x: Tensor,
        goal: Tensor,
        batches: Sequence[Tensor],
        seed: int,
        over: Callable[[], bool] = lambda: False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.check = check
        self.weights, self.bound, self.x, self.goal, self.batches = weights, bound, x, goal, batches
        self.generator, self.over = torch.Generator().manual_seed(seed), over
        self.theta = torch.zeros(weights.size, dtype=torch.float64)
        self.damping, self.resets = DAMPING, RESETS
        self.curvature: Tensor | None = None
        self.errors = self._errors(self.theta)

    def table(self) -> Table:
        """The table as it is now."""
        return self.weights.table(self.theta)

    def step(self) -> bool:
        """One step that lowers the loss; False where none was found, or it is `over` before one is."""
        while True:
            gradient, fresh = self._linearised()
            curvature = self.curvature = fresh if self.curvature is None else (self.curvature + fresh) / 2
            diagonal = curvature.diagonal()
            for _ in range(TRIES):
                if self.over():
                    return False
                damped = curvature + torch.diag(self.damping * diagonal + 1e-12 * diagonal.max())
                move, failed = torch.linalg.solve_ex(damped, gradient)
                errors = self._errors(self.theta - move)
                if not failed and errors.mean() < self.errors.mean():
                    self.theta, self.errors, self.damping = self.theta - move, errors, max(self.damping / 3, 1e-9)
                    return True
                self.damping *= 4
            if self.resets == 0:
                return False
            self.resets, self.curvature, self.damping = self.resets - 1, None, DAMPING

    @torch.no_grad()
    def _errors(self, theta: Tensor) -> Tensor:
        """‖r‖ of every start (N,); infinite where the sampler broke down."""
        parts = [
            _distance(self.weights.run(self.bound(rows), self.x[rows], theta, self.check), self.goal[rows])
            for rows in self.batches
        ]
        return torch.cat(parts).double().cpu().nan_to_num(nan=math.inf)

    def _linearised(self) -> tuple[Tensor, Tensor]:
        """mean w Jᵀr (n,) and an estimate of mean w JᵀJ (n, n), at θ."""
        weight = 1 / self.errors.clamp_min(FLOOR * float(self.errors.median()) + 1e-12)
        pulls, probes, done = list[Tensor](), list[Tensor](), 0
        for rows in self.batches:
            each = self.theta.expand(len(rows), -1).clone().requires_grad_()
            with torch.enable_grad():
                r = self.weights.run(self.bound(rows), self.x[rows], each, self.check) - self.goal[rows]
            r = r.flatten(1) / math.sqrt(r[0].numel())
            v = torch.randn(r.shape, generator=self.generator).to(r.device, r.dtype)
            pulled = r.detach() * weight[done : done + len(rows), None].to(r.device, r.dtype)
            pulls += torch.autograd.grad(r, each, pulled, retain_graph=True)
            probes += torch.autograd.grad(r, each, v)
            done += len(rows)
        pull, probe = torch.cat(pulls), torch.cat(probes) * weight.sqrt()[:, None]
        pull, probe = (_capped(rows.double().nan_to_num(0.0, 0.0, 0.0)) for rows in (pull, probe))
        return pull.mean(0), probe.T @ probe / len(probe)


def _finite(ends: Tensor, table: Table) -> Tensor:
    """Raises OrnsteinError for endpoints of a fine solve that nothing can be fitted to."""
    if not bool(ends.isfinite().all()):
        raise OrnsteinError(
            f"solves of this model in {table.calls} network calls are not finite, so no solver can be fitted to them; "
            "use an earlier checkpoint, or train again at a smaller learning rate"
        )
    return ends


def _capped(rows: Tensor) -> Tensor:
    """Rows (N, n) with norms of at most CAP times the median."""
    norms = rows.norm(dim=1, keepdim=True)
    return rows * (CAP * norms.median() / norms.clamp_min(1e-300)).clamp_max(1)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).flatten(1).norm(dim=1) / math.sqrt(x[0].numel())
