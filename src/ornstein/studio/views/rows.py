"""Table: samples of a run of vectors beside data, for histograms of each number and for pairs."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein.errors import OrnsteinError, UsageError
from ornstein.studio import commands, data, draws, frames
from ornstein.studio.fields import Fields
from ornstein.terminal import clean

if TYPE_CHECKING:
    from ornstein.studio.state import Studio

ROWS = 1000  # rows of the data
Event = dict[str, Any]


def prepare(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """Samples, and rows of an upload, of the data that the command line names, or of bundled training data."""
    draw = draws.draw(studio, client, fields, ROWS)
    name, solver, steps = draws.solver(draw, fields)
    own = fields.text("beside")
    fields.end()
    run = draw.run
    if run.spec.traits.drawn:
        raise UsageError(f"histograms are of runs of vectors, and this one makes {run.spec.traits.plural}")
    real, what, why = None, "", ""
    if own:
        real, what = _even(studio.uploads.get(client, draw.place.id, own).items), "upload"
    else:
        try:
            reference = data.learned(run, studio.data)
            real, what = _even(reference.dataset.items), "training data" if reference.trained else reference.name
        except OrnsteinError as error:
            why = clean(str(error))
    return _rows(draw, name, solver, steps, real, {"what": what, "why": why})


def _even(rows: Any) -> NDArray[Any]:
    count = min(ROWS, len(rows))
    return np.asarray(rows[np.arange(count) * len(rows) // count])


@torch.no_grad()
def _rows(
    draw: draws.SampleRequest, name: str, solver: Any, steps: int, real: Any, words: dict[str, str]
) -> Iterator[Event]:
    run, began = draw.run, time.monotonic()
    yield {
        "type": "begin",
        "count": draw.count,
        "dims": run.spec.item_shape[0] if run.spec.item_shape else 1,
        **words,
        "command": commands.command(
            "sample", [draw.place.quoted], {"--solver": name, "--steps": steps, **draw.flags(), "--out": "rows.npz"}
        ),
        "python": commands.python(draw.place, "sample", {**draw.arguments(), "solver": name, "steps": steps}),
    }
    made = run.sample(
        draw.count,
        label_index=draw.labels,
        condition=draw.condition,
        guide=draw.guide,
        seed=draw.seed,
        solver=solver,
        steps=steps,
    )
    yield {
        "type": "result",
        "samples": frames.text(made.reshape(len(made), -1).astype(np.float64)),
        "real": None if real is None else frames.text(real.reshape(len(real), -1).astype(np.float64)),
    }
    yield {"type": "end", "seconds": time.monotonic() - began}
