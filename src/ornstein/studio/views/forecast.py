"""Forecast: the rest of a series given its beginning, as quantiles of draws beside what came."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.arguments import Report
from ornstein.data.layout import from_model_order, to_model_order
from ornstein.errors import UsageError
from ornstein.studio import commands, data, frames
from ornstein.studio.commands import Code
from ornstein.studio.draws import NUMBERS
from ornstein.studio.fields import Fields
from ornstein.studio.jobs import reported
from ornstein.studio.shelf import pasts

if TYPE_CHECKING:
    from ornstein.runs import Run
    from ornstein.studio.shelf import Place
    from ornstein.studio.state import Studio

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PATHS = 5  # draws that are shown whole
LARGEST = 1 << 17  # numbers of a series
Event = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Request:
    """A series in the data's own units, of which the first `past` places are given, and how it is foretold."""

    place: "Place"
    run: "Run"
    own: NDArray[Any]
    what: str
    past: int
    draws: int
    seed: int
    steps: int
    label: int | None

    @property
    def order(self) -> NDArray[Any]:
        """The series as (C, L)."""
        series: NDArray[Any] = np.asarray(to_model_order(self.own[None], self.run.spec.layout))[0]
        return series

    def holes(self) -> NDArray[np.float64]:
        """The series with NaN for all that is foretold."""
        series = self.order.astype(np.float64)
        series[:, self.past :] = np.nan
        known: NDArray[np.float64] = np.asarray(from_model_order(series[None], self.run.spec.layout))[0]
        return known

    def sample(self, progress: Report) -> NDArray[Any]:
        """The draws, by the run's own sampling."""
        return self.run.sample(
            self.draws,
            known=self.holes(),
            label_index=self.label,
            seed=self.seed,
            steps=self.steps,
            progress=progress,
        )


def prepare(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """A forecast of an upload, or of an item of the data beside the run, held out where some are."""
    place = studio.shelf.place(fields.text("run", next(iter(studio.shelf.places), "")))
    run = place.run()
    ends = pasts(run)
    if not ends:
        raise UsageError(f"{place.name} does not forecast; train on series with --given past:N or gaps")
    size = int(np.prod(run.spec.shape))
    if size > LARGEST:
        raise UsageError(f"{place.name}: series of {size:,} numbers are too long to be shown here")
    most = max(2, min(400, NUMBERS // size))
    past = fields.whole("past", min(max(ends[0], run.spec.shape[1] * 3 // 4), ends[1]), *ends)
    count, seed = fields.whole("draws", min(60, most), 2, most), fields.whole("seed", 0, 0, 2**53)
    steps = fields.whole("steps", run.model.steps, 1, 250)
    classes = len(run.spec.classes) if run.model.conditions.label is not None else 0
    label = fields.whole("label", -1, -1, classes - 1)
    number, upload = fields.whole("item", 0, 0, 2**53), fields.text("upload")
    fields.end()
    if upload:
        items, what = studio.uploads.get(client, place.id, upload).items, "upload"
    else:
        source = data.held_out(run, studio.data)
        items, what = source.dataset.items, source.name
    number %= len(items)
    own = np.asarray(items[np.array([number])])[0]
    if own.dtype.kind == "f" and not np.isfinite(own).all():
        raise UsageError(f"item {number} of {what} has missing numbers; choose another")
    request = Request(
        place, run, own, f"item {number} of {what}", past, count, seed, steps, None if label < 0 else label
    )
    return _foretold(request)


def _foretold(ask: Request) -> Iterator[Event]:
    began, truth = time.monotonic(), ask.order.astype(np.float64)
    arguments = {"0": ask.draws, "known": Code("known"), "label_index": ask.label, "seed": ask.seed, "steps": ask.steps}
    label = None if ask.label is None else ask.run.spec.classes[ask.label]
    flags = {"-n": ask.draws, "--known": "known.npy", "--label": label, "--seed": ask.seed, "--steps": ask.steps}
    yield {
        "type": "begin",
        "what": ask.what,
        "past": ask.past,
        "channels": truth.shape[0],
        "length": truth.shape[1],
        "truth": frames.text(truth),
        "command": commands.command("sample", [ask.place.quoted], {**flags, "--out": "forecast.npz"}),
        "python": commands.python(ask.place, "sample", arguments),
    }
    made: NDArray[Any] = yield from reported(ask.sample)
    draws = np.asarray(to_model_order(made, ask.run.spec.layout)).astype(np.float64)
    bands = np.quantile(draws, QUANTILES, axis=0)
    later = np.s_[:, ask.past :]
    low, middle, high = (bands[i][later] for i in (0, 2, 4))
    yield {
        "type": "result",
        "quantiles": list(QUANTILES),
        "bands": frames.text(bands),
        "paths": frames.text(draws[:PATHS]),
        "drawn": min(PATHS, len(draws)),
        "within": float(((truth[later] >= low) & (truth[later] <= high)).mean()),
        "error": float(np.abs(truth[later] - middle).mean()),
    }
    yield {"type": "end", "seconds": time.monotonic() - began}
