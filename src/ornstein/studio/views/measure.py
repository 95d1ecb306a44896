"""Measure: curves of the training, errors by noise level, nearest training items, the likelihood of an item."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.files.reading import read_lines
from ornstein.guidance.config import PLAIN
from ornstein.likelihood import ODE, FixedSteps
from ornstein.likelihood.methods import Measured, Units
from ornstein.metrics.diagnostics import diagnose, times
from ornstein.noise import NoiseSource
from ornstein.runs.conditioning import ConditionBatch
from ornstein.runs.editing import conditioned
from ornstein.studio import commands, data, draws, frames
from ornstein.studio.commands import Code
from ornstein.studio.fields import Fields
from ornstein.studio.jobs import stepping
from ornstein.terminal import clean

if TYPE_CHECKING:
    from ornstein.studio.shelf import Place
    from ornstein.studio.state import Studio

POINTS = 1500  # of a curve
KEYS = ("loss", "held_out", "rate", "gradient")
BATCH = 4096  # of training items that are read at once
MOST = 12  # items of an upload that are compared
LIVE = 30.0  # seconds within which a training has written
Event = dict[str, Any]


def curves(place: "Place", after: float = -1.0) -> Event:
    """The metrics of a training from a step on; a curve of many points is thinned evenly."""
    file = place.folder / "metrics.jsonl"
    lines = [line for line in read_lines(file, ("step",), place.folder) if line["step"] > after]
    lines = lines[:: len(lines) // POINTS + 1] + (lines[-1:] if len(lines) > POINTS else [])
    try:
        age = time.time() - file.stat().st_mtime
    except OSError:
        age = math.inf
    made: Event = {"type": "curves", "live": age < LIVE, "step": [line["step"] for line in lines]}
    for key in KEYS:
        made[key] = [_number(line.get(key)) for line in lines]
    made["seconds"] = [_number(line.get("seconds")) for line in lines]
    return {**made, **_repeated(place)}


def _repeated(place: "Place") -> dict[str, str]:
    """How to see the curves without the studio."""
    metrics = clean(str(place.folder / "metrics.jsonl"))
    return {
        "command": commands.command("report", [place.quoted], {}),
        "python": f"import json, pathlib\nlines = [json.loads(line) for line in pathlib.Path({metrics!r}).open()]",
    }


def _number(value: Any) -> float | None:
    good = type(value) in (int, float) and math.isfinite(value)
    return float(value) if good else None


def levels(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """Errors and calibration by noise level: on an upload, without conditions; on the data that the command line names; or on
    bundled training data, of which held-out items where there are some."""
    place = studio.shelf.place(fields.text("run", next(iter(studio.shelf.places), "")))
    count, number = fields.whole("count", 200, 100, 1000), fields.whole("levels", 10, 3, 20)
    own = fields.text("beside")
    fields.end()
    run = place.run()
    known, condition = run.model.conditions, None
    if own:
        items = studio.uploads.get(client, place.id, own).items
        items = items[np.random.default_rng(0).permutation(len(items))[:count]]
        x, source = run.spec.to_model(run.spec.within(items)), "upload.npy"
    else:
        reference = data.held_out(run, studio.data)
        dataset, source = reference.dataset, reference.source
        indices = np.sort(np.random.default_rng(0).permutation(len(dataset))[:count])
        x = dataset.batch(indices)[0]
        if known:
            condition = ConditionBatch(known.of_items(known.fitted(dataset, run.folder), indices))
    x = x.to(run.model.device, run.model.dtype)
    denoiser = conditioned(run, len(x), None, condition, PLAIN, len(x))[0][0]
    measured = diagnose(denoiser, x, times(run.model.path, number), batch_size=len(x))
    return _levelled(place, measured, len(x), source)


def _levelled(place: "Place", measured: Iterator[Any], count: int, source: str) -> Iterator[Event]:
    yield {
        "type": "begin",
        "items": count,
        "source": Path(source).name,
        "command": commands.command("diagnose", [place.quoted], {"--data": source, "-n": count}),
        "python": commands.loading(place, "from ornstein.metrics.diagnostics import diagnose")
        + "\nlevels = list(diagnose(run.denoiser.given(labels), x))",
    }
    for level in measured:
        yield {
            "type": "level",
            "t": level.t,
            "log_snr": level.log_snr,
            **{
                name: [getattr(level, name).value, getattr(level, name).low, getattr(level, name).high]
                for name in ("clean", "noise", "foretold", "calibration")
            },
            "continuity": level.continuity,
        }
    yield {"type": "end"}


def nearest(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """The training items that are nearest to samples, or to an upload, with their distances."""
    draw = draws.draw(studio, client, fields, 6, guided=False)
    k, own = fields.whole("neighbours", 4, 1, 8), fields.text("of")
    fields.end()
    some = studio.uploads.get(client, draw.place.id, own).items[:MOST] if own else None
    return _near(draw, some, data.learned(draw.run, studio.data), k)


@torch.no_grad()
def _near(draw: draws.SampleRequest, own: Any, reference: data.StudioData, k: int) -> Iterator[Event]:
    from ornstein.metrics.distances import nearest as nearest_of

    run, spec, dataset = draw.run, draw.run.spec, reference.dataset
    load, line = commands.python(draw.place, "sample", draw.arguments()).split("\n")
    yield {
        "type": "begin",
        "layout": frames.layout(spec),
        "labels": [] if own is not None else draw.names,
        "own": own is not None,
        "what": "training items" if reference.trained else f"items of {reference.name}",
        "command": commands.command(
            "evaluate", [draw.place.quoted], {"--metrics": "memorisation", "--data": reference.source}
        ),
        "python": f"{load}; from ornstein.metrics.distances import nearest\n"
        + ("" if own is not None else f"{line}; ")
        + f"near = nearest(run.spec.to_model({'items' if own is not None else 'result'}).flatten(1), x.flatten(1), k={k})",
    }
    made = own
    if made is None:
        made = run.sample(draw.count, label_index=draw.labels, condition=draw.condition, seed=draw.seed)
    x = spec.to_model(made).flatten(1)
    parts = (np.arange(i, min(i + BATCH, len(dataset))) for i in range(0, len(dataset), BATCH))
    items = torch.cat([dataset.batch(part)[0].flatten(1) for part in parts])
    neighbours = nearest_of(x, items, k=min(k, len(items)))
    for i in range(len(made)):
        places = neighbours.place[i].numpy()
        rows = np.asarray(dataset.items[np.sort(places)])[np.argsort(np.argsort(places))]
        yield {
            "type": "row",
            "sample": frames.own_items(spec, made[i : i + 1]),
            "items": frames.own_items(spec, rows),
            "count": len(places),
            "distance": (neighbours.distance[i] / math.sqrt(x.shape[1])).tolist(),
        }
    yield {"type": "end"}


class RecordedODE:
    """A method of likelihood that remembers its measurement, with the errors of its steps and probes."""

    def __init__(self, steps: int) -> None:
        self.inner = ODE(solver=FixedSteps(steps))
        self.measured: Measured | None = None

    def __call__(
        self, denoiser: Denoiser, x: Tensor, units: Units, noise: NoiseSource, check: bool = False
    ) -> Measured:
        self.measured = self.inner(denoiser, x, units, noise, True)
        return self.measured


def likelihood(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """log p of an item along the ODE, with the parts of its error."""
    place = studio.shelf.place(fields.text("run", next(iter(studio.shelf.places), "")))
    run = place.run()
    own = studio.uploads.get(client, place.id, fields.text("upload")).own
    classes = len(run.spec.classes) if run.model.conditions.label is not None else 0
    label = fields.whole("label", -1, -1, classes - 1)
    steps = fields.whole("steps", 48, 12, 200)
    fields.end()
    return _likely(place, run, own, None if label < 0 else label, steps)


def _likely(place: "Place", run: Any, own: Any, label: int | None, steps: int) -> Iterator[Event]:
    spec = run.spec
    yield {
        "type": "begin",
        "command": commands.command("likelihood", [place.quoted], {"--data": "item.npy", "-n": 1, "--steps": steps}),
        "python": commands.python(place, "log_prob", {"0": Code("item"), "label_index": label, "steps": steps}),
    }
    method = RecordedODE(steps)
    work = stepping(lambda progress: run.log_prob(own, label_index=label, method=method, progress=progress))
    while True:
        try:
            next(work)
        except StopIteration as end:
            value = float(end.value[0])
            break
    measured = method.measured
    assert measured is not None
    unit, factor = (
        ("bits/dim", 1 / (math.prod(spec.shape) * math.log(2))) if spec.traits.per_dimension else ("nats", 1.0)
    )
    solver = None if measured.solver is None else abs(float(measured.solver[0])) * factor
    probe = _number(float(measured.probe[0]) * factor)
    yield {
        "type": "result",
        "nats": value,
        "value": -value * factor,
        "unit": unit,
        "probe": probe,
        "solver": solver,
        "whole": spec.is_whole,
    }
    yield {"type": "end"}
