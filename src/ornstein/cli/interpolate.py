"""`ornstein interpolate`."""

import math
from collections.abc import Sequence
from pathlib import Path

from ornstein.cli.options import Interpolate
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.errors import UsageError
from ornstein.meter import Meter


def run(words: Sequence[str]) -> int:
    """Write the frames from one item to another."""
    options = parse(Interpolate, "interpolate", words)
    within(options, frames=(2, math.inf), steps=(1, math.inf))
    import torch

    from ornstein.cli import image_io
    from ornstein.device import choose_device
    from ornstein.editing import interpolate
    from ornstein.runs import load
    from ornstein.runs.editing import for_all

    trained = load(options.run, choose_device(options.device))
    spec, place = trained.spec, trained.model.device
    name = f"interpolate-{Path(options.first).stem}-{Path(options.last).stem}"
    first, last = (image_io.read(file, spec)[0] for file in (options.first, options.last))
    for file, items in ((options.first, first), (options.last, last)):
        if len(items) != 1:
            raise UsageError(f"{file} holds {len(items)} items; give a file with the one to begin or to end with")
    guide = image_io.guide_of(options, trained)
    sources = (options.first, options.last)
    with image_io.results("interpolate", options, trained, name, sources, options.frames, comparison=False) as written:
        with Meter("interpolating", patience=1.0) as meter, torch.inference_mode():
            denoiser, report = (
                for_all(trained, options.label, None, guide, options.label_index),
                image_io.steps_on(meter),
            )
            ends = first.to(place), last.to(place)
            made = interpolate(denoiser, *ends, options.frames, steps=options.steps, progress=report)
        written.write(spec.from_model(made), columns=options.frames)
    gap = torch.cat([first, last]) - made[[0, -1]].cpu()
    say(
        f"Round trip of the ends: {float(gap.square().mean().sqrt()) / spec.contrast:.3f} of the range (more --steps bring "
        "them closer)."
    )
    image_io.report(f"{options.frames} frames", written)
    return 0
