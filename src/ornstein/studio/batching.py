"""Samples for other programs, batched across requests: what waits while a batch is made becomes the next batch.

Requests of one run, solver, number of steps and guidance share batches, whatever their seeds and classes. Row i of a request
depends on its seed and i alone, so an answer is the same alone and among others (up to rounding in the network).
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein import conditions
from ornstein.arguments import as_times
from ornstein.errors import OrnsteinError, UsageError
from ornstein.noise import Moment, PerSampleNoise
from ornstein.sampling import begin
from ornstein.solvers import AIMED
from ornstein.studio import draws
from ornstein.studio.fields import Fields
from ornstein.studio.jobs import Busy, sentence

if TYPE_CHECKING:
    from ornstein.solvers import Solver
    from ornstein.studio.state import Studio

WAITING = 256  # requests
ROWS = 128  # of a batch, unless the model's own batch is smaller
WORKER = "batches"


@dataclass(frozen=True, eq=False)
class JoinedNoise:
    """The noise of several requests, one after the other: each draws its own rows."""

    parts: tuple[tuple[int, PerSampleNoise], ...]

    def __call__(self, x: Tensor, t: Moment, s: Moment) -> Tensor:
        drawn, first = [], 0
        for count, source in self.parts:
            rows = slice(first, first + count)
            drawn.append(source(x[rows], _of(t, rows), _of(s, rows)))
            first += count
        return torch.cat(drawn)

    def repeat(self, k: int) -> "JoinedNoise":
        """Further draws: see `ornstein.noise.repeat`."""
        return JoinedNoise(tuple((count, source.repeat(k)) for count, source in self.parts))


def _of(moment: Moment, rows: slice) -> Moment:
    return moment[rows] if isinstance(moment, Tensor) and moment.ndim else moment


@dataclass(frozen=True, eq=False)
class BatchRequest:
    """A request that waits for its samples."""

    draw: draws.SampleRequest
    name: str
    solver: "Solver"
    steps: int
    result: "asyncio.Future[NDArray[Any]]"

    @property
    def group(self) -> tuple[Any, ...]:
        """What requests of one batch have in common."""
        return self.draw.run.weights_hash, self.draw.place.id, self.name, self.steps, str(self.draw.guide)


class Batcher:
    """Collects requests and makes their samples, one batch at a time, as jobs of the queue."""

    def __init__(self, studio: "Studio") -> None:
        self._studio = studio
        self._waiting: list[BatchRequest] = []
        self._working = False
        self.batches: list[int] = []
        """The requests of each of the newest batches."""

    async def sample(self, client: str, fields: Fields) -> tuple[draws.SampleRequest, NDArray[Any]]:
        """The samples of one request, in the data's own units. Raises UsageError, OrnsteinError, Busy."""
        if len(self._waiting) >= WAITING:
            raise Busy(f"{WAITING} requests wait already; try again in a moment.")
        draw, name, solver, steps = await asyncio.to_thread(self._read, client, fields)
        wanted = BatchRequest(draw, name, solver, steps, asyncio.get_running_loop().create_future())
        self._waiting.append(wanted)
        if not self._working:
            self._working = True
            asyncio.get_running_loop().create_task(self._work())
        return draw, await wanted.result

    def _read(self, client: str, fields: Fields) -> "tuple[draws.SampleRequest, str, Solver, int]":
        draw = draws.draw(self._studio, client, fields, 1)
        name, solver, steps = draws.solver(draw, fields)
        fields.end()
        if solver in AIMED and not draw.guide.plain:
            raise UsageError("scale: jumps of a few-step run are not guided; choose another solver")
        return draw, name, solver, steps

    async def _work(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # what has arrived at the same time is read first
                batch = self._next()
                try:
                    made = await self._made(batch)
                except Exception as error:
                    for wanted in batch:
                        if not wanted.result.done():
                            wanted.result.set_exception(error)
                    continue
                for wanted, rows in zip(batch, made, strict=True):
                    if not wanted.result.done():
                        wanted.result.set_result(rows)
        finally:
            self._working = False

    def _next(self) -> list[BatchRequest]:
        """The first that waits, and those that can share its batch."""
        self._waiting = [wanted for wanted in self._waiting if not wanted.result.cancelled()]
        batch: list[BatchRequest] = []
        most = min(ROWS, self._waiting[0].draw.run.model.batch_size) if self._waiting else 0
        rows = 0
        for wanted in self._waiting:
            if wanted.group == self._waiting[0].group and (not batch or rows + wanted.draw.count <= most):
                batch.append(wanted)
                rows += wanted.draw.count
        self._waiting = [wanted for wanted in self._waiting if wanted not in batch]
        return batch

    async def _made(self, batch: Sequence[BatchRequest]) -> list[NDArray[Any]]:
        if not batch:
            return []
        self.batches = [*self.batches[-99:], len(batch)]
        results: list[NDArray[Any]] = []
        job = self._studio.jobs.start(WORKER, _steps(batch, results), "samples")
        async for _, event in job.follow():
            if event.startswith(b'{"type":"error"'):
                raise OrnsteinError(json.loads(event)["message"])
        self._studio.jobs.forget(job)
        if not results:
            raise OrnsteinError("the server is ending")
        return results


@torch.no_grad()
def _steps(batch: Sequence[BatchRequest], results: list[NDArray[Any]]) -> Iterator[dict[str, Any]]:
    """A batch, step by step, so that other jobs go on."""
    first = batch[0]
    run, model = first.draw.run, first.draw.run.model
    counts = [wanted.draw.count for wanted in batch]
    noise = JoinedNoise(tuple((wanted.draw.count, wanted.draw.noise) for wanted in batch))
    times = as_times(model.path, first.solver, first.steps, None)
    rows = [wanted.draw.rows() for wanted in batch]
    inputs = None
    if rows[0] is not None:
        joined = tuple(torch.cat(parts) for parts in zip(*[row for row in rows if row is not None], strict=True))
        inputs = conditions.to(model.conditions.network_input(joined), model.device, model.dtype)
    denoiser = first.draw.guide(run.denoiser, inputs)
    like = torch.zeros(sum(counts), *run.spec.shape, device=model.device, dtype=model.dtype)
    x = begin(model.path, like, float(times[0]), noise)
    for i, step in enumerate(first.solver.run(denoiser, x, times, noise)):
        x = step.x
        yield {"type": "step", "number": i}
    try:
        made = run.spec.from_model(x)
    except OrnsteinError as error:
        yield {"type": "error", "message": sentence(error)}
        return
    results.extend(np.split(made, np.cumsum(counts)[:-1]))
