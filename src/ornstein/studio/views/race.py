"""Race: several solvers at equal network calls from the same noise, each against a fine solve of the same ODE."""

import time
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ornstein.arguments import as_times
from ornstein.errors import UsageError
from ornstein.names import SOLVERS
from ornstein.sampling import DEFAULT, trajectory
from ornstein.solvers import AIMED
from ornstein.solvers.solver import TableSolver, table_of
from ornstein.studio import commands, draws, frames
from ornstein.studio.fields import Fields
from ornstein.studio.shelf import solvers_of

if TYPE_CHECKING:
    from ornstein.path import Path
    from ornstein.solvers import Solver
    from ornstein.studio.state import Studio

FINE = 100  # steps of the solve that the others are measured against
Event = dict[str, Any]


class Lane(NamedTuple):
    """A solver in the race: its name, and its steps within the calls of all."""

    name: str
    solver: "Solver"
    steps: int
    calls: int


def prepare(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """The race, call by call."""
    draw = draws.draw(studio, client, fields, 9)
    run = draw.run
    entrants = [name for name in solvers_of(run)["ode"] if isinstance(SOLVERS[name], TableSolver)]
    usual = [name for name in ("abm", "heun", "ddim") if name in entrants]
    chosen = fields.names("solvers", usual, [*entrants, "tuned"], 2, 4)
    budget = fields.whole("calls", 8, 1, 60)
    fields.end()
    lanes = []
    for name in chosen:
        solver = run.tuned(budget, condition=draw.condition) if name == "tuned" else SOLVERS[name]
        if not draw.guide.plain and solver in AIMED:
            raise UsageError(f"scale: the jumps of {name} are not guided; leave it out, or set the scale to 1")
        lanes.append(lane(name, solver, run.model.path, budget))
    return _raced(draw, lanes, budget)


def lane(name: str, solver: TableSolver, path: "Path", budget: int) -> Lane:
    """The most steps of a solver whose table has no more calls than the budget. Raises UsageError where one step has more."""
    if name == "tuned":
        return Lane(name, solver, budget, budget)
    for steps in range(budget, 0, -1):
        calls = table_of(solver, path, solver.grid(path, steps)).calls
        if calls <= budget:
            return Lane(name, solver, steps, calls)
    raise UsageError(f"calls: one step of {name} takes more than {budget}; give more calls, or another solver")


@torch.no_grad()
def _raced(draw: draws.SampleRequest, lanes: list[Lane], budget: int) -> Iterator[Event]:
    path, began = draw.run.model.path, time.monotonic()
    denoiser, spec = draw.denoiser, draw.run.spec
    names, counts = ",".join(one.name for one in lanes), ",".join(str(s) for s in sorted({one.steps for one in lanes}))
    pairs = [(one.name, one.steps) for one in lanes]
    words = commands.python(
        draw.place, "sample", {**draw.arguments(), "solver": commands.Code("s"), "steps": commands.Code("n")}
    )
    first, call = words.split("\n")
    yield {
        "type": "begin",
        "count": draw.count,
        "labels": draw.names,
        "layout": frames.layout(spec),
        "lanes": [{"name": one.name, "steps": one.steps, "calls": one.calls} for one in lanes],
        "calls": budget,
        "command": commands.command("compare", [draw.place.quoted], {"--solver": names, "--steps": counts}),
        "python": f"{first}\nresults = [{call.removeprefix('result = ')} for s, n in {pairs}]",
    }
    times = as_times(path, DEFAULT, FINE, None)
    fine = draw.start(times)
    for i, step in enumerate(trajectory(denoiser, fine, solver=DEFAULT, grid=times, noise=draw.noise)):
        fine = step.x
        if i % 10 == 0:
            yield {"type": "progress", "done": i, "total": len(times)}
    yield {"type": "fine", "clean": frames.items(spec, fine)}
    runs = []
    for one in lanes:
        grid = as_times(path, one.solver, one.steps, None)
        runs.append(
            _ran(trajectory(denoiser, draw.start(grid), solver=one.solver, grid=grid, noise=draw.noise), draw, fine)
        )
    for number, states in enumerate(zip_longest(*runs)):
        yield {"type": "frame", "number": number, "lanes": list(states)}
    yield {"type": "end", "seconds": time.monotonic() - began}


def _ran(steps: Iterator[Any], draw: draws.SampleRequest, fine: Tensor) -> Iterator[Event]:
    """The clean estimate of each call, and how far that of each sample is from the fine solve's result, in model units."""
    last = None
    for step in steps:
        if last is not None:
            yield _state(draw, last.t, last.calls, last.estimate.clean, fine)
        last = step
    assert last is not None
    yield _state(draw, last.t, last.calls, last.x, fine)


def _state(draw: draws.SampleRequest, t: float, calls: int, clean: Tensor, fine: Tensor) -> Event:
    error = (clean - fine).flatten(1).double().square().mean(1).sqrt()
    return {"t": t, "calls": calls, "clean": frames.items(draw.run.spec, clean), "error": error.tolist()}
