"""The way of samples from noise to data as an animation: next to each x_t the clean estimate."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli.drawing import made_by, recipe
from ornstein.cli.guidance_flags import steps_of
from ornstein.cli.options import Sample
from ornstein.cli.printing import duration, say
from ornstein.errors import OrnsteinError, UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from ornstein.data import DataSpec
    from ornstein.guidance import GuidanceConfig
    from ornstein.runs import ConditionBatch, Run
    from ornstein.solvers import Solver

MOST = 256  # samples that are drawn side by side, which are made at once
MOST_POINTS = 10_000  # of vectors
FRAMES = 100  # of longer ways every second step or fewer is shown
BETWEEN = 12  # pixels between the two sides


def draw(
    trained: Run,
    out: Path,
    options: Sample,
    solver: Solver,
    guide: GuidanceConfig,
    condition: ConditionBatch | None,
) -> None:
    """Write a GIF: a frame for each step of the solver with x_t to the left and the clean estimate to the right, vectors as
    points; the last frame holds the samples that the same flags without an animation give."""
    import numpy as np
    import torch

    from ornstein import conditions
    from ornstein.data.images import first_not_finite, grid_image, must_be_an_animation, save_animation
    from ornstein.data.scatter import scatter_image
    from ornstein.files.output import Output, digest
    from ornstein.noise import PerSampleNoise
    from ornstein.runs.conditioning import condition_rows, indexed_guide
    from ornstein.sampling import begin, trajectory

    drawn = trained.spec.traits.drawn
    most = MOST if drawn else MOST_POINTS
    if options.count > most:
        raise UsageError(f"-n {options.count:,} is too many for an animation; give -n {most} or fewer")
    if options.compile:
        raise UsageError("--compile pays for many samples, and an animation has few; leave it out")
    if options.size is not None:
        raise UsageError("--size: an animation has the size of the data; leave it out, or write samples")
    model, path = trained.model, trained.model.path
    times = solver.grid(path, steps_of(options))
    if drawn:
        must_be_an_animation(out, 2 * min(len(times), FRAMES), options.count, trained.spec)
    about = made_by(trained, options, solver, guide, condition, options.label)
    whole = digest({**about, "first": options.first, "count": options.count, "animation": True})
    output = Output(out, whole, options.force)
    output.check()
    rows = condition_rows(trained, options.count, options.label, condition, options.label_index)
    inputs = (
        model.drawn(options.first, options.first + options.count, options.seed)
        if rows is None
        else model.conditions.network_input(rows)
    )
    bound = indexed_guide(trained, guide)(trained.denoiser, conditions.to(inputs, model.device, model.dtype))
    noise = PerSampleNoise(options.seed, options.first)
    empty = torch.zeros(options.count, *trained.spec.shape, device=model.device, dtype=model.dtype)
    say(recipe(path, solver, steps_of(options), guide))
    began = time.monotonic()
    states: list[tuple[Tensor, Tensor]] = []
    with Meter("sampling", patience=1.0) as meter, torch.inference_mode():
        start = begin(path, empty, float(times[0]), noise)
        for step in trajectory(bound, start, solver=solver, grid=times, noise=noise):
            alpha, sigma = path.levels(step.t, step.x)
            loud = max(
                1.0, math.hypot(float(alpha), float(sigma))
            )  # the noise of paths such as VE is far outside the range
            states.append(((step.x / loud).cpu(), step.estimate.clean.cpu()))
            meter.update(min(1.0, len(states) / len(times)), f"{step.calls} network calls")
    result = states[-1][0]
    states[-1] = result, result  # at t = 0 there is nothing left to estimate
    if first_not_finite(trained.spec.from_model(result)) is not None:
        raise OrnsteinError("the samples hold NaN or infinite numbers, so none are written; the training has diverged")
    chosen = np.unique(np.linspace(0, len(states) - 1, min(len(states), FRAMES)).round().astype(int))
    image = partial(grid_image, spec=trained.spec)
    if not drawn:
        image = partial(scatter_image, limits=_limits(trained.spec, [side for i in chosen for side in states[i]]))
    frames = [_joined(*(image(_in_own_units(trained.spec, side)) for side in states[i])) for i in chosen]
    save_animation(frames, output)
    say(f"{len(frames)} frames of {options.count:,} samples in {duration(time.monotonic() - began)}: {out.resolve()}")


def _in_own_units(spec: DataSpec, x: Tensor) -> NDArray[Any]:
    """As samples are written, but vectors where they are: what is noise still is not held to the range of the data."""
    own: NDArray[Any] = spec.from_model(x) if spec.traits.drawn else spec.scaling.from_model(x.double().numpy())
    return own


def _limits(spec: DataSpec, sides: Sequence[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and highest numbers of all frames of points, so that these have one scale."""
    import numpy as np

    points = np.concatenate([_in_own_units(spec, side) for side in sides])
    return points.min(0), points.max(0)


def _joined(left: Image, right: Image) -> Image:
    """Two images of one size with a gap between them."""
    from PIL import Image

    both = Image.new(left.mode, (2 * left.width + BETWEEN, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + BETWEEN, 0))
    return both
