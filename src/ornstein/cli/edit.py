"""`ornstein edit`."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ornstein.cli.options import Edit
from ornstein.cli.parse import parse, within
from ornstein.cli.show import Meter
from ornstein.errors import UsageError

METHODS = ("repaint", "replacement")


def run(words: Sequence[str]) -> int:
    """Edit one image, or all items of a file, and write the versions."""
    options = parse(Edit, "edit", words)
    if (options.mask is None) == (options.strength is None):
        raise UsageError("give either --mask FILE, to paint anew what it marks, or --strength 0.5, to change all of it")
    if options.strength is not None and not 0 < options.strength <= 1:
        raise UsageError(f"--strength {options.strength:g} must lie above 0 (the image as it is) and up to 1")
    within(options, count=(1, math.inf), steps=(1, math.inf), seed=(0, math.inf))
    import torch

    from ornstein import solvers
    from ornstein.cli import image_io
    from ornstein.device import choose_device
    from ornstein.editing import RePaint, inpaint, sdedit
    from ornstein.names import pick
    from ornstein.noise import PerSampleNoise
    from ornstein.runs import load
    from ornstein.sampling import DEFAULT

    pick("method", options.method, dict.fromkeys(METHODS))
    trained = load(options.run, choose_device(options.device))
    spec, place = trained.spec, trained.model.device
    images, size = image_io.read(options.image, spec)
    visible = None if options.mask is None else image_io.visible_mask(options.mask, spec, size).to(place)
    solver: solvers.Solver = DEFAULT
    calls = options.steps
    if visible is not None and options.method == "repaint":
        solver = repaint = RePaint()
        calls = sum(there > here for here, there in pairwise(repaint.schedule(options.steps)))
    made = []
    guidance_flags = image_io.guided_denoiser(trained, options.label, options)
    sources, name = (options.image, options.mask), f"edit-{Path(options.image).stem}-seed-{options.seed}"
    with (
        image_io.results("edit", options, trained, name, sources, len(images) * options.count) as written,
        torch.inference_mode(),
    ):
        with Meter("editing", patience=1.0) as meter:
            batches = images.repeat_interleave(options.count, 0).split(image_io.MOST)
            denoiser = image_io.watched(guidance_flags, meter, calls * len(batches))
            for i, x in enumerate(batches):
                noise = PerSampleNoise(options.seed, i * image_io.MOST)
                x = x.to(place)
                if visible is None:
                    assert options.strength is not None
                    made.append(sdedit(denoiser, x, options.strength, solver=solver, steps=options.steps, noise=noise))
                else:
                    made.append(inpaint(denoiser, x, visible, solver=solver, steps=options.steps, noise=noise))
        results = torch.cat(made)
        written.write(spec.from_model(results))
        if written.row is not None:
            hidden = [] if visible is None else [torch.where(visible.cpu().bool(), images[:1], 0.0)]
            image_io.save_comparison([images[:1], *hidden, results[: min(options.count, 8)]], written.row, spec)
    image_io.report(f"{len(results):,} edited {spec.kind}{'s' if len(results) > 1 else ''}", written)
    return 0
