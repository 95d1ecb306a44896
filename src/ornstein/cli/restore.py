"""`ornstein restore`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ornstein.cli.options import Restore
from ornstein.cli.parse import parse, within
from ornstein.errors import UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    from ornstein.editing.measurement import Operator

OPERATORS = ("blur", "downsample", "mask")


def run(words: Sequence[str]) -> int:
    """Draw from the posterior given a degraded image, and write the draws."""
    options = parse(Restore, "restore", words)
    within(options, count=(1, math.inf), steps=(1, math.inf), seed=(0, math.inf))
    for key, positive in (("noise", options.noise), ("width", options.width), ("zeta", options.zeta)):
        if not 0 < positive < math.inf:
            raise UsageError(f"--{key} {positive:g} must be positive")
    if options.factor < 1:
        raise UsageError(f"--factor {options.factor} is too small; give 1 or more")
    if (options.operator == "mask") != (options.mask is not None):
        raise UsageError("--operator mask and --mask FILE (white where the image is hidden) go together")
    import torch

    from ornstein.cli import image_io
    from ornstein.device import choose_device
    from ornstein.editing import operators
    from ornstein.names import POSTERIORS, pick
    from ornstein.runs import load
    from ornstein.runs.editing import for_all, restored, weighed

    pick("operator", options.operator, dict.fromkeys(OPERATORS))
    pick("method", options.method, dict.fromkeys(POSTERIORS))
    trained = load(options.run, choose_device(options.device))
    method = POSTERIORS.pick(options.method, trained.spec.data_std, options.zeta)
    spec, place = trained.spec, trained.model.device
    if not spec.traits.spatial and options.mask is None:
        raise UsageError(f"{options.run} makes {spec.traits.plural}, which can be masked alone; give --operator mask")
    sides = spec.shape[1:]
    operator: Operator = operators.Blur(options.width)
    if options.operator == "downsample":
        if any(side % options.factor for side in sides):
            size = "x".join(map(str, sides[::-1]))
            raise UsageError(f"--factor {options.factor} does not divide the run's {size}; give one that does")
        sides = tuple(side // options.factor for side in sides)
        operator = operators.Downsample(options.factor)
    visible = None if options.mask is None else image_io.visible_mask(options.mask, spec, sides)
    y = image_io.seen(options.image, spec, sides, visible).to(place)
    if visible is not None:
        operator = operators.Mask(visible.to(place))
        y = operator(y)
    spans = spec.spans
    measurement = weighed(operator, y, options.noise, spans)
    guide = image_io.guide_of(options, trained)
    name = f"restore-{Path(options.image).stem}-{options.method}-seed-{options.seed}"
    with image_io.results("restore", options, trained, name, (options.image, options.mask), options.count) as written:
        with Meter("restoring", patience=1.0) as meter, torch.inference_mode():
            posterior = method(for_all(trained, options.label, None, guide, options.label_index), measurement)
            report = image_io.steps_on(meter)
            results = restored(
                trained, posterior, options.count, steps=options.steps, seed=options.seed, progress=report
            )
        written.write(spec.from_model(results))
        if written.row is not None:
            enlarged = y.cpu()
            for axis, (whole, side) in enumerate(zip(spec.shape[1:], sides, strict=True), 2):
                enlarged = enlarged.repeat_interleave(whole // side, axis)
            image_io.save_comparison([enlarged, results[:8]], written.row, spec)
    parts = (operator(results) - y) / torch.from_numpy(spans).to(y).reshape(-1, *(1,) * (y.ndim - 2))
    gap = float(parts[:, spans < math.inf].square().mean().sqrt())
    image_io.report(
        f"{options.count} draw{'s' if options.count > 1 else ''}, {gap:.3f} from what was seen (noise {options.noise:g})",
        written,
    )
    return 0
