"""Pairs (noise, sample) of a run, made part by part in a folder that `data.open` reads (`ornstein.data.pairs`)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ornstein.conditions import to
from ornstein.data.pairs import ABOUT, Pairs, open_pairs, part_file, read_part, rows_of_part
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_file, write_json
from ornstein.files.lock import hold
from ornstein.files.reading import read_json
from ornstein.guidance.config import PLAIN, Guidance
from ornstein.noise import PerSampleNoise
from ornstein.runs.conditioning import indexed_guide
from ornstein.sampling import begin, sample
from ornstein.solvers import ABM

if TYPE_CHECKING:
    from ornstein.runs.run import Run


def make_pairs(
    run: "Run",
    folder: Path,
    count: int,
    *,
    guide: Guidance = PLAIN,
    steps: int = 32,
    seed: int = 0,
    progress: Callable[[int], object] = lambda made: None,
) -> Pairs:
    """`count` pairs: sample i of the seed, by the default ODE solver in so many steps, with its noise.

    What the folder holds of them already is not made again. Classes are drawn as often as they occur in the data.
    `progress` is called with the number of pairs that are there. Raises UsageError for a folder of other pairs or other files,
    and for a run whose conditions are more than a class, OrnsteinError for samples that are not finite.
    """
    others = [part.description for part in run.model.conditions.parts if part is not run.model.conditions.label]
    if others:
        raise UsageError(f"reflow: {run.folder} is conditioned on {', '.join(others)}; pairs are made of classes alone")
    shape, named = run.spec.shape, str(guide)
    guide = indexed_guide(run, guide)
    labels = run.model.labels(0, count, seed)
    about = {
        "run": run.weights_hash,
        "count": count,
        "seed": seed,
        "steps": steps,
        "guidance": named,
        "spec": replace(run.spec, count=count).to_json(),
        "labels": None if labels is None else labels.tolist(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder, "pairs"):
        _must_be_same(folder, about)
        write_json(folder / ABOUT, about)
        each = rows_of_part(shape)
        for number, first in enumerate(range(0, count, each)):
            last = min(first + each, count)
            try:
                read_part(part_file(folder, number), last - first, shape)
            except FileNotFoundError:
                _make(run, folder, range(first, last), part_file(folder, number), guide, steps, seed, progress)
            progress(last)
    return open_pairs(folder)


def _must_be_same(folder: Path, about: dict[str, object]) -> None:
    """Raises UsageError unless the folder is empty, or holds pairs of this kind, whole or begun."""
    try:
        known = read_json(folder / ABOUT)
    except FileNotFoundError:
        strange = next((place for place in folder.glob("part-*.npy")), None)
        if strange is not None:
            raise UsageError(f"{folder} holds {strange.name} and no {ABOUT}; give another folder") from None
        return
    except (OSError, ValueError) as error:
        raise OrnsteinError(
            f"{folder / ABOUT} cannot be read ({error}); make the pairs anew in another folder"
        ) from None
    other = [key for key in about if known.get(key) != about[key]]
    if other:
        raise UsageError(
            f"{folder} holds other pairs ({', '.join(other)}); repeat what they were made with to go on, or give another --out"
        )


def _make(
    run: "Run",
    folder: Path,
    rows: range,
    file: Path,
    guide: Guidance,
    steps: int,
    seed: int,
    progress: Callable[[int], object],
) -> None:
    model = run.model
    made = np.empty((len(rows), 2, *run.spec.shape), np.float32)
    for first in range(rows.start, rows.stop, model.batch_size):
        last = min(first + model.batch_size, rows.stop)
        like = torch.zeros(last - first, *run.spec.shape, device=model.device, dtype=model.dtype)
        noise = PerSampleNoise(seed, first)
        start = begin(model.path, like, 1.0, noise)
        denoiser = guide(run.denoiser, to(model.drawn(first, last, seed), model.device, model.dtype))
        ends = sample(denoiser, start=start, solver=ABM(), steps=steps)
        place = slice(first - rows.start, last - rows.start)
        made[place, 0], made[place, 1] = noise(like, 1.0, 1.0).float().cpu().numpy(), ends.float().cpu().numpy()
        if not np.isfinite(made[place]).all():
            raise OrnsteinError(
                f"samples {first} to {last - 1} of {run.folder} are not finite; its training has diverged"
            )
        progress(last)
    with new_file(file) as fresh, fresh.open("wb") as stream:
        np.save(stream, made)
