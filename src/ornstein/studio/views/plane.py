"""Plane: densities, scores and velocities of exact mixtures and of two-dimensional runs, with what moves in them."""

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein import grid, sde
from ornstein.denoiser import Denoiser
from ornstein.errors import UsageError
from ornstein.exact import Exact
from ornstein.likelihood import log_prob
from ornstein.names import PATHS, SOLVERS
from ornstein.noise import PerSampleNoise, repeat
from ornstein.path import Path
from ornstein.sampling import trajectory
from ornstein.solvers import EulerMaruyama, Heun, PredictorCorrector
from ornstein.studio import commands, frames, mixtures
from ornstein.studio.fields import Fields
from ornstein.studio.jobs import reported

if TYPE_CHECKING:
    from ornstein.studio.shelf import Place
    from ornstein.studio.state import Studio

NEAR, FAR = 0.002, 0.998  # times at which every path has finite rates
DENSE = 200  # points whose density is integrated between two reports
STEPS = 12  # of that ODE
WIDTH = 3.0  # half of the side of the view where data and noise have a scale of one
Event = dict[str, Any]


class PlaneModel(NamedTuple):
    """What the plane shows: a denoiser of two numbers, exact or of a run."""

    name: str
    denoiser: Denoiser
    exact: Exact | None
    place: "Place | None"
    path_name: str = ""
    label: int | None = None

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def score(self, x: Tensor, t: float) -> Tensor:
        """∇log p_t."""
        if self.exact is not None:
            return self.exact.score(x, t)
        return self.denoiser(x, t).score(self.path.at(t, x))

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Of the probability-flow ODE."""
        return self.denoiser(x, t).velocity(self.path.at(t, x))

    def like(self, count: int) -> Tensor:
        """Zeros (count, 2) of the model's type."""
        if self.place is None:
            return torch.zeros(count, 2, dtype=torch.float64)
        model = self.place.run().model
        return torch.zeros(count, 2, dtype=model.dtype, device=model.device)


def model(studio: "Studio", fields: Fields) -> PlaneModel:
    """The model of a request. Raises UsageError for a run of other items than pairs of numbers."""
    run = fields.text("run")
    if not run:
        name = fields.choice("mixture", "ring", mixtures.ALL)
        path = fields.choice("path", "linear", PATHS)
        exact = mixtures.mixture(name, PATHS[path])
        return PlaneModel(name, exact, exact, None, path)
    place = studio.shelf.place(run)
    trained = place.run()
    if trained.spec.shape != (2,):
        raise UsageError(
            f"run: the plane is for runs of two numbers, and {place.name} makes items of {trained.spec.shape}"
        )
    classes = len(trained.spec.classes) if trained.model.conditions.label is not None else 0
    label = fields.whole("label", -1, -1, classes - 1)
    if not trained.model.conditions:
        return PlaneModel(place.name, trained.denoiser, None, place)
    from ornstein.guidance.config import PLAIN
    from ornstein.runs.editing import for_all

    index = None if label < 0 else label
    return PlaneModel(place.name, for_all(trained, None, None, PLAIN, index), None, place, label=index)


def width(path: Path, t: float) -> float:
    """Half of the side of the view at a time: larger where the noise of a path is."""
    at = torch.tensor(t, dtype=torch.float64)
    return WIDTH * max(1.0, math.hypot(float(path.alpha(at)), float(path.sigma(at))))


def field(studio: "Studio", client: str, fields: Fields) -> Callable[[], Event]:
    """Density, score and velocity at one time, on grids."""
    chosen = model(studio, fields)
    t = fields.number("t", 0.5, 0.0, 1.0)
    cells, arrows = fields.whole("cells", 72, 2, 160), fields.whole("arrows", 21, 2, 40)
    fields.end()

    @torch.no_grad()
    def work() -> Event:
        at = min(max(t, NEAR), FAR)
        side = width(chosen.path, at)
        fine, coarse = lattice(side, cells), lattice(side, arrows)
        points = coarse.to(chosen.like(1))
        return {
            "type": "field",
            "t": at,
            "width": side,
            "cells": cells,
            "arrows": arrows,
            "log_prob": None if chosen.exact is None else frames.text(chosen.exact.log_prob(fine, at).numpy()),
            "score": frames.text(chosen.score(points, at).double().cpu().numpy()),
            "velocity": frames.text(chosen.velocity(points, at).double().cpu().numpy()),
            "point": numbers(chosen.path, at),
            **repeated(chosen, at),
        }

    return work


