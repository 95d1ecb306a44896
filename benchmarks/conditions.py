"""Images completed by runs that were trained for it: do they keep what they were given, and are they what the whole was?

    ornstein train --data digits:train --degradation mask --minutes 0.8 --out runs/holes
    python -m benchmarks.conditions runs/holes digits:test digits:train [PICTURE.png]

Draws one sample for each item of held-out data (the second argument), given what the task leaves of it; of a run that fills
holes, given the left half. `kept` is the RMS difference between what was given and the same of the sample, in the units of the
data, beside that of another item's; `agreement` the part that a classifier trained on the third argument reads as the item.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ornstein
from ornstein import data
from ornstein.conditions import RandomMask
from ornstein.data import grid_image
from ornstein.metrics import cnn
from ornstein.runs import ConditionBatch, Run


def given(run: Run, real: data.Dataset) -> ConditionBatch:
    """What the run is told of each item; of a hole, that it is the right half."""
    told = run.model.conditions
    assert told.image is not None
    rows = list(told.null(len(real)))
    x, _ = real.batch(np.arange(len(real)))
    place = told.parts.index(told.image)
    if isinstance(told.image.degradation, RandomMask):
        seen = torch.ones_like(x[:, :1])
        seen[..., x.shape[-1] // 2 :] = 0
        rows[place] = torch.cat([x * seen, seen], 1)
    else:
        rows[place] = told.image.of(real, np.arange(len(real)), x, torch.zeros(len(real), 0))
    return ConditionBatch(tuple(rows))


def main() -> None:
    folder, held_out, source, *image = sys.argv[1:]
    run = ornstein.load(folder)
    real, _ = data.open(held_out, like=run.spec).adopt(run.spec)
    told = given(run, real)
    part = run.model.conditions.image
    assert part is not None
    assert real.labels is not None
    rows = told.rows[run.model.conditions.parts.index(part)]
    samples = run.sample(len(real), condition=told)
    judge = cnn.classifier(data.open(source))

    def left(x: Tensor) -> Tensor:
        return (
            x * rows[:, -1:]
            if isinstance(part.degradation, RandomMask)
            else part.degradation(x, torch.zeros(len(x), 0))[0]
        )

    def kept(x: Tensor) -> float:
        where = rows[:, -1:].expand_as(rows[:, :-1]).bool()
        error = (left(x) - rows[:, :-1])[where]
        return float(error.square().mean().sqrt()) * (run.spec.high - run.spec.low) / 2

    def agreement(x: Tensor) -> float:
        return float((judge(x).argmax(1) == torch.from_numpy(real.labels)).double().mean())

    whole, made = real.batch(np.arange(len(real)))[0], run.spec.to_model(samples)
    print(f"{len(real)} items of {held_out}, {part.description}, grey levels {run.spec.low:g} to {run.spec.high:g}")
    for name, x in (
        ("samples", made),
        ("another item", whole.roll(1, 0)),
        ("what was given", part.visible(rows)),
        ("the whole", whole),
    ):
        same = "" if name == "what was given" else f"kept {kept(x):6.2f}  "
        print(f"{name:>14}: {same}agreement {agreement(x):.3f}")
    if image:
        some = [int(np.flatnonzero(real.labels == label)[3]) for label in range(len(real.classes))][:8]
        each = ConditionBatch(tuple(row[some].repeat_interleave(6, 0) for row in told.rows))
        drawn = run.sample(6 * len(some), condition=each, seed=1).reshape(len(some), 6, *run.spec.item_shape)
        shown = run.spec.from_model(part.visible(rows[some]))
        cells = np.concatenate([np.stack([shown, np.asarray(real.items[some])], 1), drawn], 1)
        grid_image(cells.reshape(-1, *run.spec.item_shape), 8, spec=run.spec).save(Path(image[0]))


if __name__ == "__main__":
    main()
