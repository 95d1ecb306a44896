"""`ornstein edit`."""

import math
from collections.abc import Sequence
from pathlib import Path

from ornstein.cli.options import Edit
from ornstein.cli.parse import parse, within
from ornstein.errors import UsageError
from ornstein.meter import Meter

METHODS = ("repaint", "replacement")


def run(words: Sequence[str]) -> int:
    """Edit one image, or all items of a file, and write the versions."""
    options = parse(Edit, "edit", words)
    if (options.mask is None) == (options.strength is None):
        raise UsageError(
            "give either --mask FILE, to repaint what it marks, or --strength 0.5, to change the whole image"
        )
    if options.strength is not None and not 0 < options.strength <= 1:
        raise UsageError(f"--strength {options.strength:g} must lie above 0 (the image as it is) and up to 1")
    within(options, count=(1, math.inf), steps=(1, math.inf), seed=(0, math.inf))
    import torch

    from ornstein.cli import image_io
    from ornstein.device import choose_device
    from ornstein.names import pick
    from ornstein.runs import load
    from ornstein.runs.editing import conditioned, edited
    from ornstein.sampling import DEFAULT

    pick("method", options.method, dict.fromkeys(METHODS))
    trained = load(options.run, choose_device(options.device))
    spec, place = trained.spec, trained.model.device
    images, size = image_io.read(options.image, spec)
    visible = None if options.mask is None else image_io.visible_mask(options.mask, spec, size).to(place)
    change = visible if options.strength is None else options.strength
    assert change is not None
    guide = image_io.guide_of(options, trained)
    sources, name = (options.image, options.mask), f"edit-{Path(options.image).stem}-seed-{options.seed}"
    with image_io.results("edit", options, trained, name, sources, len(images) * options.count) as written:
        with Meter("editing", patience=1.0) as meter, torch.inference_mode():
            x = images.repeat_interleave(options.count, 0).to(place)
            parts = conditioned(trained, len(x), options.label, None, guide, label_index=options.label_index)
            solver = None if options.method == "repaint" else DEFAULT
            results = edited(x, change, parts, solver, options.steps, options.seed, image_io.steps_on(meter)).cpu()
        written.write(spec.from_model(results))
        if written.row is not None:
            hidden = [] if visible is None else [torch.where(visible.cpu().bool(), images[:1], 0.0)]
            image_io.save_comparison([images[:1], *hidden, results[: min(options.count, 8)]], written.row, spec)
    image_io.report(f"{len(results):,} edited {spec.traits.plural if len(results) > 1 else spec.kind}", written)
    return 0