def density(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """log p_t on a grid by integrating the probability-flow ODE, for runs, whose density has no closed form."""
    chosen = model(studio, fields)
    t = fields.number("t", 0.5, 0.0, 1.0)
    cells = fields.whole("cells", 28, 2, 80)
    fields.end()
    return _dense(chosen, min(max(t, NEAR), FAR), cells)


def _dense(chosen: PlaneModel, t: float, cells: int) -> Iterator[Event]:
    side = width(chosen.path, t)
    yield {"type": "begin", "t": t, "width": side, "cells": cells, **repeated(chosen, t)}
    points = lattice(side, cells).to(chosen.like(1))
    values: Tensor = yield from reported(
        lambda progress: log_prob(
            chosen.denoiser, points, t, steps=STEPS, batch_size=min(DENSE, len(points)), progress=progress
        )
    )
    yield {
        "type": "result",
        "t": t,
        "log_prob": frames.text(values.double().cpu().nan_to_num(-1e9, -1e9, -1e9).numpy()),
    }
    yield {"type": "end"}


def lattice(side: float, count: int) -> Tensor:
    """The centres of count × count cells of [−side, side]², (count², 2): rows from the top, as an image has them."""
    along = ((torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1) * side
    y, x = torch.meshgrid(along.flip(0), along, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def numbers(path: Path, t: float) -> dict[str, float | None]:
    """The path at one time: its weights, log-SNR, drift and diffusion; None where one is infinite."""
    at = torch.tensor(t, dtype=torch.float64)
    made = {
        "alpha": path.alpha,
        "sigma": path.sigma,
        "log_snr": path.log_snr,
        "drift": path.drift,
        "diffusion": path.diffusion,
    }
    return {name: _finite(function, at) for name, function in made.items()}


def _finite(function: Callable[[Tensor], Tensor], at: Tensor) -> float | None:
    try:
        value = float(function(at))
    except ValueError:  # infinite at an end
        return None
    return value if math.isfinite(value) else None


def repeated(chosen: PlaneModel, t: float) -> dict[str, str]:
    """How to get the same in Python, and the command that is next to it."""
    if chosen.place is not None:
        at, given = round(t, 4), chosen.label
        lines = [f"f.{name}(x, {at:g})" for name in ("score", "velocity")]
        condition = "" if given is None else f".given(torch.full((len(x),), {given}))"
        lines.insert(0, f"ornstein.likelihood.log_prob(f, x, {at:g}, steps={STEPS})")
        return {
            "command": commands.command("sample", [chosen.place.quoted], {"-n": 1000, "--out": "points.png"}),
            "python": f"{commands.loading(chosen.place, 'import torch')}\nf = run.denoiser{condition}; {', '.join(lines)}",
        }
    views = ", ".join(f"data.{name}(x, {t:g})" for name in ("log_prob", "score", "velocity"))
    return {
        "command": "ornstein studio",
        "python": "from ornstein.names import PATHS; from ornstein.studio.mixtures import mixture\n"
        f"data = mixture({chosen.name!r}, PATHS[{chosen.path_name!r}]); {views}",
    }


def path_curves(studio: "Studio", client: str, fields: Fields) -> Callable[[], Event]:
    """A path over all times: weights, log-SNR, drift and diffusion."""
    run = fields.text("run")
    name = fields.choice("path", "linear", PATHS)
    count = fields.whole("count", 121, 2, 500)
    fields.end()
    chosen = PATHS[name] if not run else studio.shelf.place(run).run().model.path

    def work() -> Event:
        times = torch.linspace(NEAR, FAR, count, dtype=torch.float64).tolist()
        rows = [numbers(chosen, t) for t in times]
        curves = {key: [row[key] for row in rows] for key in rows[0]}
        return {"type": "path", "t": times, "path": str(chosen), **curves}

    return work


def curve(studio: "Studio", client: str, fields: Fields) -> Callable[[], Event]:
    """The flow line through a point at a time, both ways, and paths of the reverse SDE that begin there."""
    chosen = model(studio, fields)
    x, y = fields.numbers("start", (0.0, 0.0), 2, 1e4)
    t = fields.number("t", 1.0, 0.0, 1.0)
    eta = fields.number("eta", 0.0, 0.0, 3.0)
    count = fields.whole("count", 60, 2, 200)
    drawn = fields.whole("paths", 0, 0, 8)
    fields.end()

    @torch.no_grad()
    def work() -> Event:
        at = min(max(t, NEAR), FAR)
        start = torch.tensor([[x, y]], dtype=torch.float64).to(chosen.like(1))
        down = _line(chosen, start, at, NEAR, count)
        up = _line(chosen, start, at, FAR, count)
        event: Event = {"type": "curve", "t": at, "down": down, "up": up, "paths": []}
        if drawn and eta > 0:
            times = _falling(chosen.path, at, count)
            some = start.expand(drawn, 2).clone()
            states = [x for _, x in sde.trajectory(sde.reverse(chosen.denoiser, eta), some, times, PerSampleNoise(1))]
            event["paths"] = torch.stack(states, 1).double().cpu().tolist()
            event["times"] = times.tolist()
        return event

    return work


def _falling(path: Path, first: float, count: int) -> Tensor:
    """Times from `first` down to NEAR, of even noise levels."""
    high, low = float(path.log_snr(NEAR)), float(path.log_snr(first))
    if high - low < 1e-6:
        return torch.tensor([first, NEAR]) if first > NEAR else torch.tensor([first, first / 2])
    times = path.time(torch.linspace(low, high, count, dtype=torch.float64))
    times[0], times[-1] = first, NEAR
    return times


def _line(chosen: PlaneModel, start: Tensor, first: float, last: float, count: int) -> list[list[float]]:
    """Rows (t, x, y) of the ODE from one time to another."""
    if abs(first - last) < 1e-6:
        return [[first, *start[0].tolist()]]
    low, high = float(chosen.path.log_snr(first)), float(chosen.path.log_snr(last))
    times = chosen.path.time(torch.linspace(low, high, count, dtype=torch.float64))
    times[0], times[-1] = first, last
    steps = trajectory(chosen.denoiser, start, solver=Heun(), grid=times)
    rows = {step.t: step.x[0].tolist() for step in steps}
    return [[t, *rows[t]] for t in sorted(rows, reverse=first > last)]


def particles(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """Many particles that move: down the ODE or the reverse SDE, up the forward SDE, or by Langevin steps at one level."""
    chosen = model(studio, fields)
    name = fields.choice("dynamics", "ode", DYNAMICS)
    count, steps = fields.whole("count", 600, 1, 4000), fields.whole("steps", 60, 2, 250)
    eta, seed = fields.number("eta", 1.0, 0.0, 3.0), fields.whole("seed", 0, 0, 2**53)
    t = fields.number("t", 0.5, 0.0, 1.0)
    fields.end()
    if name == "forward" and chosen.exact is None:
        raise UsageError("dynamics: the forward SDE begins at data, which a run does not hold; choose an exact mixture")
    at = min(max(t, NEAR), FAR)
    return _moved(chosen, name, DYNAMICS[name](chosen, count, steps, eta, at, seed), count)


@torch.no_grad()
def _moved(chosen: PlaneModel, name: str, states: Iterator[tuple[float, Tensor]], count: int) -> Iterator[Event]:
    began = time.monotonic()
    yield {"type": "begin", "count": count, "dynamics": name}
    for number, (t, x) in enumerate(states):
        yield {
            "type": "frame",
            "number": number,
            "t": t,
            "width": width(chosen.path, t),
            "points": frames.text(x.detach().cpu().numpy().astype(np.float32)),
        }
    yield {"type": "end", "seconds": time.monotonic() - began}


States = Iterator[tuple[float, Tensor]]


def _begin(chosen: PlaneModel, count: int, t: float, seed: int) -> Tensor:
    like = chosen.like(count)
    return chosen.path.levels(t, like)[1] * PerSampleNoise(seed)(like, t, t)


def _by(solver: Any) -> Callable[[PlaneModel, int, int, float, float, int], States]:
    def states(chosen: PlaneModel, count: int, steps: int, eta: float, t: float, seed: int) -> States:
        made = solver(eta)
        times = grid.polynomial(chosen.path, steps)
        start = _begin(chosen, count, float(times[0]), seed)
        last = None
        for step in trajectory(chosen.denoiser, start, solver=made, grid=times, noise=PerSampleNoise(seed)):
            if step.t != last:  # of several calls at one time the first
                yield step.t, step.x
            last = step.t

    return states


def _forward(chosen: PlaneModel, count: int, steps: int, eta: float, t: float, seed: int) -> States:
    assert chosen.exact is not None
    data = chosen.exact.draw(count, generator=torch.Generator().manual_seed(seed))
    times = _falling(chosen.path, FAR, steps + 1).flip(0)
    alpha, sigma = chosen.path.levels(NEAR, data)
    noise = PerSampleNoise(seed)
    return sde.trajectory(
        sde.forward(chosen.path), alpha * data + sigma * repeat(noise, 1)(data, 0.0, 0.0), times, noise
    )


def _langevin(chosen: PlaneModel, count: int, steps: int, eta: float, t: float, seed: int) -> States:
    """Unadjusted Langevin steps in p_t, from wide noise: a step is a part of the noise's variance at that level."""
    like = chosen.like(count)
    sigma = float(chosen.path.levels(t, like)[1])
    size = 0.1 * max(sigma, 0.08) ** 2  # the stationary variance is too large by half of that part
    x = PerSampleNoise(seed)(like, t, t) * (width(chosen.path, t) / 2)
    ito = sde.langevin(lambda x: chosen.score(x, t))
    times = torch.arange(steps + 1, dtype=torch.float64) * size
    return ((t, state) for _, state in sde.trajectory(ito, x, times, PerSampleNoise(seed)))


DYNAMICS: dict[str, Callable[[PlaneModel, int, int, float, float, int], States]] = {
    "ode": _by(lambda eta: Heun()),
    "sde": _by(lambda eta: EulerMaruyama(eta)),
    "predictor-corrector": _by(lambda eta: PredictorCorrector(SOLVERS["ancestral"])),
    "langevin": _langevin,
    "forward": _forward,
}
