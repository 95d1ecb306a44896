"""Table: samples of a run of vectors beside the data, for histograms of each number and for pairs."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ornstein.errors import OrnsteinError, UsageError
from ornstein.studio import commands, data, draws, frames
from ornstein.studio.fields import Fields
from ornstein.terminal import clean

if TYPE_CHECKING:
    from ornstein.studio.state import Studio

ROWS = 1000  # rows of the data
Event = dict[str, Any]


def prepare(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """Samples, and as many rows of the training data where these come with the library."""
    draw = draws.draw(studio, client, fields, ROWS)
    name, solver, steps = draws.solver(draw.run, fields)
    fields.end()
    if draw.run.spec.traits.drawn:
        raise UsageError(f"histograms are of runs of vectors, and this one makes {draw.run.spec.traits.plural}")
    return _rows(draw, name, solver, steps)


@torch.no_grad()
def _rows(draw: draws.SampleRequest, name: str, solver: Any, steps: int) -> Iterator[Event]:
    run, began = draw.run, time.monotonic()
    try:
        dataset = data.learned(run)
        real = np.asarray(dataset.items[np.arange(min(ROWS, len(dataset))) * len(dataset) // min(ROWS, len(dataset))])
        why = ""
    except OrnsteinError as error:
        real, why = None, clean(str(error))
    yield {
        "type": "begin",
        "count": draw.count,
        "dims": run.spec.item_shape[0] if run.spec.item_shape else 1,
        "why": why,
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
