"""Edit: inpaint what a brush marks, vary, interpolate, and restore from blur or coarse pixels, on samples or uploads."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein.arguments import Report
from ornstein.errors import UsageError
from ornstein.guidance.config import GuidanceConfig
from ornstein.names import POSTERIORS
from ornstein.runs.items import model_units
from ornstein.studio import commands, draws, frames
from ornstein.studio.commands import Code
from ornstein.studio.fields import Fields
from ornstein.studio.jobs import reported

if TYPE_CHECKING:
    from ornstein.runs import Run
    from ornstein.studio.shelf import Place
    from ornstein.studio.state import Studio

Event = dict[str, Any]
Result = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Source:
    """What is edited, and how much of it is wanted."""

    studio: "Studio"
    client: str
    place: "Place"
    run: "Run"
    item: Result
    count: int
    seed: int
    steps: int
    label: int | None
    guide: GuidanceConfig
    words: dict[str, Any]

    def common(self) -> dict[str, Any]:
        """Arguments of every edit of a run."""
        return {"label_index": self.label, "guide": self.guide, "steps": self.steps}

    def flags(self) -> dict[str, Any]:
        """The same as flags of a command."""
        label = None if self.label is None else self.run.spec.classes[self.label]
        return {"--label": label, "--steps": self.steps, **self.words}


@dataclass(frozen=True, eq=False)
class Work:
    """One edit: what makes it, the images that it begins with, and how to repeat it."""

    function: Callable[[Report], Result]
    inputs: list[tuple[str, Result]]
    command: str
    python: str


def items(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """Samples that can be edited: each becomes an upload of its own."""
    draw = draws.draw(studio, client, fields, 10, guided=False)
    fields.end()
    return _sampled(studio, client, draw)


@torch.no_grad()
def _sampled(studio: "Studio", client: str, draw: draws.SampleRequest) -> Iterator[Event]:
    run = draw.run
    count = min(draw.count, 12)
    yield {
        "type": "begin",
        "layout": frames.layout(run.spec),
        "command": commands.command("sample", [draw.place.quoted], draw.flags()),
        "python": commands.python(draw.place, "sample", draw.arguments()),
    }
    made = run.sample(draw.count, label_index=draw.labels, condition=draw.condition, seed=draw.seed)[:count]
    ids = [studio.uploads.add(client, draw.place.id, item[None]).id for item in made]
    yield {"type": "items", "uploads": ids, "count": count, "items": frames.own_items(run.spec, made)}
    yield {"type": "end"}


def prepare(studio: "Studio", client: str, fields: Fields) -> Iterator[Event]:
    """An edit, with its progress."""
    place = studio.shelf.place(fields.text("run", next(iter(studio.shelf.places), "")))
    run = place.run()
    task = fields.choice("task", "inpaint", TASKS)
    item = studio.uploads.get(client, place.id, fields.text("upload")).own
    classes = len(run.spec.classes) if run.model.conditions.label is not None else 0
    label = fields.whole("label", -1, -1, classes - 1)
    guide, words = draws.guidance(run, fields)
    if label < 0 and not guide.plain:
        raise UsageError("scale: guidance needs a class to guide towards; choose one")
    count, seed = fields.whole("count", 4, 1, 16), fields.whole("seed", 0, 0, 2**53)
    steps = fields.whole("steps", 20, 1, 100)
    source = Source(studio, client, place, run, item, count, seed, steps, None if label < 0 else label, guide, words)
    work = TASKS[task](source, fields)
    fields.end()
    return _edited(run, work, task)


def _edited(run: "Run", work: Work, task: str) -> Iterator[Event]:
    began, spec = time.monotonic(), run.spec
    yield {
        "type": "begin",
        "task": task,
        "layout": frames.layout(spec),
        "inputs": [{"name": name, "item": frames.own_items(spec, own[None])} for name, own in work.inputs],
        "command": work.command,
        "python": work.python,
    }
    made: Result = yield from reported(work.function)
    yield {"type": "result", "count": len(made), "items": frames.own_items(spec, made)}
    yield {"type": "end", "seconds": time.monotonic() - began}


def _inpaint(source: Source, fields: Fields) -> Work:
    run, spec = source.run, source.run.spec
    if not spec.traits.pixels:
        raise UsageError(f"a brush needs images, and this run makes {spec.traits.plural}")
    _, height, width = spec.shape
    mask = fields.bits("mask", height * width).reshape(height, width)
    if not mask.any() or mask.all():
        raise UsageError("mask: paint a part of the image, and not all of it")
    method = fields.choice("inpainting", "repaint", ("repaint", "replacement"))
    solver = None if method == "repaint" else run.model.solver
    more = {"mask": mask, "count": source.count, "seed": source.seed, "solver": solver, **source.common()}
    seen = source.item.copy()
    seen[mask] = round(spec.low + 0.5 * (spec.high - spec.low)) if spec.is_whole else 0.5 * (spec.low + spec.high)
    flags = {"--mask": "mask.png", "--method": None if method == "repaint" else method}
    return Work(
        lambda progress: run.edit(source.item, progress=progress, **more),
        [("image", source.item), ("what is left of it", seen)],
        _command(source, "edit", ["image.png"], {**flags, "-n": source.count, "--seed": source.seed}),
        _python(
            source,
            "edit",
            {"0": Code("image"), "mask": Code("mask"), "count": source.count, "seed": source.seed, "solver": solver},
        ),
    )


def _vary(source: Source, fields: Fields) -> Work:
    run, strength = source.run, fields.number("strength", 0.5, 0.02, 1.0)
    more: dict[str, Any] = {"strength": strength, "count": source.count, "seed": source.seed}
    return Work(
        lambda progress: run.edit(source.item, progress=progress, **more, **source.common()),
        [("image", source.item)],
        _command(source, "edit", ["image.png"], {"--strength": strength, "-n": source.count, "--seed": source.seed}),
        _python(source, "edit", {"0": Code("image"), **more}),
    )


def _interpolate(source: Source, fields: Fields) -> Work:
    run = source.run
    other = source.studio.uploads.get(source.client, source.place.id, fields.text("other")).own
    shots = fields.whole("frames", 8, 2, 24)
    return Work(
        lambda progress: run.interpolate(source.item, other, shots, progress=progress, **source.common()),
        [("first", source.item), ("last", other)],
        _command(source, "interpolate", ["first.png", "last.png"], {"--frames": shots}),
        _python(source, "interpolate", {"0": Code("first"), "1": Code("last"), "2": shots}),
    )


def _restore(name: str, operator: Any, flags: dict[str, Any], code: str, source: Source, fields: Fields) -> Work:
    """From what an operator leaves of the image, with noise of a part of its range."""
    run, spec = source.run, source.run.spec
    if not spec.traits.pixels:
        raise UsageError(f"{name} is for images, and this run makes {spec.traits.plural}")
    part = fields.number("noise", 0.02, 0.001, 0.5)
    method = fields.choice("posterior", "mmps", POSTERIORS)
    noise = part * (spec.high - spec.low)
    with torch.no_grad():
        y = operator(model_units(run, source.item))
        drawn = torch.randn(y.shape, generator=torch.Generator().manual_seed(source.seed), dtype=torch.float32)
        y = y + 2 * part * drawn.to(y)
    own = spec.of_shape(tuple(y.shape[1:]), spec.layout)
    measured = own.from_model(y)[0]
    seen = np.asarray(measured)
    if seen.shape != source.item.shape:  # coarse pixels, as large as the image
        factor = source.item.shape[0] // seen.shape[0]
        seen = seen.repeat(factor, axis=0).repeat(factor, axis=1)
    more: dict[str, Any] = {"count": source.count, "method": method, "seed": source.seed}
    return Work(
        lambda progress: run.restore(measured, operator, noise, progress=progress, **more, **source.common()),
        [("image", source.item), (name, seen)],
        _command(
            source,
            "restore",
            ["measured.png"],
            {**flags, "--noise": part, "--method": method, "-n": source.count, "--seed": source.seed},
        ),
        _python(
            source,
            "restore",
            {"0": Code("measured"), "1": Code(f"ornstein.editing.operators.{code}"), "2": round(noise, 6), **more},
        ),
    )


def _blur(source: Source, fields: Fields) -> Work:
    from ornstein.editing.operators import Blur

    width = fields.number("width", 1.0, 0.2, 8.0)
    return _restore(
        "blurred", Blur(width), {"--operator": "blur", "--width": width}, f"Blur({width:g})", source, fields
    )


def _coarse(source: Source, fields: Fields) -> Work:
    from ornstein.editing.operators import Downsample

    factor = fields.whole("factor", 2, 2, 16)
    if any(side % factor for side in source.run.spec.shape[1:]):
        raise UsageError(f"factor: {factor} does not divide the sides {source.run.spec.shape[1:]} of the images")
    flags = {"--operator": "downsample", "--factor": factor}
    return _restore("coarse pixels", Downsample(factor), flags, f"Downsample({factor})", source, fields)


TASKS: dict[str, Callable[[Source, Fields], Work]] = {
    "inpaint": _inpaint,
    "vary": _vary,
    "interpolate": _interpolate,
    "blur": _blur,
    "coarse": _coarse,
}


def _command(source: Source, name: str, images: list[str], flags: dict[str, Any]) -> str:
    return commands.command(name, [source.place.quoted, *images], {**flags, **source.flags()})


def _python(source: Source, name: str, arguments: dict[str, Any]) -> str:
    guide = None if source.guide.plain else Code(draws.guide_code(source.guide))
    return commands.python(
        source.place, name, {**arguments, "label_index": source.label, "guide": guide, "steps": source.steps}
    )
