"""Watch: samples from noise to data, x_t and the clean estimate of every call, with the solver's table."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ornstein.arguments import as_times
from ornstein.errors import UsageError
from ornstein.sampling import trajectory
from ornstein.solvers.solver import TableSolver, table_of
from ornstein.studio import commands, draws, frames
from ornstein.studio.fields import Fields

if TYPE_CHECKING:
    from ornstein.path import Path
    from ornstein.solvers import Solver
    from ornstein.studio.state import Studio

LARGEST = 40  # calls of a table that is drawn


def prepare(studio: "Studio", client: str, fields: Fields) -> Iterator[dict[str, Any]]:
    """Samples of a run, call by call."""
    draw = draws.draw(studio, client, fields)
    name, solver, steps = draws.solver(draw, fields)
    fields.end()
    if name in ("jump", "restart") and not draw.guide.plain:
        raise UsageError("scale: jumps of a few-step run are not guided; choose another solver")
    denoiser = draw.denoiser
    return _watched(draw, denoiser, name, solver, steps)


@torch.no_grad()
def _watched(
    draw: draws.SampleRequest, denoiser: Any, name: str, solver: "Solver", steps: int
) -> Iterator[dict[str, Any]]:
    run, path = draw.run, draw.run.model.path
    spec, times = run.spec, as_times(run.model.path, solver, steps, None)
    began = time.monotonic()
    flags = {"--solver": name, "--steps": steps, **draw.flags()}
    yield {
        "type": "begin",
        "count": draw.count,
        "labels": draw.names,
        "scale": draw.words.get("--guidance", 1),
        "layout": frames.layout(spec),
        "times": times.tolist(),
        "table": table(solver, path, times),
        "command": commands.command("sample", [draw.place.quoted], flags),
        "python": commands.python(draw.place, "sample", {**draw.arguments(), "solver": name, "steps": steps}),
    }
    start = draw.start(times)
    for i, step in enumerate(trajectory(denoiser, start, solver=solver, grid=times, noise=draw.noise)):
        alpha, sigma = path.levels(step.t, step.x)
        yield {
            "type": "frame",
            "number": i,
            "calls": step.calls,
            "t": step.t,
            "alpha": float(alpha),
            "sigma": float(sigma),
            "x": frames.items(spec, frames.quiet(path, step.t, step.x)),
            "clean": frames.items(spec, step.estimate.clean if float(sigma) > 0 else step.x),
        }
    yield {"type": "end", "seconds": time.monotonic() - began}


def table(solver: "Solver", path: "Path", times: torch.Tensor) -> dict[str, Any] | None:
    """The numbers of a solver that is a table of few calls, for a heat map."""
    if not isinstance(solver, TableSolver):
        return None
    made = table_of(solver, path, times)
    if made.calls > LARGEST:
        return None
    return {"times": made.times.tolist(), "P": made.P.tolist(), "Q": made.Q.tolist(), "R": made.R.tolist()}
